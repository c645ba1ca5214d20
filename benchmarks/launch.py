"""What launching on several threads costs, and what it survives; prints each figure, and fails on a wrong result.

python -m benchmarks.launch            overheads, idleness, Ctrl-C and exit: half a minute
python -m benchmarks.launch --long     also 16 threads x 10,000 mixed calls, and 600 child processes
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import numpy as np

import npconv
from npconv.compiled import catalogue, threads
from npconv.compiled.calls import address, aligned
from npconv.compiled.panels import vector_bytes

from .machine import machine

MANY = 1e9  # operations that are never too few for several threads
CHILDREN = 200

rng = np.random.default_rng(0)
X = rng.standard_normal((2, 24, 30, 34)).astype(np.float32)
W = rng.standard_normal((40, 24, 3, 3)).astype(np.float32)
G = rng.standard_normal((2, 40, 30, 34)).astype(np.float32)
CALLS: tuple[Callable[[], np.ndarray], ...] = (
    lambda: npconv.conv(X, W, padding=1),
    lambda: npconv.conv(X, W, stride=2),
    lambda: npconv.conv(X[:1, :, :7, :7], W),
    lambda: npconv.conv(X.astype(np.float64), W.astype(np.float64)),
    lambda: npconv.conv_input_grad(G, W, input_shape=X.shape, padding=1),
    lambda: npconv.conv_weight_grad(X, G, kernel_shape=W.shape, padding=1),
    lambda: npconv.depthwise_conv(X, W[:24, :1], padding=1),
    lambda: npconv.max_pool(X, 2),
)


class Blocks:
    """Blocks of multiply-adds on registers: `seconds` runs them and says how long that took."""

    def __init__(self) -> None:
        self.kernel = catalogue.kernel("peak", "peak", "f4")
        self.room = aligned(2 * 4096)
        self.room[...] = 0
        self.serial = threads.ENTRY(self.kernel.address)
        self.words = np.zeros(len(self.kernel.arguments), np.int64)
        self.flops = MANY

    def set(self, rounds: int, flops: float) -> None:
        """How much a block does, some nanoseconds for a round, and how many operations the launch speaks of."""
        self.flops = flops
        values = {"rounds": rounds, "to": address(self.room), "step": 4096}
        self.words[:] = [values[name] for name in self.kernel.arguments]
        self.begin = address(self.words)

    def seconds(self, n: int) -> float:
        """Two blocks on `n` threads; 0: as a plain function call, the least there is."""
        began = time.perf_counter()
        if n:
            threads.run(self.kernel, self.begin, 2, self.flops)
        else:
            self.serial(0, 2, 0, address(self.words))
        return time.perf_counter() - began


def overheads(blocks: Blocks) -> None:
    """Back to back, and from idle."""
    blocks.set(1, MANY)
    with npconv.num_threads(2):
        plain, launched = ([blocks.seconds(n) for _ in range(20_000)][1000:] for n in (0, 2))
    extra = median(launched) - median(plain)
    print(f"empty launch, back to back: median {median(launched) * 1e6:.2f} us, {extra * 1e6:.2f} us over a plain call")
    per_round = 2 * 2 * 12 * vector_bytes() // 4  # two blocks, twelve multiply-adds of vectors
    for rounds in (1000, 4000, 12_000, 20_000, 40_000, 100_000):
        blocks.set(rounds, rounds * per_round)
        found = {}
        for n in (1, 2):
            with npconv.num_threads(n):
                found[n] = []
                for _ in range(300):
                    time.sleep(0.001)
                    found[n].append(blocks.seconds(n))
        one, two = median(found[1]), median(found[2])
        print(f"from idle: {one * 1e6:.1f} us of work, on two threads {two * 1e6:.1f} us, {(two - one) * 1e6:+.1f} us")


def idleness(blocks: Blocks) -> None:
    """The processor time that sleeping workers take."""
    with npconv.num_threads(8):
        CALLS[0]()
    time.sleep(0.01)
    began, used = time.perf_counter(), time.process_time()
    time.sleep(2)
    share = (time.process_time() - used) / (time.perf_counter() - began)
    print(f"idle, 10 ms after a call: {share * 100:.3f} % of a processor")


LAYER = """
import os, signal, sys, threading, time
import numpy as np, npconv
signal.signal(signal.SIGINT, signal.default_int_handler)
npconv.set_num_threads(2)
x, w = np.ones((1, 64, {size}, {size}), np.float32), np.ones((64, 64, 31, 31), np.float32)
call = lambda: npconv.conv(x, w, padding=15, algorithm="blocked")
"""
INTERRUPTED = """
sent = []
def interrupt():
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
threading.Timer(1.0, interrupt).start()
try:
    call()
except KeyboardInterrupt:
    print(time.perf_counter() - sent[0])
"""
LEAVING = """
for _ in range(4):
    threading.Thread(target=lambda: [call() for _ in range(1000)], daemon=True).start()
time.sleep(float(sys.argv[1]))
"""


def python(code: str, *arguments: str) -> str:
    """What a process of its own prints; it must end well and say nothing else."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    if done.returncode or done.stderr:
        raise SystemExit(f"a process ended with {done.returncode}: {done.stderr}")
    return done.stdout


def ends() -> None:
    """Ctrl-C in a long call, and exit with calls in flight."""
    waits = [float(python(LAYER.format(size=500) + INTERRUPTED)) for _ in range(5)]
    print(f"Ctrl-C in a long call: {max(waits) * 1e3:.0f} ms at most, of {len(waits)}")
    for i in range(40):
        python(LAYER.format(size=60) + LEAVING, str(0.002 * i))
    print("exit with 4 calls in flight: 40 times without a word")


def mixed() -> None:
    """Whatever 16 threads call, they get the bits of one."""
    with npconv.num_threads(1):
        expected = [call().tobytes() for call in CALLS]

    def caller(first: int) -> int:
        return sum(CALLS[i % len(CALLS)]().tobytes() != expected[i % len(CALLS)] for i in range(first, first + 10_000))

    with ThreadPoolExecutor(16) as pool:
        wrong = sum(pool.map(caller, range(16)))
    print(f"16 threads x 10,000 mixed calls: {wrong} differ")
    if wrong:
        raise SystemExit(1)


def child(i: int) -> bytes:
    """What a child process computes."""
    return CALLS[i % len(CALLS)]().tobytes()


def children() -> None:
    """Processes started after use, by each method."""
    expected = [call().tobytes() for call in CALLS]
    for method in ("fork", "spawn", "forkserver"):
        began = time.perf_counter()
        context = multiprocessing.get_context(method)
        for i in range(0, CHILDREN, 4):
            with context.Pool(4) as pool:
                if pool.map(child, range(i, i + 4), 1) != [expected[j % len(CALLS)] for j in range(i, i + 4)]:
                    raise SystemExit(f"{method}: wrong")
            CALLS[0]()
        print(f"{CHILDREN} processes by {method}: all right, {time.perf_counter() - began:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="all of it: some minutes")
    options = parser.parse_args()
    if why := catalogue.unavailable():
        raise SystemExit(why)
    print(f"{machine()}; {catalogue.provenance()}")
    blocks = Blocks()
    overheads(blocks)
    idleness(blocks)
    ends()
    if options.long:
        mixed()
        children()


if __name__ == "__main__":
    main()
