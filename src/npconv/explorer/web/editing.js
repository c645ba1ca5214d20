// Changing numbers by hand: typing into a cell, painting, and pictures of the reader's own (which never leave the page).
import { button, checkInput, element, field, numberInput, refreshNumber } from "./elements.js";
import { channelsOf, withCell } from "./problem_edits.js";
import { fromImage } from "./presets.js";
import { offset } from "./tensors.js";

const LARGEST_IMAGE = 4096; // pixels a side that are read; larger pictures are drawn smaller first
const USUAL_IMAGE = 32; // cells a side where the input was smaller

const OWNERS = { x: "inputName", w: "kernelName" };

/**
 * @param {Object} options store, `derived`, `panel(name)`, `say`
 */
export function createEditor({ store, derived, panel, say }) {
  let open = null; // the field that lies over a cell
  let stroke = null; // the value that a drag paints

  function setCell(cell, value) {
    const array = derived().scene.arrays[cell.panel];
    const flat = offset(array, cell.index);
    if (Object.is(Number(array.data[flat]), value)) return;
    if (cell.panel === "dy") {
      const data = Float64Array.from(array.data, Number);
      data[flat] = value;
      store.set({ dy: { shape: [...array.shape], data } });
    } else
      store.set({
        problem: withCell(store.get().problem, cell.panel, flat, value),
        ...(OWNERS[cell.panel] ? { [OWNERS[cell.panel]]: "" } : {}),
      });
  }

  const mayEdit = (cell) => Boolean(cell && panel(cell.panel)?.editable);

  /** Lay a field over a cell. `text` is what was typed already. */
  function edit(cell, text) {
    if (!mayEdit(cell)) return;
    close();
    const spot = panel(cell.panel).boxOf(cell.index);
    if (!spot) return;
    const input = element("input", {
      type: "text",
      inputmode: "text",
      class: "cell-editor",
      "aria-label": `New value of ${panel(cell.panel).words(cell.index).split(" = ")[0]}`,
      value: text || String(panel(cell.panel).valueOf(cell.index)),
    });
    input.style.left = `${spot.box.x}px`;
    input.style.top = `${spot.box.y}px`;
    input.style.width = `${Math.max(54, spot.box.width)}px`;
    input.style.height = `${Math.max(24, spot.box.height)}px`;
    const commit = () => {
      const value = readTyped(input.value);
      if (value === null) {
        input.setAttribute("aria-invalid", "true");
        say("Not a number: nothing changed.");
        return false;
      }
      close();
      setCell(cell, value);
      return true;
    };
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter" || event.key === "Tab") {
        event.preventDefault();
        if (commit()) panel(cell.panel).focus(cell.index);
      } else if (event.key === "Escape") {
        close();
        panel(cell.panel).focus(cell.index);
      }
    });
    input.addEventListener("pointerdown", (event) => event.stopPropagation());
    input.addEventListener("click", (event) => event.stopPropagation());
    input.addEventListener("blur", () => open?.input === input && (commit() || close()));
    open = { input };
    spot.root.append(input);
    input.focus();
    if (text) input.setSelectionRange(text.length, text.length);
    else input.select();
  }

  function close() {
    const was = open;
    open = null;
    was?.input.remove();
  }

  /** A key on a cell: typing a number edits, Space paints. True when the key was ours. */
  function key(cell, event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !mayEdit(cell)) return false;
    if (/^[0-9-]$/.test(event.key) || event.key === "F2") {
      event.preventDefault();
      edit(cell, event.key === "F2" ? "" : event.key);
      return true;
    }
    if (event.key === " " && store.get().painting) {
      event.preventDefault();
      setCell(cell, store.get().brush);
      return true;
    }
    return false;
  }

  /** Painting: press, and drag over cells of the same tensor. True when the press paints. */
  function press(cell, event) {
    if (!store.get().painting || !mayEdit(cell)) return false;
    event.preventDefault();
    // a finger is captured by the cell it pressed; painting wants to hear of the others
    if (event.target.hasPointerCapture?.(event.pointerId)) event.target.releasePointerCapture(event.pointerId);
    stroke = { panel: cell.panel, value: store.get().brush };
    setCell(cell, stroke.value);
    const stop = () => {
      stroke = null;
      window.removeEventListener("pointerup", stop);
      window.removeEventListener("pointercancel", stop);
    };
    window.addEventListener("pointerup", stop);
    window.addEventListener("pointercancel", stop);
    return true;
  }

  function drag(cell) {
    if (stroke && cell && cell.panel === stroke.panel) setCell(cell, stroke.value);
  }

  // ---------------------------------------------------------------- the settings
  const named = element("p", { class: "note" });
  const value = numberInput({
    label: "Chosen cell",
    value: 0,
    step: "any",
    onChange: (number) => mayEdit(store.get().selected) && setCell(store.get().selected, number),
  });
  const brush = numberInput({
    label: "Brush",
    value: 1,
    step: "any",
    onChange: (number) => store.set({ brush: number }),
  });
  const paint = checkInput("Paint by dragging (Space paints one cell)", false, (painting) => store.set({ painting }));
  const resetDy = button("Reset dY", () => store.set({ dy: null }));
  const section = element(
    "section",
    {},
    element("h2", { text: "Edit" }),
    named,
    element("div", { class: "pair" }, field("Chosen cell", value), field("Brush", brush)),
    paint.root,
    resetDy,
  );

  function refresh(state) {
    const cell = state.selected;
    const { scene } = derived();
    const array = scene?.arrays[cell?.panel];
    const known =
      mayEdit(cell) &&
      array &&
      scene.panels.some(({ name }) => name === cell.panel) &&
      cell.index.every((at, axis) => at < array.shape[axis]);
    named.textContent = known
      ? panel(cell.panel).words(cell.index)
      : "Choose a cell of the input, the kernel, the bias or dY, then type.";
    value.disabled = !known;
    if (known) refreshNumber(value, panel(cell.panel).valueOf(cell.index));
    refreshNumber(brush, state.brush);
    paint.input.checked = state.painting;
    resetDy.hidden = state.view !== "backward" || !state.dy;
  }

  return {
    edit,
    key,
    press,
    drag,
    close,
    section,
    refresh,
    paintToggle: () => store.set({ painting: !store.get().painting }),
  };
}

