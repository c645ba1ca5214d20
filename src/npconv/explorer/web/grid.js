// One plane of a tensor as cells with their numbers: an ARIA grid. `pixels.js` has the like for large planes.
// Positions are (row, column) of the plane itself; those of its padding ring are negative or beyond its size.
import { colour } from "./pictures.js";
import { cellText, darkInkReads, element, longNumber } from "./elements.js";

/** How the shape of a plane with its ring is told: sizes, and the ring's widths. */
export function planeShape(rows, columns, ring) {
  const [top, left, bottom, right] = ring ?? [0, 0, 0, 0];
  return { rows, columns, top, left, bottom, right, height: rows + top + bottom, width: columns + left + right };
}

function sameShape(one, other) {
  return one && Object.keys(one).every((key) => one[key] === other[key]);
}

/** The words a screen reader says for a cell. */
export function cellWords(shape, row, column, value, rank) {
  if (rank === 0) return longNumber(value);
  return `${rank === 1 ? "" : `row ${row}, `}${rank === 1 ? "position" : "column"} ${column}: ${longNumber(value)}`;
}

/** The colour of a cell as CSS, and whether its ink should be dark. */
export function cellPaint(value, limit, dark) {
  const finite = Number.isFinite(value) ? value : Number.isNaN(value) ? 0 : Math.sign(value) * limit;
  const rgb = colour(finite, limit, dark);
  return { css: `rgb(${rgb.join(" ")})`, light: darkInkReads(rgb) };
}

/**
 * A plane of cells with numbers, up to 16 x 16 and its padding.
 * @param {string} label the grid's name
 * @returns an object with root, show, change, mark, hideFrom, frame, place, cellAt
 */
export function numberPlane(label) {
  const grid = element("div", { role: "grid", "aria-label": label, class: "cells" });
  const frame = element("div", { class: "frame", hidden: true, "aria-hidden": "true" });
  const root = element("div", { class: "plane" }, grid, frame);
  const marked = new Map();
  let shape = null;
  let side = 0; // of a cell, in pixels
  let cells = []; // by key: the ring's too
  let drawn = []; // what each shows, so that only what changed is touched
  let look = null;
  let hiddenFrom = Infinity;
  let cursor = null;

  const keyOf = (row, column) => (row + shape.top) * shape.width + column + shape.left;

  /** The box of a cell in the plane, in pixels: computed, as to ask the page would make it lay itself out. */
  const boxOf = (row, column) => ({
    x: 1 + (column + shape.left) * side,
    y: 1 + (row + shape.top) * side,
    width: side,
    height: side,
  });

  function build(next) {
    shape = next;
    cells = [];
    drawn = [];
    marked.clear();
    cursor = null;
    hiddenFrom = Infinity;
    frame.hidden = true;
    const rows = [];
    for (let row = -shape.top; row < shape.rows + shape.bottom; row++) {
      const line = element("div", { role: "row", class: "row" });
      const inside = row >= 0 && row < shape.rows;
      if (!inside) line.setAttribute("aria-hidden", "true");
      for (let column = -shape.left; column < shape.columns + shape.right; column++) {
        const real = inside && column >= 0 && column < shape.columns;
        const cell = element(
          "div",
          real ? { role: "gridcell", tabindex: "-1", class: "cell" } : { "aria-hidden": "true", class: "cell padding" },
        );
        cell.npconvAt = real ? [row, column] : null;
        cells.push(cell);
        line.append(cell);
      }
      rows.push(line);
    }
    grid.replaceChildren(...rows);
  }

  function draw(key, row, column, value) {
    if (Object.is(drawn[key], value)) return;
    drawn[key] = value;
    const cell = cells[key];
    const none = value === null; // padding of a pool: there is nothing there
    const paint = none ? { css: "", light: !look.dark } : cellPaint(value, look.limit, look.dark);
    const text = none ? "" : cellText(value);
    cell.textContent = text;
    cell.style.backgroundColor = paint.css;
    cell.classList.toggle("dark-ink", paint.light);
    cell.classList.toggle("long", text.length > 4);
    if (cell.npconvAt) cell.setAttribute("aria-label", cellWords(shape, row, column, value, look.rank));
  }

  return {
    root,
    grid,
    /** Draw everything: `valueAt(row, column)` knows the ring too. */
    show({ shape: next, valueAt, limit, dark, rank, side: wanted }) {
      side = wanted;
      if (!sameShape(shape, next)) build(next);
      if (look?.limit !== limit || look?.dark !== dark || look?.rank !== rank) drawn = [];
      look = { limit, dark, rank };
      for (let key = 0, row = -shape.top; row < shape.rows + shape.bottom; row++)
        for (let column = -shape.left; column < shape.columns + shape.right; column++, key++)
          draw(key, row, column, valueAt(row, column));
    },
    /** Draw one cell. */
    change(row, column, value) {
      draw(keyOf(row, column), row, column, value);
    },
    /** Mark exactly these positions with a kind; others lose it. */
    mark(kind, positions) {
      const before = marked.get(kind) ?? new Set();
      const now = new Set(positions.map(([row, column]) => keyOf(row, column)));
      for (const key of before) if (!now.has(key)) cells[key]?.classList.remove(kind);
      for (const key of now) if (!before.has(key)) cells[key]?.classList.add(kind);
      marked.set(kind, now);
    },
    /** Cells from this one on (row by row) are not shown yet. */
    hideFrom(count) {
      const total = shape.rows * shape.columns;
      const [low, high] = [Math.min(hiddenFrom, count), Math.max(hiddenFrom, count)];
      for (let flat = Math.max(0, low); flat < Math.min(total, high); flat++) {
        const column = flat % shape.columns;
        cells[keyOf((flat - column) / shape.columns, column)].classList.toggle("later", flat >= count);
      }
      hiddenFrom = count;
    },
    /** A frame round a box [row, column, last row, last column], or none. */
    frame(box) {
      frame.hidden = !box;
      if (!box) return;
      const corner = boxOf(box[0], box[1]);
      frame.style.transform = `translate(${corner.x}px, ${corner.y}px)`;
      frame.style.width = `${(box[3] - box[1] + 1) * side}px`;
      frame.style.height = `${(box[2] - box[0] + 1) * side}px`;
    },
    /** Make one cell the plane's stop for the Tab key (null: none), and perhaps focus it. */
    place(position, focus) {
      if (cursor) cursor.tabIndex = -1;
      cursor = position ? cells[keyOf(...position)] : null;
      if (!cursor) return;
      cursor.tabIndex = 0;
      if (focus) cursor.focus();
    },
    /** The position under an event, or null. */
    cellAt(event) {
      return event.target.npconvAt ?? null;
    },
    boxOf,
  };
}
