// The player: step, scrub, speed, play. It moves numbers of the store, nothing else.
import { button, calm, element, icon } from "./elements.js";

const SPEEDS = [0.5, 1, 2, 4, 8, 15, 30, 60];

/**
 * What is stepped: the products of a cell, the cells, or an algorithm's steps.
 * @returns {{key: string, count: number, at: number, unit: string}}
 */
function trackOf(state, derived, lengths) {
  if (state.view === "algorithms")
    return { key: "algorithmStep", count: lengths.algorithms(), at: state.algorithmStep, unit: "step" };
  const scene = derived().scene;
  return {
    key: "step",
    count: scene ? scene.steps : 0,
    at: Math.min(state.step, scene ? scene.steps - 1 : 0),
    unit: scene?.way === "scatter" ? "source cell" : "cell",
  };
}

/**
 * @param {Object} options store, `derived`, `lengths`: {algorithms(), terms()} counts of steps
 */
export function createPlayer({ store, derived, lengths }) {
  const first = button(icon("first"), () => go(0), { "aria-label": "First step" });
  const back = button(icon("back"), () => nudge(-1), { "aria-label": "Step back" });
  const play = button(icon("play"), () => toggle(), { "aria-label": "Play", class: "primary" });
  const forth = button(icon("forward"), () => nudge(1), { "aria-label": "Step forward" });
  const last = button(icon("last"), () => go(Infinity), { "aria-label": "Last step" });
  const scrub = element("input", {
    type: "range",
    min: "0",
    step: "1",
    value: "0",
    "aria-label": "Step",
    class: "scrub",
  });
  const speed = element("input", {
    type: "range",
    min: "0",
    max: String(SPEEDS.length - 1),
    step: "1",
    "aria-label": "Speed",
  });
  const place = element("output", { class: "place" });
  const pace = element("output", { class: "pace" });
  const root = element(
    "div",
    { class: "player", role: "group", "aria-label": "Player" },
    element("div", { class: "buttons" }, first, back, play, forth, last),
    scrub,
    place,
    element("label", { class: "speed" }, element("span", { text: "Speed" }), speed, pace),
  );
  let frame = 0;
  let since = 0;

  scrub.addEventListener("input", () => {
    const state = store.get();
    store.set({ [track(state).key]: Number(scrub.value), playing: false, term: 0, hover: null });
  });
  speed.addEventListener("input", () => store.set({ speed: SPEEDS[Number(speed.value)] }));

  const track = (state) => trackOf(state, derived, lengths);

  function go(where) {
    const { key, count } = track(store.get());
    store.set({ [key]: Math.max(0, Math.min(count - 1, where)), playing: false, term: 0, hover: null, ...unpin() });
  }

  /** A pin on a stepped cell gives way to the next step; a pin on another cell stays. */
  function unpin() {
    const { pinned } = store.get();
    return pinned && pinned.panel === derived().scene?.driver ? { pinned: null } : {};
  }

  /** The arithmetic level steps from product to product and then on to the next cell. */
  function advance(by) {
    const state = store.get();
    const { key, count, at } = track(state);
    if (!count) return false;
    if (state.level === "arithmetic" && key === "step" && Math.abs(by) === 1) {
      const term = state.term + by;
      if (term >= 0 && term < lengths.terms(at)) {
        store.set({ term, ...unpin() });
        return true;
      }
      const next = at + by;
      if (next < 0 || next >= count) return false;
      store.set({ step: next, term: by > 0 ? 0 : Math.max(0, lengths.terms(next) - 1), ...unpin() });
      return true;
    }
    const next = Math.max(0, Math.min(count - 1, at + by));
    store.set({ [key]: next, term: 0, ...unpin() });
    return next !== at;
  }

  function nudge(by) {
    store.set({ playing: false, hover: null });
    advance(by);
  }

  function toggle() {
    const state = store.get();
    if (state.playing) return store.set({ playing: false });
    const { key, count, at } = track(state);
    if (!count) return undefined;
    const start = at >= count - 1 ? { [key]: 0, term: 0 } : {};
    return store.set({ ...start, playing: true, hover: null, ...unpin() });
  }

  function tick(now) {
    frame = 0;
    const state = store.get();
    if (!state.playing) return;
    const wait = 1000 / state.speed;
    // at 60 steps a second every frame is a step, whatever the frame's jitter
    const due = state.speed >= 60 ? 1 : Math.floor((now - since) / wait);
    if (due > 0) {
      since = Math.max(since + due * wait, now - wait);
      let moved = true;
      for (let i = 0; i < Math.min(due, 4) && moved; i++) moved = advance(1);
      if (!moved) return store.set({ playing: false });
    }
    frame = requestAnimationFrame(tick);
  }

  function refresh(state, changed) {
    const { count, at, unit } = track(state);
    scrub.max = String(Math.max(0, count - 1));
    scrub.value = String(at);
    const words = count ? `${unit} ${at + 1} of ${count}` : "no steps";
    scrub.setAttribute("aria-valuetext", words);
    place.textContent = count ? `${at + 1} / ${count}` : "\u2013";
    if (changed.has("speed") || !pace.textContent) {
      const index = SPEEDS.indexOf(state.speed);
      speed.value = String(index < 0 ? 3 : index);
      pace.textContent = `${state.speed}/s`;
      speed.setAttribute("aria-valuetext", `${state.speed} steps per second`);
    }
    for (const node of [first, back, play, forth, last, scrub]) node.disabled = !count;
    root.hidden = state.view === "model";
    if (changed.has("playing")) {
      play.replaceChildren(icon(state.playing ? "pause" : "play"));
      play.setAttribute("aria-label", state.playing ? "Pause" : "Play");
      root.closest(".npconv-explorer")?.classList.toggle("playing", state.playing);
      root.closest(".npconv-explorer")?.classList.toggle("still", calm());
      if (state.playing && !frame) {
        since = performance.now();
        frame = requestAnimationFrame(tick);
      }
    }
  }

  return {
    root,
    refresh,
    nudge,
    toggle,
    go,
    faster(by) {
      const index = Math.max(0, Math.min(SPEEDS.length - 1, SPEEDS.indexOf(store.get().speed) + by));
      store.set({ speed: SPEEDS[index] });
    },
    stop() {
      cancelAnimationFrame(frame);
    },
  };
}
