"""The explorer in a real browser: a page that remembers what it asked of the network, and a hand for mouse or keys.

`conftest.py` has the fixtures that open it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from npconv.explorer import Explorer

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SWITCHES = ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update")
ARGUMENTS = [f"--{switch}" for switch in (*_SWITCHES, "disable-sync", "no-first-run")]
#: Milliseconds that something may take to show; it is met in a few where the machine is idle.
PATIENCE = 15_000

#: Runs before the page's own script.
_WATCH = """
window.npconvViolations = [];
document.addEventListener("securitypolicyviolation", (event) => window.npconvViolations.push(event.effectiveDirective));
"""

_TENSORS = """(root) => {
  const shown = [...root.querySelectorAll(".panel[data-part]")].filter((panel) => panel.checkVisibility());
  const shape = (panel) => panel.querySelector(".size").textContent.split(" \u00d7 ").map(Number);
  const cells = (panel) => [...panel.querySelectorAll("[role=gridcell]")].map((cell) => cell.ariaLabel.split(": ").at(-1));
  return Object.fromEntries(shown.map((panel) => [panel.dataset.part, [shape(panel), cells(panel)]]));
}"""


class Look:
    """An explorer in a browser tab of its own.

    Parameters
    ----------
    explorer : Explorer or Path
        What is shown, or a page that was saved.
    host : {"file", "page"}
        By `Explorer.save` and file://, or by the local server.
    width, height : int
        Of the window.
    dark, calm : bool
        The reader's wishes: a dark page, and less motion.
    fragment : str
        What follows the address, from its "#".
    offline, touch : bool
        Without a network; with fingers.
    expected : tuple of str
        Parts of the complaints that the test wants to hear.
    """

    def __init__(
        self,
        browser: Any,
        explorer: Explorer | Path,
        host: str,
        folder: Path,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        calm: bool = True,
        fragment: str = "",
        offline: bool = False,
        touch: bool = False,
        expected: tuple[str, ...] = (),
    ) -> None:
        self.host, self.expected, self.folder = host, expected, folder
        self.closed = False
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.server = explorer.server() if isinstance(explorer, Explorer) and host == "page" else None
        if self.server is None:
            named = folder / f"explorer{len(list(folder.iterdir()))}.html"
            path = explorer.save(named) if isinstance(explorer, Explorer) else explorer
            self.url, self.home = path.as_uri(), path.as_uri()
        else:
            self.server.start()
            self.url, self.home = self.server.url, f"{self.server.origins[0]}/"
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce" if calm else "no-preference",
            accept_downloads=True,
            has_touch=touch,
            offline=offline,
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.context.set_default_timeout(PATIENCE)
        self.context.add_init_script(_WATCH)
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("requestfailed", self._failed)
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error.stack or error}"))
        self.page.on("console", self._heard)
        self.page.goto(self.url + fragment)
        self.root = self.page.locator(".npconv-explorer")

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _failed(self, request: Any) -> None:
        """What the policy stops goes nowhere; the page's violations tell of it."""
        if request.failure in ("csp", "net::ERR_BLOCKED_BY_CSP"):
            self.requests.remove(request.url)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.violations = self.page.evaluate("window.npconvViolations")
        self.context.close()
        if self.server is not None:
            self.server.close()

    def check(self) -> None:
        """Nothing in the console, no broken policy, and no address but the page's own."""
        assert [text for text in self.complaints if not any(part in text for part in self.expected)] == []
        assert self.violations == ([] if not self.expected else self.violations)
        away = [
            url
            for url in self.requests
            if urlsplit(url).scheme not in ("data", "blob") and not url.startswith(self.home)
        ]
        assert away == [], "the page asked for these addresses"

    # ------------------------------------------------------------------ what is on the page
    def part(self, name: str) -> Any:
        """A tensor, the lens, the formula ...: what the guide can point at."""
        return self.page.locator(f"[data-part='{name}']:visible").first

    def grid(self, name: str) -> Any:
        """A plane by its accessible name, as "Output Y" or "Input X, channel 1"."""
        return self.page.get_by_role("grid", name=name, exact=True)

    def tensors(self) -> dict[str, np.ndarray]:
        """All tensors by part, as the accessible names of their cells say them; a cell has about three digits."""
        self.settle()
        found = self.root.evaluate(_TENSORS)
        return {name: np.array([number(one) for one in cells]).reshape(shape) for name, (shape, cells) in found.items()}

    def settle(self) -> None:
        """Let the page draw: it does so once a frame."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def hears(self, start: str) -> str:
        """What a screen reader is told, once it begins like this."""
        live = self.root.locator(".live")
        self.page.wait_for_function(
            "([node, start]) => node.textContent.startsWith(start)", arg=[live.element_handle(), start]
        )
        return str(live.text_content())

    def download(self, press: Callable[[], None]) -> Path:
        """The file that an action saves."""
        with self.page.expect_download() as waiting:
            press()
        path = self.folder / f"saved{len(list(self.folder.iterdir()))}-{waiting.value.suggested_filename}"
        waiting.value.save_as(path)
        return path


class Hand:
    """A reader with a mouse, or one with keys alone."""

    def __init__(self, look: Look, kind: str) -> None:
        self.look, self.page, self.keys = look, look.page, kind == "keyboard"

    def reach(self, control: Any) -> None:
        """Put the focus where Tab would get; `test_explorer_browser_access` shows that it gets everywhere."""
        assert control.evaluate("(one) => one.tabIndex >= 0 && one.checkVisibility() && !one.disabled")
        control.focus()

    def press(self, control: Any, key: str = "Enter") -> None:
        """A button."""
        if not self.keys:
            control.click()
            return
        self.reach(control)
        self.page.keyboard.press(key)

    def check(self, box: Any) -> None:
        """A box or one of a row of choices."""
        if not self.keys:
            box.locator("xpath=..").click()
        elif box.get_attribute("type") == "radio":
            group = self.page.locator(f"input[type=radio][name='{box.get_attribute('name')}']")
            self.reach(group.locator("xpath=self::*[not(@disabled)]").and_(self.page.locator(":checked")))
            for _ in range(group.count()):
                if box.is_checked():
                    return
                self.page.keyboard.press("ArrowRight")
        else:
            self.reach(box)
            self.page.keyboard.press("Space")

    def choose(self, select: Any, words: str) -> None:
        """An entry of a list, by its words."""
        if not self.keys:
            select.select_option(label=words)
            return
        self.reach(select)
        entries = select.evaluate("(one) => [...one.options].map((each) => each.label)")
        for _ in entries:
            index = select.evaluate("(one) => one.selectedIndex")
            if index == entries.index(words):
                return
            self.page.keyboard.press("ArrowDown" if index < entries.index(words) else "ArrowUp")
        raise AssertionError(f"no key leads to {words}")

    def number(self, field: Any, value: float) -> None:
        """A number: typed over the old one, or stepped by the arrows."""
        if not self.keys:
            field.click(click_count=3)
            self.page.keyboard.type(f"{value:g}")
            return
        self.reach(field)
        for _ in range(200):
            now = float(field.input_value())
            if now == value:
                return
            self.page.keyboard.press("ArrowUp" if now < value else "ArrowDown")
        raise AssertionError(f"no key leads to {value}")

    def slide(self, slider: Any, value: float) -> None:
        """A slider: clicked at the place, or moved by the arrows."""
        if self.keys:
            self.reach(slider)
            for _ in range(500):
                now = float(slider.input_value())
                if now == value:
                    return
                self.page.keyboard.press("ArrowRight" if now < value else "ArrowLeft")
            raise AssertionError(f"no key leads to {value}")
        slider.scroll_into_view_if_needed()
        box, low, high = slider.bounding_box(), *slider.evaluate("(one) => [Number(one.min), Number(one.max)]")
        thumb = 16
        share = (value - low) / (high - low)
        self.page.mouse.click(box["x"] + thumb / 2 + share * (box["width"] - thumb), box["y"] + box["height"] / 2)

    def point(self, part: str, plane: int, row: int, column: int) -> None:
        """A cell of a tensor: the cursor over it, or the focus on it. The planes are counted through."""
        panel = self.look.part(part)
        if not self.keys:
            self.place = self._middle(panel.locator(".plane").nth(plane), row, column)
            self.page.mouse.move(*self.place)
            return
        self.reach(panel.locator("[role=gridcell][tabindex='0']"))
        self.page.keyboard.press("Control+Home")
        planes = panel.locator(".plane").count()
        for key, times in (("PageUp", planes - 1), ("PageDown", plane), ("ArrowDown", row), ("ArrowRight", column)):
            for _ in range(times):
                self.page.keyboard.press(key)

    def _middle(self, plane: Any, row: int, column: int) -> tuple[float, float]:
        """Where on the screen a cell of a plane is, whether cells are drawn as numbers or as pixels."""
        plane.scroll_into_view_if_needed()
        cells = plane.locator(".cells")
        if cells.count():
            columns = cells.locator("[role=row]:not([aria-hidden])").first.locator("[role=gridcell]").count()
            cell = cells.locator("[role=gridcell]").nth(row * columns + column)
            cell.scroll_into_view_if_needed()
            box = cell.bounding_box()
        else:
            grid, box = plane.locator("[role=grid]"), plane.locator(".picture").bounding_box()
            ring = plane.locator(".picture").evaluate("(one) => [one.height, one.width]")
            sizes = [int(grid.get_attribute(name)) for name in ("aria-rowcount", "aria-colcount")]
            assert ring == sizes, "a picture with padding: its cells are not simply found"
            side = box["width"] / sizes[1]
            box = {"x": box["x"] + column * side, "y": box["y"] + row * side, "width": side, "height": side}
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def pick(self, part: str, plane: int, row: int, column: int) -> None:
        """Choose a cell: a click, or Enter."""
        self.point(part, plane, row, column)
        if self.keys:
            self.page.keyboard.press("Enter")
        else:
            self.page.mouse.down()
            self.page.mouse.up()

    def write(self, part: str, plane: int, row: int, column: int, value: float) -> None:
        """A number into a cell: by a double click, or by F2."""
        self.point(part, plane, row, column)
        if self.keys:
            self.page.keyboard.press("F2")
        else:
            self.page.mouse.dblclick(*self.place)
        self.page.get_by_role("textbox", name="New value of ").wait_for()
        self.page.keyboard.type(f"{value:g}")
        self.page.keyboard.press("Enter")


def number(text: str) -> float:
    """A number as the page writes it: a true minus, thin spaces between thousands."""
    plain = re.sub(r"[\u202f\s]", "", text).replace("\u2212", "-").replace("\u221e", "inf")
    return float(plain)
