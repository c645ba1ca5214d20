"""Poolings as launches of kernels: which kernel, with which tables, for arrays of given strides.

Each function answers None where no kernel fits: other dtypes, memory orders in which neither channels nor pixels are
neighbours, sums so long that they need other care. The caller keeps what it is given for calls that are alike.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..geometry import BinAxis, Ints, WindowAxis, total
from . import library
from .calls import address
from .pools_tables import ABSENT, AxisTables, padded
from .library import Kernel
from .threads import SERIAL_FLOPS, get_num_threads, run
from .threads import _entry as function

Axes = Sequence[WindowAxis | BinAxis]
#: Counts by which the sum of a window is divided: their product, one per axis.
Shares = Sequence[Sequence[int]]
#: Blocks that a launch is cut into at least, if it can be.
TASKS = 16
#: Bytes of scratch that should stay in a core's cache.
CACHED = 2**17
#: Additions one after the other (in runs of 8) that keep the promised error.
LONGEST = 28


class Launch:
    """A kernel and its arguments, but for the addresses of the arrays.

    Parameters
    ----------
    entry : the kernel.
    values, tables : arguments by name; tables are passed by address and kept alive.
    arrays : the names of the arguments that a call brings, in its order.
    blocks, work : how many blocks there are, and about how many operations.
    scratch : bytes of scratch per thread.
    """

    def __init__(
        self, entry: Kernel, values: dict[str, int], tables: dict[str, np.ndarray], arrays: Sequence[str],
        blocks: int, work: float, scratch: int = 0,
    ) -> None:  # fmt: skip
        self.entry, self.tables, self.blocks, self.work, self.scratch = entry, tables, blocks, work, scratch
        known = values | {name: address(table) for name, table in tables.items()} | dict.fromkeys(arrays, 0)
        own = {"scratch", "outside"} & set(entry.arguments)
        missing = set(entry.arguments) - set(known) - own
        if missing:
            raise ValueError(f"{entry.name} needs {sorted(missing)}")
        self.words = np.array([known.get(name, 0) for name in entry.arguments], np.int64)
        self.places = [entry.arguments.index(name) if name in entry.arguments else None for name in arrays]
        self.own = {name: entry.arguments.index(name) for name in own}
        self.call = function(entry.address) if work < SERIAL_FLOPS else None

    def run(self, *arrays: np.ndarray) -> bool:
        """Run it; whether the kernel could do it."""
        count = len(self.words)
        threads = get_num_threads() if self.call is None else 1
        room = np.empty(count + 1 + (self.scratch * threads >> 3), np.int64)  # words, the answer, scratch
        words = room[:count]
        words[:] = self.words
        begin = data(room)
        for place, array in zip(self.places, arrays, strict=True):
            if place is not None:
                words[place] = data(array)
        for name, place in self.own.items():
            words[place] = begin + 8 * (count + (name == "scratch"))
        room[count] = 0
        if self.call is not None:
            self.call(0, self.blocks, 0, begin)
        else:
            run(self.entry, words, self.blocks, self.work, max(1, self.blocks // TASKS))
        return not room[count]


def data(array: np.ndarray) -> int:
    """Where the first element of `array` lies: `address`, four times as fast where NumPy's arrays begin as expected."""
    return ctypes.c_size_t.from_address(id(array) + HEAD).value


#: Bytes of an object before what is its own, which in an array is the address of its elements.
HEAD = object.__basicsize__
_probe = np.empty(3)
if data(_probe) != address(_probe):
    data = address


@dataclass(frozen=True)
class Setting:
    """What all kernels need to know: three axes, the sizes, the strides in bytes."""

    dtype: np.dtype
    shape: Ints  # (N, C, *in)
    axes: tuple[AxisTables, ...]
    x: Ints  # strides of (N, C, D, H, W)
    y: Ints
    last: bool  # whether channels lie side by side, else the pixels of a row

    @property
    def sizes(self) -> Ints:
        return tuple(t.axis.size for t in self.axes)

    @property
    def outs(self) -> Ints:
        return tuple(t.axis.out for t in self.axes)

    @property
    def lanes(self) -> int:
        from .target import host

        return host().width // self.dtype.itemsize


