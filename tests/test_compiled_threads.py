"""Machine code on several threads: every block runs once, whoever calls, forks, interrupts or exits meanwhile."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import npconv
from npconv.compiled import calls, catalogue, threads

if catalogue.unavailable():
    pytest.skip(str(catalogue.unavailable()), allow_module_level=True)

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere blocks run on the caller's thread")
MANY = 10**9  # flops that are never too few for several threads


@pytest.fixture(autouse=True)
def _same_threads():
    before = npconv.get_num_threads()
    yield
    npconv.set_num_threads(before)


# ------------------------------------------------------------------------------------------------ how many
def test_one_number_for_everybody_and_another_inside_a_with_block():
    npconv.set_num_threads(3)
    assert npconv.get_num_threads() == 3
    seen = []
    with npconv.num_threads(1):
        with npconv.num_threads(2):
            assert npconv.get_num_threads() == 2
        assert npconv.get_num_threads() == 1
        npconv.set_num_threads(5)
        assert npconv.get_num_threads() == 1
        other = threading.Thread(target=lambda: seen.append(npconv.get_num_threads()))
        other.start()
        other.join()
    assert (seen, npconv.get_num_threads()) == ([5], 5)


@pytest.mark.parametrize("set_it", [npconv.set_num_threads, lambda n: npconv.num_threads(n).__enter__()])
@pytest.mark.parametrize(("n", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_number_of_threads_is_an_int_of_one_or_more(set_it, n, error):
    with pytest.raises(error, match=r"num_threads: n must be .* use 1 or more"):
        set_it(n)


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(("given", "expected"), [("3", "3"), ("0", "d"), ("x", "d"), ("", "d")])
def test_the_environment_sets_the_number(given, expected):
    default = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = python("import npconv; print(npconv.get_num_threads())", NPCONV_NUM_THREADS=given)
    assert (found.stderr, found.stdout.strip()) == ("", expected.replace("d", str(default)))


# ------------------------------------------------------------------------------------------------ every block once
@pytest.fixture(scope="module")
def tally():
    """A kernel that counts: block i adds one to counts[i], notes its thread, and passes some time."""
    pytest.importorskip("numba", reason="a kernel of the test's own is compiled here")
    from llvmlite import binding as llvm

    from npconv.compiled.build import argument_names, compile_family
    from npconv.compiled.driver import add, now, write
    from npconv.compiled.target import host, machine

    def tally(lo: int, hi: int, thread: int, counts: int, who: int, nanoseconds: int) -> None:
        for i in range(lo, hi):
            add(counts + 8 * i, 1)
            write(who + 8 * i, thread)
            end = now() + nanoseconds
            while now() < end:
                pass

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine(host()))
    body, parts = compile_family({"tally": tally}, host())
    assert not parts
    engine.add_object_file(llvm.ObjectFileRef.from_data(body))
    engine.finalize_object()
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
    return catalogue.Kernel("tally", engine.get_function_address("tally"), argument_names(tally))


def counted(tally: catalogue.Kernel, blocks: int, grain: int, n: int, microseconds: float = 0) -> set[int]:
    """The threads that ran `blocks` blocks, after seeing that each block ran once."""
    return set(shared_out(tally, blocks, grain, n, microseconds))


def shared_out(tally: catalogue.Kernel, blocks: int, grain: int, n: int, microseconds: float = 0) -> list[int]:
    """Which thread ran each of `blocks` blocks, after seeing that each ran once."""
    counts, who = np.zeros(blocks, np.int64), np.full(blocks, -1)
    words = np.array([counts.ctypes.data, who.ctypes.data, int(1000 * microseconds)])
    with threads.num_threads(n):
        threads.run(tally, words.ctypes.data, blocks, MANY, grain)
    np.testing.assert_array_equal(counts, 1)
    found: list[int] = who.tolist()
    return found


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_every_block_runs_once(tally, n):
    for blocks in (0, 1, 2, 3, 10, 100):
        for grain in (1, 2, 7, 1000):
            assert counted(tally, blocks, grain, n) <= set(range(n))


@pytest.mark.parametrize(("blocks", "grain"), [(60, 1), (61, 4), (59, 7)])
def test_threads_work_towards_each_other(tally, blocks, grain):
    """One begins at the front, one at the back, whole shares at a time: so each has the same blocks in every call."""
    found = [shared_out(tally, blocks, grain, 2, 100) for _ in range(20)]
    for each in found:
        border = each.index(1) if 1 in each else blocks
        assert each == [0] * border + [1] * (blocks - border)
        assert border % grain == 0 or border == blocks
    assert any(len(set(each)) == 2 for each in found)


def test_workers_take_part_after_a_sleep_and_after_fewer_were_wanted(tally):
    def parallel(n: int) -> bool:
        return any(len(counted(tally, 40, 1, n, 500)) > 1 for _ in range(20))

    assert parallel(4)
    time.sleep(0.05)
    assert parallel(2)
    time.sleep(0.05)
    assert parallel(2)


def test_concurrent_launches_keep_their_blocks_apart(tally):
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda i: counted(tally, 1 + i % 40, 1 + i % 3, 1 + i % 4, i % 5), range(2000))
        assert all(seen <= {0, 1, 2, 3} for seen in found)


def test_a_launch_that_outlasts_its_slice_goes_on(tally):
    started = time.perf_counter()
    counted(tally, 100, 1, 2, 10_000)
    assert time.perf_counter() - started > 0.4


ASLEEP = """
import os, time, numpy as np, npconv
x, w = np.ones((1, 64, 56, 56), np.float32), np.ones((64, 64, 3, 3), np.float32)
allowed = os.sched_getaffinity(0)
npconv.set_num_threads(2)

