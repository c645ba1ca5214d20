"""The reference against torch, JAX, SciPy and NumPy: an oracle is only as good as its own test.

Problems come from the same dice as everywhere.  Each peer gets the problems it can express; what it cannot
(asymmetric padding, modes, input dilation) is done to its input first, by np.pad or by its own indexing,
never by the reference.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import reference
from problems import draw

PROBLEMS = 100
MOST_SEEDS = 2_000


def drawn(operator, suits, wanted=PROBLEMS):
    """The first `wanted` problems of the operator that the peer can express."""
    found = (draw(operator, seed) for seed in range(MOST_SEEDS))
    chosen = [problem for problem, _ in zip(filter(suits, found), range(wanted), strict=False)]
    assert len(chosen) == wanted
    return chosen


def rank_of(problem):
    return problem.canonical["x"].ndim - 2


def wide(array):
    """Float64 or complex128, as the peers compute."""
    if array is None:
        return None
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def leaf(array):
    return None if array is None else torch.tensor(wide(array), requires_grad=True)


def agree(problem, name, ours, theirs):
    ours = np.asarray(ours)
    ours = ours.astype(np.complex128 if ours.dtype.kind == "c" else np.float64)
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else np.asarray(theirs)
    assert ours.shape == theirs.shape, f"{name}: {ours.shape} against {theirs.shape}; {problem}"
    scale = np.abs(theirs[np.isfinite(theirs)]).max(initial=1.0)
    assert np.allclose(ours, theirs, rtol=1e-11, atol=1e-12 * scale, equal_nan=True), f"{name}: {problem}"


NUMPY_MODES = {"symmetric": "symmetric", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("mode", ["constant", *NUMPY_MODES])
def test_padding_is_that_of_np_pad(mode):
    rng = np.random.default_rng(5)
    for length in range(1, 6):
        x = rng.standard_normal((1, 1, length))
        for lo in range(14):
            for hi in range(14):
                extra = {"constant_values": 1.5} if mode == "constant" else {}
                width = ((0, 0), (0, 0), (lo, hi))
                expected = np.pad(x, width, mode=NUMPY_MODES.get(mode, mode), **extra)
                assert np.array_equal(reference.pad(x, ((lo, hi),), mode, 1.5), expected)


def test_negative_padding_crops():
    x = np.arange(7.0).reshape(1, 1, 7)
    assert np.array_equal(reference.pad(x, ((-2, -1),)), x[..., 2:-1])
    assert np.array_equal(reference.pad(x, ((-2, 3),), "circular")[0, 0], [2, 3, 4, 5, 6, 0, 1, 2])


def test_same_padding_is_that_of_jax():
    lax = pytest.importorskip("jax.lax")
    for length in range(1, 12):
        for kernel in range(1, 6):
            for stride in range(1, 5):
                for ours, theirs in (("same", "SAME"), ("same_lower", "SAME_LOWER")):
                    (expected,) = lax.padtype_to_pads((length,), (kernel,), (stride,), theirs)
                    assert reference.padding_pair(ours, length, kernel, stride, 1) == tuple(expected)


def test_sizes_are_those_of_torch():
    for length in range(1, 13):
        x = torch.zeros(1, 1, length)
        for kernel in range(1, 5):
            for stride in range(1, 5):
                for padding in range(kernel // 2 + 1):
                    for dilation in range(1, 3):
                        span = reference.effective(kernel, dilation)
                        if span > length + 2 * padding:
                            continue
                        options = {"stride": stride, "padding": padding, "dilation": dilation}
                        padded = length + 2 * padding
                        y = F.conv1d(x, torch.zeros(1, 1, kernel), **options)
                        assert reference.count_windows(padded, span, stride) == y.shape[-1]
                        y = F.max_pool1d(x, kernel, **options, ceil_mode=True)
                        starts = reference.window_starts(padded, span, stride, "ceil", length + padding)
                        assert len(starts) == y.shape[-1]
                        # Chainer's get_conv_outsize(cover_all=True)
                        covered = reference.window_starts(padded, span, stride, "cover_all")
                        assert len(covered) == (padded - span + stride - 1) // stride + 1


# --- convolutions against torch


def torch_padded(x, geometry):
    """Dilate, then pad, with torch's own indexing and NumPy's own np.pad."""
    rank = x.ndim - 2
    for axis in range(rank):
        step = geometry.get("input_dilation", (1,) * rank)[axis]
        if step > 1:
            size = list(x.shape)
            size[2 + axis] = (size[2 + axis] - 1) * step + 1
            spread = torch.zeros(size, dtype=x.dtype)
            x = spread.index_add(2 + axis, torch.arange(0, size[2 + axis], step), x)
    mode, pairs = geometry.get("padding_mode", "zeros"), geometry["padding"]
    if mode in ("zeros", "constant"):
        flat = [size for pair in reversed(pairs) for size in pair]
        return F.pad(x, flat, value=geometry.get("padding_value", 0.0))
    for axis, pair in enumerate(pairs):
        lo, hi = pair
        index = np.pad(np.arange(x.shape[2 + axis]), (max(lo, 0), max(hi, 0)), mode=NUMPY_MODES[mode])
        index = index[max(-lo, 0) : len(index) - max(-hi, 0)]
        x = x.index_select(2 + axis, torch.as_tensor(index))
    return x


CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSES = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def torch_conv(x, w, bias, geometry, groups):
    rank = x.ndim - 2
    if geometry.get("flip"):
        w = w.flip(tuple(range(2, w.ndim)))
    x = torch_padded(x, geometry)
    return CONVS[rank](x, w, bias, geometry["stride"], 0, geometry["dilation"], groups)


def suits_torch(problem):
    """torch has 1 to 3 axes, and gives wrong shapes for no channels; empty axes it refuses."""
    return 1 <= rank_of(problem) <= 3 and 0 not in problem.canonical["x"].shape[1:] + problem.canonical["w"].shape


def test_conv_is_that_of_torch():
    for problem in drawn("conv", suits_torch):
        data, geometry = problem.canonical, problem.geometry
        x, w, bias = leaf(data["x"]), leaf(data["w"]), leaf(data["bias"])
        plain = {key: geometry[key] for key in geometry if key != "groups"}
        if {x.dtype, w.dtype} == {torch.float64, torch.complex128}:
            continue
        y = torch_conv(x, w, bias, plain, geometry["groups"])
        g = torch.tensor(wide(data["g"]))
        y.backward(g)
        agree(problem, "y", reference.conv(data["x"], data["w"], data["bias"], **geometry), y)
        dx = reference.conv_input_grad(data["g"], data["w"], data["x"].shape, **geometry)
        agree(problem, "dx", dx, x.grad)
        dw = reference.conv_weight_grad(data["x"], data["g"], data["w"].shape, **geometry)
        agree(problem, "dw", dw, w.grad)
        if bias is not None:
            agree(problem, "db", reference.bias_grad(data["g"]), bias.grad)


def test_conv_transpose_is_that_of_torch():
    for problem in drawn("conv_transpose", suits_torch):
        data, geometry = problem.canonical, dict(problem.geometry)
        x, w, bias, g = leaf(data["x"]), leaf(data["w"]), leaf(data["bias"]), torch.tensor(wide(data["g"]))
        size = data["g"].shape[2:]
        if {x.dtype, w.dtype} == {torch.float64, torch.complex128}:
            continue
        turned = w.flip(tuple(range(2, w.ndim))) if geometry["flip"] else w
        stride, dilation = geometry["stride"], geometry["dilation"]
        y = TRANSPOSES[rank_of(problem)](x, turned, None, stride, groups=geometry["groups"], dilation=dilation)
        for axis, ((lo, _), want) in enumerate(zip(geometry["padding"], size, strict=True), start=2):
            flat = [0, 0] * (y.ndim - 1 - axis) + [max(-lo, 0), max(lo + want - y.shape[axis], 0)]
            y = F.pad(y, flat).narrow(axis, max(lo, 0), want)
        if bias is not None:
            y = y + bias.reshape(-1, *(1,) * len(size))
        y.backward(g)
        ours = reference.conv_transpose(data["x"], data["w"], data["bias"], out_size=size, **geometry)
        agree(problem, "y", ours, y)
        agree(
            problem,
            "dx",
            reference.conv_transpose_input_grad(data["g"], data["w"], x.shape, **geometry),
            x.grad,
        )
        dw = reference.conv_transpose_weight_grad(data["x"], data["g"], data["w"].shape, **geometry)
        agree(problem, "dw", dw, w.grad)


def test_conv_transpose_with_output_padding_is_that_of_torch():
    rng = np.random.default_rng(0)
    for stride in range(1, 4):
        for dilation in range(1, 4):
            for extra in range(max(stride, dilation)):
                for padding in range(3):
                    x, w = rng.standard_normal((2, 3, 5)), rng.standard_normal((3, 2, 3))
                    options = {"stride": stride, "padding": padding, "dilation": dilation}
                    y = F.conv_transpose1d(torch.tensor(x), torch.tensor(w), output_padding=extra, **options)
                    pair = (padding, padding)
                    size = reference.conv_transpose_size(5, 3, stride, pair, dilation, extra)
                    geometry = {"stride": (stride,), "padding": (pair,), "dilation": (dilation,)}
                    ours = reference.conv_transpose(x, w, out_size=(size,), **geometry)
                    agree(options, "y", ours, y)


@pytest.mark.parametrize("operator", ["depthwise_conv", "separable_conv"])
def test_depthwise_and_separable_are_those_of_torch(operator):
    for problem in drawn(operator, suits_torch, 60):
        data, geometry = problem.canonical, problem.geometry
        leaves = {name: leaf(data[name]) for name in ("x", "w", "pointwise", "bias") if name in data}
        if len({tensor.dtype for tensor in leaves.values() if tensor is not None}) > 1:
            continue
        x, w = leaves["x"], leaves["w"]
        separable = "pointwise" in leaves
        y = torch_conv(x, w, None if separable else leaves["bias"], geometry, x.shape[1])
        if separable:
            y = CONVS[rank_of(problem)](y, leaves["pointwise"], leaves["bias"])
        y.backward(torch.tensor(wide(data["g"])))
        if separable:
            three = data["x"], data["w"], data["pointwise"]
            agree(problem, "y", reference.separable_conv(*three, data["bias"], **geometry), y)
            dx, dw, dp = reference.separable_conv_grads(data["g"], *three, **geometry)
            agree(problem, "dp", dp, leaves["pointwise"].grad)
        else:
            agree(problem, "y", reference.depthwise_conv(data["x"], data["w"], data["bias"], **geometry), y)
            grouped = {"groups": x.shape[1], **geometry}
            dx = reference.conv_input_grad(data["g"], data["w"], data["x"].shape, **grouped)
            dw = reference.conv_weight_grad(data["x"], data["g"], data["w"].shape, **grouped)
        agree(problem, "dx", dx, x.grad)
        agree(problem, "dw", dw, w.grad)


def test_local_conv_is_a_conv_per_position():
    """torch has no local conv: each position is one conv2d, cut to that position."""

    def suits(problem):
        return suits_torch(problem) and reference.count(problem.canonical["g"].shape[2:]) <= 40

    for problem in drawn("local_conv", suits, 40):
        data, geometry = problem.canonical, dict(problem.geometry)
        groups = geometry.pop("groups")
        x, w, bias = leaf(data["x"]), leaf(data["w"]), leaf(data["bias"])
        if x.dtype != w.dtype:
            continue
        out = data["g"].shape[2:]
        full = torch.zeros(data["g"].shape, dtype=x.dtype)
        for position in np.ndindex(*out):
            y = torch_conv(x, w[..., *position], None, geometry, groups)
            mask = torch.zeros(out, dtype=x.dtype)
            mask[position] = 1
            full = full + y * mask
        if bias is not None:
            full = full + (bias if bias.ndim > 1 else bias.reshape(-1, *(1,) * len(out)))
        full.backward(torch.tensor(wide(data["g"])))
        ours = reference.local_conv(data["x"], data["w"], data["bias"], groups=groups, **geometry)
        agree(problem, "y", ours, full)
        dx, dw = reference.local_conv_grads(data["g"], data["x"], data["w"], groups=groups, **geometry)
        agree(problem, "dx", dx, x.grad)
        agree(problem, "dw", dw, w.grad)


def test_unfold_and_fold_are_those_of_torch():
    for problem in drawn("unfold", lambda p: rank_of(p) == 2):
        data, geometry, (kernel,) = problem.canonical, problem.geometry, problem.arguments
        x = leaf(data["x"])
        columns = F.unfold(torch_padded(x, geometry), kernel, geometry["dilation"], 0, geometry["stride"])
        columns.backward(torch.tensor(wide(data["g"])))
        agree(problem, "columns", reference.unfold(data["x"], kernel, **geometry), columns)
        agree(problem, "fold", reference.fold(data["g"], x.shape[2:], kernel, **geometry), x.grad)


# --- convolutions against JAX and SciPy


def test_conv_is_that_of_jax_at_any_rank():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)

    def suits(problem):
        unusual = problem.geometry["padding_mode"] != "zeros" or 0 in problem.canonical["x"].shape
        real = all(problem.canonical[name].dtype.kind != "c" for name in ("x", "w"))
        return real and not unusual and 0 not in problem.canonical["w"].shape

    for problem in drawn("conv", suits, 30):
        data, geometry = problem.canonical, problem.geometry
        axes = tuple(range(2, data["x"].ndim))

        def theirs(x, w, geometry=geometry, axes=axes):
            return jax.lax.conv_general_dilated(
                x,
                jax.numpy.flip(w, axes) if geometry["flip"] else w,
                geometry["stride"],
                geometry["padding"],
                lhs_dilation=geometry["input_dilation"],
                rhs_dilation=geometry["dilation"],
                feature_group_count=geometry["groups"],
            )

        y, back = jax.vjp(theirs, wide(data["x"]), wide(data["w"]))
        dx, dw = back(wide(data["g"]))
        agree(problem, "y", reference.conv(data["x"], data["w"], **geometry), y)
        ours = reference.conv_input_grad(data["g"], data["w"], data["x"].shape, **geometry)
        agree(problem, "dx", ours, dx)
        ours = reference.conv_weight_grad(data["x"], data["g"], data["w"].shape, **geometry)
        agree(problem, "dw", ours, dw)


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_conv_is_that_of_scipy_at_any_rank(rank):
    signal = pytest.importorskip("scipy.signal")
    rng = np.random.default_rng(rank)
    for _ in range(25):
        lengths, kernel = rng.integers(1, 6, rank), rng.integers(1, 4, rank)
        x = rng.standard_normal(lengths) + 1j * rng.standard_normal(lengths)
        w = rng.standard_normal(kernel) + 1j * rng.standard_normal(kernel)
        full = tuple((int(k) - 1, int(k) - 1) for k in kernel)
        geometry = {"stride": (1,) * rank, "dilation": (1,) * rank, "padding": full}
        y = reference.conv(x[None, None], w[None, None], flip=True, **geometry)[0, 0]
        agree(geometry, "convolve", y, signal.convolve(x, w, mode="full", method="direct"))
        y = reference.conv(x[None, None], np.conj(w)[None, None], **geometry)[0, 0]
        agree(geometry, "correlate", y, signal.correlate(x, w, mode="full", method="direct"))


# --- pooling against torch


MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
LP_POOLS = {1: F.lp_pool1d, 2: F.lp_pool2d, 3: F.lp_pool3d}
UNPOOLS = {1: F.max_unpool1d, 2: F.max_unpool2d, 3: F.max_unpool3d}


def windows_of(problem):
    return reference.Windows(problem.canonical["x"].shape[2:], **problem.geometry)


def suits_torch_pool(problem):
    """At most three axes, equal padding on both sides, at most half the kernel."""
    geometry = problem.geometry
    return (
        rank_of(problem) <= 3
        and all(lo == hi for lo, hi in geometry["padding"])
        and all(2 * lo <= k for (lo, _), k in zip(geometry["padding"], geometry["kernel"], strict=True))
        and geometry["rule"] != "cover_all"
    )


def torch_options(geometry):
    return {
        "stride": geometry["stride"],
        "padding": tuple(lo for lo, _ in geometry["padding"]),
        "ceil_mode": geometry["rule"] == "ceil",
    }


def test_max_pool_is_that_of_torch():
    for problem in drawn("max_pool", suits_torch_pool):
        data, geometry = problem.canonical, problem.geometry
        x = leaf(data["x"])
        y, winners = MAX_POOLS[rank_of(problem)](
            x,
            geometry["kernel"],
            dilation=geometry["dilation"],
            return_indices=True,
            **torch_options(geometry),
        )
        ours, own = reference.max_pool(wide(data["x"]), windows_of(problem))
        agree(problem, "y", ours, y)
        if np.isnan(wide(data["x"])).any():  # torch takes the last NaN of a window, we the first
            continue
        assert np.array_equal(own, winners.numpy()), problem
        y.backward(torch.tensor(wide(data["g"])))
        agree(problem, "dx", reference.max_pool_grad(data["g"], own, x.shape[2:]), x.grad)


def test_first_nan_of_a_window_wins():
    x = np.array([[[1.0, np.nan, np.nan, 2.0]]])
    windows = reference.Windows((4,), (4,), stride=(1,), padding=((0, 0),), dilation=(1,))
    y, winners = reference.max_pool(x, windows)
    assert np.isnan(y).all()
    assert winners.item() == 1


def test_avg_pool_is_that_of_torch():
    def suits(problem):
        extra = problem.canonical["extra"]
        plain = set(problem.geometry["dilation"]) == {1}
        lengths = problem.canonical["x"].shape[2:]
        if any(n < k for n, k in zip(lengths, problem.geometry["kernel"], strict=True)):
            return False  # avg_pool3d refuses these, padding or not
        return suits_torch_pool(problem) and plain and ("divisor" not in extra or rank_of(problem) > 1)

    for problem in drawn("avg_pool", suits):
        data, geometry, extra = problem.canonical, problem.geometry, problem.canonical["extra"]
        x, rank = leaf(data["x"]), rank_of(problem)
        options = {"count_include_pad": extra.get("include_pad", True), **torch_options(geometry)}
        if rank > 1:
            options["divisor_override"] = extra.get("divisor")
        y = AVG_POOLS[rank](x, geometry["kernel"], **options)
        y.backward(torch.tensor(wide(data["g"])))
        windows = windows_of(problem)
        numbers = reference.divisors(windows, **extra)
        agree(problem, "y", reference.avg_pool(data["x"], windows, numbers), y)
        agree(problem, "dx", reference.avg_pool_grad(data["g"], windows, numbers, x.shape[2:]), x.grad)


def test_pools_are_those_of_jax_with_dilation_and_any_padding():
    lax = pytest.importorskip("jax.lax")
    for problem in drawn("avg_pool", lambda p: p.geometry["rule"] == "floor", 30):
        geometry, rank = problem.geometry, rank_of(problem)
        x = wide(problem.canonical["x"])
        box = {
            "window_dimensions": (1, 1, *geometry["kernel"]),
            "window_strides": (1, 1, *geometry["stride"]),
            "padding": ((0, 0), (0, 0), *geometry["padding"]),
            "window_dilation": (1, 1, *geometry["dilation"]),
        }
        windows = windows_of(problem)
        largest = lax.reduce_window(x, -np.inf, lax.max, **box)
        agree(problem, "max", reference.max_pool(x, windows)[0], largest)
        ones = np.ones((1, 1, *x.shape[2:]))
        counted = lax.reduce_window(ones, 0.0, lax.add, **box)
        numbers = reference.divisors(windows, include_pad=False)
        agree(problem, "count", numbers, np.asarray(counted).reshape(counted.shape[2:]))
        total = np.asarray(lax.reduce_window(x, 0.0, lax.add, **box))
        whole = reference.divisors(windows)
        assert (whole == reference.count(geometry["kernel"])).all(), "without overhang every tap is counted"
        agree(problem, "avg", reference.avg_pool(x, windows, whole), total / whole)
        assert rank == len(geometry["kernel"])


def test_lp_pool_is_that_of_torch_on_positive_numbers():
    def suits(problem):
        geometry = problem.geometry
        plain = set(geometry["dilation"]) == {1} and not np.any(geometry["padding"])
        finite = np.isfinite(wide(problem.canonical["x"])).all()
        return suits_torch_pool(problem) and plain and finite and problem.canonical["extra"]["p"] < np.inf

    for problem in drawn("lp_pool", suits, 60):
        data, geometry, p = problem.canonical, problem.geometry, float(problem.canonical["extra"]["p"])
        if geometry["rule"] == "ceil":  # torch scales an overhanging window by its whole kernel
            continue
        positive = np.abs(wide(data["x"])) + 0.5
        x = leaf(positive)
        kernel, stride = geometry["kernel"], geometry["stride"]
        if rank_of(problem) == 1:
            (kernel,), (stride,) = kernel, stride
        y = LP_POOLS[rank_of(problem)](x, p, kernel, stride)
        y.backward(torch.tensor(wide(data["g"])))
        agree(problem, "y", reference.lp_pool(positive, windows_of(problem), p), y)
        agree(problem, "dx", reference.lp_pool_grad(data["g"], positive, windows_of(problem), p), x.grad)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, np.inf])
def test_lp_pool_is_a_norm_of_each_window(p):
    """With signs: NumPy's vector norm, and its gradient by central differences."""
    x = np.random.default_rng(3).standard_normal((1, 1, 7))
    windows = reference.Windows((7,), (3,), stride=(2,), padding=((0, 0),), dilation=(1,))
    y = reference.lp_pool(x, windows, p)[0, 0]
    assert np.allclose(y, [np.linalg.norm(x[0, 0, start : start + 3], p) for start in (0, 2, 4)])
    g = np.random.default_rng(4).standard_normal((1, 1, 3))
    dx, step = reference.lp_pool_grad(g, x, windows, p), 1e-6
    for i in range(7):
        bump = np.zeros_like(x)
        bump[..., i] = step
        rise = reference.lp_pool(x + bump, windows, p) - reference.lp_pool(x - bump, windows, p)
        assert np.isclose(dx[0, 0, i], (g * rise).sum() / (2 * step), atol=1e-8)


