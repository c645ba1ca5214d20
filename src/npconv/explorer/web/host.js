// The hosts that are pages: a file, which talks to nobody, and a page of the local server, which answers for npconv.
// Both get the object that a notebook would give (anywidget's model) from the JSON in the page.
import { defaults } from "./arithmetic.js";

const ANSWER_SECONDS = 20;

/** Starts the page that this script is in. */
export function openPage(render) {
  const data = JSON.parse(document.getElementById("npconv-data").textContent);
  render({ model: pageModel(data), el: document.getElementById("npconv-page") });
}

/**
 * anywidget's model over plain data.
 * @param {Object} data - problem, walk, times, recorded, host
 */
export function pageModel(data) {
  const values = { ...data };
  const listeners = new Map();
  const tell = (event, ...given) => [...(listeners.get(event) ?? [])].forEach((listener) => listener(...given));
  const later = (content) => setTimeout(() => tell("msg:custom", content), 0);
  return {
    get: (key) => values[key],
    set(key, value) {
      values[key] = value;
      tell(`change:${key}`, value);
    },
    save_changes() {},
    on(event, listener) {
      if (!listeners.has(event)) listeners.set(event, new Set());
      listeners.get(event).add(listener);
    },
    off(event, listener) {
      if (listener) listeners.get(event)?.delete(listener);
      else listeners.delete(event);
    },
    send(content) {
      const saved = () => ({ type: "html", id: content.id, html: savedPage(data, content) });
      if (data.host === "page" && content.type === "html") askServer({ ...content, walk: undefined, times: undefined }).then((answer) => later(answer.error ? saved() : answer));
      else if (data.host === "page") askServer(content).then(later);
      else if (content.type === "html") later(saved());
      else later({ type: content.type, id: content.id, error: "This file has no npconv behind it." });
    },
  };
}

/** What the local server says; an answer with `error` when it does not. */
async function askServer(content) {
  const kind = content.type === "time" ? "times" : content.type;
  try {
    const response = await fetch(new URL(content.type, location.href.split("#")[0]), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(content, namedNumbers),
      signal: AbortSignal.timeout(1000 * ANSWER_SECONDS),
      credentials: "omit",
      redirect: "error",
    });
    return { ...(await response.json()), type: kind, id: content.id };
  } catch {
    return { type: kind, id: content.id, error: "npconv does not answer; is `npconv explore` still running?" };
  }
}

/** For JSON.stringify: typed arrays as lists, and the numbers that JSON lacks by their names. */
function namedNumbers(key, value) {
  if (ArrayBuffer.isView(value)) return Array.from(value);
  if (typeof value !== "number" || Number.isFinite(value)) return value;
  return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

/** What a time depends on: everything but the numbers. */
function sizesOf(problem) {
  const shape = (array) => array?.shape ?? null;
  return JSON.stringify([problem.operator, shape(problem.x), shape(problem.w), problem.w ? null : problem.kernel, problem.stride, problem.dilation, problem.groups, problem.padding, problem.outputPadding]);
}

/** This page as a file of its own, with another problem: the same script, style and policy, and nothing to talk to. */
export function savedPage(data, { problem, walk, shown }) {
  const part = (selector) => document.querySelector(selector).textContent;
  const policy = document.querySelector("meta[http-equiv]").content.replace("connect-src 'self'", "connect-src 'none'");
  const timed = !problem || sizesOf(problem) === sizesOf(data.problem ?? defaults());
  const kept = { ...data, host: "file", problem: problem ?? data.problem, times: timed ? data.times : {}, walk: walk ?? data.walk, shown: shown ?? null };
  const inside = JSON.stringify(kept, namedNumbers).replace(/[<>&\u2028\u2029]/g, (sign) => "\\u" + sign.charCodeAt(0).toString(16).padStart(4, "0"));
  return [
    "<!doctype html>",
    '<html lang="en">',
    "<head>",
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    '<meta name="referrer" content="no-referrer">',
    '<link rel="icon" href="data:,">',
    "<title>npconv explorer</title>",
    `<style>${part("style")}</style>`,
    "</head>",
    "<body>",
    '<div id="npconv-page"></div>',
    "<noscript><p>This page computes convolutions as you look, and needs JavaScript for it. Nothing is sent anywhere.</p></noscript>",
    `<script type="application/json" id="npconv-data">${inside}<\/script>`,
    `<script type="module">${part("script[type=module]")}<\/script>`,
    "</body>",
    "</html>",
    "",
  ].join("\n");
}