def asleep():
    for _ in range(3):
        npconv.conv(x, w, algorithm="blocked")
        time.sleep(0.05)
    found = {int(task): os.sched_getaffinity(int(task)) for task in os.listdir("/proc/self/task")}
    return {task: where for task, where in found.items() if where != allowed}

((worker, where),) = asleep().items()
print(where < allowed, len(allowed) - len(where))
os.sched_setaffinity(worker, allowed - where)  # the one processor that it would not take
print(asleep() == {worker: allowed - where})
"""


@linux
def test_whoever_sleeps_keeps_off_the_processor_of_the_caller():
    """There it would be woken behind the caller, and help when nothing is left; what somebody else chose stays."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    found = python(ASLEEP)
    assert (found.stderr, found.stdout) == ("", "True 1\nTrue\n")


@linux
def test_without_new_threads_the_caller_does_everything(tally, monkeypatch):
    monkeypatch.setattr(threads, "_pool", None)
    pool = threads._shared()
    names = ("pthread_create", "pthread_sigmask", "sigfillset")
    monkeypatch.setattr(pool, "process", type("Full", (), dict.fromkeys(names, lambda *arguments: 11)))
    assert counted(tally, 50, 1, 4) == {0}
    assert (pool.full, pool.threads) == (True, [])


@linux
def test_a_small_launch_wakes_nobody_unless_others_came_before_it(tally):
    counts, who = np.zeros(20, np.int64), np.zeros((30, 20), np.int64)
    words = [np.array([counts.ctypes.data, row.ctypes.data, 50_000]) for row in who]

    def small(pause: float) -> list[set[int]]:
        with threads.num_threads(2):
            for each in words:
                if pause:
                    time.sleep(pause)
                threads.run(tally, each.ctypes.data, 20, threads.SERIAL_FLOPS)
        return [set(row.tolist()) for row in who]

    counted(tally, 40, 1, 2, 500)  # there is a worker, and it is asleep soon
    assert small(0.005).count({0}) >= 28  # how long a worker stays awake, the system decides
    assert any({0, 1} in small(0) for _ in range(20))


def test_no_processor_time_while_idle(tally):
    counted(tally, 100, 1, 4)
    time.sleep(0.01)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.02


