"""Several launches as one: the steps of a gradient, the layers of a network, and chains of which one thread does all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..geometry import Ints
from ..records import dataclass
from .calls import Placed, Words, _count, _give, _pop, _take, address, aligned, shared
from .catalogue import Kernel, kernel
from .panels import LINE, whole_lines
from .threads import NATIVE, SERIAL_FLOPS, run

#: Operations up to which several steps are one launch, in which Python cannot look for Ctrl-C: some milliseconds.
ONE_LAUNCH = 1e9
#: Operands of a chain: the two that are read, the one that is written, and scratch.
FIRST, SECOND, OUT, SCRATCH = range(4)
#: Addresses from which on NumPy writes them faster than a loop.
MANY = 24


class Steps:
    """Launches one after the other, all in one: threads go from each to the next without Python.

    Parameters
    ----------
    steps : sequence of (Kernel, int, int, float, int)
        What runs, where its words are, how many blocks, about how many operations, and how many blocks a thread takes at a
        time. One call runs them at a time.
    """

    def __init__(self, steps: Sequence[tuple[Kernel, int, int, float, int]]) -> None:
        rows = [
            (of.address, begin, blocks, grain if flops >= SERIAL_FLOPS else blocks)
            for of, begin, blocks, flops, grain in steps
        ]
        self.table = np.array(rows, np.int64)
        self.counters = np.zeros((len(rows) + 1) * 2 * LINE // 8, np.int64)  # two of a step, each in a line of its own
        self.kernel = kernel("threads", "sequence")
        values = {
            "table": address(self.table),
            "steps": len(rows),
            "counters": whole_lines(address(self.counters)),
        }
        self.words = np.array([values[name] for name in self.kernel.arguments], np.int64)
        self.begin = address(self.words)

    def run(self, workers: int, flops: float) -> None:
        """Run them on so many threads at most; `flops` in all."""
        self.counters[...] = 0
        run(self.kernel, self.begin, workers, flops)


class Apart:
    """Chains of (entry point, words, blocks), each done by one thread, all in one launch."""

    def __init__(self, chains: Sequence[Sequence[tuple[int, int, int]]]) -> None:
        longest = max(map(len, chains))
        rows = [[*chain, *[(0, 0, 0)] * (longest - len(chain))] for chain in chains]
        self.table, self.chains = np.array(rows, np.int64), len(chains)
        self.kernel = kernel("threads", "apart")
        values = {"table": address(self.table), "steps": longest}
        self.words = np.array([values[name] for name in self.kernel.arguments], np.int64)
        self.begin = address(self.words)

    def run(self, workers: int, flops: float) -> None:
        """Run them on any threads that there are; `flops` in all."""
        run(self.kernel, self.begin, self.chains, flops)


class Program:
    """`Steps` that know where each of them reads and writes.

    Parameters
    ----------
    launches : list of Placed
        Of `Bound` itself.
    workers : int
        Threads at most.
    source : int
        The address of what each call brings another of: launches that read it read the call's.
    """

    def __init__(self, launches: list[Placed], workers: int, source: int) -> None:
        self.launches = launches  # they keep what the words refer to
        self.room = aligned(max(launch.bound.for_threads(workers) for launch in launches) + LINE)
        each = [(bound, launch) for launch in launches for bound in (launch.bound, launch.after) if bound is not None]
        self.words, steps = [], []
        self.reading: list[tuple[np.ndarray, int]] = []  # words of launches that read the source, and which of them
        self.found = np.zeros(1, np.int64)
        given = {"scratch": address(self.room), "found": address(self.found)}
        for bound, launch in each:
            words, begin, *_ = bound.fresh()
            for name, value in {**given, "x": launch.x, "y": launch.y}.items():
                if name in bound.words.at:
                    words[bound.words.at[name]] = value
            if launch.x == source and bound is launch.bound:
                self.reading.append((words, bound.words.at["x"]))
            self.words.append(words)
            steps.append((bound.words.kernel, begin, bound.blocks, bound.flops, 1))
        self.flops, self.workers = sum(launch.flops for launch in launches), workers
        self.steps = Steps(steps)

    def __call__(self, source: int) -> bool:
        """Run them, one call at a time; whether all outputs are finite of those launches that look."""
        for words, place in self.reading:
            words[place] = source
        self.found[0] = 0
        self.steps.run(self.workers, self.flops)
        return not self.found[0]


@dataclass(frozen=True)
class Link:
    """A launch of a chain: `at` says which words are addresses, in which operand and how far from its begin."""

    words: Words
    blocks: int
    flops: float
    at: Mapping[str, tuple[int, int]]
    fixed: Mapping[str, int]
    grain: int = 1


class Filled:
    """The words of a chain for one call at a time: where those of each link begin, and which are addresses."""

    __slots__ = ("begins", "joint", "offsets", "operands", "places", "words")

    def __init__(self, links: Sequence[Link]) -> None:
        self.words = np.concatenate([link.words.words for link in links])
        first, self.begins = 0, []
        places: list[tuple[int, int, int]] = []
        for link in links:
            of = link.words
            if of.missing != link.at.keys() | link.fixed.keys():
                raise ValueError(f"{of.kernel.name} needs {sorted(of.missing)}, got {sorted({*link.at, *link.fixed})}")
            for name, value in link.fixed.items():
                self.words[first + of.at[name]] = value
            places += [(first + of.at[name], *place) for name, place in link.at.items()]
            self.begins.append(address(self.words) + self.words.itemsize * first)
            first += len(of.words)
        self.places: list[tuple[int, int, int]] | np.ndarray = places
        if len(places) >= MANY:
            self.places, self.operands, self.offsets = np.array(places, np.int64).T
        self.joint: Steps | Apart | None = None

    def fill(self, operands: Ints) -> None:
        """Write the addresses, of operands that begin there."""
        words = self.words
        if isinstance(self.places, list):
            for at, which, offset in self.places:
                words[at] = operands[which] + offset
        else:
            words[self.places] = np.array(operands, np.int64)[self.operands] + self.offsets


class Chain:
    """Launches one after the other that read two arrays, write a third, and share scratch; where they are short, all in one.

    Parameters
    ----------
    links : sequence of Link
    scratch : int
        Bytes.
    workers : int
        Threads at most.
    """

    def __init__(self, links: Sequence[Link], scratch: int, workers: int) -> None:
        self.links, self.scratch, self.workers, self.bytes = links, scratch, workers, 0
        self.flops = sum(link.flops for link in links)
        self.handed = workers > 1  # what one thread writes to scratch another reads
        self.spare: list[Filled] = []

    def fresh(self) -> Filled:
        """The words of all links, and their one launch if they have one."""
        found = Filled(self.links)
        found.joint = self.together(found.begins)
        self.bytes += found.words.nbytes
        _count(self)
        return found

    def together(self, begins: list[int]) -> Steps | Apart | None:
        """All links, whose words begin there, as one launch; None: each is one."""
        if len(self.links) == 1 or self.flops >= ONE_LAUNCH:
            return None
        each = list(zip(self.links, begins, strict=True))
        if self.workers == 1 or self.flops < SERIAL_FLOPS:
            return Apart([[(of.words.kernel.address, begin, of.blocks) for of, begin in each]])
        if not NATIVE:
            return None
        return Steps([(of.words.kernel, begin, of.blocks, of.flops, of.grain) for of, begin in each])

    def run(self, first: int, second: int, out: int) -> None:
        """Run them on what is at these addresses."""
        lent = None if self.handed else _take(self.scratch + LINE)
        room = shared(self.scratch) if lent is None else lent
        held = _pop(self.spare) or self.fresh()
        held.fill((first, second, out, whole_lines(address(room))))
        if held.joint is not None:
            held.joint.run(self.workers, self.flops)
        else:
            at = 0
            for link in self.links:
                words = held.words[at : at + len(link.words.words)]
                run(link.words.kernel, address(words), link.blocks, link.flops, link.grain)
                at += len(words)
        self.spare.append(held)
        if lent is not None:
            _give(lent)


class Shares(Chain):
    """Chains side by side: one thread does all of a chain, so that nothing is handed from a processor to another.

    Parameters
    ----------
    chains : sequence of sequences of Link
    scratch, workers
        As of a chain, for all of them.
    """

    def __init__(self, chains: Sequence[Sequence[Link]], scratch: int, workers: int) -> None:
        super().__init__([link for chain in chains for link in chain], scratch, workers)
        self.lengths = [len(chain) for chain in chains]
        self.handed = False  # it stays in the caches of the threads

    def together(self, begins: list[int]) -> Apart:
        """All of them as one launch."""
        each = zip(self.links, begins, strict=True)
        steps = iter([(of.words.kernel.address, begin, of.blocks) for of, begin in each])
        return Apart([[next(steps) for _ in range(length)] for length in self.lengths])
