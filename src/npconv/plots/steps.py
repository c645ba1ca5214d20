"""What every step of a convolution shows, forward and backward: boards of numbers, which `sliding` makes move."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase
from typing import Any

import numpy as np

from .. import conv, conv_input_grad, conv_transpose, conv_weight_grad
from .board import Board, Panel, wrapped
from .cells import number_text
from .drawable import Drawable
from .style import magnitude

Index = tuple[int, ...]
#: More terms than this are not written out.
MOST_TERMS = 9
NARROWEST = 16.0


def forward(d: Drawable, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None) -> list[Board]:
    """Output by output: the window, the kernel, their products, and the sum that is the output."""
    frame, kernel = d.framed(x.reshape(d.x_shape)), w.reshape(d.w_shape)
    y = conv(x, w, bias, **d.options).reshape(d.y_shape)
    top = magnitude(frame) * magnitude(kernel)
    strongest = tuple(map(magnitude, (frame, kernel, y)))

    def board(step: int) -> Board:
        o, *p = map(int, np.unravel_index(step, y.shape))
        active, where = _group(d, o), d.at(p)
        panels = _frames("x", d, frame, strongest[0], active, d.marked(where))
        sums = []
        for i, c in enumerate(active):
            window = frame[c][where]
            products = window * kernel[o, i]
            sums.append(products.sum())
            panels[c, 1] = Panel(_name("w", o, i, shape=d.w_shape[:2]), kernel[o, i], strongest[1])
            panels[c, 2] = Panel(
                _name("products", c, shape=(len(active),)), products, top, foot=f"sum {number_text(sums[-1])}"
            )
        done = np.where(np.arange(y.size).reshape(y.shape) <= step, y, np.nan)
        here = _one(y.shape, (o, *p))
        for i in range(len(y)):
            title = _name("y", i, shape=d.y_shape[:1])
            panels[i, 3] = Panel(title, done[i], strongest[2], here[i], faded=i != o)
        windows = np.array([frame[c][where] for c in active])
        terms = _terms(windows, kernel[o])
        if not terms and len(active) > 1:
            terms = [f"{_signed(s)} (channel {c})" for c, s in zip(active, sums, strict=True)]
        terms = terms or [f"the {windows.size} products"]
        terms += [] if bias is None else [f"{_signed(bias[o])} (bias)"]
        sentence = f"y{_at(d, o, p)} = {' + '.join(terms)} = {number_text(y[o, *p])}"
        return _board(panels, _signs(active, o), [sentence])

    return [board(step) for step in range(y.size)]


def _scattering(
    d: Drawable, g: np.ndarray, w: np.ndarray, result: np.ndarray, names: tuple[str, str], bias: np.ndarray | None
) -> list[Board]:
    """Element by element of `g`: it is multiplied by the whole kernel, and the products are added where the taps read."""
    kernel, own = w.reshape(d.w_shape), d.own
    largest = max(magnitude(d.scattered(g, kernel)), magnitude(result))
    top, strongest = magnitude(g) * magnitude(kernel), (magnitude(g), magnitude(kernel), largest)
    counts = np.arange(g.size).reshape(g.shape)
    source, target = names
    last = np.where(own, 0.0, np.nan) * np.ones((len(result), 1, 1))
    last[:, own] = result.reshape(len(result), -1)

    def board(step: int) -> Board:
        o, *p = map(int, np.unravel_index(step, g.shape))
        active, where = _group(d, o), d.at(p)
        sums = d.scattered(np.where(counts <= step, g, 0), kernel)
        here = _one(g.shape, (o, *p))
        panels = {
            (i, 0): Panel(_name(source, i, shape=g.shape[:1]), g[i], strongest[0], here[i], faded=i != o)
            for i in range(len(g))
        }
        panels |= _frames(target, d, sums, strongest[2], active, d.marked(where), 3)
        for i, c in enumerate(active):
            panels[c, 1] = Panel(_name("w", o, i, shape=d.w_shape[:2]), kernel[o, i], strongest[1])
            panels[c, 2] = Panel(_name("products", c, shape=(len(active),)), g[o, *p] * kernel[o, i], top)
        value = number_text(g[o, *p])
        where_to = "at the outlined cells" if source == "x" else f"where the window of y{_at(d, o, p)} was"
        sentence = f"{source}{_at(d, o, p)} = {value} times the kernel, added to {target} {where_to}"
        return _board(panels, _signs(active), [sentence])

    def closing() -> Board:
        panels = {(i, 0): Panel(_name(source, i, shape=g.shape[:1]), g[i], strongest[0]) for i in range(len(g))}
        panels |= _frames(target, d, last, strongest[2], range(len(last)), None, 3)
        for (row, column), panel in board(0).panels.items():  # what stood between keeps its place
            if column in (1, 2):
                panels[row, column] = Panel(panel.title, np.full(panel.values.shape, np.nan), faded=True)
        return _board(panels, {}, [_closed(d, target, bias)])

    return [*(board(step) for step in range(g.size)), closing()]


def weight_grad(d: Drawable, x: np.ndarray, g: np.ndarray) -> list[Board]:
    """Weight by weight: the cells of x that it was multiplied by, the gradients of the outputs they went to, the sum."""
    dw = conv_weight_grad(x, g, kernel_shape=d.problem.w_shape, **d.options).reshape(d.w_shape)
    frame, g = d.framed(x.reshape(d.x_shape)), g.reshape(d.y_shape)
    letters = _letters(d.out)
    top, strongest = magnitude(frame) * magnitude(g), tuple(map(magnitude, (frame, g, dw)))
    counts = np.arange(dw.size).reshape(dw.shape)

    def board(step: int) -> Board:
        o, i, *t = map(int, np.unravel_index(step, dw.shape))
        c, where = _group(d, o)[i], d.met(t)
        met = frame[c][where]
        marks = np.full(d.own.shape, "", object)
        marks[where] = letters
        panels = _frames("x", d, frame, strongest[0], [c], d.marked(where), marks=marks)
        panels[o, 1] = Panel(_name("cells of x", c, shape=d.x_shape[:1]), met, strongest[0], letters=letters)
        for other in range(len(g)):
            panels[other, 2] = Panel(
                _name("dY", other, shape=d.y_shape[:1]),
                g[other],
                strongest[1],
                letters=letters if other == o else None,
                faded=other != o,
            )
        products = met * g[o]
        panels[o, 3] = Panel("products", products, top, letters=letters, foot=f"sum {number_text(products.sum())}")
        done, here = np.where(counts <= step, dw, np.nan), _one(dw.shape, (o, i, *t))
        for a, b in np.ndindex(*dw.shape[:2]):
            title = _name("dW", a, b, shape=d.w_shape[:2])
            panels[a, 4 + b] = Panel(title, done[a, b], strongest[2], here[a, b], faded=(a, b) != (o, i))
        name = _at(d, o, t, i)
        terms = _terms(met, g[o]) or [f"the {met.size} products"]
        sentences = [
            f"w{name} was multiplied by the outlined cells of x, one for each output. "
            "Every such cell times the gradient of its output, added up:",
            f"dW{name} = {' + '.join(terms)} = {number_text(dw[o, i, *t])}",
        ]
        return _board(panels, {(o, j + 1): sign for j, sign in enumerate("→×=→")}, sentences)

    return [board(step) for step in range(dw.size)]


def input_grad(d: Drawable, w: np.ndarray, g: np.ndarray) -> list[Board]:
    """The gradient of the input, by scattering the gradient of the output."""
    result = conv_input_grad(g, w, input_shape=d.problem.x_shape, **d.options)
    return _scattering(d, g.reshape(d.y_shape), w, result, ("dY", "dX"), None)


def transposed(d: Drawable, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None) -> list[Board]:
    """A transposed convolution: the convolution `d` backwards, x in the place of the gradient."""
    return _scattering(d, x.reshape(d.y_shape), w, conv_transpose(x, w, bias, **d.options), ("x", "y"), bias)


def _closed(d: Drawable, target: str, bias: np.ndarray | None) -> str:
    """What is left to do when everything was added."""
    if d.own.all():
        done = f"{target} is complete"
    elif target == "y":
        done = "the padding is cut off"
    elif d.problem.padded and d.problem.padded.mode != "constant":
        done = "what fell outside dX was added to the elements that the padding had copied"
    else:
        done = "what fell outside dX belongs to no element and is dropped"
    return done if bias is None else f"{done}; the bias was added"


def _group(d: Drawable, o: int) -> range:
    """The input channels that output channel `o` reads."""
    channels, outputs, groups = d.channels
    size, which = channels // groups, o // (outputs // groups)
    return range(which * size, (which + 1) * size)


def _frames(
    name: str,
    d: Drawable,
    frame: np.ndarray,
    limit: float,
    active: Sequence[int],
    outlined: np.ndarray | None,
    column: int = 0,
    marks: np.ndarray | None = None,
) -> dict[tuple[int, int], Panel]:
    """A panel for every channel of a frame; those that take no part are faded."""
    return {
        (c, column): Panel(
            _name(name, c, shape=frame.shape[:1]) + _around(d, name),
            values,
            limit,
            outlined if c in active else None,
            ~d.own,
            marks if c in active else None,
            faded=c not in active,
        )
        for c, values in enumerate(frame)
    }


def _signs(active: Sequence[int], to: int | None = None) -> dict[tuple[int, int], str]:
    """Times, equals, and an arrow to where the products go: the row `to`, or the one they are in."""
    found = {(c, column): sign for c in active for column, sign in ((1, "×"), (2, "="))}
    return found | {(c, 3): "→" for c in (active if to is None else [to])}


def _around(d: Drawable, name: str) -> str:
    """What a frame has that the array has not."""
    if name == "y":
        return "" if d.own.all() else ", uncut"
    words = ["spread"] * (max(d.spread) > 1) + ["padded"] * (max(map(max, d.pads)) > 0)
    return ", ".join(["", *words])


def _name(name: str, *indices: int, shape: Index) -> str:
    """`name` with its channels, where there is more than one."""
    return name if max(shape) == 1 else f"{name}[{', '.join(map(str, indices))}]"


def _at(d: Drawable, o: int, p: Sequence[int], i: int | None = None) -> str:
    """An index as one writes it: [0, 2, 1]."""
    inner = [] if d.plain else [o] if i is None else [o, i]
    return str([*inner, *p[2 - d.problem.geometry.rank :]])


def _one(shape: Index, index: Index) -> np.ndarray:
    found = np.zeros(shape, bool)
    found[index] = True
    return found


def _letters(shape: tuple[int, int]) -> np.ndarray:
    """a, b, c ... by which the cells of panels are matched; none where they would not suffice."""
    total = shape[0] * shape[1]
    names = list(ascii_lowercase[:total]) if total <= len(ascii_lowercase) else [""] * total
    return np.array(names, object).reshape(shape)


def _terms(a: np.ndarray, b: np.ndarray) -> list[str]:
    """The products as one writes them, or nothing where there are too many."""
    pairs = list(zip(a.ravel(), b.ravel(), strict=True))
    return [f"{_signed(p)}·{_signed(q)}" for p, q in pairs] if len(pairs) <= MOST_TERMS else []


def _signed(value: Any) -> str:
    text = number_text(value)
    return f"({text})" if text.startswith("−") else text


def _board(panels: dict[tuple[int, int], Panel], signs: dict[tuple[int, int], str], sentences: Sequence[str]) -> Board:
    """A board with its text, wrapped."""
    width = max(Board(panels).size[0], NARROWEST)
    return Board(panels, signs, wrapped(sentences, width - 0.6), caption_width=width)
