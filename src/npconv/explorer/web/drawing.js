// A step as a drawing of its own (rectangles and words), for files: as SVG, or on a canvas for PNG and GIF.
import { cellText, darkInkReads, longNumber, vector } from "./elements.js";
import { colour } from "./pictures.js";
import { planesOf } from "./panel.js";

const PAPERS = {
  light: { paper: "#ffffff", ink: "#1b1f24", soft: "#545d68", line: "#c9ced4", unknown: "#eceef1" },
  dark: { paper: "#16181d", ink: "#e9ecef", soft: "#a8b0ba", line: "#454c55", unknown: "#23282e" },
};
const MARGIN = 16;
const GAP = 40;
const HEADING_WIDTH = 7.4; // points a letter takes
const MOST_DRAWN = 6; // planes of a tensor in a file

/**
 * The drawing of a step.
 * @param {Object} given panels: [{title, array, spatial, ring, limit, marks: [[plane, row, column]], shownUpTo}],
 *   `padded(plane, position)`, lines of words, dark
 * @returns {{width: number, height: number, paper: string, items: Object[]}}
 */
export function drawingOf({ panels, padded, lines, dark }) {
  const look = PAPERS[dark ? "dark" : "light"];
  const items = [];
  let x = MARGIN;
  let bottom = 0;
  for (const panel of panels) {
    const layout = planesOf(panel.array, panel.spatial);
    const [top, left, low, right] = panel.ring ?? [0, 0, 0, 0];
    const [height, width] = [layout.rows + top + low, layout.columns + left + right];
    const side = Math.max(5, Math.min(34, Math.floor(380 / Math.max(height, width))));
    items.push({
      words: headingOf(panel),
      x,
      y: MARGIN + 12,
      size: 13,
      bold: true,
      fill: look.ink,
    });
    let y = MARGIN + 24;
    const planes = Math.min(layout.planes, MOST_DRAWN);
    for (let plane = 0; plane < planes; plane++) {
      drawPlane(items, { panel, layout, plane, x, y, side, top, left, height, width, padded, look, dark });
      y += height * side + 12;
    }
    if (layout.planes > planes) {
      items.push({ words: `and ${layout.planes - planes} more`, x, y: y + 8, size: 12, fill: look.soft });
      y += 20;
    }
    bottom = Math.max(bottom, y);
    x += Math.max(width * side, HEADING_WIDTH * headingOf(panel).length) + GAP;
  }
  for (const line of lines) {
    bottom += 22;
    items.push({ words: line, x: MARGIN, y: bottom, size: 14, fill: look.ink });
  }
  const widest = Math.max(x - GAP + MARGIN, ...lines.map((line) => 2 * MARGIN + 7.6 * line.length));
  return { width: Math.ceil(widest), height: Math.ceil(bottom + MARGIN), paper: look.paper, items };
}

function drawPlane(items, { panel, layout, plane, x, y, side, top, left, height, width, padded, look, dark }) {
  const start = plane * layout.rows * layout.columns;
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++) {
      const [at, across] = [row - top, column - left];
      const inside = at >= 0 && at < layout.rows && across >= 0 && across < layout.columns;
      const flat = start + at * layout.columns + across;
      const hidden = inside && panel.shownUpTo !== undefined && flat > panel.shownUpTo;
      const value = inside
        ? Number(panel.array.data[flat])
        : padded(plane, panel.spatial === 2 ? [at, across] : [across]);
      const rgb = value === null || hidden ? null : colour(Number.isFinite(value) ? value : 0, panel.limit, dark);
      items.push({
        x: x + column * side,
        y: y + row * side,
        w: side,
        h: side,
        fill: rgb ? `rgb(${rgb.join(",")})` : look.unknown,
        stroke: side > 8 ? look.line : null,
        line: 0.6,
        dash: !inside,
      });
      if (rgb && side >= 18)
        items.push({
          words: cellText(value),
          x: x + (column + 0.5) * side,
          y: y + (row + 0.5) * side,
          size: Math.min(12, side * 0.38),
          fill: darkInkReads(rgb) ? "#000000" : "#ffffff",
          middle: true,
        });
    }
  const marks = panel.marks.filter(([at]) => at === plane);
  for (const [, row, column] of marks)
    items.push({
      x: x + (column + left) * side,
      y: y + (row + top) * side,
      w: side,
      h: side,
      fill: null,
      stroke: look.ink,
      line: side > 12 ? 2 : 1,
    });
  if (marks.length > 1) {
    const rows = marks.map(([, row]) => row);
    const columns = marks.map(([, , column]) => column);
    const [r, c] = [Math.min(...rows), Math.min(...columns)];
    items.push({
      x: x + (c + left) * side,
      y: y + (r + top) * side,
      w: (Math.max(...columns) - c + 1) * side,
      h: (Math.max(...rows) - r + 1) * side,
      fill: null,
      stroke: look.ink,
      line: 3.5,
    });
  }
}

