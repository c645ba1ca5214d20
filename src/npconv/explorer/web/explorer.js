// The explorer's page: the shell, its views, and who hears of what. The entry is anywidget's contract.
import { defaults } from "./arithmetic.js";
import { createAlgorithms } from "./algorithms_view.js";
import { createDataControls } from "./controls_data.js";
import { createSlideControls } from "./controls_slide.js";
import { derive } from "./derive.js";
import { createEditor, createImages } from "./editing.js";
import { button, calm, element, uniqueId } from "./elements.js";
import { createExport } from "./exporting.js";
import { createFormulaView } from "./formula_view.js";
import { createGuide } from "./guide.js";
import { createKeyboard } from "./keyboard.js";
import { createPlayer } from "./playback.js";
import { canScatter } from "./scenes.js";
import { createOptions, createTop } from "./shell.js";
import { createStage } from "./stage.js";
import { createState, fromHash, initialState, plainProblem, readArray, readProblem, restoredState } from "./state.js";
import { renderWalk } from "./walk.js";

const REBUILDING = ["problem", "dy", "view", "target", "way", "dark"];
const MESSAGE_TIME = 6000;

/** The state to start with: the model's problem, or that of the link, or the usual one. Also what to tell the reader. */
function startOf(model, onPage) {
  let state = initialState(defaults());
  let message = "";
  try {
    const given = model.get("problem");
    if (given) state = initialState(readProblem(given));
    const shown = model.get("shown");
    if (shown) state = { ...state, ...restoredState(shown, state.problem) };
    const patch = onPage ? fromHash(window.location.hash) : null;
    if (patch) state = { ...state, ...patch };
  } catch (error) {
    message = error.message;
  }
  if (model.get("walk") && !model.get("problem")) state.view = "model";
  return { state: { ...state, firstProblem: state.problem, selected: null, termHover: null, dark: false }, message };
}

