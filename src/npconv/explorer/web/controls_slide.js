// The settings of how the kernel moves: stride, dilation, padding, groups; and what a pool counts.
import { button, checkInput, choiceInput, element } from "./elements.js";
import { field, numberInput, refreshNumber, uniqueId, vector } from "./elements.js";
import { axisPair, onAxis } from "./controls_data.js";
import { channelsOf, possibleGroups, withChannels } from "./problem_edits.js";
import { isPool } from "./shapes.js";

const PAD_NAMES = [
  ["valid", "none (valid)"],
  ["same", "same"],
  ["same_lower", "same, odd one first"],
  ["full", "full"],
  ["causal", "causal"],
  ["sides", "each side"],
];
const MODE_WORDS = [
  ["zeros", "zeros"],
  ["constant", "a constant"],
  ["reflect", "reflection, edge once"],
  ["symmetric", "reflection, edge twice"],
  ["replicate", "the edge's value"],
  ["circular", "the other end"],
];

/** What a number of groups is called. */
function groupsWord(groups, inputs, outputs) {
  if (groups === 1) return "standard";
  return groups === inputs && outputs % inputs === 0 ? "depthwise" : "grouped";
}

/** Lines from every input channel to the output channels that read it. */
function drawConnections(holder, inputs, outputs, groups) {
  const most = Math.max(inputs, outputs);
  holder.replaceChildren();
  if (most > 16) return;
  const [width, gap] = [240, 14];
  const height = gap * (most + 1);
  const yOf = (i, all) => (height * (i + 1)) / (all + 1);
  const lines = [];
  for (let o = 0; o < outputs; o++) {
    const group = Math.floor(o / (outputs / groups));
    const per = inputs / groups;
    for (let c = group * per; c < (group + 1) * per; c++)
      lines.push(
        vector("line", {
          x1: 28,
          y1: yOf(c, inputs),
          x2: width - 28,
          y2: yOf(o, outputs),
          stroke: "currentColor",
          "stroke-width": 1.2,
          "stroke-opacity": 0.55,
        }),
      );
  }
  const dots = (all, x) =>
    Array.from({ length: all }, (_, i) => vector("circle", { cx: x, cy: yOf(i, all), r: 4, fill: "currentColor" }));
  holder.append(
    vector(
      "svg",
      {
        viewBox: `0 0 ${width} ${height}`,
        width: "100%",
        height,
        role: "img",
        "aria-label": `Each output channel reads ${inputs / groups} of ${inputs} input channels`,
      },
      ...lines,
      ...dots(inputs, 24),
      ...dots(outputs, width - 24),
    ),
  );
}

