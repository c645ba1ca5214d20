// The frame round the views: title, tabs, theme; and the choices of how a view is stepped and how near one looks.
import { button, checkInput, element, segments, uniqueId } from "./elements.js";
import { canScatter } from "./scenes.js";

const VIEWS = [
  ["forward", "Forward"],
  ["backward", "Backward"],
  ["algorithms", "Algorithms"],
  ["model", "Model"],
];
const THEME_WORDS = { auto: "Auto", light: "Light", dark: "Dark" };

/**
 * Title, tabs and tools.
 * @param {Object} options `onPage`, `show(view)`, `nextTheme`, `showKeys`, `mainId` of the panel that the tabs control
 */
export function createTop({ onPage, show, nextTheme, showKeys, mainId }) {
  const tabs = new Map(
    VIEWS.map(([key, words]) => [
      key,
      button(words, () => show(key), { role: "tab", id: uniqueId("tab"), "aria-controls": mainId }),
    ]),
  );
  const list = element("div", { class: "tabs", role: "tablist", "aria-label": "Views" }, ...tabs.values());
  list.addEventListener("keydown", (event) => {
    const shown = [...tabs.values()].filter((tab) => !tab.hidden);
    const at = shown.indexOf(event.target);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: shown.length - 1 }[event.key];
    if (at < 0 || next === undefined) return;
    event.preventDefault();
    const tab = shown[(next + shown.length) % shown.length];
    tab.focus();
    tab.click();
  });
  const theme = button("", nextTheme, { class: "theme" });
  const root = element(
    "header",
    { class: "top" },
    element(onPage ? "h1" : "h2", { class: "title", text: "npconv explorer" }),
    list,
    element("div", { class: "tools" }, button("Keys", showKeys), theme),
  );
  return {
    root,
    tabId: (view) => tabs.get(view).id,
    refresh(state, hasWalk) {
      for (const [key, tab] of tabs) {
        tab.setAttribute("aria-selected", String(key === state.view));
        tab.tabIndex = key === state.view ? 0 : -1;
      }
      tabs.get("model").hidden = !hasWalk;
      theme.textContent = `${THEME_WORDS[state.theme]} theme`;
    },
  };
}

/**
 * What a step is, of which gradient, and how near one looks.
 * @param {Object} options store, `setLevel(level)`
 */
export function createOptions({ store, setLevel }) {
  const anew = { step: 0, term: 0, pinned: null, hover: null };
  const target = segments({
    label: "Gradient of",
    value: "x",
    options: [
      ["x", "input: dX"],
      ["w", "kernel: dW"],
      ["bias", "bias: db"],
    ],
    onChange: (value) => store.set({ ...anew, target: value, playing: false }),
  });
  const way = segments({
    label: "A step is",
    value: "gather",
    options: [
      ["gather", "one result cell (gather)"],
      ["scatter", "one source cell (scatter)"],
    ],
    onChange: (value) => store.set({ ...anew, way: value }),
  });
  const level = segments({
    label: "How near",
    value: "cell",
    options: [
      ["layer", "Tensors"],
      ["cell", "Cell"],
      ["arithmetic", "Arithmetic"],
    ],
    onChange: setLevel,
  });
  const hide = checkInput("Hide cells still to come", false, (hideLater) => store.set({ hideLater }));
  return {
    root: element("div", { class: "options" }, target.root, way.root, level.root, hide.root),
    refresh(state, found) {
      const { problem, report, scene } = found;
      target.root.hidden = state.view !== "backward" || !problem.w;
      target.choose(found.target ?? "x");
      target.disable("bias", !problem.bias);
      way.root.hidden = !report.valid || !canScatter(problem, state.view, found.target);
      way.choose(scene?.way ?? state.way);
      level.choose(state.level);
      hide.root.hidden = scene?.way === "scatter";
      hide.input.checked = state.hideLater;
    },
  };
}
