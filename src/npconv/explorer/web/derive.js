// What follows from the state and is dear enough to keep: sizes, output, gradients, the scene. Never computed by a step.
import { forward, gradients } from "./arithmetic.js";
import { sizes } from "./shapes.js";
import { givenPanels, resultName, sceneOf } from "./scenes.js";
import { paddedReader } from "./padding.js";
import { usualGradient } from "./state.js";

const MOST_WORK = 4e7; // products a page may compute at an edit

function magnitude(array) {
  let largest = 0;
  for (const value of array.data) if (Number.isFinite(Number(value))) largest = Math.max(largest, Math.abs(value));
  return largest || 1;
}

function workOf(problem, report) {
  const outs = report.out.reduce((product, size) => product * size, 1);
  if (!problem.w) return outs * problem.x.shape[0] * problem.kernel.reduce((product, size) => product * size, 1);
  const places =
    problem.operator === "conv_transpose"
      ? problem.x.shape.slice(1).reduce((product, size) => product * size, 1)
      : outs;
  return places * problem.w.data.length;
}

/**
 * Everything derived from a state.
 * @param {Object} state
 * @param {Object|null} before the last answer, whose parts are used again where they still hold
 */
export function derive(state, before) {
  const { problem } = state;
  const same = before?.problem === problem;
  const found = same
    ? { ...before }
    : { problem, report: sizes(problem), y: null, usual: null, gradientsOf: null, gradients: null };
  if (!same) {
    const work = found.report.valid ? workOf(problem, found.report) : 0;
    if (work > MOST_WORK)
      found.report = {
        ...found.report,
        valid: false,
        reasons: [
          `This layer takes ${work} products for one image; the page computes up to ${MOST_WORK}. Choose a smaller input.`,
        ],
      };
    if (found.report.valid) {
      found.y = forward(problem);
      found.usual = usualGradient(found.y.shape);
      found.padded = paddedReader(problem, found.report);
    }
  }
  found.scene = null;
  if (!found.report.valid) {
    found.given = givenPanels(problem);
    found.limits = limitsOf(found.given);
    return found;
  }
  const fits = state.dy && String(state.dy.shape) === String(found.y.shape);
  found.dy = fits ? state.dy : found.usual;
  const backward = state.view === "backward";
  if (backward && found.gradientsOf !== found.dy) {
    found.gradients = gradients(problem, found.dy);
    found.gradientsOf = found.dy;
  }
  const target = problem.w ? (state.target === "bias" && !problem.bias ? "x" : state.target) : "x";
  found.target = target;
  if (state.view === "forward" || backward)
    found.scene = sceneOf({
      problem,
      view: state.view,
      target,
      way: state.way,
      dy: found.dy,
      y: found.y,
      gradients: backward ? found.gradients : null,
      report: found.report,
    });
  found.result = resultName(state.view, target);
  found.limits = limitsOf(found.scene?.panels ?? []);
  return found;
}

/** The magnitude that gets the strongest colour, panel by panel. */
function limitsOf(panels) {
  const limits = {};
  for (const { name, array } of panels) {
    // a cell stays light enough for dark ink, and its sign visible: as npconv.plots does it
    const spread = array.data.length > 256 * array.shape[0] ? 1.15 : 1.6;
    limits[name] = spread * magnitude(array);
  }
  return limits;
}