# ------------------------------------------------------------------------------------------------ whole calls
X = np.random.default_rng(0).standard_normal((2, 24, 30, 34)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((40, 24, 3, 3)).astype(np.float32)


G = np.random.default_rng(2).standard_normal((2, 40, 30, 34)).astype(np.float32)
K = np.random.default_rng(3).standard_normal((24, 24, 11, 11)).astype(np.float32)
CALLS = (
    lambda i: npconv.conv(X, W, padding=1),
    lambda i: npconv.conv(X, W, algorithm="blocked", stride=2),
    lambda i: npconv.conv(X[:1, :, : 5 + i % 7], W, padding=1),
    lambda i: npconv.conv(X.astype(np.float64), W.astype(np.float64)),
    lambda i: npconv.conv_input_grad(G, W, input_shape=X.shape, padding=1),
    lambda i: npconv.conv_weight_grad(X, G, kernel_shape=W.shape, padding=1),
    lambda i: npconv.conv(X, K, padding=5),
    lambda i: npconv.depthwise_conv(X, W[:24, :1], padding=1),
    lambda i: npconv.max_pool(X, 2 + i % 2),
    lambda i: npconv.avg_pool_grad(X[..., ::2, ::2], input_shape=X.shape, kernel=2),
)
PERIOD = 7 * len(CALLS)


def mixed(i: int) -> bytes:
    """One of several calls, small and large; they repeat after PERIOD."""
    return CALLS[i % len(CALLS)](i).tobytes()


def serial() -> list[bytes]:
    with npconv.num_threads(1):
        return [mixed(i) for i in range(PERIOD)]


def test_sixteen_threads_give_the_bits_of_one():
    expected = serial()
    npconv.set_num_threads(2)
    wrong = []

    def caller(first: int) -> None:
        wrong.extend(i for i in range(first, first + 1000) if mixed(i) != expected[i % PERIOD])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(caller, range(16)))
    assert wrong == []


def test_memory_that_threads_share_takes_turns():
    npconv.set_num_threads(2)
    calls._turns.clear()
    places = []
    for _ in range(3 * calls.TURNS):
        room = calls.shared(6000)
        assert room.nbytes == 6000
        assert calls.address(room) % 64 == 0
        places.append(calls.address(room))
        view = room[1000:]
        del room  # a view keeps it
        assert calls.address(calls.shared(6000)) != places[-1]
        del view
    assert len(set(places[-calls.TURNS :])) == calls.TURNS
    assert max(len(waiting) for waiting in calls._turns.values()) == calls.TURNS


@pytest.mark.parametrize("n", [2, 3])
def test_the_number_of_threads_does_not_change_a_bit(n):
    with npconv.num_threads(n):
        assert [mixed(i) for i in range(PERIOD)] == serial()


# ------------------------------------------------------------------------------------------------ fork
AFTER_FORK = """
import os, sys, threading, warnings
import numpy as np, npconv
npconv.set_num_threads(3)
x, w = np.ones((1, 32, 40, 40), np.float32), np.ones((32, 32, 3, 3), np.float32)
call = lambda: npconv.conv(x, w, padding=1, algorithm="blocked").tobytes()
expected = call()
stop = False
def busy():
    while not stop:
        call()
if sys.argv[1] == "busy":
    threading.Thread(target=busy, daemon=True).start()
    warnings.simplefilter("ignore")  # Python's own, of forking with a thread
for _ in range(int(sys.argv[2])):
    pid = os.fork()
    if pid == 0:
        inner = os.fork()
        if inner == 0:
            os._exit(call() != expected)
        os._exit(call() != expected or len(os.listdir("/proc/self/task")) < 3 or os.waitpid(inner, 0)[1] != 0)
    if call() != expected or os.waitpid(pid, 0)[1] != 0:
        sys.exit("wrong")
stop = True
print("right")
"""


@linux
@pytest.mark.parametrize("kind", ["quiet", "busy"])
def test_parent_child_and_grandchild_work_after_fork(kind):
    found = python(AFTER_FORK, kind, "20")
    assert (found.stderr, found.stdout, found.returncode) == ("", "right\n", 0)


def in_child(i: int) -> bytes:
    return npconv.conv(X, W, padding=1, algorithm="blocked").tobytes()