@pytest.mark.parametrize("operator", ["adaptive_max_pool", "adaptive_avg_pool"])
def test_adaptive_pools_are_those_of_torch(operator):
    for problem in drawn(operator, lambda p: rank_of(p) <= 3):
        data, size = problem.canonical, problem.geometry["size"]
        x, bins = leaf(data["x"]), reference.Bins(data["x"].shape[2:], size)
        function = getattr(F, f"{operator}{rank_of(problem)}d")
        if operator == "adaptive_max_pool":
            y, winners = function(x, size, return_indices=True)
            ours, own = reference.max_pool(wide(data["x"]), bins)
            agree(problem, "y", ours, y)
            if np.isnan(wide(data["x"])).any():
                continue
            assert np.array_equal(own, winners.numpy()), problem
            dx = reference.max_pool_grad(data["g"], own, x.shape[2:])
        else:
            y, numbers = function(x, size), reference.divisors(bins)
            agree(problem, "y", reference.avg_pool(data["x"], bins, numbers), y)
            dx = reference.avg_pool_grad(data["g"], bins, numbers, x.shape[2:])
        y.backward(torch.tensor(wide(data["g"])))
        agree(problem, "dx", dx, x.grad)


def test_fractional_max_pool_is_that_of_torch():
    def suits(problem):
        lengths, geometry = problem.canonical["x"].shape[2:], problem.geometry
        fits = zip(lengths, geometry["kernel"], geometry["output_size"], strict=True)
        return rank_of(problem) in (2, 3) and all(k + o - 1 < length for length, k, o in fits)

    for problem in drawn("fractional_max_pool", suits):
        data, geometry = problem.canonical, problem.geometry
        function = {2: F.fractional_max_pool2d, 3: F.fractional_max_pool3d}[rank_of(problem)]
        samples = geometry["samples"]
        if rank_of(problem) == 2:  # torch takes the first sample for the last axis in 2-D, and only there
            samples = samples[..., ::-1].copy()
        y, winners = function(
            torch.tensor(wide(data["x"])),
            geometry["kernel"],
            output_size=geometry["output_size"],
            return_indices=True,
            _random_samples=torch.tensor(samples),
        )
        ours, own = reference.fractional_max_pool(wide(data["x"]), **geometry)
        agree(problem, "y", ours, y)
        if not np.isnan(wide(data["x"])).any():
            assert np.array_equal(own, winners.numpy()), problem