/** @param {Object} options store, `derived` */
export function createSlideControls({ store, derived }) {
  const problem = () => store.get().problem;
  const set = (next) => store.set({ problem: next, playing: false });
  const axes = (words, key, min, max) =>
    axisPair({
      words,
      min,
      max,
      onChange: (axis, value) => set({ ...problem(), [key]: onAxis(problem()[key], axis, value) }),
    });

  // ---------------------------------------------------------------- stride, dilation, padding
  const stride = axes("Stride", "stride", 1, 16);
  const dilation = axes("Dilation", "dilation", 1, 16);
  const extra = axes("Output padding", "outputPadding", 0, 15);
  const extraRow = element("div", { class: "pair" }, ...extra.nodes);
  const padding = choiceInput({
    label: "Padding",
    value: "valid",
    options: PAD_NAMES,
    onChange: (name) =>
      set({ ...problem(), padding: name === "sides" ? derived().report.pads.map((pair) => [...pair]) : name }),
  });
  const sideNames = [
    ["top", "bottom"],
    ["left", "right"],
  ];
  const sides = sideNames.map((pair, axis) =>
    pair.map((side, end) =>
      numberInput({
        label: `Padding ${side}`,
        value: 0,
        min: -16,
        max: 32,
        onChange: (value) => {
          const now = problem().padding;
          const at = problem().x.shape.length === 2 ? 0 : axis;
          set({
            ...problem(),
            padding: now.map((old, i) => (i === at ? old.map((each, j) => (j === end ? value : each)) : old)),
          });
        },
      }),
    ),
  );
  const sideFields = sides.map((pair, axis) =>
    pair.map((input, end) => field(`Padding ${sideNames[axis][end]}`, input)),
  );
  const sideRow = element("div", { class: "pair four" }, ...sideFields.flat());
  const mode = choiceInput({
    label: "Padding holds",
    value: "zeros",
    options: MODE_WORDS,
    onChange: (paddingMode) => set({ ...problem(), paddingMode, paddingValue: paddingMode === "constant" ? 1 : 0 }),
  });
  const constant = numberInput({
    label: "Padding value",
    value: 1,
    step: "any",
    onChange: (paddingValue) => set({ ...problem(), paddingValue }),
  });
  const modeField = field("Padding holds", mode);
  const constantField = field("Padding value", constant);
  const include = checkInput("Count the padding in the mean", true, (countIncludePad) =>
    set({ ...problem(), countIncludePad }),
  );
  const ceil = checkInput("Round the output size up (ceil mode)", false, (ceilMode) => set({ ...problem(), ceilMode }));
  const equations = element("ol", { class: "equations" });
  const verdict = element("p", { class: "verdict", role: "status" });
  const slide = element(
    "section",
    {},
    element("h2", { text: "Stride, dilation, padding" }),
    element("div", { class: "pair" }, ...stride.nodes),
    element("div", { class: "pair" }, ...dilation.nodes),
    field("Padding", padding),
    sideRow,
    element("div", { class: "pair" }, modeField, constantField),
    extraRow,
    include.root,
    ceil.root,
    element("h3", { class: "sub", text: "Output size" }),
    equations,
    verdict,
  );

  // ---------------------------------------------------------------- groups
  const groupsId = uniqueId("groups");
  const slider = element("input", {
    type: "range",
    min: "0",
    max: "0",
    step: "1",
    value: "0",
    id: groupsId,
    "aria-label": "Groups",
    list: `${groupsId}-marks`,
  });
  const word = element("output", { class: "groups-word", for: groupsId });
  const connections = element("div", { class: "connections" });
  const weights = element("p", { class: "note" });
  const four = button("Try four channels", () => set(withChannels(problem(), { inputs: 4, outputs: 4 })));
  slider.addEventListener("input", () => {
    const { inputs, outputs } = channelsOf(problem());
    set(withChannels(problem(), { inputs, outputs, groups: possibleGroups(inputs, outputs)[Number(slider.value)] }));
  });
  const groups = element(
    "section",
    {},
    element("h2", { text: "Groups" }),
    element(
      "div",
      { class: "ends" },
      element("span", { text: "standard" }),
      slider,
      element("span", { text: "depthwise" }),
    ),
    word,
    connections,
    weights,
    four,
  );

  function refresh(state) {
    const p = state.problem;
    const pool = isPool(p);
    const { report } = derived();
    const transposed = p.operator === "conv_transpose";
    stride.show(p.stride);
    dilation.show(p.dilation);
    extraRow.hidden = !transposed;
    if (transposed) extra.show(p.outputPadding ?? p.stride.map(() => 0));
    const each = Array.isArray(p.padding);
    padding.value = each ? "sides" : p.padding;
    sideRow.hidden = !each;
    const one = p.stride.length === 1;
    sideFields[0].forEach((node) => {
      node.hidden = one;
    });
    if (each)
      p.padding.forEach((pair, axis) => pair.forEach((value, end) => refreshNumber(sides[one ? 1 : axis][end], value)));
    mode.value = p.paddingMode;
    modeField.hidden = pool || transposed;
    constantField.hidden = modeField.hidden || p.paddingMode !== "constant";
    refreshNumber(constant, p.paddingValue);
    include.root.hidden = p.operator !== "avg_pool";
    include.input.checked = p.countIncludePad !== false;
    ceil.root.hidden = !pool;
    ceil.input.checked = Boolean(p.ceilMode);
    const axisWords = one ? ["length"] : ["height", "width"];
    equations.replaceChildren(
      ...report.equations.map((text, axis) =>
        element("li", {}, element("span", { text: axisWords[axis] }), element("code", { text })),
      ),
    );
    const words = report.valid
      ? `The output is ${derived().y.shape.join(" \u00d7 ")}.`
      : `No output: ${report.reasons.join(" ")}`;
    if (verdict.textContent !== words) verdict.textContent = words;
    verdict.classList.toggle("bad", !report.valid);
    groups.hidden = pool;
    if (!pool) refreshGroups(p);
  }

  function refreshGroups(p) {
    const { inputs, outputs } = channelsOf(p);
    const possible = possibleGroups(inputs, outputs);
    slider.max = String(possible.length - 1);
    slider.disabled = possible.length < 2;
    slider.value = String(Math.max(0, possible.indexOf(p.groups)));
    const words = `${p.groups} ${p.groups === 1 ? "group" : "groups"}: ${groupsWord(p.groups, inputs, outputs)}`;
    word.textContent = words;
    slider.setAttribute("aria-valuetext", words);
    four.hidden = possible.length > 1;
    drawConnections(connections, inputs, outputs, p.groups);
    weights.textContent = `${p.w.data.length} weights; each output channel reads ${inputs / p.groups} of ${inputs} input channels.`;
  }

  return { nodes: [slide, groups], refresh };
}