@linux
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # the test session's threads
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_process_pools_after_use(method):
    expected = in_child(0)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(in_child, range(8)) == [expected] * 8
    assert in_child(0) == expected


# ------------------------------------------------------------------------------------------------ Ctrl-C and exit
LONG = """
import os, signal, sys, threading, time
import numpy as np, npconv
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background may ignore it
npconv.set_num_threads(int(sys.argv[1]))
x, w = np.ones((1, 64, 400, 400), np.float32), np.ones((64, 64, 31, 31), np.float32)
small = np.ones((1, 64, 33, 33), np.float32)
expected = npconv.conv(small, w, algorithm="blocked")
begun = time.perf_counter()
sent = []
def interrupt():
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
threading.Timer(1.0, interrupt).start()
try:
    npconv.conv(x, w, padding=15, algorithm="blocked")
except KeyboardInterrupt:
    waited = time.perf_counter() - sent[0]
else:
    sys.exit(f"never interrupted: {time.perf_counter() - begun}")
assert np.array_equal(npconv.conv(small, w, algorithm="blocked"), expected)
print(waited)
"""


@linux
@pytest.mark.parametrize("n", ["1", "2"])
def test_ctrl_c_ends_a_long_call_at_once_and_the_next_is_right(n):
    found = python(LONG, n)
    assert (found.stderr, found.returncode) == ("", 0)
    assert float(found.stdout) < 0.5


EXIT = """
import sys, threading, time
import numpy as np, npconv
npconv.set_num_threads(3)
x, w = np.ones((1, 64, 80, 80), np.float32), np.ones((64, 64, 7, 7), np.float32)
call = lambda: npconv.conv(x, w, padding=3, algorithm="blocked")
call()
if sys.argv[1] == "asleep":
    time.sleep(0.05)
if sys.argv[1] == "running":
    threading.Thread(target=lambda: [call() for _ in range(10_000)], daemon=True).start()
    time.sleep(0.05)
"""


@pytest.mark.parametrize("when", ["asleep", "spinning", "running"])
def test_the_interpreter_ends_whatever_the_workers_do(when):
    for _ in range(3):
        found = python(EXIT, when)
        assert (found.stderr, found.returncode) == ("", 0)


ONE_PROCESSOR = """
import os, time
import numpy as np, npconv
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
x, w = np.ones((1, 32, 60, 60), np.float32), np.ones((32, 32, 3, 3), np.float32)
def seconds(n):
    npconv.set_num_threads(n)
    times = []
    for _ in range(30):
        begun = time.perf_counter()
        npconv.conv(x, w, padding=1, algorithm="blocked")
        times.append(time.perf_counter() - begun)
    return sorted(times)[15]
seconds(1)
print(seconds(1), seconds(2), seconds(4))
"""


@linux
def test_more_threads_than_processors_cost_little():
    found = python(ONE_PROCESSOR)
    assert found.stderr == ""
    one, *more = map(float, found.stdout.split())
    assert max(more) < 4 * one + 0.01


BLOCKED = """
import os, signal
import numpy as np, npconv

def tasks():
    return set(os.listdir("/proc/self/task"))

x, w = np.ones((1, 64, 56, 56), np.float32), np.ones((64, 64, 3, 3), np.float32)
npconv.set_num_threads(1)
npconv.conv(x, w, algorithm="blocked")  # whatever else starts threads has done so
before = tasks()
npconv.set_num_threads(3)
npconv.conv(x, w, algorithm="blocked")
for task in tasks() - before:
    with open(f"/proc/self/task/{task}/status") as file:
        fields = dict(line.split(":\\t", 1) for line in file if ":\\t" in line)
    print(int(fields["SigBlk"], 16) >> (signal.SIGINT - 1) & 1)
"""


@linux
def test_signals_are_left_to_python():
    """In a process of its own: here threads of other tests may end while they are looked at.

    Of the threads that are new then, two are workers; a library may have started another one meanwhile.
    """
    found = python(BLOCKED)
    assert (found.stderr, found.stdout.split().count("1")) == ("", 2), found.stdout
