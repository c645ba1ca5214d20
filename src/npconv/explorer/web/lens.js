// The arithmetic of one step, as small matrices: window, kernel, products, sums, bias, result.
import { countText, element, longNumber, cellText } from "./elements.js";
import { cellPaint } from "./grid.js";
import { colour } from "./pictures.js";

const MOST_CELLS = 256; // of one small matrix; larger ones are drawn as pixels
const MOST_GROUPS = 6;

function setOnce(node, key, value, change) {
  if (node[key] === value) return;
  node[key] = value;
  change(value);
}

/** A small matrix that is drawn anew often: its cells are kept. */
export function miniMatrix(title) {
  const caption = element("figcaption", { text: title });
  const grid = element("div", { class: "mini-cells", "aria-hidden": "true" });
  const canvas = element("canvas", { class: "mini-pixels", "aria-hidden": "true", hidden: true });
  const root = element("figure", { class: "mini" }, grid, canvas, caption);
  let cells = [];
  let shape = "";

  function drawPixels(rows, columns, list, limit, dark) {
    canvas.width = columns;
    canvas.height = rows;
    const side = Math.max(2, Math.min(8, Math.floor(160 / Math.max(rows, columns))));
    canvas.style.width = `${columns * side}px`;
    canvas.style.height = `${rows * side}px`;
    const image = new ImageData(columns, rows);
    for (const { spot, value } of list)
      image.data.set([...colour(Number.isFinite(value) ? value : 0, limit, dark), 255], 4 * spot);
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  return {
    root,
    /** `list`: {spot, value, faint, padding, hot, number}; cells not in it stay empty. */
    show({ rows, columns, list, limit, dark, words }) {
      setOnce(caption, "npconvText", words, (text) => (caption.textContent = text));
      const large = rows * columns > MOST_CELLS;
      grid.hidden = large;
      canvas.hidden = !large;
      if (large) return drawPixels(rows, columns, list, limit, dark);
      if (shape !== `${rows}x${columns}`) {
        shape = `${rows}x${columns}`;
        cells = Array.from({ length: rows * columns }, () => element("span", {}));
        grid.style.setProperty("--columns", columns);
        grid.classList.toggle("small", columns > 8);
        grid.replaceChildren(...cells);
      }
      const by = new Map(list.map((each) => [each.spot, each]));
      cells.forEach((cell, spot) => {
        const each = by.get(spot);
        const drawn = each && each.value !== null && !each.soon;
        const paint = drawn ? cellPaint(each.value, limit, dark) : null;
        const look = each
          ? [
              paint?.light && "dark-ink",
              each.faint && "faint",
              each.padding && "from-padding",
              each.hot && "hot",
              each.soon && "soon",
            ]
              .filter(Boolean)
              .join(" ")
          : "empty";
        cell.npconvTerm = each?.number;
        // most cells of a step are those of the step before: what did not change is not touched
        setOnce(cell, "npconvText", drawn ? cellText(each.value) : "", (text) => (cell.textContent = text));
        setOnce(cell, "npconvPaint", paint ? paint.css : "", (css) => (cell.style.backgroundColor = css));
        setOnce(cell, "npconvLook", look, (words) => (cell.className = words));
      });
    },
  };
}

const sumOfGroups = (groups) => groups.reduce((sum, group) => sum + group.sum, 0);
const SIGNS = { times: "\u00d7", over: "\u00f7", equals: "=" };

/** The row of one group: a, b and their products. */
function groupRow(onTerm, onHover) {
  const [a, b, product] = ["a", "b", "product"].map(miniMatrix);
  const join = element("span", { class: "sign", "aria-hidden": "true" });
  const equals = element("span", { class: "sign", text: SIGNS.equals, "aria-hidden": "true" });
  const sum = element("output", { class: "sum" });
  const arrow = element("span", { class: "sign", text: "\u2192", "aria-hidden": "true" });
  const label = element("h4", {});
  const root = element(
    "div",
    { class: "group" },
    label,
    element("div", { class: "matrices" }, a.root, join, b.root, equals, product.root, arrow, sum),
  );
  root.addEventListener("pointerover", (event) => onHover(event.target.npconvTerm ?? null));
  root.addEventListener("pointerleave", () => onHover(null));
  root.addEventListener("click", (event) => event.target.npconvTerm !== undefined && onTerm(event.target.npconvTerm));
  return { root, a, b, product, join, equals, arrow, sum, label };
}

/**
 * The view of one step's products.
 * @param {{onTerm: function(number): void, onHover: function(number|null): void}} options which product was clicked,
 *   and which is under the cursor
 */
export function createLens({ onTerm, onHover }) {
  const heading = element("h3", {});
  const running = element("p", { class: "running", hidden: true });
  const rows = element("div", { class: "groups" });
  const more = element("p", { class: "note", hidden: true });
  const total = element("p", { class: "total" });
  const root = element("section", { class: "lens", "data-part": "lens" }, heading, running, rows, more, total);
  let made = [];

  function show({ scene, told, term, termHover, limits, dark, names, level }) {
    const scatter = scene.way === "scatter";
    heading.textContent = scatter
      ? `What ${cellName(names[scene.source], told.index)} spreads`
      : `How ${cellName(names[scene.result], told.index)} is made`;
    const groups = told.groups.slice(0, MOST_GROUPS);
    while (made.length < groups.length) {
      made.push(groupRow(onTerm, onHover));
      rows.append(made.at(-1).root);
    }
    made.forEach((row, i) => {
      row.root.hidden = i >= groups.length;
    });
    const near = level === "arithmetic";
    const hot = (number) => number === termHover || (near && number === term);
    const soon = (number) => near && number > term;
    groups.forEach((group, i) => drawGroup(made[i], group, { scene, told, limits, dark, names, hot, soon }));
    const rest = told.groups.slice(MOST_GROUPS);
    more.hidden = !rest.length;
    more.textContent = rest.length
      ? `${rest.length} more channels are summed alike${scatter ? "" : `: together ${longNumber(sumOfGroups(rest))}`}.`
      : "";
    total.textContent = totalWords(scene, told, names);
    running.hidden = !near;
    if (near) running.textContent = runningWords(told, term, scatter);
  }

  function drawGroup(row, group, { scene, told, limits, dark, names, hot, soon }) {
    const { terms, rows: height, columns } = group;
    const first = terms[0];
    const scatter = scene.way === "scatter";
    const joined = Boolean(first?.b) && told.operation !== "none";
    const cells = (value, extra) =>
      terms.map((each) => ({
        spot: each.spot,
        number: each.number,
        hot: hot(each.number),
        ...extra(each),
        value: value(each),
      }));
    row.label.textContent = group.label;
    row.label.hidden = told.groups.length < 2;
    const limitOf = (cell) => limits[cell?.panel] ?? 1;
    const chosen = (each) => ({ padding: each.a.padding, faint: told.chosen !== null && each.number !== told.chosen });
    if (scatter)
      row.a.show({
        rows: 1,
        columns: 1,
        list: [{ spot: 0, value: told.total }],
        limit: limits[scene.driver],
        dark,
        words: names[scene.driver],
      });
    else
      row.a.show({
        rows: height,
        columns,
        list: cells((each) => each.a.value, chosen),
        limit: limitOf(first?.a),
        dark,
        words: sideWords(first?.a, names, scene),
      });
    for (const node of [row.join, row.b.root, row.equals, row.product.root]) node.hidden = !joined;
    if (joined) {
      row.join.textContent = SIGNS[told.operation] ?? "";
      row.b.show({
        rows: height,
        columns,
        list: cells(
          (each) => each.b.value,
          (each) => ({ padding: each.b.padding }),
        ),
        limit: first.b.panel ? limitOf(first.b) : Math.max(...terms.map((each) => Math.abs(each.b.value))),
        dark,
        words: sideWords(first.b, names, scene),
      });
      const largest = limitOf(first.a) * (told.operation === "over" ? 1 : limitOf(first.b));
      row.product.show({
        rows: height,
        columns,
        list: cells(
          (each) => each.product,
          (each) => ({ faint: scatter && !each.goal, soon: soon(each.number) }),
        ),
        limit: largest,
        dark,
        words: scatter ? `added to ${names[scene.result]}` : told.operation === "over" ? "shares" : "products",
      });
    }
    row.arrow.hidden = row.sum.hidden = scatter;
    if (!scatter)
      row.sum.textContent = told.chosen !== null ? `max ${longNumber(group.sum)}` : `sum ${longNumber(group.sum)}`;
  }

  return { root, show };
}

function cellName(name, index) {
  return `${name}[${index.join(", ")}]`;
}

function sideWords(cell, names, scene) {
  if (!cell) return "";
  if (!cell.panel) return scene.way === "scatter" ? "share" : "cells in the window";
  const name = names[cell.panel] ?? cell.panel;
  return cell.panel === "x" && scene.result !== "dx" ? `window of ${name}` : name;
}

/** The last line: the channels' sums, the bias and the result. */
function totalWords(scene, told, names) {
  if (scene.way === "scatter") return "";
  const name = cellName(names[scene.result], told.index);
  const result = longNumber(told.total);
  if (told.chosen !== null) return `${name} = ${result}, the first largest of the window.`;
  if (told.divisor) return `${name} = ${longNumber(told.groups[0].sum)} \u00f7 ${told.divisor} = ${result}`;
  const parts = told.groups.slice(0, MOST_GROUPS).map((group) => longNumber(group.sum));
  if (told.groups.length > MOST_GROUPS) parts.push("\u2026");
  if (told.bias !== null) parts.push(`bias ${longNumber(told.bias)}`);
  return parts.length > 1
    ? `${name} = ${parts.join(" + ").replace(/\+ \u2212/g, "\u2212 ")} = ${result}`
    : `${name} = ${result}`;
}

/** The arithmetic level: one product and the sum so far. */
export function runningWords(told, term, scatter) {
  const all = told.groups.flatMap((group) => group.terms);
  const each = all[term];
  if (!each) return "Nothing to multiply here.";
  const joined = each.b && told.operation !== "none";
  const made = joined
    ? `${longNumber(each.a.value)} ${SIGNS[told.operation]} ${longNumber(each.b.value)} = ${longNumber(each.product)}`
    : longNumber(each.product);
  const word = told.operation === "times" ? "Product" : "Value";
  const place = `${word} ${countText(term + 1)} of ${countText(all.length)}: ${made}`;
  if (scatter)
    return each.goal
      ? `${place}, added at [${each.goal.join(", ")}].`
      : `${place}, which falls into the padding and is dropped.`;
  if (told.chosen !== null) return `${place}${term === told.chosen ? ", the largest." : "."}`;
  const sum = all.slice(0, term + 1).reduce((sofar, next) => sofar + next.product, 0);
  return `${place}; the sum so far is ${longNumber(sum)}.`;
}
