"""The kernels for aarch64, run by an emulator: their results are right, and so nobody needs such a machine to build them.

npconv runs here, told that vectors have 128 bits; only its kernels run in qemu. A call's memory goes over with it: the
pages around every argument that is an address, to the same place: tables hold addresses too. Where that is not free, the
emulator is started again, and lies elsewhere. What the kernel changed comes back.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest

from npconv.compiled import ahead

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="qemu-user is Linux's"),
    pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="needs qemu-aarch64 (Debian: qemu-user)"),
    pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="compiling needs numba"),
]

#: What the emulator says where memory of a call is memory of its own.
TAKEN = 6
#: The upper half of an argument that stands for the address of a part, whose number is in the lower half.
PARTS = 0x7A27
RUNNER = """
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

typedef void kernel(int64_t, int64_t, int64_t, int64_t *);
DECLARED
static struct { const char *name; kernel *run; } kernels[] = { LISTED };

int main(int count, char **given) {
    int64_t head[5], words[256], region[64][2];             /* lo, hi, thread, words, regions; where, how long */
    FILE *file = fopen(given[2], "rb");
    if (!file || fread(head, 8, 5, file) != 5 || head[3] > 256 || head[4] > 64) return 2;
    if (fread(words, 8, head[3], file) != head[3] || fread(region, 16, head[4], file) != head[4]) return 3;
    for (int i = 0; i < head[4]; i++) {
        char *place = (char *)region[i][0];
        if (mmap(place, region[i][1], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != place) return TAKEN;
        if (fread(place, 1, region[i][1], file) != region[i][1]) return 4;
    }
    fclose(file);
    for (int i = 0; i < head[3]; i++)                       /* parts: their numbers become addresses */
        if (words[i] >> 32 == PARTS) words[i] = (int64_t)kernels[words[i] & 0xFFFF].run;
    static struct { int64_t *at, was; } tables[1 << 16];    /* in tables too, as long as the kernel runs */
    int many = 0;
    for (int i = 0; i < head[4]; i++)
        for (int64_t *at = (int64_t *)region[i][0]; (char *)at < (char *)region[i][0] + region[i][1]; at++)
            if (*at >> 32 == PARTS && (*at & 0xFFFFFFFF) < sizeof kernels / sizeof *kernels && many < 1 << 16) {
                tables[many].at = at;
                tables[many++].was = *at;
                *at = (int64_t)kernels[*at & 0xFFFF].run;
            }
    for (int k = 0; k < sizeof kernels / sizeof *kernels; k++)
        if (!strcmp(kernels[k].name, given[1])) {
            kernels[k].run(head[0], head[1], head[2], words);
            while (many--) *tables[many].at = tables[many].was;
            file = fopen(given[2], "wb");
            for (int i = 0; i < head[4]; i++) fwrite((char *)region[i][0], 1, region[i][1], file);
            return fclose(file);
        }
    return 5;
}
"""

CHECK = """
import ctypes, json, struct, subprocess, sys, tempfile
import numpy as np
from npconv.compiled import ahead, catalogue, threads

PAGE, AROUND = 4096, 2**22
table, runner, dtypes = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3].split()
TAKEN, PARTS = map(int, sys.argv[4:])
native, kept, ran = catalogue.kernel, {}, {}
file = tempfile.NamedTemporaryFile()

