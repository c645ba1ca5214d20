"""Call npconv with random arguments, valid and invalid mixed, and report every outcome that is not allowed.

    python fuzz_worker.py FIRST COUNT          prints one JSON object: failures, outcomes, growth in MiB
    python fuzz_worker.py FIRST COUNT more     the same for the operators of fuzz_more.py

Allowed are a right result, or a TypeError, ValueError or MemoryError that begins with the operation and names
an argument that was made odd.  What is right is found without npconv: fuzz_reading.py reads the arguments by
the specification and reference.py computes, so a bad argument that is accepted shows as well.  All data are
small integers, so every result of a convolution is one, and rounding cannot hide an error of substance.

The machine is made to look small (256 MiB), so that sizes between "fits" and "absurd" are refused and not
allocated.
"""

import json
import os
import re
import resource
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

import fuzz_arguments
import fuzz_more
import fuzz_reading
import npconv
from fuzz_arguments import ARRAYS, ODD, Dice, odd_array, odd_out
from fuzz_reading import Bad, Unknown

MEMORY = 256 << 20  # of the machine that npconv sees
ADDRESSES = 6 << 30  # what the process may take before the system refuses it more
SECONDS = 20  # for one call

OPERATORS: dict[str, tuple[Callable, Callable, tuple[str, ...]]] = {
    "conv": (fuzz_arguments.draw_conv, fuzz_reading.conv, ("x", "w", "bias")),
    "conv_input_grad": (fuzz_arguments.draw_input_grad, fuzz_reading.conv_input_grad, ("g", "w")),
    "conv_weight_grad": (fuzz_arguments.draw_weight_grad, fuzz_reading.conv_weight_grad, ("x", "g")),
    "conv_transpose": (fuzz_arguments.draw_transpose, fuzz_reading.conv_transpose, ("x", "w", "bias")),
    "unfold": (fuzz_arguments.draw_unfold, fuzz_reading.unfold, ("x", "kernel")),
    "max_pool": (fuzz_arguments.draw_max_pool, fuzz_reading.max_pool, ("x", "kernel")),
    "avg_pool": (fuzz_arguments.draw_avg_pool, fuzz_reading.avg_pool, ("x", "kernel")),
}
#: Arguments that may forbid a call for reasons the reading above does not know: what an algorithm can do.
CAPABILITY = {"algorithm", "accuracy", "max_workspace"}


# --- one call


def disagreement(actual: Any, expected: np.ndarray) -> str | None:
    if type(actual) is not np.ndarray or actual.shape != expected.shape:
        return f"{type(actual).__name__} of shape {getattr(actual, 'shape', None)}, expected {expected.shape}"
    if actual.dtype != expected.dtype:
        return f"dtype {actual.dtype}, expected {expected.dtype}"
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    a, b = actual.astype(wide), expected.astype(wide)
    slack = 0.25 + (2.0**-7 if expected.dtype.itemsize == 2 else 2.0**-20) * np.abs(np.nan_to_num(b))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        wrong = ~same & ~(np.abs(a - b) <= slack)
    return f"{wrong.sum()} of {wrong.size} values are wrong" if wrong.any() else None


