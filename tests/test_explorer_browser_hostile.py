"""Names that would like to be markup, and what would like to run or to leave: the browser's half."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest

import npconv
from npconv import nn
from test_explorer_page import NAMES

#: What the page's policy has to say about a stranger's work.
_STRANGERS = """async () => {
  window.npconvRan = [];
  const tries = {
    "inline script": () => {
      const script = document.createElement("script");
      script.append("window.npconvRan.push('inline')");
      document.body.append(script);
    },
    "script text": () => { document.createElement("script").textContent = "window.npconvRan.push('text')"; },
    "script address": () => { document.createElement("script").src = "data:text/javascript,npconvRan.push('address')"; },
    "markup": () => { document.createElement("p").innerHTML = "<img src=x onerror=npconvRan.push('markup')>"; },
    "handler": () => {
      const image = document.createElement("img");
      image.setAttribute("onerror", "npconvRan.push('handler')");
      document.body.append(image);
      image.dispatchEvent(new Event("error"));
    },
    "eval": () => { (0, eval)("npconvRan.push('eval')"); },
    "image": () => { new Image().src = "http://127.0.0.1:9/stranger.png"; },
    "frame": () => {
      const frame = document.createElement("iframe");
      frame.src = "http://127.0.0.1:9/stranger.html";
      document.body.append(frame);
    },
    "style": () => {
      const style = document.createElement("style");
      style.append("body { background: url(http://127.0.0.1:9/stranger.css) }");
      document.body.append(style);
    },
    "request": () => fetch("http://127.0.0.1:9/stranger.json"),
    "socket": () => { new WebSocket("ws://127.0.0.1:9/"); },
    "beacon": () => { if (!navigator.sendBeacon("http://127.0.0.1:9/stranger")) throw new Error("not sent"); },
    "worker": () => { new Worker("data:text/javascript,0"); },
  };
  const stopped = {};
  for (const [name, attempt] of Object.entries(tries)) {
    window.npconvViolations.length = 0;
    try { await attempt(); } catch { stopped[name] = true; }
    for (let i = 0; i < 100 && !window.npconvViolations.length; i++) await new Promise((done) => setTimeout(done, 20));
    stopped[name] = [...window.npconvViolations];
  }
  window.npconvViolations.length = 0;
  return stopped;
}"""


def test_the_policy_is_in_force(look, host):
    """What a stranger would run or load neither runs nor loads, and the browser says so."""
    refusals = ("Content Security Policy", "TrustedScript", "Trusted Type", "TrustedHTML", "Refused to")
    shown = look(npconv.explore(), host, expected=refusals)
    told = shown.page.evaluate(_STRANGERS)
    assert [name for name, directives in told.items() if not directives] == []
    assert told["inline script"][0] in ("script-src-elem", "require-trusted-types-for")
    assert set(told["image"]) == {"img-src"}
    assert {*told["request"], *told["socket"], *told["beacon"]} == {"connect-src"}
    assert shown.page.evaluate("window.npconvRan") == []


def named(names: list[str]):
    """A model of as many layers as names; the layers, what they are, the scores and the model itself have them."""
    layers = [layer for _ in names for layer in (nn.Conv(1, 1, 1, rng=0),)]
    explorer = npconv.explore(
        nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, len(names), rng=0)), np.ones((1, 1, 2, 2))
    )
    steps = [
        replace(step, name=name, kind=name)
        for step, name in zip(explorer.walk.layers[: len(names)], names, strict=True)
    ]
    output = {**explorer.walk.output, "labels": names}
    walk = replace(explorer.walk, model=names[1], layers=[*steps, *explorer.walk.layers[len(names) :]], output=output)
    return replace(explorer, walk=walk, title=names[2])


#: How many elements there are in the model's view, and with each of its layers open (or every tenth).
_COUNTED = """async (every) => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const [forward, , , model] = document.querySelectorAll("[role=tab]");
  const counts = [document.querySelectorAll("*").length];
  for (const [i, open] of document.querySelectorAll(".walk-layer-head button").entries()) {
    if (i % every) continue;
    open.click();
    while (forward.ariaSelected !== "true") await frame();
    await frame();
    counts.push(document.querySelectorAll("*").length);
    model.click();
  }
  return counts;
}"""


def test_thirty_names_add_no_element_and_run_nothing(look, host):
    """As the names of a model, its layers and scores, and of the page; each layer opened, whose name is then a title."""
    names, every = list(NAMES.values()), 1 if host == "file" else 10  # the local page asks its server for each
    plain = look(named([f"plain {i}" for i in range(len(names))]), host).page.evaluate(_COUNTED, every)
    shown = look(named(names), host)
    dialogs: list[str] = []
    shown.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    assert shown.page.evaluate(_COUNTED, every) == plain
    assert len(plain) == 1 + len(names) // every
    assert dialogs == []
    headings = shown.page.locator(".walk-layer-head h3").all_text_contents()
    assert headings[0] == NAMES["a script"]
    assert sum("<" in heading for heading in headings) > 10


def test_a_link_and_a_file_of_a_stranger(look):
    """A hash whose words are markup, and a file whose name is."""
    shown = look(npconv.explore())
    page = shown.page
    count = "document.querySelectorAll('*').length"
    plain = page.evaluate(count)
    problem = json.loads(
        npconv.explore(np.eye(3), np.eye(2)).html().split('id="npconv-data">')[1].split("</script>")[0]
    )["problem"]
    for name in ("</script><img src=x onerror=alert(1)>", "__proto__", "constructor"):
        for content in (
            {"problem": {"operator": name}},
            {"problem": {**problem, "padding": name}},
            {"problem": name},
            {name: 1},
        ):
            text = base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
            page.locator(".toast").evaluate("(node) => { node.textContent = ''; }")
            page.evaluate("(hash) => { location.hash = hash; }", f"npconv={text}")
            page.wait_for_function("() => document.querySelector('.toast').textContent")
            assert page.evaluate(count) == plain
    with page.expect_file_chooser() as waiting:
        page.get_by_role("button", name="Own image").click()
    picture = {
        "name": "<img src=x onerror=alert(1)>.png",
        "mimeType": "image/png",
        "buffer": b"GIF8<svg/onload=alert(1)>",
    }
    waiting.value.set_files([picture])
    page.get_by_text("That file is no picture this browser can read.").wait_for()
    assert page.evaluate(count) == plain


def test_a_page_that_complains_or_calls_out_is_caught(look):
    """The watch that the other tests keep can bite."""
    shown = look(npconv.explore())
    shown.page.evaluate("console.warn('a warning')")
    shown.page.evaluate("fetch('http://127.0.0.1:9/').catch(() => 0)")
    shown.close()
    with pytest.raises(AssertionError, match="a warning"):
        shown.check()
    shown.complaints.clear()
    with pytest.raises(AssertionError, match="connect-src"):
        shown.check()
    shown.violations.clear()
    shown.requests.append("http://127.0.0.1:9/")
    with pytest.raises(AssertionError, match="the page asked for"):
        shown.check()
    shown.requests.clear()