def setting(axes: Axes, last: bool, x: np.ndarray, y: np.ndarray) -> Setting | None:
    """The setting of a pooling from canonical x to canonical y (or back), or None where no kernel fits.

    Which kernel it is depends on the layout (`last`: channels come last), never on strides: they must not change bits.
    """
    if library.unavailable() or x.dtype != y.dtype or x.dtype.kind != "f" or not x.dtype.isnative:
        return None
    size = x.dtype.itemsize
    if size not in (4, 8) or not x.size or not y.size or not 1 <= len(axes) <= 3:
        return None
    if not all(isinstance(axis, (WindowAxis, BinAxis)) for axis in axes):
        return None
    if any(s % size for s in (*x.strides, *y.strides)) or max(abs(s) for s in (*x.strides, *y.strides)) >= 2**40:
        return None
    axis = 1 if last else -1
    if not all(a.strides[axis] == size or a.shape[axis] == 1 for a in (x, y)):
        return None
    if any(axis.size >= 2**31 or axis.taps * axis.dilation >= 2**31 for axis in axes):
        return None
    tables = tuple(AxisTables(axis) for axis in three(axes, last, ABSENT))
    return Setting(x.dtype, x.shape, tables, _five(x.strides, last), _five(y.strides, last), last)


def three(values: Sequence[Any], last: bool, absent: Any) -> tuple[Any, ...]:
    """One value per axis as (depth, height, width).

    Where lanes are channels a line runs along the height, so that its windows are blocks of their own.
    """
    missing = 3 - len(values)
    front = 1 if last and missing == 2 else missing
    return (*(absent,) * front, *values, *(absent,) * (missing - front))


def _five(strides: Ints, last: bool) -> Ints:
    """Canonical strides as those of (N, C, D, H, W)."""
    return (*strides[:2], *three(strides[2:], last, 0))


def _per_axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    return {f"{name}_{axis}": value for axis, value in zip("dhw", values, strict=True)}


def _windows(s: Setting) -> dict[str, np.ndarray]:
    """Where windows begin in bytes, and how many inputs they read."""
    begins = [t.begins * step for t, step in zip(s.axes, s.x[2:], strict=True)]
    return _per_axis("begin", begins) | _per_axis("count", [t.counts for t in s.axes])


def _numbers(s: Setting, numbers: Ints) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """What a step along each axis adds to an index, between taps and in a table of where windows begin."""
    steps = [n * t.axis.dilation for t, n in zip(s.axes, numbers, strict=True)]
    if not s.last:  # along a row the kernel multiplies itself
        steps[2] = numbers[2]
    return _per_axis("number", steps), _per_axis("from", [t.begins * n for t, n in zip(s.axes, numbers, strict=True)])


def _shares(s: Setting, shares: Shares) -> list[np.ndarray]:
    """One table of divisors per axis; an axis that is not there, and a window of nothing, count 1."""
    given = [np.maximum(1, np.array(values, np.int64)) for values in shares]
    return list(three(given, s.last, np.ones(1, np.int64)))


def _row_shares(s: Setting, shares: Shares) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """The divisors of a kernel that walks along rows."""
    d, h, w = _shares(s, shares)
    counts = {int(n) for values in (d, h, w) for n in values}
    alike = all(len(set(values.tolist())) == 1 for values in (d, h, w))
    exact = alike and all(n & (n - 1) == 0 for n in counts)
    row = padded(w, len(w) + s.lanes).astype(s.dtype)
    return {"inverse": int(w[0]) if exact else 0}, {"share_d": d, "share_h": h, "shares": row}


