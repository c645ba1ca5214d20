"""Kernels read and write inside of their arrays: these lie between pages that nobody may touch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from npconv.compiled import catalogue

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="guard pages are made with Linux's mprotect"),
    pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable())),
]

CODE = """
import ctypes, mmap, sys
import numpy as np

PAGE = mmap.PAGESIZE
process = ctypes.CDLL(None)
keep = []

def place(shape, dtype, at, step=1):
    \"\"\"An array that begins where its memory begins, or ends where it ends, as nearly as `step` bytes allow.\"\"\"
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    pages = -(-max(size, 1) // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for guard in (start, start + (pages + 1) * PAGE):
        if process.mprotect(ctypes.c_void_p(guard), PAGE, 0):
            sys.exit("no guard")
    keep.append(memory)
    offset = PAGE if at == "begin" else PAGE + (pages * PAGE - size) // step * step
    return np.frombuffer(memory, np.uint8, size, offset).view(dtype).reshape(shape)

def guarded(shape, dtype=np.uint8):
    return place(shape if isinstance(shape, tuple) else (shape,), dtype, "end", 64)

import npconv
from npconv.compiled import calls, catalogue

modules = [module for name, module in sys.modules.items() if name.startswith("npconv")]
for name in ("aligned", "shared"):  # scratch too: for those who have taken a function by its name, and who will
    given = getattr(calls, name)
    takers = [module for module in modules if vars(module).get(name) is given]
    assert calls in takers and (name == "shared" or sys.modules["npconv.compiled.bringing"] in takers)
    for module in takers:
        setattr(module, name, guarded)
for module in (calls, sys.modules["npconv.compiled.bringing"]):  # scratch of launches, and weights that a call brings
    assert module._take is not guarded
    module._take = guarded

ALGORITHMS = ("blocked", "channelwise", "pixelwise", "fused_winograd_f2", "fused_winograd_f4", "tiled_fft")

def problem(rng):
    \"\"\"(x's shape, w's shape, options): every size between 1 and 70, and all together not too much.\"\"\"
    while True:
        rank = int(rng.integers(1, 4))
        sizes = np.exp(rng.uniform(0, np.log(71), rank)).astype(int).tolist()
        groups = int(rng.choice([1, 1, 1, 2, 5, 17]))
        per_in, per_out = (int(v) for v in np.exp(rng.uniform(0, np.log(71), 2)))
        if rng.random() < 0.3:
            groups, per_in, per_out = int(rng.integers(1, 71)), 1, 1
        c, o = groups * per_in, groups * per_out
        kernel = [int(rng.integers(1, min(8, s) + 1)) for s in sizes] if rng.random() < 0.6 else [min(3, s) for s in sizes]
        options = {
            "stride": int(rng.choice([1, 1, 2, 3])), "padding": int(rng.integers(0, 3)), "groups": groups,
            "layout": str(rng.choice(["channels_first", "channels_last"])),
        }
        n = int(rng.integers(1, 4))
        if rng.random() < 0.15:  # pixels are lanes then, channels first
            kernel, options = [1] * rank, options | {"stride": 1, "padding": 0}
        last = options["layout"] == "channels_last"
        x = (n, *sizes, c) if last else (n, c, *sizes)
        w = (*kernel, per_in, o) if last else (o, per_in, *kernel)
        if max(c, o) <= 70 and np.prod(x) * np.prod(kernel) * per_out < 3e6:
            return x, w, options

def run(number):
    rng = np.random.default_rng(number)
    x_shape, w_shape, options = problem(rng)
    dtype = rng.choice(["f4", "f4", "f8"])
    x, w = (rng.standard_normal(s).astype(dtype) for s in (x_shape, w_shape))
    at = rng.choice(["begin", "end"])
    here = lambda a: (b := place(a.shape, a.dtype, at), b.__setitem__(..., a))[0]
    count = 0
    for algorithm in (*ALGORITHMS, "auto"):
        given = options | {"algorithm": algorithm}
        print(number, x_shape, w_shape, given, dtype, at, flush=True)
        try:
            y = npconv.conv(x, w, **given)
        except ValueError as error:
            assert "cannot run here" in str(error), error
            continue
        g = rng.standard_normal(y.shape).astype(dtype)
        X, W, G = here(x), here(w), here(g)
        same = [(npconv.conv(X, W, **given, out=place(y.shape, dtype, at)), y)]
        for name, first, second, shape in (
            ("conv_input_grad", (g, w), (G, W), {"input_shape": x.shape}),
            ("conv_weight_grad", (x, g), (X, G), {"kernel_shape": w.shape}),
        ):
            f = getattr(npconv, name)
            try:
                right = f(*first, **shape, **given)
            except ValueError as error:
                assert "cannot run here" in str(error), error
                continue
            same.append((f(*second, **shape, **given, out=place(right.shape, dtype, at)), right))
        for found, right in same:
            assert np.array_equal(found, right), "not the same"
        count += len(same)
    spatial = x_shape[1:-1] if options["layout"] == "channels_last" else x_shape[2:]
    window = tuple(int(rng.integers(1, min(5, s) + 1)) for s in spatial)
    pool = {"stride": options["stride"], "layout": options["layout"]}
    print(number, "pools", x_shape, window, pool, dtype, at, flush=True)
    for f, back in ((npconv.max_pool, npconv.max_pool_grad), (npconv.avg_pool, npconv.avg_pool_grad)):
        y = f(x, window, **pool)
        assert np.array_equal(f(here(x), window, **pool), y)
        g = rng.standard_normal(y.shape).astype(dtype)
        if f is npconv.max_pool:
            assert np.array_equal(back(here(g), here(x), window, **pool), back(g, x, window, **pool))
        else:
            assert np.array_equal(back(here(g), x.shape, window, **pool), back(g, x.shape, window, **pool))
        count += 1
    keep.clear()
    return count

first, last = int(sys.argv[1]), int(sys.argv[2])
total = sum(run(number) for number in range(first, last))
assert not catalogue.unavailable()
print("whole", total)
"""


def outcome(first: int, last: int, code: str = CODE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, str(first), str(last)]
    return subprocess.run(command, capture_output=True, text=True)


def check(first: int, last: int) -> None:
    done = outcome(first, last)
    lines = done.stdout.splitlines() or [""]
    assert (done.returncode, done.stderr) == (0, ""), f"exit status {done.returncode} in {lines[-1]}\n{done.stderr}"
    word, count = lines[-1].split()
    assert (word, int(count) >= 8 * (last - first)) == ("whole", True)


def test_nothing_outside_of_an_array_is_touched():
    check(0, 40)


@pytest.mark.long
@pytest.mark.parametrize("part", range(20))
def test_nothing_outside_of_an_array_is_touched_in_many_problems(part):
    check(1000 + 200 * part, 1200 + 200 * part)


def test_a_step_outside_is_seen():
    """A guard that guards nothing would let everything pass."""
    stray = CODE.replace(
        "first, last =", "a = place((3,), 'f4', 'end')\nctypes.c_int.from_address(a.ctypes.data + 12).value\n#"
    )
    assert outcome(0, 1, stray).returncode < 0
    stray = CODE.replace(
        "first, last =", "a = place((3,), 'f4', 'begin')\nctypes.c_int.from_address(a.ctypes.data - 4).value\n#"
    )
    assert outcome(0, 1, stray).returncode < 0