/** A number as a person types it: a comma or a true minus will do. Null when it is none. */
function readTyped(text) {
  const plain = text.trim().replace(",", ".").replace("\u2212", "-");
  const named = { nan: NaN, inf: Infinity, "-inf": -Infinity }[plain.toLowerCase()];
  if (named !== undefined) return named;
  const value = Number(plain);
  return plain === "" || !Number.isFinite(value) ? null : value;
}

/**
 * Pictures of the reader's own: by a file dialogue, dropped or pasted. They are drawn on a canvas and read as numbers.
 * @param {Object} options store, `say`
 */
export function createImages({ store, say }) {
  let bitmap = null; // {width, height, data}
  const picker = element("input", { type: "file", accept: "image/*", hidden: true, "aria-label": "Own image" });
  picker.addEventListener("change", () => {
    if (picker.files[0]) read(picker.files[0]);
    picker.value = "";
  });

  async function read(file) {
    try {
      const image = await createImageBitmap(file);
      const scale = Math.min(1, LARGEST_IMAGE / Math.max(image.width, image.height));
      const canvas = element("canvas", {
        width: Math.max(1, Math.round(image.width * scale)),
        height: Math.max(1, Math.round(image.height * scale)),
      });
      const pen = canvas.getContext("2d");
      pen.drawImage(image, 0, 0, canvas.width, canvas.height);
      bitmap = pen.getImageData(0, 0, canvas.width, canvas.height);
    } catch {
      say("That file is no picture this browser can read.");
      return;
    }
    take();
  }

  function take() {
    const { problem } = store.get();
    if (problem.x.shape.length !== 3) {
      say("A picture needs two axes: choose 2-D first.");
      return;
    }
    const [, rows, columns] = problem.x.shape;
    const size = Math.max(rows, columns) < USUAL_IMAGE ? [USUAL_IMAGE, USUAL_IMAGE] : [rows, columns];
    const x = at([problem.x.shape[0], ...size]);
    store.set({ problem: { ...problem, x }, inputName: "image", step: 0, pinned: null, playing: false });
    const colours = channelsOf(problem).inputs === 3 ? "red, green and blue" : "grey (in colour with 3 channels)";
    say(`The picture is now the input: ${size.join(" \u00d7 ")}, ${colours}. It stays on this page.`);
  }

  /** The picture in a shape [C, rows, columns]: colours where there are three channels, else grey in each. */
  function at([channels, rows, columns]) {
    const three = channels === 3;
    const read3 = fromImage(bitmap, [rows, columns], !three);
    const data = new Float64Array(channels * rows * columns);
    const plane = rows * columns;
    for (let channel = 0; channel < channels; channel++)
      data.set(
        read3.data.subarray(three ? channel * plane : 0, three ? (channel + 1) * plane : plane),
        channel * plane,
      );
    return { shape: [channels, rows, columns], data };
  }

  /** Listen for drops on a node and for pastes on another; returns what stops it. */
  function listen(node, pasting) {
    const over = (event) => {
      if ([...event.dataTransfer.types].includes("Files")) event.preventDefault();
    };
    const drop = (event) => {
      const file = [...event.dataTransfer.files].find((each) => each.type.startsWith("image/"));
      if (!file) return;
      event.preventDefault();
      read(file);
    };
    const paste = (event) => {
      const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
      if (!file) return;
      event.preventDefault();
      read(file);
    };
    node.addEventListener("dragover", over);
    node.addEventListener("drop", drop);
    pasting.addEventListener("paste", paste);
    return () => pasting.removeEventListener("paste", paste);
  }

  return { choose: () => picker.click(), picker, at, listen };
}
