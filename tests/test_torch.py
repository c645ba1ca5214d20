"""Agreement with torch: every operator both have, forward and backward, drawn within torch's limits.

Convolutions are compared in float64 to 160 u max S, S the sum of |products| of one output: 128 u is our
standard tier, 32 u a generous bound on torch's own sum. S comes from torch, run on absolute values.
"""

import numpy as np
import pytest

import npconv
from problems import Dice, disagreement

torch = pytest.importorskip("torch", reason="torch is the peer of this file (the extra `test` installs it)")
functional = torch.nn.functional

U = 2.0**-53
SEEDS = range(40)
CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSE = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
LONGEST = {1: 30, 2: 12, 3: 7}


def tensor(array, grad: bool = True):
    return torch.from_numpy(np.array(array)).requires_grad_(grad)


def numbers(rng, shape, dtype=np.float64) -> np.ndarray:
    array = rng.standard_normal(shape)
    return (array + 1j * rng.standard_normal(shape)).astype(dtype) if np.dtype(dtype).kind == "c" else array


def agree(name: str, ours, theirs, sums=None, factor: float = 160) -> None:
    """Equal to `factor` u max(sums); equal to the last bit without `sums`."""
    expected = theirs.detach().resolve_conj().numpy() if isinstance(theirs, torch.Tensor) else theirs
    bound = 0.0 if sums is None else factor * U * sums.detach().numpy().max(initial=0)
    wrong = disagreement(np.asarray(ours), expected, bound)
    assert wrong is None, f"{name}: {wrong}"


def backward(function, operands: dict, g) -> tuple:
    """The output of `function` and the gradients of the operands for the gradient g of the output."""
    leaves = {name: tensor(array) for name, array in operands.items()}
    y = function(**leaves)
    y.backward(torch.from_numpy(g))
    return y, {name: leaf.grad for name, leaf in leaves.items()}


def compare_with_autograd(ours, grads, theirs, operands: dict, rng) -> None:
    """Forward and every gradient; `grads` gives a named tuple with the operands' names as fields."""
    y = ours(**operands)
    g = numbers(rng, y.shape, y.dtype)
    expected, slopes = backward(theirs, operands, g)
    sums, slope_sums = backward(theirs, {n: np.abs(a) for n, a in operands.items()}, np.abs(g))
    agree("y", y, expected, sums)
    found = grads(g, operands)
    for name in operands:
        agree(f"d{name}", getattr(found, name), slopes[name], slope_sums[name])


# --- convolution


