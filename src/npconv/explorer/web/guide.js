// A few sentences beside each view. Their terms point: under the cursor or the focus, the part they speak of lights up.
import { element } from "./elements.js";
import { isPool } from "./shapes.js";

// strings, and [part, words] for the terms that point
const TEXTS = {
  "forward conv": [
    "The ",
    ["w", "kernel"],
    " lies on a window of the ",
    ["x", "input"],
    ". Each number under it is multiplied by the weight above; the ",
    ["lens", "products"],
    " are summed, channel by channel, the bias is added, and the sum is one cell of the ",
    ["y", "output"],
    ". Then the window moves on by the stride. Dashed cells are padding.",
  ],
  "forward conv_transpose": [
    "Every cell of the ",
    ["x", "input"],
    " stamps the whole ",
    ["w", "kernel"],
    ", scaled by its value, onto the ",
    ["y", "output"],
    "; stamps that overlap ",
    ["lens", "add up"],
    ". This is the convolution's own backward pass, used forwards.",
  ],
  "forward max_pool": [
    "A window slides over each channel of the ",
    ["x", "input"],
    " and the ",
    ["y", "output"],
    " keeps its ",
    ["lens", "largest"],
    " value: the ringed cell. No weights, and no mixing of channels.",
  ],
  "forward avg_pool": [
    "A window slides over each channel of the ",
    ["x", "input"],
    "; the ",
    ["y", "output"],
    " is the ",
    ["lens", "mean"],
    " of what it covers.",
  ],
  "backward dx conv": [
    "Say how much a loss would change with each output: that is ",
    ["dy", "dY"],
    ". An input cell reached several outputs, each through one ",
    ["w", "weight"],
    "; its gradient, a cell of ",
    ["dx", "dX"],
    ", ",
    ["lens", "sums"],
    " dY times weight over all of them. By scatter the same sum is built from the other side:",
    " each cell of dY spreads the kernel over dX.",
  ],
  "backward dw conv": [
    "A ",
    ["dw", "weight"],
    " met one cell of the ",
    ["x", "input"],
    " for every cell of the output. Its gradient multiplies each of these cells by the ",
    ["dy", "dY"],
    " of that output and ",
    ["lens", "sums"],
    ": dW is the correlation of X with dY.",
  ],
  "backward db conv": [
    "The bias was added to every output of its channel, so its gradient ",
    ["db", "db"],
    " is the ",
    ["lens", "sum"],
    " of that channel of ",
    ["dy", "dY"],
    ".",
  ],
  "backward dx max_pool": [
    "Only the largest cell of a window reached the output. So each cell of ",
    ["dy", "dY"],
    " is sent, whole, to the cell of ",
    ["dx", "dX"],
    " where the ",
    ["x", "input"],
    " was largest; of equal ones, to the first.",
  ],
  "backward dx avg_pool": [
    "Each cell of ",
    ["dy", "dY"],
    " is divided by the size of its window, and every cell of ",
    ["dx", "dX"],
    " in that window gets one ",
    ["lens", "share"],
    ".",
  ],
  algorithms: [
    "Five ways to the same output. Each ",
    ["cards", "picture"],
    " shows what is read and written at the same point of the work; the ",
    ["table", "table"],
    " counts multiplications and memory; below are the ",
    ["detail", "matrices"],
    " of the one you choose.",
  ],
  model: ["Every layer of the model with its maps for this image. Open a layer to see its arithmetic, cell by cell."],
};

function keyOf({ view }, { scene, problem }) {
  if (view !== "forward" && view !== "backward") return view;
  if (view === "forward") return `forward ${problem.operator}`;
  const result = scene?.result ?? "dx";
  return `backward ${result} ${result === "dx" && isPool(problem) ? problem.operator : "conv"}`;
}

/** @param {Object} options `spotlight(part, on)` */
export function createGuide({ spotlight }) {
  const heading = element("h2", { class: "guide-title", text: "What you see" });
  const text = element("p", {});
  const root = element("div", { class: "guide" }, heading, text);
  let shown = "";

  function term([part, words]) {
    const light = (on) => () => spotlight(part, on);
    return element("button", {
      type: "button",
      class: "points",
      on: { pointerenter: light(true), pointerleave: light(false), focus: light(true), blur: light(false) },
      text: words,
    });
  }

  return {
    root,
    refresh(state, found) {
      const key = keyOf(state, found);
      if (key === shown) return;
      shown = key;
      text.replaceChildren(...(TEXTS[key] ?? []).map((piece) => (typeof piece === "string" ? piece : term(piece))));
    },
  };
}
