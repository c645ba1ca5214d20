"""How fast the explorer's page opens and steps: a 3x3 convolution of a 64 x 64 picture, as a file, in Chromium.

    python -m benchmarks.explorer [--runs N] [--browser PATH]

Needs Playwright (`pip install playwright`) and a Chromium. "Opens" is from the navigation to the frame in which the
output is drawn, the median of N runs, each with an empty cache. Then the page plays 120 steps at 60 a second: the median
and the 95th percentile of the time between frames (a screen of 60 Hz: 16.7 ms), the steps that were taken in a second,
and the milliseconds of script, and of everything the page did (script, style, layout, paint), per step.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import npconv

from .machine import machine

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
STEPS = 120

#: Before the page's script: note the frame after the one in which the output's picture first has colours.
WATCH = """
const look = () => {
  const picture = document.querySelector("[data-part=y] canvas.picture");
  const drawn = picture?.width > 1 && picture.getContext("2d").getImageData(0, 0, 1, 1).data[3] === 255;
  if (drawn) requestAnimationFrame(() => { window.npconvOpened = performance.now(); });
  else requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""

#: Play from the start; the time of every frame until enough steps are taken, and the steps.
PLAY = """(steps) => new Promise((done) => {
  const at = () => Number(document.querySelector(".player .place").textContent.split("/")[0]);
  const frames = [];
  const frame = (now) => {
    frames.push(now);
    if (at() > steps || frames.length > 20 * steps) done({ frames, steps: at() - 1 });
    else requestAnimationFrame(frame);
  };
  document.querySelector(".player button[aria-label=Play]").click();
  requestAnimationFrame(frame);
})"""

VIEWS = {
    "forward": [],
    "backward, dX": [("tab", "Backward")],
    "backward, dX by scatter": [("tab", "Backward"), ("radio", "one source cell (scatter)")],
}


def opened(browser: Any, address: str) -> tuple[Any, Any, float]:
    """A page in a context of its own, and the milliseconds until its output showed."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script(WATCH)
    page = context.new_page()
    page.goto(address)
    page.wait_for_function("window.npconvOpened", timeout=60_000)
    return context, page, page.evaluate("window.npconvOpened")


def played(page: Any, presses: list[tuple[str, str]]) -> dict[str, float]:
    """What 120 steps of a view take."""
    for role, name in presses:
        page.get_by_role(role, name=name).dispatch_event("click")
    page.get_by_role("slider", name="Speed").press("End")  # as fast as it goes: 60 a second
    page.get_by_role("button", name="First step").click()
    page.wait_for_timeout(300)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def seconds() -> dict[str, float]:
        return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}

    before = seconds()
    found = page.evaluate(PLAY, STEPS)
    after = seconds()
    between = np.diff(found["frames"])
    spent = {name: (after[name] - before[name]) * 1e3 / found["steps"] for name in ("ScriptDuration", "TaskDuration")}
    return {
        "median frame": float(np.median(between)),
        "95th percentile": float(np.percentile(between, 95)),
        "steps a second": found["steps"] / (found["frames"][-1] - found["frames"][0]) * 1e3,
        "script": spent["ScriptDuration"],
        "all": spent["TaskDuration"],
    }


def main() -> None:
    """Print the figures."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--browser", default=shutil.which("chromium") or shutil.which("google-chrome"))
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    shown = npconv.explore(rng.random((64, 64)), rng.standard_normal((3, 3)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = shown.save(Path(folder) / "explorer.html")
        data = re.search(r'id="npconv-data">(.*)</script>', path.read_text("utf-8"))
        size, own = path.stat().st_size, len(data[1].encode()) if data else 0
        browser = playwright.chromium.launch(executable_path=chosen.browser, args=ARGUMENTS)
        print(f"{machine()}; Chromium {browser.version}")
        print(f"page: {(size - own) / 1e3:.0f} kB and {own / 1e3:.0f} kB of data")
        times = []
        for _ in range(chosen.runs):
            context, page, time = opened(browser, path.as_uri())
            times.append(time)
            context.close()
        print(f"opens: {statistics.median(times):.0f} ms (of {chosen.runs} runs: {min(times):.0f} to {max(times):.0f})")
        print(f"{'':26}{'frame ms':>10}{'95 %':>8}{'steps/s':>9}{'script ms':>11}{'all ms':>8}")
        for name, presses in VIEWS.items():
            context, page, _ = opened(browser, path.as_uri())
            row = played(page, presses)
            print(
                f"{name:26}{row['median frame']:10.1f}{row['95th percentile']:8.1f}{row['steps a second']:9.1f}"
                f"{row['script']:11.2f}{row['all']:8.2f}"
            )
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
