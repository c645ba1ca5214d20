"""The explorer's algorithms, colours, pictures and presets, run in Node, against npconv, Pillow and their definitions."""

from __future__ import annotations

import base64
import io
import math
import shutil
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import npconv
from explorer_node import Run, disagreement, runner
from explorer_problems import Draw, unpack
from npconv.algorithms import cook_toom, named
from npconv.conv_arguments import read, with_defaults
from npconv.image_kernels import kernels

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which runs the explorer's modules")
DOUBLE = np.dtype(np.float64)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Give tasks to the modules."""
    return runner(tmp_path_factory.mktemp("web"))


def test_every_algorithm_gives_the_output_step_by_step(node: Run) -> None:
    """Its result, its multiplications by definition, and its refusals in npconv's words."""
    draws = [Draw(seed, legal=True, finite=seed % 8 > 0) for seed in range(30_000, 30_220)]
    # where a weight is not finite, npconv's transposed convolution multiplies it by zeros beyond x: 0 * inf is NaN
    draws = [draw for draw in draws if (draw.operator, draw.style) != ("conv_transpose", "w")]
    cases = [(draw, answer) for draw in draws if "error" not in (answer := draw.run())]
    tasks = [{"kind": "ways", "problem": draw.problem} for draw, _ in cases]
    seen: Counter[str] = Counter()
    for (draw, answer), result in zip(cases, node(tasks), strict=True):
        where = f"seed {draw.seed}: {draw.problem}"
        assert not result["wrong"], (where, result["wrong"])
        assert [way["name"] for way in result["ways"]] == ["loops", "direct", "gemm", "fft", "winograd"]
        y, _ = answer["y"]
        for way in result["ways"]:
            name = f"{draw.operator} {way['name']}"
            assert way["whyNot"] == refusal(draw, way["name"]), (name, where)
            if way["whyNot"]:
                assert (way["result"], way["steps"]) == (None, 0)
                continue
            wrong = disagreement(unpack(way["result"]), y, tolerance(draw, way["name"]))
            assert not wrong, f"{name} of {where}: {wrong}"
            assert way["multiplications"] == multiplications(draw, y.shape, way["name"]), (name, where)
            if name not in ("conv_transpose loops", "conv_transpose direct"):  # which may leave gaps of zeros
                assert way["written"] == y.size, (name, where)
            seen[name] += 1
    ways = ("loops", "direct", "gemm", "fft", "winograd")
    assert all(seen[f"{operator} {way}"] >= 8 for operator in ("conv", "conv_transpose") for way in ways), seen
    assert all(seen[f"{operator} {way}"] >= 8 for operator in ("max_pool", "avg_pool") for way in ways[:2]), seen


