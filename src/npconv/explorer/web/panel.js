// A tensor on the page: its planes (one per channel), with padding round them, marks, a cursor and one Tab stop.
import { element, longNumber } from "./elements.js";
import { numberPlane, planeShape } from "./grid.js";
import { pixelPlane } from "./pixels.js";
import { offset } from "./tensors.js";

const NUMBERED_SIDE = 16; // cells a side that still show numbers
const MOST_PLANES = 16; // planes that show at once

/** The two last axes of a tensor as rows and columns, and the leading ones as planes. */
export function planesOf(array, spatial) {
  const lead = array.shape.length - spatial;
  const heads = array.shape.slice(0, lead);
  const planes = heads.reduce((product, size) => product * size, 1);
  const tail = array.shape.slice(lead);
  return { heads, planes, rows: spatial === 2 ? tail[0] : 1, columns: spatial === 0 ? 1 : tail[tail.length - 1] };
}

/** How many planes stand beside each other. */
function planesAcross(layout) {
  if (layout.planes > MOST_PLANES) return layout.rows > NUMBERED_SIDE ? 2 : 4;
  if (layout.heads.length === 2) return layout.heads[1];
  return layout.planes <= 3 ? 1 : Math.ceil(Math.sqrt(layout.planes));
}

/** The cells of a panel across, the usual side of one in pixels, and the least that can be read. */
function roomOf({ array, spatial, ring }) {
  const layout = planesOf(array, spatial);
  const [top, left, bottom, right] = ring ?? [0, 0, 0, 0];
  const [height, width] = [layout.rows + top + bottom, layout.columns + left + right];
  const across = planesAcross(layout);
  const side = Math.max(height, width);
  if (layout.rows > NUMBERED_SIDE || layout.columns > NUMBERED_SIDE)
    return {
      cells: across * width,
      gaps: 14 * (across - 1) + 4,
      usual: Math.max(PIXEL_LEAST, Math.min(14, Math.floor(400 / side))),
      least: PIXEL_LEAST,
    };
  const one = side <= 8 ? 40 : side <= 10 ? 36 : side <= 14 ? 31 : side <= 18 ? 28 : 25;
  return {
    cells: across * width,
    gaps: 14 * (across - 1) + 4,
    usual: layout.planes > 4 ? Math.min(one, 30) : layout.planes > 1 ? Math.min(one, 34) : one,
    least: 20,
  };
}

const JOINING_ROOM = 46; // pixels between two panels, with the sign
const SMALL_PANEL = 6; // cells across that need not shrink
const HEADING_ROOM = 84; // pixels that a title takes
const TOUCHED = 24; // pixels of a cell that a finger finds
const NARROW = 520; // pixels of a screen that fingers use
const PIXEL_LEAST = 4; // pixels of a cell without a number

/**
 * The side of a cell for each panel, so that all stand in one line where that is possible.
 * @param {Object[]} panels {array, spatial, ring}
 * @param {number} available pixels
 * @returns {number[]}
 */
export function fittedCells(panels, available) {
  const rooms = panels.map(roomOf);
  const widthOf = (cell) =>
    rooms.reduce(
      (sum, room) => sum + Math.max(HEADING_ROOM, room.cells * cell(room) + room.gaps),
      JOINING_ROOM * (panels.length - 1),
    );
  if (!available || widthOf((room) => room.usual) <= available) return rooms.map((room) => room.usual);
  // numbers on a narrow screen are touched; pixels have the pinned cell and the arrow keys
  const least = (room) => (available < NARROW && room.least > PIXEL_LEAST ? TOUCHED : room.least);
  for (let largest = 39; largest >= PIXEL_LEAST; largest--) {
    const smaller = (room) =>
      room.cells <= SMALL_PANEL ? room.usual : Math.max(least(room), Math.min(room.usual, largest));
    if (widthOf(smaller) <= available) return rooms.map(smaller);
  }
  const alone = (room) => Math.floor((available - room.gaps) / room.cells);
  return rooms.map((room) =>
    Math.min(room.usual, Math.max(room.least > PIXEL_LEAST ? TOUCHED : PIXEL_LEAST, alone(room))),
  );
}

/**
 * @param {{name: string, hooks: Object}} options `hooks`: hover(index|null), pick(index, event), press(index, event),
 *   key(index, event), which hear of the reader's hand
 */