def _long(s: Setting) -> bool:
    """Whether sums of these windows could lose more than promised."""
    runs = [-(-t.axis.taps // 8) + min(8, t.axis.taps) for t in s.axes]
    return sum(runs) > LONGEST


def _walk(s: Setting) -> dict[str, int]:
    """How a row is read: see `first_reduce`. Stride 0 reads windows one by one."""
    axis, size = s.axes[2].axis, s.dtype.itemsize
    regular = isinstance(axis, WindowAxis) and (axis.stride <= 4 or axis.out == 1)
    if not isinstance(axis, WindowAxis) or not regular:
        return {"stride": 0, "dilation": axis.dilation, "low": 0, "taps": axis.taps, "margin": 0, "end": axis.end,
                "pitch": _whole(s, axis.end + s.lanes) * size}  # fmt: skip
    stride = axis.stride if axis.out > 1 else 1
    margin = max(0, axis.lo)
    reach = (axis.out - 1) * stride - axis.lo + axis.effective + stride * s.lanes
    pitch = _whole(s, margin + max(axis.end, reach) + s.lanes)
    return {"stride": stride, "dilation": axis.dilation, "low": axis.lo, "taps": axis.taps, "margin": margin,
            "end": axis.end, "pitch": pitch * size}  # fmt: skip


def _whole(s: Setting, count: int) -> int:
    """`count` elements rounded up to whole vectors."""
    return -(-count // s.lanes) * s.lanes


def _parts(blocks: int, most: int) -> int:
    """Into how many parts to cut each of `blocks`, of at most `most`, for all threads to have enough."""
    return max(1, min(most, -(-TASKS // blocks)))


def _launch(
    kernel: str, s: Setting, values: dict[str, int], arrays: dict[str, np.ndarray], given: str, blocks: int, work: float,
    scratch: int = 0,
) -> Launch | None:  # fmt: skip
    try:
        entry = library.kernel("pools", kernel, f"f{s.dtype.itemsize}")
    except library.KernelError:  # which said why
        return None
    taken = set(entry.arguments)
    values = {name: int(value) for name, value in values.items() if name in taken}  # what is given comes last
    tables = {name: np.ascontiguousarray(table) for name, table in arrays.items() if name in taken}
    return Launch(entry, values, tables, given.split(), blocks, work, scratch)


def _strides(name: str, strides: Ints) -> dict[str, int]:
    return {f"{name}_{axis}": stride for axis, stride in zip("ncdhw", strides, strict=True)}


def _steps(s: Setting) -> dict[str, int]:
    return _per_axis("step", [stride * t.axis.dilation for stride, t in zip(s.x[2:], s.axes, strict=True)])


def _bytes(s: Setting) -> float:
    n = s.shape[0] * s.shape[1] * s.dtype.itemsize
    return 2.0 * n * (total(s.sizes) + total(s.outs))


def _one_window(s: Setting) -> bool:
    """Whether one window reads everything, in planes of pixels."""
    return not s.last and all(t.axis.out == 1 and t.counts[0] == t.axis.size for t in s.axes)


def _pixel(s: Setting) -> int:
    """How far apart the pixels of a plane lie, in row-major order; 0 where that is not one distance."""
    (d, h, w), steps = s.sizes, s.x[2:]
    unit = next((step for n, step in ((w, steps[2]), (h, steps[1]), (d, steps[0])) if n > 1), s.dtype.itemsize)
    even = all(n == 1 or step == unit * far for n, step, far in zip((d, h, w), steps, (h * w, w, 1), strict=True))
    return unit if even else 0


def reduce(s: Setting, shares: Shares | None) -> Launch | None:
    """x to y: the means, with what to divide by, or the maxima."""
    values = {"sums": int(shares is not None), "channels": s.shape[1], **_per_axis("out", s.outs)}
    values |= _strides("x", s.x) | _strides("y", s.y) | _steps(s)
    if _one_window(s):
        if _pixel(s) != s.dtype.itemsize:
            return None
        values |= {"count": total(s.sizes), "divisor": total([int(v[0]) for v in _shares(s, shares or ())])}
        return _launch("whole_reduce", s, values, {}, "x y", s.shape[0] * s.shape[1], _bytes(s))
    if shares is not None and _long(s):
        return None  # others add them up by halves
    ones: Shares = [[1] * t.axis.out for t in s.axes] if shares is None else shares
    arrays = _windows(s)
    if s.last:
        arrays |= _per_axis("share", _shares(s, ones))
        rows = s.shape[0] * s.outs[0] * s.outs[1]
        values["chunks"] = _parts(rows, s.outs[2])
        values["parts"] = _parts(rows * values["chunks"], -(-s.shape[1] // (4 * s.lanes)))
        return _launch("last_reduce", s, values, arrays, "x y", rows * values["chunks"] * values["parts"], _bytes(s))
    walk = _walk(s)
    more, tables = _row_shares(s, ones)
    planes = s.shape[0] * s.shape[1]
    values |= walk | more
    values["parts"] = _parts(planes, s.outs[0] * s.outs[1])
    values["in_place"] = int(all((t.counts == 1).all() for t in s.axes[:2]))
    values["scratch_step"] = walk["pitch"] + 256
    return _launch("first_reduce", s, values, arrays | tables, "x y", planes * values["parts"], _bytes(s), values["scratch_step"])


def _starts(s: Setting, number: int) -> np.ndarray:
    """The numbers of the first inputs of a row's windows, as the lanes hold them."""
    starts = s.axes[2].begins * number
    return padded(starts, len(starts) + s.lanes).astype(f"i{s.dtype.itemsize}")


def winners(s: Setting, numbers: tuple[int, int, Ints]) -> Launch | None:
    """x to y and to 64-bit indices that lie like y; `numbers` is what a step along each axis adds to an index."""
    n, c, spatial = numbers
    if s.dtype.itemsize == 4 and s.shape[1] * total(s.sizes) >= 2**31:
        return None
    along = three(spatial, s.last, 0)
    steps, tables = _numbers(s, along)
    values = {"number_n": n, "number_c": c, "channels": s.shape[1], **_per_axis("out", s.outs), **steps}
    values |= _strides("x", s.x) | _strides("y", s.y) | _steps(s)
    arrays = _windows(s) | tables
    if s.last:
        rows = s.shape[0] * s.outs[0] * s.outs[1]
        values["chunks"] = _parts(rows, s.outs[2])
        return _launch("last_winners", s, values, arrays, "x y indices", rows * values["chunks"], 3 * _bytes(s))
    walk = _walk(s)
    held = _held(s, walk)
    arrays["start_w"] = _starts(s, along[2])
    planes = s.shape[0] * s.shape[1]
    values |= walk | {"parts": _parts(planes, s.outs[0] * s.outs[1]), "held": held}
    values["scratch_step"] = held * walk["pitch"] + 256
    if values["scratch_step"] > 8 * CACHED:
        return None
    blocks = planes * values["parts"]
    return _launch("first_winners", s, values, arrays, "x y indices", blocks, 3 * _bytes(s), values["scratch_step"])


def _held(s: Setting, walk: dict[str, int]) -> int:
    """How many padded rows a row of windows reads."""
    return s.axes[0].axis.taps * s.axes[1].axis.taps if walk["stride"] else 0


def back(s: Setting, into: Setting, shares: Shares | None) -> Launch | None:
    """From g (the y of both settings) to dx, the x of `into`: of means, or of the maxima of the x of `s`."""
    planes = s.shape[0] * s.shape[1]
    maxima = shares is None
    given = "g x dx" if maxima else "g dx"
    values = {"maxima": int(maxima), "channels": s.shape[1], **_per_axis("in", s.sizes), "out_w": s.outs[2], "x": 0}
    values |= _strides("x", s.x) | _strides("g", s.y) | _strides("dx", into.x) | _steps(s)
    if _one_window(s) and _pixel(s) == _pixel(into) == s.dtype.itemsize:
        values |= {"count": total(s.sizes), "divisor": total([int(v[0]) for v in _shares(s, shares or ())])}
        return _launch("whole_back", s, values, {}, given, planes, _bytes(s))
    if total([t.overlap for t in s.axes]) > LONGEST or total(s.sizes) >= 2**31:
        return None
    ones: Shares = [[1] * t.axis.out for t in s.axes] if shares is None else shares
    d, h, w = s.sizes
    steps, tables = _numbers(s, (h * w, w, 1))
    arrays = _windows(s) | tables
    values |= steps
    for letter, t in zip("dhw", s.axes, strict=True):
        arrays[f"open_{letter}"], arrays[f"list_{letter}"] = t.readers
    if s.last and s.x == into.x and all(t.tiles for t in s.axes):
        return _tiled(s, values | {"mode": int(maxima)}, arrays | _per_axis("share", _shares(s, ones)), given)
    if s.last:
        return _last_back(s, values, arrays | _per_axis("share", _shares(s, ones)), given)
    more, tables = _row_shares(s, ones)
    return _first_back(s, values | more, arrays | tables, given)


def _tiled(s: Setting, values: dict[str, int], arrays: dict[str, np.ndarray], given: str) -> Launch | None:
    rows = s.shape[0] * s.outs[0] * s.outs[1]
    values |= {"chunks": _parts(rows, s.outs[2]), **_per_axis("out", s.outs)}
    values["parts"] = _parts(rows * values["chunks"], -(-s.shape[1] // s.lanes))
    blocks = rows * values["chunks"] * values["parts"]
    return _launch("last_tiled", s, {"x": 0, "places": 0} | _strides("places", (0,) * 5) | values, arrays, given, blocks, _bytes(s))


def tiled_places(into: Setting, indices: Ints) -> Launch | None:
    """`places`, where each is in its window and every input in one window; else the launch fails."""
    if not into.last or not all(t.tiles for t in into.axes) or (indices[1] != 8 and into.shape[1] > 1):
        return None
    d, h, w = into.sizes
    steps, tables = _numbers(into, (h * w, w, 1))
    ones = [np.ones(t.axis.out, np.int64) for t in into.axes]
    values = {"mode": 2, "channels": into.shape[1], **steps, **_steps(into), **_strides("places", _five(indices, True))}
    values |= _strides("x", into.x) | _strides("g", into.y) | _strides("dx", into.x)
    return _tiled(into, values, _windows(into) | tables | _per_axis("share", ones), "g places dx")


def places(into: Setting, indices: Ints) -> Launch | None:
    """From g, the y of `into`, to dx: everything goes to its place in its plane; `indices` are their strides."""
    unit, channels = _pixel(into), into.shape[1]
    if not unit or any(stride % 8 for stride in indices):
        return None
    parts = _parts(into.shape[0], -(-channels * into.dtype.itemsize // 64)) if into.last else channels
    values = {"parts": parts, "channels": channels, "dx_w": unit}
    values |= {"limit": total(into.sizes), **_per_axis("out", into.outs), **_strides("g", into.y)}
    values |= {"dx_n": into.x[0], "dx_c": into.x[1], **_strides("places", _five(indices, into.last))}
    return _launch("places_back", into, values, {}, "g places dx", into.shape[0] * parts, 2 * _bytes(into))


def _cut(axes: Sequence[AxisTables], bytes_of: Callable[[Ints], int], tasks: int) -> list[np.ndarray]:
    """Boxes of inputs along each axis: halved from the outermost on until scratch fits and threads have enough."""
    cuts = [1] * len(axes)
    boxes = [t.boxes(1) for t in axes]
    for axis, t in enumerate(axes):
        least = 4 * max(1, t.overlap)  # the windows at the borders of narrower boxes would cost too much
        while t.axis.size >= 2 * least * cuts[axis] and (bytes_of(widest(boxes)) > CACHED or tasks * total(cuts) < TASKS):
            cuts[axis] *= 2
            boxes[axis] = t.boxes(cuts[axis])
    return boxes


def widest(boxes: Sequence[np.ndarray]) -> Ints:
    """How many windows a box needs at most, axis by axis."""
    return tuple(int((box[:, 3] - box[:, 2]).max()) for box in boxes)


def _last_back(s: Setting, values: dict[str, int], arrays: dict[str, np.ndarray], given: str) -> Launch | None:
    vectors = -(-s.shape[1] // s.lanes)
    parts = -(-vectors // 16)
    width = -(-vectors // parts) * s.lanes * s.dtype.itemsize
    boxes = _cut(s.axes, lambda outs: total(outs) * width, s.shape[0] * parts)
    values |= {"parts": parts, **_per_axis("boxes", [len(b) for b in boxes])}
    arrays |= _per_axis("table", boxes)
    values["scratch_step"] = total(widest(boxes)) * width + 256
    blocks = s.shape[0] * parts * total([len(b) for b in boxes])
    return _launch("last_back", s, values, arrays, given, blocks, 3 * _bytes(s), values["scratch_step"])


def _first_back(s: Setting, values: dict[str, int], arrays: dict[str, np.ndarray], given: str) -> Launch | None:
    axis, size = s.axes[2].axis, s.dtype.itemsize
    walk = _walk(s)
    if isinstance(axis, WindowAxis) and (axis.hi < 0 or axis.lo < 0 or axis.stride > 4):
        walk |= {"stride": 0, "margin": 0, "low": 0}
    stride = walk["stride"]
    before = 0
    arrays["remainders"] = arrays["reaches"] = np.zeros(1, np.int64)
    if stride:
        arrays["remainders"], arrays["reaches"] = s.axes[2].remainders(stride)
        before = int(arrays["reaches"].max(initial=0))
    longest = max(s.outs[2], -(-(s.sizes[2] + walk["low"]) // max(1, stride)))
    row = _whole(s, before + longest + 2 * s.lanes) * size
    held = _held(s, walk) if values["maxima"] else 0
    boxes = _cut(s.axes[:2], lambda outs: 2 * total(outs) * row, s.shape[0] * s.shape[1])
    slots = total(widest(boxes))
    scratch = held * walk["pitch"] + 2 * slots * row + 8 * s.lanes * size + 256
    if held * walk["pitch"] > 8 * CACHED:
        return None
    arrays |= {"table_d": boxes[0], "table_h": boxes[1], "start_w": _starts(s, 1)}
    values |= walk | {"held": held, "row": row, "slots": slots, "before": before, "scratch_step": scratch}
    values |= {"boxes_d": len(boxes[0]), "boxes_h": len(boxes[1])}
    blocks = s.shape[0] * s.shape[1] * len(boxes[0]) * len(boxes[1])
    return _launch("first_back", s, values, arrays, given, blocks, 3 * _bytes(s), scratch)