def regions(words):
    \"\"\"The pages around every word that is an address of ours, and around those it leads to.\"\"\"
    maps = []
    for line in open("/proc/self/maps"):
        bounds, mode = line.split()[:2]
        if mode.startswith("r") and "[v" not in line:
            begin, end = (int(v, 16) for v in bounds.split("-"))
            if maps and maps[-1][1] == begin:
                maps[-1][1] = end
            else:
                maps.append([begin, end])
    inside = lambda word: any(begin <= word < end for begin, end in maps)
    known, fresh = set(), {word for word in words if inside(word)}
    while fresh and len(known) < 50:  # tables of a transform hold addresses of others
        known |= fresh
        seen = (ctypes.string_at(word, 512) for word in fresh if word % 8 == 0 and inside(word + 511))
        fresh = {v for text in seen for v in struct.unpack("64q", text) if inside(v)} - known
    found = []
    for word in sorted(known):
        for begin, end in maps:
            if begin <= word < end:
                first, last = max(begin, word // PAGE * PAGE - 16 * PAGE), min(end, word // PAGE * PAGE + AROUND)
                if found and first <= found[-1][1]:
                    found[-1][1] = max(found[-1][1], last)
                else:
                    found.append([first, last])
    return found

def emulated(name, count):
    def run(lo, hi, thread, at):
        words = (ctypes.c_int64 * count).from_address(at)[:]
        where = regions(words)
        before = [ctypes.string_at(first, last - first) for first, last in where]
        head = struct.pack(f"{5 + count}q", lo, hi, thread, count, len(where), *words)
        spans = b"".join(struct.pack("2q", first, last - first) for first, last in where)
        with open(file.name, "wb") as out:
            out.write(head + spans + b"".join(before))
        for _ in range(100):
            done = subprocess.run(["qemu-aarch64", runner, name, file.name])
            if done.returncode != TAKEN:
                break
        done.check_returncode()
        with open(file.name, "rb") as done:
            for (first, last), old in zip(where, before):
                new = np.frombuffer(done.read(last - first), np.uint8)
                changed = np.flatnonzero(new != np.frombuffer(old, np.uint8))
                for i, value in zip(changed.tolist(), new[changed].tolist()):  # the rest may have moved on meanwhile
                    ctypes.c_uint8.from_address(first + i).value = value
        ran[name] = ran.get(name, 0) + 1
    return run

def kernel(family, name, dtype="f4"):
    if family == "threads":
        return native(family, name, dtype)
    symbol, at = ahead.symbol(family, name, dtype), ahead.key(family, name, dtype)
    names = tuple(table[at].split())
    # no kernels, but addresses that kernels are given
    if family in ("winograd_forms", "winograd_narrow", "channelwise_tiles", "products"):
        return catalogue.Kernel(name, (PARTS << 32) + list(table).index(at), names)
    if symbol not in kept:
        kept[symbol] = threads.ENTRY(emulated(symbol, len(names)))
        kept[symbol].kernel = catalogue.Kernel(name, ctypes.cast(kept[symbol], ctypes.c_void_p).value, names)
    return kept[symbol].kernel

import npconv
for name, module in list(sys.modules.items()):  # for those who have taken the function by its name, and who will
    if name.startswith("npconv") and vars(module).get("kernel") is native:
        module.kernel = kernel
npconv.set_num_threads(1)
rng = np.random.default_rng(0)
problems = [
    ((1, 5, 9, 8), (7, 5, 3, 3), dict(padding=1)),
    ((2, 9, 11, 6), (3, 3, 6, 10), dict(padding=1, layout="channels_last")),
    ((1, 12, 14, 10), (12, 1, 3, 3), dict(padding=1, groups=12)),
    ((1, 6, 13), (5, 6, 4), dict(stride=2)),
]
for dtype in dtypes:
    for x_shape, w_shape, options in problems:
        x, w = (rng.standard_normal(s).astype(dtype) for s in (x_shape, w_shape))
        for algorithm in ("blocked", "channelwise", "pixelwise", "fused_winograd_f2", "fused_winograd_f4", "tiled_fft"):
            try:
                npconv.explain(x.shape, w.shape, dtype=dtype, algorithm=algorithm, **options)
            except ValueError:
                continue
            right = npconv.conv(x, w, algorithm="direct", **options)
            g = rng.standard_normal(right.shape).astype(dtype)
            for f, operands, extra in (
                ("conv", (x, w), {}),
                ("conv_input_grad", (g, w), {"input_shape": x.shape}),
                ("conv_weight_grad", (x, g), {"kernel_shape": w.shape}),
            ):
                f = getattr(npconv, f)
                try:
                    found = f(*operands, algorithm=algorithm, **extra, **options)
                except ValueError as error:
                    assert "cannot run here" in str(error), error
                    continue
                right = f(*operands, algorithm="direct", **extra, **options)
                tolerance = (1e-4 if dtype == "f4" else 1e-11) * np.abs(right).max()
                assert np.abs(found - right).max() <= tolerance, (f, algorithm, x_shape, dtype)
    for layout in ("channels_first", "channels_last"):
        x = rng.standard_normal((2, 7, 9, 6)).astype(dtype)
        for stride in (1, 2):
            how = dict(stride=stride, layout=layout)
            windows = np.moveaxis(x, -1, 1) if layout == "channels_last" else x
            windows = np.lib.stride_tricks.sliding_window_view(windows, (2, 3), (2, 3))[:, :, ::stride, ::stride]
            for f, right in ((npconv.max_pool, windows.max((-1, -2))), (npconv.avg_pool, windows.mean((-1, -2)))):
                y = f(x, (2, 3), **how)
                found = np.moveaxis(y, -1, 1) if layout == "channels_last" else y
                assert np.allclose(found, right, rtol=1e-5, atol=1e-6), (f, layout, stride)
            g = rng.standard_normal(y.shape).astype(dtype)  # y is the mean, which is linear in x
            assert abs((npconv.avg_pool_grad(g, x.shape, (2, 3), **how) * x).sum() - (g * y).sum()) < 1e-3
            assert abs(npconv.max_pool_grad(g, x, (2, 3), **how).sum() - g.sum()) < 1e-3
assert not catalogue.unavailable()
print(len(ran), sum(ran.values()), *sorted(ran))
"""


def cross_compiler() -> list[str]:
    """A command that compiles C for aarch64."""
    if found := shutil.which("aarch64-linux-gnu-gcc"):
        return [found, "-static"]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-static"]
    pytest.skip("needs a C compiler for aarch64: gcc-aarch64-linux-gnu, or ziglang")


DRIVER = """
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef void kernel(int64_t, int64_t, int64_t, int64_t *);
extern kernel npconv_threads_worker_f4, npconv_threads_launch_f4, npconv_threads_sequence_f4, npconv_threads_stop_f4;
enum { WORKERS = 3, CALLERS = 4, BLOCKS = 60, STEPS = 3 };
static int64_t state[STATE / 8] __attribute__((aligned(64)));
static int64_t helped, wrong;

static void tally(int64_t lo, int64_t hi, int64_t thread, int64_t *words) {  /* words: counts, how long a block takes */
    for (int64_t i = lo; i < hi; i++) {
        __atomic_add_fetch((int64_t *)words[0] + i, 1, __ATOMIC_SEQ_CST);
        if (thread) __atomic_add_fetch(&helped, 1, __ATOMIC_SEQ_CST);
        for (volatile int64_t spent = 0; spent < words[1]; spent++);
    }
}

static void launch(kernel *run, int64_t *words, int64_t blocks, int64_t grain, int64_t workers, int64_t large) {
    int64_t order[8] = {(int64_t)state, (int64_t)run, (int64_t)words, blocks, 0, grain, workers, large};
    while (order[4] < order[3]) npconv_threads_launch_f4((int64_t)order, 0, 0, 0);
}

static void *work(void *unused) {
    npconv_threads_worker_f4((int64_t)state, 0, 0, 0);
    return 0;
}

static void *calls(void *which) {
    for (int round = 0; round < 300; round++) {
        int64_t counts[BLOCKS] = {0}, blocks = 1 + (round + (int64_t)which) % BLOCKS;
        int64_t words[2] = {(int64_t)counts, round % 7 ? 50 * (round % 5) : 20000};
        if (round % 25 == 0) nanosleep(&(struct timespec){0, 3000000}, 0);  /* longer than workers stay awake */
        launch(tally, words, blocks, 1 + round % 3, round % (WORKERS + 1), round % 2);
        for (int i = 0; i < BLOCKS; i++) if (counts[i] != (i < blocks)) __atomic_add_fetch(&wrong, 1, __ATOMIC_SEQ_CST);
    }
    return 0;
}

static void sequences(void) {  /* STEPS launches in one: no block of a step begins before the step before is done */
    static int64_t counters[STEPS * 16] __attribute__((aligned(64)));
    for (int round = 0; round < 200; round++) {
        int64_t counts[STEPS][BLOCKS] = {0}, words[STEPS][2], table[STEPS][4];
        for (int step = 0; step < STEPS; step++) {
            words[step][0] = (int64_t)counts[step], words[step][1] = 100;
            table[step][0] = (int64_t)tally, table[step][1] = (int64_t)words[step];
            table[step][2] = BLOCKS, table[step][3] = 1 + round % 4;
            counters[step * 16] = counters[step * 16 + 8] = 0;
        }
        int64_t all[3] = {(int64_t)table, STEPS, (int64_t)counters};
        launch(npconv_threads_sequence_f4, all, 1 + WORKERS, 1, WORKERS, 1);
        for (int i = 0; i < STEPS * BLOCKS; i++) wrong += counts[i / BLOCKS][i % BLOCKS] != 1;
    }
}

int main(void) {
    pthread_t workers[WORKERS], callers[CALLERS];
    int64_t address = (int64_t)state;
    for (int i = 0; i < WORKERS; i++) pthread_create(&workers[i], 0, work, 0);
    for (int i = 0; i < CALLERS; i++) pthread_create(&callers[i], 0, calls, (void *)(int64_t)i);
    for (int i = 0; i < CALLERS; i++) pthread_join(callers[i], 0);
    sequences();
    npconv_threads_stop_f4(0, 0, 0, &address);
    for (int i = 0; i < WORKERS; i++) pthread_join(workers[i], 0);
    printf("%lld wrong, %s\\n", (long long)wrong, helped ? "shared" : "alone");
    return 0;
}
"""


def test_the_driver_on_arm(tmp_path):
    """Its atomics and system calls: workers that sleep and wake, launches of four threads at once, sequences, the end."""
    from npconv.compiled.shared import compile_part
    from npconv.compiled.threads import STATE_BYTES

    compiler = cross_compiler()
    part, runner = tmp_path / "threads.o", tmp_path / "runner"
    part.write_bytes(compile_part("neon", "threads", "f4")[0])
    (tmp_path / "runner.c").write_text(DRIVER.replace("STATE / 8", f"{STATE_BYTES} / 8"))
    subprocess.run([*compiler, "-O1", "-pthread", "-o", runner, tmp_path / "runner.c", part], check=True)
    done = subprocess.run(["qemu-aarch64", runner], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("0 wrong, ")
    assert "shared" in done.stdout or len(os.sched_getaffinity(0)) == 1


@pytest.mark.long
def test_every_family_on_arm(tmp_path):
    from npconv.compiled.catalogue import FAMILIES
    from npconv.compiled.shared import compile_part

    compiler = cross_compiler()
    families = [family for family in FAMILIES if family not in ("threads", "peak")]
    jobs = [("neon", family, dtype) for family in families for dtype in ("f4", "f8")]
    with ProcessPoolExecutor(2) as pool:
        parts = list(pool.map(compile_part, *zip(*jobs, strict=True)))
    table: dict[str, str] = {}
    objects = []
    for i, (part, names) in enumerate(parts):
        objects.append(tmp_path / f"{i}.o")
        objects[-1].write_bytes(part)
        table |= names
    symbols = [ahead.symbol(*key.split()) for key in table]
    declared = "\n".join(f"extern kernel {symbol};" for symbol in symbols)
    listed = ", ".join(f'{{"{symbol}", {symbol}}}' for symbol in symbols)
    source, runner = tmp_path / "runner.c", tmp_path / "runner"
    made = {"DECLARED": declared, "LISTED": listed, "TAKEN": str(TAKEN), "PARTS": str(PARTS)}
    text = RUNNER
    for word, value in made.items():
        text = text.replace(word, value)
    source.write_text(text)
    subprocess.run([*compiler, "-O1", "-o", str(runner), str(source), *map(str, objects)], check=True)
    environment = os.environ | {"NPCONV_VECTOR_BYTES": "16", "NPCONV_KERNELS": "jit"}
    command = [sys.executable, "-c", CHECK, json.dumps(table), str(runner), "f4 f8", str(TAKEN), str(PARTS)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3000:]
    ran = {name.split("_")[1] for name in done.stdout.split()[2:]}
    assert ran >= {"blocked", "outer", "winograd", "channelwise", "pixelwise", "fourier", "pools"}
