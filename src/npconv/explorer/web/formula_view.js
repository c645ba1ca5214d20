// The formula with this cell's numbers, the check of a gradient by nudging, and the lines of Python to copy.
import { numericCheck } from "./arithmetic.js";
import { cellFormula, codeLines } from "./formulas.js";
import { button, copyText, element, longNumber, uniqueId } from "./elements.js";
import { shortNames, shownStep } from "./stage.js";

const CHECK_WAIT = 120; // ms after the cursor came to rest: a check runs the forward pass twice
const CHECK_WORK = 2e6; // numbers of x times taps above which a check is left to the reader's wish

const GRADIENT_OF = { dx: "x", dw: "w", db: "bias" };

/** A block of code under its name, with a button that copies it. */
function codeBlock(name, say) {
  const id = uniqueId("code");
  const code = element("code", {});
  const text = element("pre", { id, tabindex: "0", role: "region", "aria-label": `${name} lines` }, code);
  const copy = button("Copy", async () => say(await copyText(code.textContent, code)), {
    "aria-label": `Copy the ${name} lines`,
  });
  return {
    root: element("div", { class: "code" }, element("header", {}, element("h3", { text: name }), copy), text),
    code,
  };
}

/**
 * @param {Object} options store, `derived`, `say` (a message that shows for a while)
 */
export function createFormulaView({ store, derived, say }) {
  const formula = element("pre", { class: "formula", tabindex: "0", role: "region", "aria-label": "Formula" });
  const check = element("dl", { class: "check-table" });
  const checkNote = element("p", { class: "note" });
  const checking = element(
    "section",
    { class: "checking", "data-part": "check" },
    element("h3", { text: "Numeric check of this cell" }),
    check,
    checkNote,
  );
  const npconv = codeBlock("npconv", say);
  const torch = codeBlock("PyTorch", say);
  const root = element(
    "div",
    { class: "formulas" },
    element("section", { "data-part": "formula" }, element("h3", { text: "Formula" }), formula),
    checking,
    element(
      "details",
      { class: "lines", open: true },
      element("summary", { text: "The same in Python" }),
      element("div", { class: "codes" }, npconv.root, torch.root),
    ),
  );
  let waiting = 0;
  let written = null;

  /** The gradient cell that shows: under the cursor, or of the step. */
  function gradientCell(state, scene) {
    const cell = state.hover ?? state.pinned;
    if (cell && cell.panel === scene.result) return cell.index;
    const related = { dx: "x", dw: "w", db: "bias" }[scene.result];
    if (cell && cell.panel === related) return cell.index;
    return scene.way === "gather" ? scene.stepIndex(shownStep(state, scene)) : null;
  }

  function runCheck() {
    const state = store.get();
    const { scene, problem, dy } = derived();
    if (!scene || scene.view !== "backward") return;
    const index = gradientCell(state, scene);
    const what = GRADIENT_OF[scene.result];
    const rows = [];
    let note = "Point at a cell of the gradient to check it.";
    if (index) {
      const found = numericCheck(problem, dy, what, index);
      const name = `${shortNames(scene)[scene.result]}[${index.join(", ")}]`;
      const close = Math.abs(found.difference) <= 1e-4 * Math.max(1, Math.abs(found.analytic));
      rows.push(
        [name, longNumber(found.analytic)],
        ["by nudging", longNumber(found.numeric)],
        ["difference", found.difference === 0 ? "0" : found.difference.toExponential(1).replace(/-/g, "\u2212")],
      );
      note = found.note ? `They differ: ${found.note}.` : close ? "They agree." : "They differ.";
    }
    check.replaceChildren(
      ...rows.flatMap(([term, value]) => [element("dt", { text: term }), element("dd", { text: value })]),
    );
    checkNote.textContent = note;
  }

  function planCheck() {
    clearTimeout(waiting);
    const { problem } = derived();
    if (store.get().playing || problem.x.data.length * (problem.w?.data.length ?? 9) > CHECK_WORK) return;
    waiting = setTimeout(runCheck, CHECK_WAIT);
  }

  function refresh(state, changed) {
    const { report, scene, problem, dy, y } = derived();
    root.hidden = !report.valid || state.view === "model" || !y;
    if (root.hidden) return;
    checking.hidden = state.view !== "backward";
    const what = { y: "y", dx: "x", dw: "w", db: "bias" }[scene?.result ?? "y"];
    formula.parentElement.hidden = !scene;
    if (scene && !(state.playing && state.speed > 8)) {
      const index = resultIndex(state, scene);
      formula.parentElement.hidden = !index;
      if (index) formula.textContent = cellFormula(problem, what, index, scene.view === "backward" ? dy : undefined);
    }
    const key = [problem, dy, what];
    if (!written || key.some((part, i) => part !== written[i])) {
      written = key;
      const lines = codeLines(problem, what, what === "y" ? undefined : dy);
      npconv.code.textContent = lines.npconv;
      torch.code.textContent = lines.torch;
    }
    if (
      state.view === "backward" &&
      ["hover", "step", "pinned", "problem", "dy", "target", "view", "way", "playing"].some((name) => changed.has(name))
    )
      planCheck();
  }

  function resultIndex(state, scene) {
    if (scene.way === "gather") return scene.stepIndex(shownStep(state, scene));
    const cell = state.hover ?? state.pinned;
    return cell?.panel === scene.result ? cell.index : null;
  }

  return { root, refresh, stop: () => clearTimeout(waiting) };
}
