// The settings of what is convolved: operation, input, kernel. `controls_slide.js` has how the kernel moves.
import { button, checkInput, choiceInput, element, field, numberInput, refreshNumber, segments } from "./elements.js";
import { INPUT_PRESETS, kernelPresets } from "./presets.js";
import { channelsOf, kernels, presetInput, reshaped } from "./problem_edits.js";
import { withBiasSet, withChannels, withKernelSize, withOperator, withRank } from "./problem_edits.js";
import { isPool, kernelOf } from "./shapes.js";

const LARGEST_INPUT = 64;
const CHANNEL_LIMIT = 64;
const LARGEST_KERNEL = 16;

/** Two numbers beside each other: one per axis; the first hides where there is one axis. */
export function axisPair({ words, min, max, onChange }) {
  const inputs = ["height", "width"].map((axis, i) =>
    numberInput({ label: `${words} ${axis}`, value: min, min, max, onChange: (value) => onChange(i, value) }),
  );
  const fields = inputs.map((input, i) => field(`${words} ${["height", "width"][i]}`, input));
  return {
    nodes: fields,
    show(values, word = words) {
      fields[0].hidden = values.length === 1;
      [`${word} height`, values.length === 1 ? `${word} length` : `${word} width`].forEach((name, i) => {
        fields[i].firstChild.textContent = name;
        inputs[i].setAttribute("aria-label", name);
      });
      refreshNumber(inputs[1], values.at(-1));
      if (values.length === 2) refreshNumber(inputs[0], values[0]);
    },
  };
}

/** Put one axis's value into a list of one or two. */
export function onAxis(values, axis, value) {
  return values.length === 1 ? [value] : values.map((old, i) => (i === axis ? value : old));
}

/**
 * @param {Object} options store, `images` (of editing.js: choose(), current(), at(size))
 */