/** Draw the explorer into `el`; returns what removes it. */
function render({ model, el }) {
  const onPage = model.get("host") === "file" || model.get("host") === "page";
  const start = startOf(model, onPage);
  const store = createState(start.state);
  let found = derive(store.get(), null);
  const derived = () => found;
  const stops = [];

  // ---------------------------------------------------------------- what is said
  const live = element("p", { class: "live", "aria-live": "polite", "aria-label": "Step" });
  const toast = element("p", { class: "toast", role: "status" });
  let toastTimer = 0;
  let sayTimer = 0;
  function say(words) {
    toast.textContent = words;
    toast.classList.add("on");
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => toast.classList.remove("on"), MESSAGE_TIME);
  }
  /** For screen readers: what the step shows, once the steps come to rest. */
  function announce(words) {
    clearTimeout(sayTimer);
    if (store.get().playing && store.get().speed > 1) return;
    sayTimer = setTimeout(() => {
      if (live.textContent !== words) live.textContent = words;
    }, 80);
  }

  // ---------------------------------------------------------------- cells under the hand
  const cellHooks = {
    hover(cell, event) {
      if (cell && event.type === "pointermove") editor.drag(cell);
      const now = store.get().hover;
      if (!cell && !now) return;
      store.set({ hover: cell });
      if (cell && event.type !== "pointermove") store.set({ selected: cell });
    },
    press(cell, event) {
      store.set({ selected: cell });
      editor.press(cell, event);
    },
    pick(cell) {
      store.set({ selected: cell });
      if (!store.get().painting) pin(cell);
    },
    key(cell, event) {
      if (editor.key(cell, event)) return;
      if (event.key === "Enter") {
        event.preventDefault();
        pin(cell);
      }
    },
    edit: (cell, text) => editor.edit(cell, text),
  };

  /** Hold a cell; holding it again lets go. A cell that is a step becomes the step shown. */
  function pin(cell) {
    const { pinned } = store.get();
    if (pinned && pinned.panel === cell.panel && String(pinned.index) === String(cell.index)) {
      store.set({ pinned: null });
      return;
    }
    const own = found.scene && cell.panel === found.scene.driver;
    store.set({ pinned: cell, playing: false, ...(own ? { step: found.scene.stepOf(cell.index), term: 0 } : {}) });
  }

  // ---------------------------------------------------------------- the parts
  const stage = createStage({ store, derived, say: announce, hooks: cellHooks });
  const editor = createEditor({ store, derived, panel: (name) => stage.panel(name), say });
  const images = createImages({ store, say });
  const formulas = createFormulaView({ store, derived, say });
  const panelHooks = (name) => ({
    hover: (index) => store.set({ hover: index && { panel: name, index } }),
    pick: () => {},
    press: () => {},
    key: () => {},
  });
  const comparing = createAlgorithms({
    store,
    derived,
    model,
    hooks: Object.assign(panelHooks, { plain: plainProblem }),
    say: announce,
  });
  const terms = (step) => found.scene.detail(step).groups.reduce((sum, group) => sum + group.terms.length, 0);
  const player = createPlayer({ store, derived, lengths: { algorithms: () => comparing.steps(), terms } });
  const dataControls = createDataControls({ store, images });
  const slideControls = createSlideControls({ store, derived });
  const saving = createExport({
    store,
    derived,
    model,
    say,
    onPage,
    algorithmDrawing: comparing.drawing,
    algorithmSteps: comparing.steps,
  });
  const guide = createGuide({
    spotlight: (part, on) =>
      root
        .querySelectorAll("[data-part]")
        .forEach((node) => node.classList.toggle("spotlight", on && node.dataset.part === part)),
  });
  const keyboard = createKeyboard({
    f: ["forward view", () => show("forward")],
    b: ["backward view", () => show("backward")],
    a: ["algorithms", () => show("algorithms")],
    m: ["the model", () => model.get("walk") && show("model")],
    p: ["play or pause", () => player.toggle()],
    ".": ["step forward", () => player.nudge(1)],
    ",": ["step back", () => player.nudge(-1)],
    "[": ["first step", () => player.go(0)],
    "]": ["last step", () => player.go(Infinity)],
    ">": ["faster", () => player.faster(1)],
    "<": ["slower", () => player.faster(-1)],
    z: ["look closer: tensors, cell, arithmetic", () => zoom(1)],
    Z: ["look from further away", () => zoom(-1)],
    g: [
      "gather or scatter",
      () =>
        found.scene &&
        canScatter(found.problem, store.get().view, found.target) &&
        store.set({ way: found.scene.way === "gather" ? "scatter" : "gather", step: 0, term: 0 }),
    ],
    d: ["draw: painting on or off", () => editor.paintToggle()],
    t: ["light or dark", () => nextTheme()],
    Escape: ["unpin, or step back from the arithmetic", () => leave()],
    "?": ["this list", () => keyboard.show()],
  });

  function show(view) {
    store.set({
      view,
      playing: false,
      hover: null,
      ...(view === store.get().view ? {} : { step: 0, term: 0, pinned: null }),
    });
  }
  function zoom(by) {
    const levels = ["layer", "cell", "arithmetic"];
    const next = levels[Math.max(0, Math.min(2, levels.indexOf(store.get().level) + by))];
    setLevel(next);
  }
  function setLevel(level) {
    if (level === "layer" && store.get().level === "layer" && model.get("walk")) show("model");
    store.set({ level, term: 0, playing: false });
  }
  function leave() {
    const { pinned, level, painting } = store.get();
    if (painting) store.set({ painting: false });
    else if (pinned) store.set({ pinned: null });
    else if (level === "arithmetic") setLevel("cell");
  }

  // ---------------------------------------------------------------- the shell
  function nextTheme() {
    const order = ["auto", "light", "dark"];
    const next = order[(order.indexOf(store.get().theme) + 1) % 3];
    store.set({ theme: next, dark: isDark(next) });
  }
  const mainId = uniqueId("view");
  const top = createTop({ onPage, show, nextTheme, showKeys: () => keyboard.show(), mainId });
  const options = createOptions({ store, setLevel });
  const layerTitle = element("span", { class: "layer-title" });
  const backToModel = button("\u2190 Model", () => show("model"), { class: "crumb" });
  const crumbs = element("p", { class: "crumbs", hidden: true }, backToModel, layerTitle);
  const walkHolder = element("div", { class: "walk-holder", hidden: true });
  const toSettings = button("Settings \u2193", () => side.focus(), { class: "to-settings" });
  const main = element(
    "div",
    { class: "main", role: "tabpanel", id: mainId, tabindex: "-1" },
    guide.root,
    toSettings,
    crumbs,
    options.root,
    stage.root,
    comparing.root,
    walkHolder,
    formulas.root,
  );
  const side = element(
    "aside",
    { class: "side", "aria-label": "Settings", tabindex: "-1" },
    ...dataControls.nodes,
    ...slideControls.nodes,
    editor.section,
    saving.section,
    images.picker,
  );
  const content = element(
    onPage ? "main" : "div",
    { class: "content" },
    element("div", { class: "body" }, main, side),
    player.root,
    toast,
    live,
  );
  const root = element("div", { class: "npconv-explorer" }, top.root, content, keyboard.dialog);
  keyboard.listen(root);

  // ---------------------------------------------------------------- a model's layers
  let removeWalk = null;
  function openLayer(problem, dy, title) {
    try {
      const checked = readProblem(problem);
      const patch = {
        problem: checked,
        dy: dy ? readArray(dy, checked.x.shape.length, "the gradient") : null,
        title: String(title ?? ""),
        inputName: "",
        kernelName: "",
        view: "forward",
        step: 0,
        term: 0,
        pinned: null,
        hover: null,
        level: "cell",
        target: "x",
      };
      transition(() => store.set({ ...patch, way: checked.operator === "conv_transpose" ? "scatter" : "gather" }));
    } catch (error) {
      say(`This layer cannot be opened: ${error.message}.`);
    }
  }

  /** Change the level with a cross-fade where the browser has one and the reader wants it. */
  function transition(change) {
    if (onPage && document.startViewTransition && !calm()) document.startViewTransition(change);
    else change();
  }

  // ---------------------------------------------------------------- what changes when
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = (wanted) => (wanted === "auto" ? scheme.matches : wanted === "dark");
  const followScheme = () => store.set({ dark: isDark(store.get().theme) });
  scheme.addEventListener("change", followScheme);
  stops.push(() => scheme.removeEventListener("change", followScheme));

  function refresh(state, changed) {
    root.toggleAttribute("data-dark", state.dark);
    root.classList.toggle("painting", state.painting);
    root.classList.toggle("still", calm());
    const scened = state.view === "forward" || state.view === "backward";
    top.refresh(state, Boolean(model.get("walk")));
    main.setAttribute("aria-labelledby", top.tabId(state.view));
    stage.root.hidden = options.root.hidden = !scened;
    options.refresh(state, found);
    comparing.root.hidden = state.view !== "algorithms" || !found.report.valid;
    walkHolder.hidden = state.view !== "model";
    side.hidden = toSettings.hidden = state.view === "model";
    crumbs.hidden = !(state.title && model.get("walk")) || state.view === "model";
    layerTitle.textContent = state.title ?? "";
    guide.refresh(state, found);
    dataControls.refresh(state);
    slideControls.refresh(state);
    editor.refresh(state);
    formulas.refresh(state, changed);
    player.refresh(state, changed);
    if (state.view === "model" && !removeWalk) removeWalk = renderWalk({ model, el: walkHolder, open: openLayer });
  }

  let steady = true;
  /** Cells that a change of the problem or the view took away are neither pointed at, pinned nor chosen. */
  function withoutGone(state) {
    const gone = {};
    for (const key of ["hover", "pinned", "selected"]) {
      const shape = found.scene?.arrays[state[key]?.panel]?.shape;
      if (
        state[key] &&
        !(shape && shape.length === state[key].index.length && state[key].index.every((at, axis) => at < shape[axis]))
      )
        gone[key] = null;
    }
    return Object.keys(gone).length ? store.amend(gone) : state;
  }

  store.subscribe((given, changed) => {
    const inside = root.contains(document.activeElement);
    let state = given;
    if (REBUILDING.some((key) => changed.has(key))) {
      found = derive(state, found);
      state = withoutGone(state);
      editor.close();
      if (state.view === "algorithms") {
        stage.blank(found.report);
        comparing.rebuild();
      } else stage.rebuild();
      steady = false;
    } else if (state.view === "algorithms") {
      if (changed.has("algorithm") || changed.has("algorithmStep")) comparing.update();
    } else if (state.view !== "model") {
      if (changed.has("level")) stage.draw();
      else stage.update();
    }
    if (changed.has("level") && state.level !== "layer") requestAnimationFrame(() => stage.grow());
    const stepping =
      steady && [...changed].every((key) => ["step", "hover", "term", "termHover", "algorithmStep"].includes(key));
    if (stepping) {
      formulas.refresh(state, changed);
      player.refresh(state, changed);
    } else refresh(state, changed);
    steady = true;
    // what had the focus may be gone with its view; the keys must still be heard
    const focused = document.activeElement;
    if (inside && !stepping && !(root.contains(focused) && focused.checkVisibility()))
      main.focus({ preventScroll: true });
  });

  const followModel = () => {
    try {
      const given = model.get("problem");
      const problem = given && readProblem(given);
      if (problem)
        store.set({
          problem,
          firstProblem: problem,
          dy: null,
          inputName: "",
          kernelName: "",
          title: null,
          step: 0,
          pinned: null,
          hover: null,
        });
    } catch (error) {
      say(`This problem cannot be shown: ${error.message}.`);
    }
  };
  const followWalk = () => {
    removeWalk?.();
    removeWalk = null;
    refresh(store.get(), new Set());
  };
  const followHash = () => {
    try {
      const patch = fromHash(window.location.hash);
      if (patch) store.set(patch);
    } catch (error) {
      say(error.message);
    }
  };
  const followTimes = () => comparing.takeTimes(model.get("times") ?? {});
  model.on("change:times", followTimes);
  stops.push(() => model.off("change:times", followTimes));
  model.on("change:problem", followModel);
  model.on("change:walk", followWalk);
  if (onPage) window.addEventListener("hashchange", followHash);
  stops.push(
    () => model.off("change:problem", followModel),
    () => model.off("change:walk", followWalk),
    () => window.removeEventListener("hashchange", followHash),
  );
  stops.push(
    images.listen(root, onPage ? document : root),
    player.stop,
    formulas.stop,
    stage.stop,
    comparing.stop,
    () => removeWalk?.(),
    () => clearTimeout(toastTimer),
    () => clearTimeout(sayTimer),
  );

  el.append(root);
  store.set({ dark: isDark("auto") });
  if (!store.get().dark) stage.rebuild();
  if (store.get().view === "algorithms") comparing.rebuild();
  refresh(store.get(), new Set(["speed", "playing", "view"]));
  if (start.message) say(start.message);
  return () => {
    for (const stop of stops) stop();
    root.remove();
  };
}

export default { render };