def shown(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > 4:
        return f"{type(value).__name__} {value.dtype}{value.shape}"
    return f"{value!r:.80}"


def drawn(draw: Callable, dice: Dice) -> dict[str, Any]:
    """Valid arguments, small enough for the reference."""
    while True:
        try:
            return draw(dice)
        except Unknown:
            continue


def play(seed: int) -> tuple[str, str | None]:
    """(outcome, what is wrong with it)."""
    dice = Dice(seed)
    name = dice.pick(tuple(OPERATORS))
    draw, expect, positional = OPERATORS[name]
    arguments = drawn(draw, dice)
    odd: list[str] = []
    for _ in range(dice.pick((0, 0, 1, 1, 1, 1, 2, 2, 3))):
        which = dice.pick(tuple(arguments))
        if which in ARRAYS:
            arguments[which] = odd_array(dice, arguments[which])
        elif which == "out":
            arguments[which] = odd_out(dice, arguments)
        else:
            arguments[which] = dice.pick(ODD[which])
        odd.append(which)
    try:
        expected, verdict = expect(arguments), "valid"
    except (Bad, OverflowError):  # or an exact sum that int64 cannot hold
        expected, verdict = None, "bad"
    except Unknown:
        expected, verdict = None, "unknown"
    except Exception as error:
        raise RuntimeError(f"the reading of seed {seed} failed: {name}, odd {odd}") from error
    out = arguments.get("out")
    if verdict == "valid" and getattr(out, "size", 0) and any(out is arguments.get(key) for key in ARRAYS):
        verdict = "bad"  # it would be read and written
    options = {key: value for key, value in arguments.items() if key not in positional}
    if dice.chance(0.03):
        options[dice.pick(("strides", "data_format", "kernal", "x1"))] = 1
        odd, verdict = ["keyword"], "bad"
    told = f"{name}, odd {odd}, { ({k: shown(v) for k, v in arguments.items()}) }"
    actual, failure = tried(lambda: getattr(npconv, name)(*(arguments[p] for p in positional), **options))
    if failure is not None:
        return type(failure).__name__, judge(failure, name, odd, verdict, told)
    if verdict == "unknown":
        return "unknown", None
    wrong = "accepted what the specification refuses" if verdict == "bad" else disagreement(actual, expected)
    return "result", wrong and f"{wrong}; {told}"


def play_more(seed: int) -> tuple[str, str | None]:
    """The same for an operator whose arguments are not read: only what none may accept is known to be bad."""
    name, operands, options, odd, bad, dice = fuzz_more.draw(seed)
    told = f"{name}, odd {odd}, { ({k: shown(v) for k, v in (operands | options).items()}) }"
    _, failure = tried(lambda: fuzz_more.call(name, dice, operands, options, odd))
    if failure is not None:
        verdict = "bad" if bad else "unknown"
        also = (*operands, *options, *(fuzz_more.CALLED[key] for key in operands if key in fuzz_more.CALLED))
        return type(failure).__name__, judge(failure, name, odd, verdict, told, also)
    return "result", f"accepted what no operator takes; {told}" if bad else None


def tried(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """The result of a call, or what it raised; a warning counts as an error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            signal.alarm(SECONDS)
            return call(), None
    except BaseException as error:
        return None, error
    finally:
        signal.alarm(0)


def judge(
    error: BaseException, name: str, odd: list[str], verdict: str, told: str, also: tuple[str, ...] = ()
) -> str | None:
    """What is wrong with a refusal; it may name `also` other arguments, where an odd one is at odds with them."""
    text = str(error)
    where = f"{type(error).__name__}: {text}; {told}"
    if not isinstance(error, (TypeError, ValueError, MemoryError)):
        return where
    if not odd:
        return f"refused a valid call: {where}"
    allowed = isinstance(error, MemoryError) or CAPABILITY & set(odd) or "sums of these integers" in text
    if verdict == "valid" and not allowed:
        return f"refused what the specification allows: {where}"
    if not text.startswith(tuple(f"{each}: " for each in (name, *fuzz_more.MADE_OF.get(name, ())))) or "\n" in text:
        return f"not one line that begins with the operation: {where}"
    general = "sums of these integers" in text or "out of memory" in text
    if not general and not any(re.search(rf"\b{word}\b", text) for word in (*odd, *also)):
        return f"names none of the odd arguments: {where}"
    return None


class TooLong(BaseException):
    """A call that does not come back."""


def too_long(number: int, frame: Any) -> None:
    raise TooLong


def main(first: int, count: int, player: Callable[[int], tuple[str, str | None]]) -> None:
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    os.sysconf = {"SC_PHYS_PAGES": MEMORY >> 12, "SC_PAGE_SIZE": 4096}.__getitem__
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    signal.signal(signal.SIGALRM, too_long)
    for seed in range(first, first + 20):  # what importing and first calls take is not growth
        player(seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(first, first + count):
        sys.stderr.write(f"{seed}\n")
        outcome, wrong = player(seed)
        outcomes[outcome] += 1
        if wrong:
            failures.append(f"seed {seed}: {wrong}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    sys.stdout.write(json.dumps({"failures": failures, "outcomes": outcomes, "grown": grown}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), play_more if sys.argv[3:] == ["more"] else play)
