// Taking it along: PNG, SVG, GIF of the stepping, the page itself, and the link.
import { button, copyText, element, uniqueId } from "./elements.js";
import { drawingOf, paintDrawing, sceneDrawing, svgText } from "./drawing.js";
import { gifOf } from "./pictures.js";
import { shownStep } from "./stage.js";
import { plainProblem, toHash } from "./state.js";
import { offset, tensor, unravel } from "./tensors.js";

const MOST_FRAMES = 150; // of a GIF; longer ones leave steps out
const ANSWER_WAIT = 20000; // ms that the host gets to write the page

/** Hand a file to the reader. */
function download(name, content, type) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  const link = element("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

const nextTurn = () => new Promise((resolve) => setTimeout(resolve, 0));

/**
 * @param {Object} options store, `derived`, `model`, `say`, `onPage`, `algorithmDrawing(step)`, `algorithmSteps()`
 */
export function createExport({ store, derived, model, say, onPage, algorithmDrawing, algorithmSteps }) {
  let busy = false;

  /** The scatter's result after a step, for frames: what the steps since the last frame added, added. */
  function partialOf(scene) {
    if (scene.way !== "scatter") return null;
    const array = scene.arrays[scene.result];
    let data = null;
    let last = -1;
    return (step) => {
      if (!data || step < last) {
        data = new Float64Array(array.data.length);
        for (let flat = 0; flat < data.length; flat++) data[flat] = scene.partial(unravel(array.shape, flat), -1);
        last = -1;
      }
      for (last += 1; last <= step; last++)
        for (const group of scene.detail(last).groups)
          for (const term of group.terms) if (term.goal) data[offset(array, term.goal)] += term.product;
      last = step;
      return tensor(array.shape, data.slice());
    };
  }

  /** Steps, and the drawing of each. */
  function film() {
    const state = store.get();
    const { scene, limits, padded } = derived();
    if (state.view === "algorithms")
      return { count: algorithmSteps(), at: state.algorithmStep, draw: algorithmDrawing };
    const partialUpTo = partialOf(scene);
    return {
      count: scene.steps,
      at: shownStep(state, scene),
      draw: (step) => sceneDrawing({ scene, step, limits, padded, dark: state.dark, partialUpTo }),
    };
  }

  const ready = () => {
    if (derived().report.valid) return true;
    say("There is nothing to save: the problem has no output.");
    return false;
  };

  async function savePng() {
    if (!ready()) return;
    const { at, draw } = film();
    const canvas = element("canvas", {});
    paintDrawing(canvas, draw(at), 2);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    download("npconv.png", blob, "image/png");
    say("Saved npconv.png.");
  }

  function saveSvg() {
    if (!ready()) return;
    const { at, draw } = film();
    download("npconv.svg", svgText(draw(at)), "image/svg+xml");
    say("Saved npconv.svg.");
  }

  async function saveGif() {
    if (!ready() || busy) return;
    busy = true;
    const { count, draw } = film();
    const every = Math.ceil(count / MOST_FRAMES);
    const canvas = element("canvas", {});
    const frames = [];
    const delays = [];
    const pause = Math.max(40, Math.min(1000, 1000 / store.get().speed));
    for (let step = 0; step < count; step += every) {
      const drawing = draw(step);
      const first = frames[0] ?? { width: drawing.width, height: drawing.height };
      const pen = paintDrawing(canvas, { ...drawing, width: first.width, height: first.height }, 1);
      frames.push(pen.getImageData(0, 0, first.width, first.height));
      delays.push(step + every >= count ? pause + 1200 : pause);
      if (frames.length % 5 === 0) {
        say(`Drawing frame ${frames.length} of ${Math.ceil(count / every)}\u2026`);
        await nextTurn();
      }
    }
    download("npconv.gif", gifOf(frames, delays), "image/gif");
    say(`Saved npconv.gif: ${frames.length} frames${every > 1 ? `, every ${every}th step` : ""}.`);
    busy = false;
  }

  function saveHtml() {
    const id = uniqueId("page");
    const stop = () => {
      clearTimeout(timer);
      model.off("msg:custom", hear);
    };
    const hear = (content) => {
      if (content?.type !== "html" || content.id !== id) return;
      stop();
      if (content.error || typeof content.html !== "string")
        return say(content.error ?? "The page could not be written.");
      download("npconv.html", content.html, "text/html");
      return say("Saved npconv.html: it opens anywhere, offline.");
    };
    const timer = setTimeout(() => {
      stop();
      say("The page could not be written: npconv does not answer.");
    }, ANSWER_WAIT);
    model.on("msg:custom", hear);
    const { view, target, way, level, step, dy, algorithm } = store.get();
    const dyPlain = dy && plainProblem({ x: dy }).x;
    model.send({
      type: "html",
      id,
      problem: plainProblem(store.get().problem),
      times: model.get("times") ?? {},
      walk: model.get("walk") ?? null,
      shown: { view: view === "model" ? "forward" : view, target, way, level, step, dy: dyPlain, algorithm },
    });
  }

  const link = element("input", {
    type: "text",
    readonly: true,
    "aria-label": "Link to this state",
    class: "share-link",
  });
  link.hidden = true;

  async function copyLink() {
    try {
      const hash = toHash(store.get());
      link.value = `${window.location.href.split("#")[0]}${hash}`;
      link.hidden = false;
      window.history?.replaceState?.(null, "", hash);
      say(`Link: ${await copyText(link.value, link)}`);
    } catch (error) {
      say(error.message);
    }
  }

  const linkButton = button("Copy link", copyLink);
  const linkNote = element("p", { class: "note", text: "Links work on pages: save the HTML page to share this one." });
  linkButton.hidden = !onPage;
  linkNote.hidden = onPage;
  const section = element(
    "section",
    {},
    element("h2", { text: "Save and share" }),
    element(
      "div",
      { class: "row-of" },
      button("PNG", savePng, { "aria-label": "Save as PNG" }),
      button("SVG", saveSvg, { "aria-label": "Save as SVG" }),
      button("GIF", saveGif, { "aria-label": "Save the stepping as GIF" }),
      button("HTML", saveHtml, { "aria-label": "Save the page as HTML" }),
      linkButton,
    ),
    link,
    linkNote,
  );
  return { section, drawingOf };
}