def test_max_unpool_is_that_of_torch():
    def suits(problem):
        winners = problem.canonical["indices"]
        return all(np.unique(winners[plane]).size == winners[plane].size for plane in np.ndindex(*winners.shape[:2]))

    for problem in drawn("max_unpool", suits, 60):
        data, size = problem.canonical, problem.geometry["size"]
        x = leaf(data["x"])
        # max_unpool2d checks the size against its own formula, which knows no asymmetric padding.
        flat = torch.zeros(*data["x"].shape[:2], reference.count(size), dtype=torch.float64)
        places = torch.tensor(data["indices"]).flatten(2)
        y = flat.scatter(2, places, x.flatten(2)).reshape(*data["x"].shape[:2], *size)
        y.backward(torch.tensor(wide(data["g"])))
        agree(problem, "y", reference.max_unpool(wide(data["x"]), data["indices"], size), y)
        agree(problem, "dx", reference.max_unpool_grad(data["g"], data["indices"]), x.grad)


def test_max_unpool_undoes_max_pool_as_in_torch():
    x = torch.tensor(np.random.default_rng(1).standard_normal((2, 3, 6, 8)))
    y, winners = F.max_pool2d(x, 2, return_indices=True)
    own = reference.max_unpool(y.numpy(), winners.numpy(), (6, 8))
    agree("unpool", "y", own, F.max_unpool2d(y, winners, 2))