def draw_conv(seed: int, complex_too: bool = False, transpose: bool = False):
    """Operands and options both torch and npconv take, drawn from what torch's documentation allows."""
    dice, rng = Dice("torch transpose" if transpose else "torch", seed), np.random.default_rng(seed)
    rank = 1 + seed % 3
    kernel = dice.ints(rank, 1, 4 if rank < 3 else 3)
    dilation, stride = dice.ints(rank, 1, 3), dice.ints(rank, 1, 3)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    # torch pads both sides alike; a transposed convolution cuts that much off, so there it stays small
    padding = tuple(dice.int(0, max(0, (e - 1) // 2) if transpose else 3) for e in reach)
    sizes = tuple(
        dice.int(1 if transpose else max(1, e - 2 * p), LONGEST[rank] + e) for e, p in zip(reach, padding, strict=True)
    )
    groups = dice.pick(1, 1, 2, 3)
    inner, outer = groups * dice.int(1, 3), groups * dice.int(1, 3)
    dtype = np.complex128 if complex_too else np.float64
    x = numbers(rng, (dice.int(1, 3), inner, *sizes), dtype)
    first = (inner, outer // groups) if transpose else (outer, inner // groups)
    operands = {"x": x, "w": numbers(rng, (*first, *kernel), dtype), "bias": numbers(rng, outer, dtype)}
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if transpose:
        options["output_padding"] = tuple(dice.int(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))
    return rank, operands, options, rng


def torch_conv(rank: int, options: dict):
    return lambda x, w, bias: CONV[rank](x, w, bias, **options)


@pytest.mark.parametrize("seed", SEEDS)
def test_conv_and_its_gradients(seed):
    rank, operands, options, rng = draw_conv(seed)
    compare_with_autograd(
        lambda **a: npconv.conv(**a, **options),
        lambda g, a: npconv.conv_grads(g, a["x"], a["w"], **options),
        torch_conv(rank, options),
        operands,
        rng,
    )


@pytest.mark.parametrize("seed", range(12))
def test_complex_conv_and_its_gradients(seed):
    """The gradients are conjugate, as torch's: dx is the adjoint of the forward map, not its transpose."""
    rank, operands, options, rng = draw_conv(seed, complex_too=True)
    y = npconv.conv(**operands, **options)
    g = numbers(rng, y.shape, np.complex128)
    expected, slopes = backward(torch_conv(rank, options), operands, g)
    sums, slope_sums = backward(torch_conv(rank, options), {n: np.abs(a) for n, a in operands.items()}, np.abs(g))
    grads = npconv.conv_grads(g, operands["x"], operands["w"], **options)
    # a complex product is four real ones and two sums: |error| <= 4 times the real bound
    agree("y", y, expected, sums, 4 * 160)
    for name in operands:
        agree(f"d{name}", getattr(grads, name), slopes[name], slope_sums[name], 4 * 160)


@pytest.mark.parametrize("seed", range(24))
def test_double_backward_is_a_composition(seed):
    """torch differentiates its own backward; we call the same three functions on other arguments.

    With L = <dx, a> + <dw, b> for dx, dw the gradients of conv along g: dL/dg, dL/dx and dL/dw.
    """
    rank, operands, options, rng = draw_conv(seed)
    x, w = operands["x"], operands["w"]
    g = numbers(rng, npconv.conv(x, w, **options).shape)
    a, b = numbers(rng, x.shape), numbers(rng, w.shape)

    def second(x, w, g, a, b):
        tx, tw, tg = tensor(x), tensor(w), tensor(g)
        y = CONV[rank](tx, tw, **options)
        dx, dw = torch.autograd.grad(y, (tx, tw), tg, create_graph=True)
        loss = (dx * torch.from_numpy(a)).sum() + (dw * torch.from_numpy(b)).sum()
        return torch.autograd.grad(loss, (tg, tx, tw))

    expected = second(x, w, g, a, b)
    sums = second(*map(np.abs, (x, w, g, a, b)))
    found = (
        npconv.conv(a, w, **options) + npconv.conv(x, b, **options),
        npconv.conv_input_grad(g, b, input_shape=x.shape, **options),
        npconv.conv_weight_grad(a, g, kernel_shape=w.shape, **options),
    )
    for name, ours, theirs, s in zip(("g", "x", "w"), found, expected, sums, strict=True):
        agree(f"dL/d{name}", ours, theirs, s)
    y, dy = npconv.conv_jvp(x, w, a, b, **options)
    agree("jvp", dy, expected[0], sums[0])  # the JVP is the same bilinear form
    agree(
        "jvp's y",
        y,
        CONV[rank](tensor(x), tensor(w), **options),
        CONV[rank](tensor(abs(x)), tensor(abs(w)), **options),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_conv_transpose_and_its_gradients(seed):
    rank, operands, options, rng = draw_conv(seed, transpose=True)
    compare_with_autograd(
        lambda **a: npconv.conv_transpose(**a, **options),
        lambda g, a: npconv.conv_transpose_grads(g, a["x"], a["w"], **options),
        lambda x, w, bias: TRANSPOSE[rank](x, w, bias, **options),
        operands,
        rng,
    )


@pytest.mark.parametrize("seed", range(6))
def test_complex_conv_transpose(seed):
    """The transpose, not the adjoint: forward does not conjugate w; its gradients do conjugate."""
    rank, operands, options, rng = draw_conv(seed, complex_too=True, transpose=True)
    y = npconv.conv_transpose(**operands, **options)
    g = numbers(rng, y.shape, np.complex128)

    def theirs(x, w, bias):
        return TRANSPOSE[rank](x, w, bias, **options)

    expected, slopes = backward(theirs, operands, g)
    sums, slope_sums = backward(theirs, {n: np.abs(a) for n, a in operands.items()}, np.abs(g))
    agree("y", y, expected, sums, 4 * 160)
    grads = npconv.conv_transpose_grads(g, operands["x"], operands["w"], **options)
    for name in operands:
        agree(f"d{name}", getattr(grads, name), slopes[name], slope_sums[name], 4 * 160)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # torch, of its own copy
@pytest.mark.parametrize("seed", range(18))
def test_padding_same(seed):
    """torch's "same" is our "same_torch" (rule R6): the odd one at the end, and no stride."""
    rank, operands, options, rng = draw_conv(seed)
    options |= {"stride": (1,) * rank}
    compare_with_autograd(
        lambda **a: npconv.conv(**a, **options | {"padding": "same_torch"}),
        lambda g, a: npconv.conv_grads(g, a["x"], a["w"], **options | {"padding": "same_torch"}),
        torch_conv(rank, options | {"padding": "same"}),
        operands,
        rng,
    )


MODES = ("constant", "reflect", "replicate", "circular")  # torch has no "symmetric"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(9))
def test_padding_modes(mode, seed):
    """Our padding_mode against torch's pad followed by its unpadded convolution, gradients included."""
    rank, operands, options, rng = draw_conv(seed)
    dice = Dice("modes", seed)
    sizes = operands["x"].shape[2:]
    # torch's limits: reflect pads less than the axis, circular at most the axis
    pairs = [(dice.int(0, min(3, n - 1)), dice.int(0, min(3, n - 1))) for n in sizes]
    kernel = operands["w"].shape[2:]
    spans = [d * (k - 1) + 1 for d, k in zip(options["dilation"], kernel, strict=True)]
    if any(n + sum(p) < e for n, p, e in zip(sizes, pairs, spans, strict=True)):
        options["dilation"] = (1,) * rank
        operands["w"] = operands["w"][(..., *(slice(0, 1),) * rank)]
    flat = [side for pair in reversed(pairs) for side in pair]
    value = 0.75 if mode == "constant" else 0.0

    def theirs(x, w, bias):
        padded = functional.pad(x, flat, mode) if mode != "constant" else functional.pad(x, flat, mode, value)
        return CONV[rank](padded, w, bias, **options | {"padding": 0})

    ours = options | {"padding": tuple(pairs), "padding_mode": mode, "padding_value": value}
    compare_with_autograd(
        lambda **a: npconv.conv(**a, **ours),
        lambda g, a: npconv.conv_grads(g, a["x"], a["w"], **ours),
        theirs,
        operands,
        rng,
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_aliases_take_torchs_positional_order(rank):
    """(x, w, bias, stride, padding, dilation, groups); transposed: output_padding, groups, dilation."""
    rng = np.random.default_rng(rank)
    x, w, bias = numbers(rng, (2, 4, *(7,) * rank)), numbers(rng, (6, 2, *(3,) * rank)), numbers(rng, 6)
    for theirs, ours, order in (
        (CONV[rank], getattr(npconv, f"conv{rank}d"), (bias, 2, 1, 2, 2)),
        (TRANSPOSE[rank], getattr(npconv, f"conv_transpose{rank}d"), (numbers(rng, 4), 3, 1, 2, 2, 2)),
    ):
        given = x if ours.__name__ == f"conv{rank}d" else numbers(rng, (2, 6, *(4,) * rank))
        values = [tensor(v) if isinstance(v, np.ndarray) else v for v in order]
        sizes = [v.abs() if isinstance(v, torch.Tensor) else v for v in values]
        expected, sums = (
            theirs(tensor(given), tensor(w), *values),
            theirs(tensor(abs(given)), tensor(abs(w)), *sizes),
        )
        agree(ours.__name__, ours(given, w, *order), expected, sums)


def test_unbatched_and_empty_batch():
    """Rule R23: torch takes (C, *in) too. Rule R24: an empty batch has zero weight gradients."""
    rng = np.random.default_rng(0)
    x, w = numbers(rng, (3, 6, 5)), numbers(rng, (2, 3, 2, 2))
    agree(
        "unbatched",
        npconv.conv(x, w),
        functional.conv2d(tensor(x), tensor(w)),
        functional.conv2d(tensor(abs(x)), tensor(abs(w))),
    )
    none = x[None][:0]
    y, slopes = backward(functional.conv2d, {"input": none, "weight": w}, np.zeros((0, 2, 5, 4)))
    agree("N = 0", npconv.conv(none, w), y)
    agree("dw", npconv.conv_weight_grad(none, np.zeros((0, 2, 5, 4)), kernel_shape=w.shape), slopes["weight"])


# --- unfold and fold, which torch has in two dimensions


@pytest.mark.parametrize("seed", range(20))
def test_unfold_and_fold(seed):
    dice, rng = Dice("torch unfold", seed), np.random.default_rng(seed)
    kernel, dilation, stride, padding = (dice.ints(2, 1, 3) for _ in range(4))
    sizes = tuple(dice.int(1, 6) + d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
    options = {"dilation": dilation, "stride": stride, "padding": padding}
    x = numbers(rng, (2, 3, *sizes))
    columns = npconv.unfold(x, kernel, **options)
    agree("unfold", columns, functional.unfold(tensor(x), kernel, **options))
    g = numbers(rng, columns.shape)
    sums = functional.fold(tensor(abs(g)), sizes, kernel, **options)
    agree(
        "fold",
        npconv.fold(g, sizes, kernel, **options),
        functional.fold(tensor(g), sizes, kernel, **options),
        sums,
    )