/** The drawing of a scene's step. */
export function sceneDrawing({ scene, step, limits, padded, dark, partialUpTo }) {
  const told = scene.detail(step);
  const { now } = scene.marksOf(told);
  const panels = scene.panels.map((panel) => {
    const layout = planesOf(panel.array, panel.spatial);
    const place = (index) => {
      if (index.length === 3 && panel.name === "x") return index;
      const lead = index
        .slice(0, index.length - panel.spatial)
        .reduce((total, at, axis) => total * layout.heads[axis] + at, 0);
      const tail = index.slice(index.length - panel.spatial);
      return [lead, panel.spatial === 2 ? tail[0] : 0, panel.spatial ? tail.at(-1) : 0];
    };
    const array = panel.name === scene.result && partialUpTo ? partialUpTo(step) : panel.array;
    const shownUpTo =
      panel.name === scene.driver && scene.way === "gather" && panel.name === scene.result ? step : undefined;
    return { ...panel, array, limit: limits[panel.name], marks: now[panel.name].map(place), shownUpTo };
  });
  const words = told.groups.slice(0, 3).map((group) => groupLine(group, told, scene));
  return drawingOf({ panels, padded, lines: [scene.sentence(step, told), ...words], dark });
}

const headingOf = ({ title, array }) => `${title}  ${array.shape.join(" \u00d7 ")}`;
const factorWords = (value) => (value < 0 ? `(${longNumber(value)})` : longNumber(value));

function groupLine(group, told, scene) {
  const parts = group.terms
    .slice(0, 9)
    .map((term) =>
      term.b && told.operation !== "none"
        ? `${factorWords(term.a.value)} \u00b7 ${factorWords(term.b.value)}`
        : longNumber(term.product),
    );
  if (group.terms.length > 9) parts.push("\u2026");
  const end = scene.way === "scatter" || told.chosen !== null ? "" : ` = ${longNumber(group.sum)}`;
  return `${told.groups.length > 1 ? `${group.label}: ` : ""}${parts.join(told.chosen === null ? " + " : ", ")}${end}`;
}

/** The drawing as text of an SVG file. */
export function svgText({ width, height, paper, items }) {
  const nodes = items.map((item) =>
    item.words === undefined
      ? vector("rect", {
          x: item.x,
          y: item.y,
          width: item.w,
          height: item.h,
          fill: item.fill ?? "none",
          stroke: item.stroke,
          "stroke-width": item.stroke ? item.line : null,
          "stroke-dasharray": item.dash && item.stroke ? "2 2" : null,
        })
      : vector("text", {
          x: item.x,
          y: item.y,
          "font-size": item.size,
          "font-weight": item.bold ? "600" : null,
          fill: item.fill,
          "text-anchor": item.middle ? "middle" : null,
          "dominant-baseline": item.middle ? "central" : null,
          text: item.words,
        }),
  );
  const root = vector(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, "font-family": "system-ui, sans-serif" },
    vector("rect", { width, height, fill: paper }),
    ...nodes,
  );
  return new XMLSerializer().serializeToString(root);
}

/** The drawing on a canvas, `scale` pixels to a point. */
export function paintDrawing(canvas, { width, height, paper, items }, scale) {
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.fillStyle = paper;
  pen.fillRect(0, 0, width, height);
  for (const item of items) {
    if (item.words !== undefined) {
      pen.font = `${item.bold ? "600 " : ""}${item.size}px system-ui, sans-serif`;
      pen.textAlign = item.middle ? "center" : "left";
      pen.textBaseline = item.middle ? "middle" : "alphabetic";
      pen.fillStyle = item.fill;
      pen.fillText(item.words, item.x, item.y);
      continue;
    }
    if (item.fill) {
      pen.fillStyle = item.fill;
      pen.fillRect(item.x, item.y, item.w, item.h);
    }
    if (!item.stroke) continue;
    pen.strokeStyle = item.stroke;
    pen.lineWidth = item.line;
    pen.setLineDash(item.dash ? [2, 2] : []);
    pen.strokeRect(item.x, item.y, item.w, item.h);
  }
  return pen;
}
