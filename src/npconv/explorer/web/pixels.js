// One plane of a tensor as pixels, for planes too large for numbers. The cell under the cursor is a real grid cell
// that lies over the picture, so that keyboard and screen reader meet the same grid as in `grid.js`.
import { colour } from "./pictures.js";
import { element } from "./elements.js";
import { cellWords } from "./grid.js";

const MOST_OUTLINED = 0.45; // of the plane
// as in the style sheet; asking the page for them at every step would cost more than the drawing
const INK_COLOURS = {
  light: { "--ink": "#1b1f24", "--violet": "#7a2fbf", "--quiet": "#868e98", "--unknown": "#eceef1" },
  dark: { "--ink": "#e9ecef", "--violet": "#cfa6ff", "--quiet": "#78818c", "--unknown": "#23282e" },
};
const INKS = { link: "--violet", at: "--ink", now: "--ink", chosen: "--ink", write: "--ink", term: "--ink" };

/** A plane as pixels; the same methods as `numberPlane`. */
export function pixelPlane(label) {
  const picture = element("canvas", { class: "picture", "aria-hidden": "true" });
  const over = element("canvas", { class: "over", "aria-hidden": "true" });
  const frame = element("div", { class: "frame", hidden: true, "aria-hidden": "true" });
  const cell = element("div", { role: "gridcell", tabindex: "-1", class: "virtual" });
  const row = element("div", { role: "row" }, cell);
  const grid = element("div", { role: "grid", "aria-label": label, class: "pixels" }, row);
  const root = element("div", { class: "plane" }, picture, over, frame, grid);
  const marked = new Map();
  let shape = null;
  let side = 0; // of a cell, in pixels
  let look = null;
  let image = null;
  let inks = null;
  let values = null;
  let hiddenFrom = Infinity;
  let cursor = null;
  let waiting = false;

  function build(next, wanted) {
    shape = next;
    side = wanted;
    const ratio = window.devicePixelRatio || 1;
    picture.width = shape.width;
    picture.height = shape.height;
    over.width = shape.width * side * ratio;
    over.height = shape.height * side * ratio;
    for (const node of [root, picture, over]) {
      node.style.width = `${shape.width * side}px`;
      node.style.height = `${shape.height * side}px`;
    }
    image = new ImageData(shape.width, shape.height);
    look = null;
    values = new Float64Array(shape.width * shape.height);
    grid.setAttribute("aria-rowcount", String(shape.rows));
    grid.setAttribute("aria-colcount", String(shape.columns));
    marked.clear();
    frame.hidden = true;
    hiddenFrom = Infinity;
    cursor = null;
  }

  const keyOf = (at, column) => (at + shape.top) * shape.width + column + shape.left;

  function paint(key, value) {
    values[key] = value;
    const rgb = colour(Number.isFinite(value) ? value : 0, look.limit, look.dark);
    image.data.set([rgb[0], rgb[1], rgb[2], 255], 4 * key);
  }

  function later(draw) {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  }

  function drawOver() {
    const pen = over.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    const ink = (name) => inks[name];
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, shape.width * side, shape.height * side);
    if (shape.height > shape.rows || shape.width > shape.columns) {
      pen.strokeStyle = ink("--quiet");
      pen.setLineDash([3, 3]);
      pen.strokeRect(shape.left * side + 0.5, shape.top * side + 0.5, shape.columns * side - 1, shape.rows * side - 1);
      pen.setLineDash([]);
    }
    if (hiddenFrom < shape.rows * shape.columns) {
      pen.fillStyle = ink("--unknown");
      const line = Math.floor(hiddenFrom / shape.columns);
      const column = hiddenFrom % shape.columns;
      pen.fillRect((shape.left + column) * side, (shape.top + line) * side, (shape.columns - column) * side, side);
      pen.fillRect(
        shape.left * side,
        (shape.top + line + 1) * side,
        shape.columns * side,
        (shape.rows - line - 1) * side,
      );
    }
    for (const [kind, keys] of marked) {
      // outlines of most cells would hide the picture; the frame says where they are
      if (keys.length > MOST_OUTLINED * shape.rows * shape.columns) continue;
      pen.strokeStyle = ink(INKS[kind] ?? "--ink");
      pen.lineWidth = kind === "at" || kind === "term" ? 2 : 1;
      for (const key of keys) {
        const column = key % shape.width;
        pen.strokeRect(column * side + 0.5, ((key - column) / shape.width) * side + 0.5, side - 1, side - 1);
      }
    }
  }

  return {
    root,
    grid,
    show({ shape: next, valueAt, limit, dark, rank, side: wanted }) {
      if (side !== wanted || !shape || Object.keys(next).some((key) => next[key] !== shape[key])) build(next, wanted);
      const anew = look?.limit !== limit || look.dark !== dark;
      look = { limit, dark, rank };
      inks = INK_COLOURS[dark ? "dark" : "light"];
      for (let key = 0, at = -shape.top; at < shape.rows + shape.bottom; at++)
        for (let column = -shape.left; column < shape.columns + shape.right; column++, key++) {
          const value = valueAt(at, column) ?? 0; // a pool's padding holds nothing
          if (anew || !Object.is(values[key], value)) paint(key, value);
        }
      picture.getContext("2d").putImageData(image, 0, 0);
      later(drawOver);
    },
    change(at, column, value) {
      const key = keyOf(at, column);
      if (Object.is(values[key], value)) return;
      paint(key, value);
      picture.getContext("2d").putImageData(image, 0, 0, key % shape.width, Math.floor(key / shape.width), 1, 1);
      if (cursor && cursor[0] === at && cursor[1] === column) this.place(cursor);
    },
    mark(kind, positions) {
      marked.set(
        kind,
        positions.map(([at, column]) => keyOf(at, column)),
      );
      later(drawOver);
    },
    hideFrom(count) {
      hiddenFrom = Math.max(0, count);
      later(drawOver);
    },
    frame(box) {
      frame.hidden = !box;
      if (!box) return;
      frame.style.transform = `translate(${(box[1] + shape.left) * side}px, ${(box[0] + shape.top) * side}px)`;
      frame.style.width = `${(box[3] - box[1] + 1) * side}px`;
      frame.style.height = `${(box[2] - box[0] + 1) * side}px`;
    },
    place(position, focus) {
      cursor = position;
      cell.tabIndex = position ? 0 : -1;
      if (!position) return;
      const box = this.boxOf(...position);
      cell.style.transform = `translate(${box.x}px, ${box.y}px)`;
      cell.style.width = cell.style.height = `${side}px`;
      row.setAttribute("aria-rowindex", String(position[0] + 1));
      cell.setAttribute("aria-colindex", String(position[1] + 1));
      cell.setAttribute(
        "aria-label",
        cellWords(shape, position[0], position[1], values[keyOf(...position)], look.rank),
      );
      if (focus) cell.focus();
    },
    cellAt(event) {
      if (event.target === cell && event.detail === 0) return cursor;
      const bounds = picture.getBoundingClientRect();
      const column = Math.floor(((event.clientX - bounds.left) / bounds.width) * shape.width) - shape.left;
      const at = Math.floor(((event.clientY - bounds.top) / bounds.height) * shape.height) - shape.top;
      return at >= 0 && at < shape.rows && column >= 0 && column < shape.columns ? [at, column] : null;
    },
    boxOf(at, column) {
      return { x: (column + shape.left) * side, y: (at + shape.top) * side, width: side, height: side };
    },
  };
}