export function tensorPanel({ name, hooks }) {
  const heading = element("h3", {});
  const size = element("span", { class: "size" });
  const holder = element("div", { class: "planes" });
  const note = element("p", { class: "note", hidden: true });
  const root = element(
    "section",
    { class: "panel", "data-part": name },
    element("header", {}, heading, size),
    element("div", { class: "scroll" }, holder),
    note,
  );
  let planes = new Map(); // by plane number
  let array = null;
  let spatial = 2;
  let layout = null; // planesOf
  let ring = null;
  let options = null;
  const kinds = new Set(); // of the marks ever made: those must be taken away again
  let cursor = null; // [plane, row, column]
  let first = 0;

  const leadOf = (plane) => {
    const lead = [];
    for (let axis = layout.heads.length - 1; axis >= 0; axis--) {
      lead.unshift(plane % layout.heads[axis]);
      plane = Math.floor(plane / layout.heads[axis]);
    }
    return lead;
  };
  const indexOf = (plane, row, column) => [
    ...leadOf(plane),
    ...(spatial === 2 ? [row, column] : spatial === 1 ? [column] : []),
  ];
  const placeOf = (index) => {
    const lead = index.slice(0, index.length - spatial);
    const plane = lead.reduce((total, at, axis) => total * layout.heads[axis] + at, 0);
    const tail = index.slice(index.length - spatial);
    return [plane, spatial === 2 ? tail[0] : 0, spatial === 0 ? 0 : tail[tail.length - 1]];
  };

  function planeLabel(plane) {
    const lead = leadOf(plane);
    const words = options.leadWords ?? ["channel"];
    return lead.map((at, axis) => `${words[axis] ?? "part"} ${at}`).join(", ");
  }

  function valueAt(plane) {
    const start = plane * layout.rows * layout.columns;
    return (row, column) =>
      row >= 0 && row < layout.rows && column >= 0 && column < layout.columns
        ? Number(array.data[start + row * layout.columns + column])
        : options.padded(plane, spatial === 2 ? [row, column] : [column]);
  }

  function shownPlanes(current) {
    if (layout.planes <= MOST_PLANES) return [0, layout.planes];
    const span = layout.planes > 4 * MOST_PLANES || layout.rows > NUMBERED_SIDE ? 4 : 8;
    if (current < first || current >= first + span) first = Math.floor(current / span) * span;
    first = Math.min(first, Math.max(0, layout.planes - span));
    return [first, Math.min(layout.planes, first + span)];
  }

  function arrange(current) {
    const [from, to] = shownPlanes(current);
    const shape = planeShape(layout.rows, layout.columns, ring);
    const large = layout.rows > NUMBERED_SIDE || layout.columns > NUMBERED_SIDE;
    const next = new Map();
    for (let plane = from; plane < to; plane++) {
      const label = `${options.title}${layout.planes > 1 || layout.heads.length > 1 ? `, ${planeLabel(plane)}` : ""}`;
      const before = planes.get(plane);
      const reuse = before && before.large === large && before.label === label;
      const view = reuse ? before : { ...(large ? pixelPlane(label) : numberPlane(label)), large, label };
      if (!reuse) {
        view.root.npconvPlane = plane;
        view.caption = element("figcaption", { text: planeLabel(plane) });
        view.box = element("figure", {}, view.root, view.caption);
      }
      view.caption.hidden = layout.planes === 1;
      next.set(plane, view);
    }
    const changed = next.size !== planes.size || [...next].some(([plane, view]) => planes.get(plane) !== view);
    planes = next;
    if (changed) holder.replaceChildren(...[...planes.values()].map((view) => view.box));
    holder.style.setProperty("--cell", `${options.cell}px`);
    holder.style.setProperty("--columns", planesAcross(layout));
    note.hidden = to - from === layout.planes;
    note.textContent = `Planes ${from} to ${to - 1} of ${layout.planes}; the others follow the step.`;
    for (const [plane, view] of planes) {
      view.show({
        shape,
        valueAt: valueAt(plane),
        limit: options.limit,
        dark: options.dark,
        rank: spatial,
        side: options.cell,
      });
      view.place(null);
    }
    if (!cursor || !planes.has(cursor[0]) || cursor[1] >= layout.rows || cursor[2] >= layout.columns)
      cursor = [from, 0, 0];
    planes.get(cursor[0]).place(cursor.slice(1), false);
    return changed;
  }

  function grouped(places) {
    const by = new Map([...planes.keys()].map((plane) => [plane, []]));
    for (const [plane, row, column] of places) by.get(plane)?.push([row, column]);
    return by;
  }

  const here = (event) => {
    const plane = event.target.closest?.(".plane")?.npconvPlane;
    const at = plane === undefined ? null : planes.get(plane)?.cellAt(event);
    return at ? [plane, ...at] : null;
  };

  function move(place, focus) {
    if (!planes.has(place[0])) arrange(place[0]);
    planes.get(cursor[0])?.place(null);
    cursor = place;
    planes.get(place[0]).place(place.slice(1), focus);
  }

  let over = null;
  holder.addEventListener("pointermove", (event) => {
    const place = here(event);
    if (String(place) === String(over)) return;
    over = place;
    hooks.hover(place && indexOf(...place), event);
  });
  holder.addEventListener("pointerleave", (event) => {
    over = null;
    hooks.hover(null, event);
  });
  holder.addEventListener("pointerdown", (event) => {
    const place = here(event);
    if (place && event.button === 0) {
      move(place, false);
      hooks.press(indexOf(...place), event);
    }
  });
  holder.addEventListener("click", (event) => {
    const place = here(event);
    if (!place) return;
    move(place, true);
    hooks.pick(indexOf(...place), event);
  });
  holder.addEventListener("dblclick", (event) => here(event) && hooks.edit?.(indexOf(...here(event)), ""));
  holder.addEventListener("focusin", (event) => {
    if (event.target.getAttribute("role") === "gridcell" && event.target.matches(":focus-visible"))
      hooks.hover(indexOf(...cursor), event);
  });
  holder.addEventListener(
    "focusout",
    (event) => event.target.getAttribute("role") === "gridcell" && hooks.hover(null, event),
  );
  holder.addEventListener("keydown", (event) => {
    if (event.target.getAttribute("role") !== "gridcell") return;
    const [plane, row, column] = cursor;
    const far = event.ctrlKey || event.metaKey;
    const next = {
      ArrowUp: [plane, row - 1, column],
      ArrowDown: [plane, row + 1, column],
      ArrowLeft: [plane, row, column - 1],
      ArrowRight: [plane, row, column + 1],
      Home: [plane, far ? 0 : row, 0],
      End: [plane, far ? layout.rows - 1 : row, layout.columns - 1],
      PageUp: [plane - 1, row, column],
      PageDown: [plane + 1, row, column],
    }[event.key];
    if (next) {
      event.preventDefault();
      const inside =
        next[0] >= 0 &&
        next[0] < layout.planes &&
        next[1] >= 0 &&
        next[1] < layout.rows &&
        next[2] >= 0 &&
        next[2] < layout.columns;
      if (!inside) return;
      move(next, true);
      hooks.hover(indexOf(...next), event);
    } else hooks.key(indexOf(...cursor), event);
  });

  return {
    root,
    name,
    /**
     * Show an array: `title`, `cell` (a cell's side), `sizeWords`, `spatial` axes, `ring` [top, left, bottom, right]
     * with `padded(plane, position)`.
     */
    show(next) {
      options = next;
      array = next.array;
      spatial = next.spatial;
      layout = planesOf(array, spatial);
      ring = next.ring;
      heading.textContent = next.title;
      size.textContent = next.sizeWords ?? "";
      root.classList.toggle("editable", Boolean(next.editable));
      arrange(cursor?.[0] < layout.planes ? cursor[0] : 0);
    },
    /** Bring the plane of an index into view where not all planes are shown. */
    follow(index) {
      const plane = placeOf(index)[0];
      if (!planes.has(plane)) arrange(plane);
    },
    change(index, value) {
      const [plane, row, column] = placeOf(index);
      planes.get(plane)?.change(row, column, value);
    },
    /** Mark these places with a kind: indices, or [plane, row, column] that may lie in the ring. */
    mark(kind, places) {
      if (!places.length && !kinds.has(kind)) return;
      kinds.add(kind);
      for (const [plane, list] of grouped(places)) planes.get(plane).mark(kind, list);
    },
    /** Frame the bounding box of these places, plane by plane. */
    frame(places) {
      for (const [plane, list] of grouped(places)) {
        const rows = list.map(([row]) => row);
        const columns = list.map(([, column]) => column);
        planes
          .get(plane)
          .frame(
            list.length ? [Math.min(...rows), Math.min(...columns), Math.max(...rows), Math.max(...columns)] : null,
          );
      }
    },
    /** Take every mark away. */
    clear() {
      for (const kind of kinds) this.mark(kind, []);
      this.frame([]);
      this.hideFrom(Infinity);
    },
    hideFrom(flat) {
      const each = layout.rows * layout.columns;
      for (const [plane, view] of planes) view.hideFrom(flat - plane * each);
    },
    placeOf,
    indexOf,
    spotlight: (on) => root.classList.toggle("spotlight", on),
    valueOf: (index) => Number(array.data[offset(array, index)]),
    words: (index) =>
      `${options.short ?? options.title}[${index.join(", ")}] = ${longNumber(Number(array.data[offset(array, index)]))}`,
    /** The plane's root and the cell's box in it: where an editor is laid. */
    boxOf(index) {
      const [plane, row, column] = placeOf(index);
      const view = planes.get(plane);
      return view && { root: view.root, box: view.boxOf(row, column) };
    },
    focus(index) {
      move(placeOf(index), true);
    },
    get editable() {
      return Boolean(options?.editable);
    },
  };
}