def refusal(draw: Draw, name: str) -> str | None:
    """Why an algorithm cannot run: npconv's reason for the same problem."""
    p = draw.problem
    if draw.operator.endswith("pool"):
        why = (
            "a maximum is no sum of products" if draw.operator == "max_pool" else "a pool has no weights to multiply by"
        )
        return None if name in ("loops", "direct") else why
    if name in ("loops", "direct", "gemm"):
        return None
    if draw.operator == "conv_transpose":
        if (steps := math.prod(p["stride"])) > 1:
            given = tuple(p["stride"])
            return (
                f"needs stride 1, the stride is {given}; npconv cuts the output into {steps} convolutions of stride 1, "
                "one per residue"
            )
        channels, per_group = p["x"]["shape"][0], p["w"]["shape"][1]
        out = npconv.conv_transpose(unpack(p["x"]), unpack(p["w"]), **draw.options()).shape
        reach = [n + d * (k - 1) for n, d, k in zip(out[1:], p["dilation"], p["w"]["shape"][2:], strict=True)]
        shapes = (channels, *reach), (per_group * p["groups"], channels // p["groups"], *p["w"]["shape"][2:])
        options: dict[str, Any] = {"dilation": tuple(p["dilation"]), "groups": p["groups"]}
    else:
        shapes, options = (tuple(p["x"]["shape"]), tuple(p["w"]["shape"])), draw.options()
    geometry = read("conv", *shapes, with_defaults("conv", options)).geometry
    why = named("winograd_f2" if name == "winograd" else name).why_not(geometry, DOUBLE)
    if why is None and not all(np.isfinite(unpack(p[key])).all() for key in ("x", "w")):
        why = "needs finite numbers: it mixes inputs into outputs that never read them (npconv computes those again, by sums)"
    return why


def tolerance(draw: Draw, name: str) -> float | np.ndarray:
    """64 u times what an output adds up; a transform sees the whole plane, and larger numbers on its way."""
    bound = draw.run()["y"][1]
    return bound if name in ("loops", "direct", "gemm") else 64 * float(np.max(bound, initial=0)) + 1e-13


def multiplications(draw: Draw, y_shape: tuple[int, ...], name: str) -> int:
    """How many there are by the definition of the algorithm."""
    p = draw.problem
    if draw.operator.endswith("pool"):
        return 0
    transposed = draw.operator == "conv_transpose"
    channels, outs = p["x"]["shape"][0], y_shape[0]
    kernel, pairs = p["w"]["shape"][2:], channels * outs // p["groups"]
    if name in ("loops", "direct", "gemm"):  # every place of the kernel, every pair of channels, every tap
        places = math.prod(p["x"]["shape"][1:] if transposed else y_shape[1:])
        return places * pairs * math.prod(kernel)
    if name == "winograd":  # tiles of 2 along every axis with more than one tap: 2 + k - 1 products instead of 2 k
        tiles = math.prod(-(-n // 2) if k > 1 else n for n, k in zip(y_shape[1:], kernel, strict=True))
        return tiles * pairs * math.prod(k + 1 if k > 1 else 1 for k in kernel)
    spans = [d * (k - 1) + 1 for d, k in zip(p["dilation"], kernel, strict=True)]
    if transposed:
        padded = [n + e - 1 for n, e in zip(y_shape[1:], spans, strict=True)]
    else:
        geometry = read(
            "conv", tuple(p["x"]["shape"]), tuple(p["w"]["shape"]), with_defaults("conv", draw.options())
        ).geometry
        padded = list(geometry.padded_shape)
    points = math.prod(1 << (n - 1).bit_length() for n in padded)
    # n / 2 log2 n butterflies per transform, and a product per frequency; a complex multiplication is four real ones
    return 4 * ((channels + pairs + outs) * points * int(math.log2(points)) // 2 + pairs * points)


def test_winograd_saves_what_it_says(node: Run) -> None:
    """F(2 x 2, 3 x 3): 16 multiplications per tile instead of 36."""
    problem = Draw(0, legal=True, finite=True).problem | {
        "operator": "conv",
        "x": {"shape": [1, 6, 6], "data": [float(i % 5) for i in range(36)]},
        "w": {"shape": [1, 1, 3, 3], "data": [float(i) for i in range(9)]},
        "bias": None,
        "stride": [1, 1],
        "dilation": [1, 1],
        "groups": 1,
        "padding": "valid",
        "paddingMode": "zeros",
        "paddingValue": 0,
    }
    (result,) = node([{"kind": "ways", "problem": problem}])
    counts = {way["name"]: way["multiplications"] for way in result["ways"]}
    assert (counts["loops"], counts["winograd"]) == (4 * 36, 4 * 16)


def test_winograd_matrices_are_npconvs(node: Run) -> None:
    sizes = [(m, r) for m in (2, 4) for r in range(2, 10) if m + r - 2 <= 9]
    for (m, r), result in zip(sizes, node([{"kind": "matrices", "m": m, "r": r} for m, r in sizes]), strict=True):
        for name, expected in zip(("AT", "G", "BT"), cook_toom.matrices(m, r).arrays, strict=True):
            np.testing.assert_allclose(
                result[name], expected, rtol=4 * 2.0**-53, atol=0, err_msg=f"{name} of F({m}, {r})"
            )


def test_colours_are_those_of_the_plots(node: Run) -> None:
    """White is zero; on dark paper zero is the paper, and away from it lightness only grows."""
    pytest.importorskip("matplotlib", reason="needs matplotlib, whose colour map is the measure")
    from npconv.plots.style import SIGNED

    values = np.linspace(-3, 3, 1001)
    light, dark = node([{"kind": "colours", "values": values.tolist(), "limit": 2.0, "dark": d} for d in (False, True)])
    expected = 255 * SIGNED(np.clip((values / 2 + 1) / 2, 0, 1))[:, :3]
    actual = np.array(light)
    assert np.abs(actual - expected).max() <= 0.51
    assert actual[500].tolist() == [255, 255, 255]
    assert node([{"kind": "colours", "values": [0.0], "limit": 0.0, "dark": False}]) == [[[255, 255, 255]]]
    luma = np.array(dark) @ [0.299, 0.587, 0.114]
    assert luma[500] < 40
    assert (np.diff(luma[500:]) >= 0).all()
    assert (np.diff(luma[:501]) <= 0).all()


def drawn_frames(colours: int, count: int) -> list[np.ndarray]:
    """Frames of few or many colours, each a change of a part of the one before."""
    rng = np.random.default_rng(colours)
    palette = rng.integers(0, 256, (colours, 3), dtype=np.uint8)
    frames = [palette[rng.integers(0, colours, (37, 53))]]
    for _ in range(count - 1):
        frame = frames[-1].copy()
        top, left = rng.integers(0, 30), rng.integers(0, 40)
        frame[top : top + 7, left : left + 13] = palette[rng.integers(0, colours, (7, 13))]
        frames.append(frame)
    return [*frames, frames[-1]]  # and one without any change


@pytest.mark.parametrize("colours", [1, 2, 3, 17, 256, 5000])
def test_a_gif_decodes_to_its_frames(node: Run, colours: int) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow, which decodes the file")
    frames = drawn_frames(colours, 5)
    delays = [20, 100, 250, 1000, 40, 333]
    bitmaps = [
        {
            "width": 53,
            "height": 37,
            "data": np.dstack([frame, np.full(frame.shape[:2], 255, np.uint8)]).reshape(-1).tolist(),
        }
        for frame in frames
    ]
    (result,) = node([{"kind": "gif", "frames": bitmaps, "delays": delays}])
    data = base64.b64decode(result["bytes"])
    with image.open(io.BytesIO(data)) as file:
        assert (file.n_frames, file.info["loop"], file.size) == (len(frames), 0, (53, 37))
        for i, frame in enumerate(frames):
            file.seek(i)
            assert file.info["duration"] == 10 * round(delays[i] / 10)
            actual = np.asarray(file.convert("RGB")).astype(int)
            far = np.abs(actual - frame).max(axis=2)
            if colours <= 256:
                assert (far == 0).all(), (i, int((far > 0).sum()))
            else:
                assert far.mean() < 25, far.mean()  # brought down to 256
                assert len(np.unique(actual.reshape(-1, 3), axis=0)) <= 256


def shares(start: float, cell: float, count: int, pixels: int) -> np.ndarray:
    """How much of each of `count` cells, `cell` long and from `start` on, each pixel covers: (count, pixels)."""
    lows = start + cell * np.arange(count)[:, None]
    edges = np.arange(pixels)
    return np.clip(np.minimum(edges + 1, lows + cell) - np.maximum(edges, lows), 0, None) / cell


def test_a_picture_becomes_the_means_under_its_cells(node: Run) -> None:
    """The middle of it, cut to the shape wanted; what is transparent is white."""
    rng = np.random.default_rng(5)
    for height, width, size in (
        (40, 60, (8, 8)),
        (33, 47, (16, 16)),
        (64, 64, (7, 5)),
        (9, 9, (12, 12)),
        (5, 80, (3, 2)),
    ):
        pixels = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
        alpha = pixels[..., 3:] / 255
        flat = alpha * pixels[..., :3] + (1 - alpha) * 255
        cell = min(height / size[0], width / size[1])
        down = shares((height - size[0] * cell) / 2, cell, size[0], height)
        across = shares((width - size[1] * cell) / 2, cell, size[1], width)
        expected = np.einsum("rh,hwc,kw->crk", down, flat, across)
        bitmap = {"width": width, "height": height, "data": pixels.reshape(-1).tolist()}
        colour, grey = node([{"kind": "image", "bitmap": bitmap, "size": size, "grey": g} for g in (False, True)])
        assert np.abs(unpack(colour) - expected).max() <= 0.501
        assert np.abs(unpack(grey)[0] - np.tensordot([0.299, 0.587, 0.114], expected, 1)).max() <= 0.501


def test_presets_are_npconvs_kernels_and_pictures_of_whole_numbers(node: Run) -> None:
    shapes = [[1, 7, 7], [3, 16, 9], [1, 64, 64], [2, 11], [1, 1, 1]]
    (result,) = node([{"kind": "presets", "shapes": shapes}])
    line, plane = result["kernels"]
    assert {kernel["name"].removesuffix("_x").removesuffix("_y") for kernel in plane} == set(kernels)
    for kernel in plane:
        name, _, axis = kernel["name"].partition("_")
        made = kernels[name](axis) if axis else kernels[name](size=5) if name == "gaussian" else kernels[name]()
        np.testing.assert_allclose(kernel["rows"], made, rtol=1e-15)
        weights = unpack(kernel["weights"])
        assert weights.shape == (2, 3, *made.shape)
        assert (weights == np.array(kernel["rows"])).all()
    assert all(unpack(kernel["weights"]).shape == (2, 3, len(kernel["rows"])) for kernel in line)
    for name, pictures in result["inputs"].items():
        for shape, picture in zip(shapes, pictures, strict=True):
            values = unpack(picture)
            assert values.shape == tuple(shape)
            assert set(np.unique(values)) <= set(range(10)), name
            assert (values == values[:1]).all()
        assert np.ptp(unpack(pictures[0])) == 9, name
    every = [unpack(pictures[0]) for pictures in result["inputs"].values()]
    assert all((a != b).any() for a, b in pairwise(every))