export function createDataControls({ store, images }) {
  let spare = null; // the last problem with weights, for the way back from a pool
  const problem = () => store.get().problem;
  const set = (next, more = {}) => store.set({ problem: next, playing: false, ...more });

  // ---------------------------------------------------------------- operation
  const operator = choiceInput({
    label: "Operation",
    value: "conv",
    options: [
      ["conv", "convolution"],
      ["conv_transpose", "transposed convolution"],
      ["max_pool", "max pooling"],
      ["avg_pool", "average pooling"],
    ],
    onChange: (value) => {
      if (problem().w) spare = problem();
      set(withOperator(problem(), value, spare), {
        step: 0,
        term: 0,
        pinned: null,
        way: value === "conv_transpose" ? "scatter" : "gather",
        target: problem().w ? store.get().target : "x",
      });
    },
  });
  const rank = segments({
    label: "Axes",
    value: "2",
    options: [
      ["2", "2-D"],
      ["1", "1-D"],
    ],
    onChange: (value) =>
      set(withRank(problem(), Number(value)), { dy: null, step: 0, pinned: null, inputName: "", kernelName: "" }),
  });
  const flip = checkInput("Flip the kernel (true convolution)", false, (flipped) =>
    set({ ...problem(), flip: flipped }),
  );
  const operation = element(
    "section",
    {},
    element("h2", { text: "Operation" }),
    field("Operation", operator),
    element("div", { class: "row-of" }, rank.root),
    flip.root,
  );

  // ---------------------------------------------------------------- input
  const picture = choiceInput({
    label: "Picture",
    value: "",
    options: [["", "own numbers"], ...INPUT_PRESETS.map(({ name, title }) => [name, title]), ["image", "own image"]],
    onChange: (name) => {
      if (name === "image") images.choose();
      else if (name) set({ ...problem(), x: presetInput(name, problem().x.shape) }, { inputName: name });
    },
  });
  function resize(axis, value) {
    const { inputName } = store.get();
    const shape = [problem().x.shape[0], ...onAxis(problem().x.shape.slice(1), axis, value)];
    const x =
      inputName === "image"
        ? images.at(shape)
        : inputName
          ? presetInput(inputName, shape)
          : reshaped(problem().x, shape);
    set({ ...problem(), x });
  }
  const size = axisPair({ words: "Input", min: 1, max: LARGEST_INPUT, onChange: resize });
  const channels = numberInput({
    label: "Channels in",
    value: 1,
    min: 1,
    max: CHANNEL_LIMIT,
    onChange: (inputs) => {
      const { outputs } = channelsOf(problem());
      const next = withChannels(problem(), { inputs, outputs });
      // three channels are a picture's colours, other counts its grey
      set(store.get().inputName === "image" ? { ...next, x: images.at(next.x.shape) } : next);
    },
  });
  const own = button("Own image\u2026", () => images.choose());
  const input = element(
    "section",
    {},
    element("h2", { text: "Input" }),
    field("Picture", picture),
    element("div", { class: "pair" }, ...size.nodes, field("Channels in", channels)),
    element(
      "div",
      { class: "row-of" },
      own,
      element("span", { class: "note", text: "or drop or paste one; it stays on this page" }),
    ),
  );

  // ---------------------------------------------------------------- kernel
  const preset = choiceInput({
    label: "Preset kernel",
    value: "",
    options: [["", "own numbers"]],
    onChange: (name) => name && choosePreset(name),
  });
  let presetRank = 0;
  function choosePreset(name) {
    const found = kernelPresets(problem().x.shape.length - 1).find((kernel) => kernel.name === name);
    const taps = found.rows.flat();
    const tail = Array.isArray(found.rows[0]) ? [found.rows.length, found.rows[0].length] : [taps.length];
    set({ ...problem(), w: kernels(taps, [...problem().w.shape.slice(0, 2), ...tail]) }, { kernelName: name });
  }
  const taps = axisPair({
    words: "Kernel",
    min: 1,
    max: LARGEST_KERNEL,
    onChange: (axis, value) =>
      set(withKernelSize(problem(), onAxis(kernelOf(problem()), axis, value)), { kernelName: "" }),
  });
  const outputs = numberInput({
    label: "Channels out",
    value: 1,
    min: 1,
    max: CHANNEL_LIMIT,
    onChange: (value) => set(withChannels(problem(), { inputs: problem().x.shape[0], outputs: value }), { step: 0 }),
  });
  const outputsField = field("Channels out", outputs);
  const presetField = field("Preset kernel", preset);
  const bias = checkInput("Add a bias", false, (wanted) => set(withBiasSet(problem(), wanted)));
  const kernelTitle = element("h2", { text: "Kernel" });
  const kernel = element(
    "section",
    {},
    kernelTitle,
    presetField,
    element("div", { class: "pair" }, ...taps.nodes, outputsField),
    bias.root,
  );

  function refresh(state) {
    const p = state.problem;
    const pool = isPool(p);
    operator.value = p.operator;
    rank.choose(String(p.x.shape.length - 1));
    flip.root.hidden = pool;
    flip.input.checked = p.flip;
    picture.value = state.inputName;
    size.show(p.x.shape.slice(1));
    refreshNumber(channels, p.x.shape[0]);
    kernelTitle.textContent = pool ? "Window" : "Kernel";
    presetField.hidden = outputsField.hidden = bias.root.hidden = pool;
    const now = p.x.shape.length - 1;
    if (presetRank !== now) {
      presetRank = now;
      const options = [["", "own numbers"], ...kernelPresets(now).map(({ name, title }) => [name, title])];
      preset.replaceChildren(...options.map(([value, words]) => element("option", { value, text: words })));
    }
    preset.value = state.kernelName;
    taps.show(kernelOf(p), pool ? "Window" : "Kernel");
    refreshNumber(outputs, channelsOf(p).outputs);
    bias.input.checked = Boolean(p.bias);
  }

  return { nodes: [operation, input, kernel], refresh };
}
