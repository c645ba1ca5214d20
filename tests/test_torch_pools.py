"""Agreement of the pools with torch: values, indices, rounding, divisors, gradients, in 1 to 3 dimensions.

Maxima and their indices agree to the last bit; sums to 160 u max S (see test_torch.py), S from torch on
absolute values.
"""

import numpy as np
import pytest

import npconv
from problems import Dice
from test_torch import agree, backward, functional, numbers, tensor, torch

LONGEST = {1: 30, 2: 11, 3: 7}
SEEDS = range(30)


def of_rank(name: str, rank: int):
    return getattr(functional, f"{name}{rank}d")


def draw_pool(seed: int, dilated: bool):
    """Input and options both take: torch pads at most half a kernel, alike on both sides."""
    dice, rng = Dice("torch pool", seed), np.random.default_rng(seed)
    rank = 1 + seed % 3
    kernel, stride = dice.ints(rank, 1, 4), dice.ints(rank, 1, 4)
    dilation = dice.ints(rank, 1, 3) if dilated else (1,) * rank
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple(dice.int(0, k // 2) for k in kernel)
    # torch's avg_pool3d, unlike its relatives, wants a kernel's worth of real pixels
    least = [e if rank == 3 and not dilated else max(1, e - 2 * p) for e, p in zip(spans, padding, strict=True)]
    sizes = tuple(dice.int(n, e + LONGEST[rank]) for n, e in zip(least, spans, strict=True))
    options = {"stride": stride, "padding": padding, "ceil_mode": dice.chance(0.5)}
    return (
        rank,
        numbers(rng, (2, 3, *sizes)),
        kernel,
        options | ({"dilation": dilation} if dilated else {}),
        rng,
    )


@pytest.mark.parametrize("data", ["distinct", "ties", "nan"])
@pytest.mark.parametrize("seed", SEEDS)
def test_max_pool(seed, data):
    """Values, indices and gradient to the last bit; ties go to the first, and a NaN is the maximum."""
    rank, x, kernel, options, rng = draw_pool(seed, dilated=True)
    if data == "ties":
        x = rng.integers(-1, 2, x.shape).astype(float)
    elif data == "nan":  # one in a plane: where a window has two, torch's index is the last one's, ours the first one's
        for plane in x.reshape(6, -1):
            plane[rng.integers(plane.size)] = np.nan
    y, indices = npconv.max_pool(x, kernel, return_indices=True, **options)
    pool = of_rank("max_pool", rank)
    expected, places = pool(tensor(x), kernel, return_indices=True, **options)
    agree("y", y, expected)
    agree("indices", indices, places)
    assert indices.dtype == np.int64
    g = rng.integers(-9, 10, y.shape).astype(float)  # sums of integers are exact in any order
    _, slopes = backward(lambda x: pool(x, kernel, **options), {"x": x}, g)
    agree("dx", npconv.max_pool_grad(g, x, kernel, **options), slopes["x"])
    agree("dx", npconv.max_pool_grad(g, x, kernel, indices=indices, **options), slopes["x"])


def test_two_nans_in_a_window():
    """torch's index is the last NaN's, for its loop takes every NaN; ours the first one's, as np.argmax."""
    x = np.array([[[1.0, np.nan, 5.0, np.nan]]])
    _, theirs = functional.max_pool1d(tensor(x), 4, return_indices=True)
    _, ours = npconv.max_pool(x, (4,), return_indices=True)
    assert ours.item() == np.argmax(x) == 1
    assert theirs.item() == 3


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("divisor", [None, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_avg_pool(seed, counted, divisor):
    lifted = seed + 1 if divisor and seed % 3 == 0 else seed  # torch's avg_pool1d has no divisor_override
    rank, x, kernel, options, rng = draw_pool(lifted, dilated=False)
    theirs = options | {"count_include_pad": counted}
    if divisor:
        theirs["divisor_override"] = divisor
    ours = options | {"count_include_pad": counted, "divisor": divisor}
    y = npconv.avg_pool(x, kernel, **ours)
    g = numbers(rng, y.shape)

    def pool(x):
        return of_rank("avg_pool", rank)(x, kernel, **theirs)

    expected, slopes = backward(pool, {"x": x}, g)
    sums, slope_sums = backward(pool, {"x": abs(x)}, abs(g))
    agree("y", y, expected, sums)
    agree("dx", npconv.avg_pool_grad(g, x.shape, kernel, **ours), slopes["x"], slope_sums["x"])


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 4.0, 2.5])
@pytest.mark.parametrize("seed", range(12))
def test_lp_pool(seed, p):
    """On positive data, and for even p on any: torch leaves out the absolute value (rule R18).

    In a window that ceil_mode lets overhang, torch multiplies the mean of the real elements by the whole
    kernel; ONNX and we add up what is there. So theirs is corrected by (real elements / kernel)^(1/p).
    """
    rank, x, kernel, options, rng = draw_pool(seed, dilated=False)
    del options["padding"]  # torch has none
    if any(n < k for n, k in zip(x.shape[2:], kernel, strict=True)):
        x = np.pad(x, [(0, 0), (0, 0), *((0, k) for k in kernel)], mode="symmetric")
    if p not in (2.0, 4.0):
        x = abs(x) + 0.01
    ones = torch.ones(x.shape, dtype=torch.float64)
    full = float(np.prod(kernel))
    if rank == 1:  # its avg_pool has no divisor
        real = functional.avg_pool2d(
            ones[:, :, None], (1, *kernel), (1, *options["stride"]), 0, options["ceil_mode"], True, 1
        )
        real = real[:, :, 0]
    else:
        real = of_rank("avg_pool", rank)(ones, kernel, options["stride"], 0, options["ceil_mode"], True, 1)

    def pool(x):
        window = kernel if rank > 1 else kernel[0]  # lp_pool1d multiplies by what it is given
        return of_rank("lp_pool", rank)(x, p, window, **options) * (real / full) ** (1 / p)

    y = npconv.lp_pool(x, kernel, p=p, **options)
    g = numbers(rng, y.shape)
    expected, slopes = backward(pool, {"x": x}, g)
    _, slope_sums = backward(pool, {"x": abs(x)}, abs(g))
    agree("y", y, expected, expected)
    agree("dx", npconv.lp_pool_grad(g, x, kernel, p=p, **options), slopes["x"], slope_sums["x"])


def test_lp_pool_of_negative_numbers_with_odd_p():
    """Rule R18: (sum |x|^p)^(1/p); torch leaves out the absolute value and gives 0 or NaN."""
    x = np.array([[[-1.0, -2.0, -2.0, 3.0]]])
    ours = npconv.lp_pool(x, (2,), p=3.0)
    assert np.abs(ours - np.array([[[9.0 ** (1 / 3), 35.0 ** (1 / 3)]]])).max() <= 4 * 2.0**-52
    theirs = functional.lp_pool1d(tensor(x), 3.0, 2)
    assert theirs[0, 0, 0] != ours[0, 0, 0]


@pytest.mark.parametrize("seed", SEEDS)
def test_adaptive_pools(seed):
    """Rule R19: bins floor(i L / o) to ceil((i + 1) L / o), more than pixels too; None keeps an axis."""
    dice, rng = Dice("torch adaptive", seed), np.random.default_rng(seed)
    rank = 1 + seed % 3
    sizes = dice.ints(rank, 1, LONGEST[rank])
    size = tuple(dice.pick(None, dice.int(1, 9), dice.int(1, 9)) for _ in range(rank))
    x = numbers(rng, (2, 3, *sizes))
    wanted = tuple(n if s is None else s for s, n in zip(size, sizes, strict=True))  # torch's 1-D refuses None
    y, indices = npconv.adaptive_max_pool(x, size, return_indices=True)
    expected, places = of_rank("adaptive_max_pool", rank)(tensor(x), wanted, return_indices=True)
    agree("max", y, expected)
    agree("indices", indices, places)
    g = rng.integers(-9, 10, y.shape).astype(float)
    _, slopes = backward(lambda x: of_rank("adaptive_max_pool", rank)(x, wanted), {"x": x}, g)
    agree("dmax", npconv.adaptive_max_pool_grad(g, x, size), slopes["x"])

    def average(x):
        return of_rank("adaptive_avg_pool", rank)(x, wanted)

    g = numbers(rng, y.shape)
    expected, slopes = backward(average, {"x": x}, g)
    sums, slope_sums = backward(average, {"x": abs(x)}, abs(g))
    agree("avg", npconv.adaptive_avg_pool(x, size), expected, sums)
    agree("davg", npconv.adaptive_avg_pool_grad(g, x.shape, size), slopes["x"], slope_sums["x"])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_global_pools_are_adaptive_pools_of_size_one(rank):
    rng = np.random.default_rng(rank)
    x = numbers(rng, (2, 3, *(5, 4, 3)[:rank]))
    g = numbers(rng, (2, 3, *(1,) * rank))
    agree("max", npconv.global_max_pool(x), of_rank("adaptive_max_pool", rank)(tensor(x), 1))
    _, slopes = backward(lambda x: of_rank("adaptive_max_pool", rank)(x, 1), {"x": x}, g)
    agree("dmax", npconv.global_max_pool_grad(g, x), slopes["x"])
    y, slopes = backward(lambda x: of_rank("adaptive_avg_pool", rank)(x, 1), {"x": x}, g)
    sums, slope_sums = backward(lambda x: of_rank("adaptive_avg_pool", rank)(x, 1), {"x": abs(x)}, abs(g))
    agree("avg", npconv.global_avg_pool(x), y, sums)
    agree("davg", npconv.global_avg_pool_grad(g, x.shape), slopes["x"], slope_sums["x"])


@pytest.mark.parametrize("seed", range(20))
def test_fractional_max_pool(seed):
    """torch's sequence for given samples, which torch takes in the order (W, H) in two dimensions."""
    dice, rng = Dice("torch fractional", seed), np.random.default_rng(seed)
    rank = 2 + seed % 2
    kernel = dice.ints(rank, 1, 3)
    size = dice.ints(rank, 1, 4)
    # in three dimensions torch wants one pixel more than the windows need
    sizes = tuple(k + o - 1 + dice.int(rank - 2, 6) for k, o in zip(kernel, size, strict=True))
    x = numbers(rng, (2, 3, *sizes))
    samples = rng.random((2, 3, rank))
    theirs = tensor(samples[..., ::-1] if rank == 2 else samples, grad=False)
    options = {"output_size": size, "samples": samples}
    y, indices = npconv.fractional_max_pool(x, kernel, return_indices=True, **options)

    def pool(x, **more):
        return of_rank("fractional_max_pool", rank)(x, kernel, output_size=size, _random_samples=theirs, **more)

    expected, places = pool(tensor(x), return_indices=True)
    agree("y", y, expected)
    agree("indices", indices, places)
    g = rng.integers(-9, 10, y.shape).astype(float)
    _, slopes = backward(pool, {"x": x}, g)
    agree("dx", npconv.fractional_max_pool_grad(g, x, kernel, **options), slopes["x"])


@pytest.mark.parametrize("given_size", [True, False])
@pytest.mark.parametrize("seed", range(18))
def test_max_unpool(seed, given_size):
    """Of a pool whose windows do not overlap: no index comes twice, so torch's order of writing is moot."""
    dice, rng = Dice("torch unpool", seed), np.random.default_rng(seed)
    rank = 1 + seed % 3
    kernel = dice.ints(rank, 1, 3)
    sizes = tuple(k * dice.int(1, 4) + (dice.int(0, k - 1) if given_size else 0) for k in kernel)
    x = numbers(rng, (2, 3, *sizes))
    pooled, indices = npconv.max_pool(x, kernel, return_indices=True)
    output_size = sizes if given_size else None
    y = npconv.max_unpool(pooled, indices, kernel, output_size=output_size)
    g = numbers(rng, y.shape)
    places = torch.from_numpy(indices)
    # without a size torch would infer one that is too small for indices of a larger plane; ours are of this
    # plane
    expected, slopes = backward(
        lambda x: of_rank("max_unpool", rank)(x, places, kernel, output_size=output_size), {"x": pooled}, g
    )
    agree("y", y, expected)
    agree("dx", npconv.max_unpool_grad(g, indices, kernel, output_size=output_size), slopes["x"])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_aliases_take_torchs_positional_order(rank):
    """(x, kernel_size, stride, padding, dilation, ceil_mode); avg: (..., ceil_mode, count_include_pad)."""
    x = numbers(np.random.default_rng(rank), (2, 3, *(9,) * rank))
    ours, theirs = getattr(npconv, f"max_pool{rank}d"), of_rank("max_pool", rank)
    agree("max", ours(x, 3, 2, 1, 2, True), theirs(tensor(x), 3, 2, 1, 2, True))
    for y, expected in zip(ours(x, 3, 2, 1, 2, True, True), theirs(tensor(x), 3, 2, 1, 2, True, True), strict=True):
        agree("max with indices", y, expected)
    ours, theirs = getattr(npconv, f"avg_pool{rank}d"), of_rank("avg_pool", rank)
    agree(
        "avg",
        ours(x, 3, 2, 1, True, False),
        theirs(tensor(x), 3, 2, 1, True, False),
        theirs(tensor(abs(x)), 3, 2, 1, True, False),
    )
    agree("default", ours(x, 3), theirs(tensor(x), 3), theirs(tensor(abs(x)), 3))
