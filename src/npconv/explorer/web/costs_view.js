// What each algorithm costs on the problem shown: multiplications, memory, and the time on this machine.
import { button, countText, element, uniqueId } from "./elements.js";

const ANSWER_TIME = 60000; // ms that npconv gets to measure

/** Bytes as people say them. */
function memoryText(bytes) {
  if (bytes < 10000) return `${countText(bytes)} B`;
  return bytes < 1e7 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Seconds as people say them. */
function secondsText(seconds) {
  if (seconds < 1e-3) return `${(seconds * 1e6).toFixed(seconds < 1e-5 ? 1 : 0)} \u00b5s`;
  return seconds < 1 ? `${(seconds * 1e3).toFixed(seconds < 0.1 ? 1 : 0)} ms` : `${seconds.toFixed(1)} s`;
}

/**
 * @param {Object} options model, `derived`, `select(name)`, `plain(problem)` for the way to Python
 */
export function createCosts({ model, derived, select, plain }) {
  let times = model.get("times") ?? {};
  let timing = "";
  let measured = null; // the problem whose times were taken just now
  let known = null;
  let rows = new Map();
  const body = element("tbody", {});
  const caption = element("caption", { text: "The five algorithms on this problem" });
  const table = element(
    "table",
    { class: "costs" },
    caption,
    element(
      "thead",
      {},
      element(
        "tr",
        {},
        ...["Algorithm", "Multiplications", "Memory beyond x, w, y", "Time"].map((text) =>
          element("th", { scope: "col", text }),
        ),
      ),
    ),
    body,
  );
  const timeNote = element("p", { class: "note", role: "status" });
  const timeButton = button("Time them on this machine", ask);
  const root = element(
    "div",
    { class: "costs-part", "data-part": "table" },
    element("div", { class: "scroll" }, table),
    element("div", { class: "row-of" }, timeButton, timeNote),
  );

  function bar(value, most, words) {
    const share = element("span", { class: "bar-fill", "aria-hidden": "true" });
    share.style.width = `${Math.max(1.5, (100 * value) / most)}%`;
    return element(
      "td",
      {},
      element("span", { class: "bar-words", text: words }),
      element("span", { class: "bar-track", "aria-hidden": "true" }, share),
    );
  }

  function costRow(list, algorithm, group) {
    const radio = element("input", {
      type: "radio",
      name: group,
      value: algorithm.name,
      disabled: Boolean(algorithm.whyNot),
      on: { change: () => select(algorithm.name) },
    });
    const name = element(
      "th",
      { scope: "row" },
      element("label", { class: "check" }, radio, element("span", { text: algorithm.title })),
    );
    const time = element("td", { class: "time" });
    rows.set(algorithm.name, { radio, time });
    if (algorithm.whyNot)
      return element(
        "tr",
        { class: "cannot" },
        name,
        element("td", { colspan: "3", text: `Not here: ${algorithm.whyNot}` }),
      );
    const able = list.filter(({ whyNot }) => !whyNot);
    const most = (key) => Math.max(1, ...able.map((each) => each[key]));
    return element(
      "tr",
      {},
      name,
      bar(algorithm.multiplications, most("multiplications"), countText(algorithm.multiplications)),
      bar(algorithm.bytes, most("bytes"), memoryText(algorithm.bytes)),
      time,
    );
  }

  // ---------------------------------------------------------------- times
  function showTimes() {
    const recorded = model.get("recorded");
    const onFile = model.get("host") === "file";
    timeButton.hidden = onFile;
    for (const [name, { time }] of rows) {
      const seconds = times[name];
      time.textContent = seconds === undefined || seconds === null ? "\u2013" : secondsText(Number(seconds));
    }
    const any = Object.keys(times).length > 0;
    const noTimes = "This file has no times for a changed problem; the recorded ones were taken";
    const origin = recorded?.machine
      ? `${any ? "Recorded" : noTimes} on ${recorded.machine}, ${recorded.date}.`
      : any
        ? ""
        : "No times yet.";
    timeNote.textContent =
      timing ||
      (onFile || (recorded && any && measured !== known) ? origin : any ? "Just measured, on this machine." : "");
  }

  function ask() {
    const id = uniqueId("time");
    const { problem } = derived();
    timing = "Measuring\u2026";
    showTimes();
    const stop = () => {
      clearTimeout(timer);
      model.off("msg:custom", hear);
      timing = "";
    };
    const hear = (content) => {
      if (content?.type !== "times" || content.id !== id) return;
      stop();
      if (content.error) timing = content.error;
      else if (derived().problem === problem) {
        times = content.times;
        measured = problem;
      }
      showTimes();
      timing = "";
    };
    const timer = setTimeout(() => {
      stop();
      timeNote.textContent = "npconv does not answer.";
    }, ANSWER_TIME);
    model.on("msg:custom", hear);
    model.send({ type: "time", id, problem: plain(problem) });
  }

  return {
    root,
    /** The rows of a new problem; `first`: it is the one that Python gave times for. */
    build(list, first) {
      known = derived().problem;
      if (measured !== known) times = first ? (model.get("times") ?? {}) : {};
      rows = new Map();
      const group = uniqueId("algorithm");
      body.replaceChildren(...list.map((algorithm) => costRow(list, algorithm, group)));
      showTimes();
    },
    choose(name) {
      for (const [each, row] of rows) row.radio.checked = each === name;
    },
    /** Times that Python recorded for the problem it gave. */
    take(recorded) {
      if (known && measured === known) return;
      times = recorded;
      showTimes();
    },
  };
}