def test_of_duplicate_indices_the_last_stays():
    winners = np.array([[[3, 0, 3]]])
    assert np.array_equal(reference.max_unpool(np.array([[[1.0, 2.0, 5.0]]]), winners, (4,)), [[[2, 0, 0, 5]]])
    assert np.array_equal(reference.max_unpool_grad(np.array([[[7.0, 0, 0, 9.0]]]), winners), [[[0, 7, 9]]])


def test_index_spaces_number_the_elements_as_they_lie():
    """An array whose values are their own numbers in that space."""
    n, c, h, w = 2, 3, 4, 5
    numbers = np.arange(n * c * h * w)
    lying = {
        "onnx": numbers.reshape(n, c, h, w),
        "onnx_column_major": numbers.reshape(n, c, w, h).transpose(0, 1, 3, 2),
        "tf_batch": numbers.reshape(n, h, w, c).transpose(0, 3, 1, 2),
        "tf": np.stack([numbers[: c * h * w].reshape(h, w, c).transpose(2, 0, 1)] * n),
        "plane": np.broadcast_to(numbers[: h * w].reshape(h, w), (n, c, h, w)),
    }
    for space, expected in lying.items():
        for at in np.ndindex(n, c, h, w):
            assert reference.index_in(space, at[:2], at[2:], (n, c, h, w)) == expected[at]
