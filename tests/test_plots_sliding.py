"""The animations: every number in them is npconv's, at every step, and nothing is drawn outside the picture."""

import io
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="plots need the extra `plot`")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import npconv
from npconv import plots

MODES = ("zeros", "reflect", "symmetric", "replicate", "circular", "constant")

#: Each mode once; the rest takes minutes.
drawn_problems = pytest.mark.parametrize(
    "seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(6, 60))]
)


def problem(seed):
    """A drawn problem: (x, w, g, options), one or two axes, any stride, padding, dilation and groups."""
    rng = np.random.default_rng(seed)
    rank, groups = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    k, d, s = (tuple(rng.integers(1, n, rank).tolist()) for n in (4, 3, 4))
    pads = [tuple(rng.integers(0, 3, 2).tolist()) for _ in range(rank)]
    # large enough for one window, and for a reflection to have something to copy
    size = tuple(max(3, b * (a - 1) + 1) + int(rng.integers(0, 3)) for a, b in zip(k, d, strict=True))
    mode = MODES[seed % len(MODES)]
    options = {"stride": s, "padding": pads, "dilation": d, "groups": groups, "padding_mode": mode}
    if mode == "constant":
        options["padding_value"] = 2
    channels, outputs = (groups * int(rng.integers(1, 3 if groups < 3 else 2)) for _ in range(2))
    x = rng.integers(-4, 5, (channels, *size))
    w = rng.integers(-3, 4, (outputs, channels // groups, *k))
    g = rng.integers(-4, 5, npconv.conv(x, w, **options).shape)
    return x, w, g, options


def shown(drawn, title):
    """The numbers of a matrix, whose texts say the same; NaN where nothing is written."""
    cells, texts = drawn[title]
    values = np.ma.filled(cells.get_array(), np.nan)
    written = [float(text.get_text().replace("−", "-") or "nan") for text in texts]
    assert np.allclose(np.reshape(written, values.shape), values, atol=0.005, equal_nan=True)
    return values


def titles(name, count, around=""):
    return [f"{name}{around}"] if count == 1 else [f"{name}[{i}]{around}" for i in range(count)]


def stacked(drawn, names):
    return np.stack([shown(drawn, name) for name in names])


@pytest.fixture
def ax():
    return Figure().subplots()


def around(options):
    return ", padded" if np.max(options["padding"]) > 0 else ""


# --------------------------------------------------------------------------- the results
@drawn_problems
def test_the_forward_pass_ends_in_the_output(seed, ax):
    x, w, g, options = problem(seed)
    bias = np.arange(len(w)) - 1
    animation = plots.sliding(x, w, bias=bias, **options)
    y = npconv.conv(x, w, bias, **options)
    assert len(animation) == y.size == g.size
    found = stacked(animation.draw(-1, ax=ax), titles("y", len(y)))
    assert (found.reshape(y.shape) == y).all()


@drawn_problems
def test_every_output_is_the_sum_of_its_products(seed, ax):
    x, w, _, options = problem(seed)
    y = npconv.conv(x, w, **options)
    animation = plots.sliding(x, w, **options)
    active = w.shape[1]
    for step in np.random.default_rng(seed).choice(len(animation), min(3, len(animation)), replace=False):
        drawn = animation.draw(int(step), ax=ax)
        products = [shown(drawn, title) for title in drawn if title.startswith("products")]
        assert len(products) == active
        assert sum(part.sum() for part in products) == y.flat[step]
        known = stacked(drawn, titles("y", len(y))).ravel()
        assert (known[: step + 1] == y.ravel()[: step + 1]).all()
        assert np.isnan(known[step + 1 :]).all()


@drawn_problems
def test_scattering_ends_in_the_input_gradient(seed, ax):
    x, w, g, options = problem(seed)
    animation = plots.sliding(x, w, g, what="input_grad", **options)
    assert len(animation) == g.size + 1
    dx = npconv.conv_input_grad(g, w, input_shape=x.shape, **options)
    found = stacked(animation.draw(-1, ax=ax), titles("dX", len(x), around(options)))
    assert (found[~np.isnan(found)] == dx.ravel()).all()


@drawn_problems
def test_each_step_adds_its_products(seed, ax):
    """The difference between two frames is the gradient of one output alone, spread by the kernel."""
    x, w, g, options = problem(seed)
    animation = plots.sliding(x, w, g, what="input_grad", **options)
    names = titles("dX", len(x), around(options))
    before = 0
    for step in range(min(3, g.size)):
        drawn = animation.draw(step, ax=ax)
        now = stacked(drawn, names)
        products = [shown(drawn, title) for title in drawn if title.startswith("products")]
        assert sorted((now - before)[now != before]) == sorted(p for part in products for p in part.flat if p)
        before = now
    whole = stacked(animation.draw(g.size - 1, ax=ax), names)
    assert whole.sum() == sum(g[o].sum() * w[o].sum() for o in range(len(w)))


@drawn_problems
def test_the_weight_gradient_is_the_sum_of_its_products(seed, ax):
    x, w, g, options = problem(seed)
    animation = plots.sliding(x, w, g, what="weight_grad", **options)
    dw = npconv.conv_weight_grad(x, g, kernel_shape=w.shape, **options)
    assert len(animation) == dw.size
    for step in sorted({0, len(animation) // 2, len(animation) - 1}):
        drawn = animation.draw(step, ax=ax)
        (cells,) = [shown(drawn, title) for title in drawn if title.startswith("cells of x")]
        o = step // (dw.size // len(dw))
        products = shown(drawn, "products")
        assert (products == cells * g[o].reshape(products.shape)).all()
        assert products.sum() == dw.flat[step]
    several = dw.shape[0] > 1 or dw.shape[1] > 1
    names = [f"dW[{o}, {i}]" if several else "dW" for o, i in np.ndindex(*dw.shape[:2])]
    assert (stacked(drawn, names).ravel() == dw.ravel()).all()


@drawn_problems
def test_the_cells_a_weight_met_are_those_that_move_the_output(seed):
    """Outlined are exactly the cells of x by which d y[o] / d w[o, i, t] is not zero."""
    x, w, g, options = problem(seed)
    options |= {"padding_mode": "zeros", "padding_value": 0}
    animation = plots.sliding(x, w, g, what="weight_grad", **options)
    step = int(np.random.default_rng(seed).integers(len(animation)))
    o, i, *t = np.unravel_index(step, w.shape)
    one = np.zeros_like(w)
    one[(o, i, *t)] = 1
    upstream = np.zeros_like(g)
    upstream[o] = 1
    reads = npconv.conv_input_grad(upstream, one, input_shape=x.shape, **options) != 0
    c = i + o // (len(w) // options["groups"]) * w.shape[1]
    panels = animation._boards[step].panels
    outlined = panels[c, 0].outlined[~panels[c, 0].padding]
    assert (outlined == reads[c].ravel()).all()
    assert sum(panel.outlined is not None for (_, column), panel in panels.items() if column == 0) == 1


@drawn_problems
def test_the_transposed_pass_ends_in_the_output(seed, ax):
    _, w, x, options = problem(seed)
    del options["padding_mode"]
    options.pop("padding_value", None)
    sizes = [(n - 1) * s + d * (k - 1) + 1 - lo - hi for n, s, d, k, (lo, hi) in zip(
        x.shape[1:], options["stride"], options["dilation"], w.shape[2:], options["padding"], strict=True)]  # fmt: skip
    if min(sizes) < 1:
        options["padding"] = 0
    bias = np.arange(w.shape[1] * options["groups"])
    y = npconv.conv_transpose(x, w, bias, **options)
    animation = plots.sliding(x, w, what="transposed", bias=bias, **options)
    drawn = animation.draw(-1, ax=ax)
    found = np.stack([shown(drawn, title) for title in drawn if title.startswith("y")])
    assert (found[~np.isnan(found)] == y.ravel()).all()
    assert (~np.isnan(found)).sum() == y.size


def test_negative_padding_crops(ax):
    x, w = np.arange(12.0).reshape(3, 4), np.ones((2, 2))
    animation = plots.sliding(x, w, padding=((-1, 0), (0, 1)))
    y = npconv.conv(x[None], w[None, None], padding=((-1, 0), (0, 1)))
    assert (shown(animation.draw(-1, ax=ax), "y") == y[0]).all()
    for step in range(y.size):
        assert shown(animation.draw(step, ax=ax), "products").sum() == y.flat[step]
    back = plots.sliding(x, w, y[0], what="input_grad", padding=((-1, 0), (0, 1)))
    dx = npconv.conv_input_grad(y, w[None, None], input_shape=(1, 3, 4), padding=((-1, 0), (0, 1)))
    found = shown(back.draw(-1, ax=ax), "dX, padded")
    assert (found[:, :4] == dx[0]).all()


def test_input_dilation_spreads(ax):
    x, w, g = np.array([1, 2, 3]), np.array([1, -1]), np.array([4, 3, 2, 1])
    animation = plots.sliding(x, w, input_dilation=2)
    assert (shown(animation.draw(-1, ax=ax), "x, spread") == [[1, 0, 2, 0, 3]]).all()
    back = shown(plots.sliding(x, w, g, what="input_grad", input_dilation=2).draw(-1, ax=ax), "dX, spread")
    dx = npconv.conv_input_grad(g[None], w[None, None], input_shape=(1, 3), input_dilation=2)
    assert (back[0, ::2] == dx[0]).all()


def test_small_integers_do_not_wrap(ax):
    x, w = np.full((2, 2), 200, np.uint8), np.full((2, 2), 100, np.uint8)
    drawn = plots.sliding(x, w).draw(0, ax=ax)
    assert (shown(drawn, "products") == 20000).all()
    assert shown(drawn, "y") == 80000


def test_letters_say_which_cells_belong_together(ax):
    animation = plots.sliding(np.arange(9).reshape(3, 3), np.ones((2, 2)), np.ones((2, 2)), what="weight_grad")
    animation.draw(0, ax=ax)
    letters = [text.get_text() for text in ax.texts if text.get_text() in list("abcd")]
    assert sorted(letters) == sorted("abcd" * 4)
    panels = animation._boards[3].panels.values()  # of w[1, 1]
    lettered = [{panel.letters[i]: i for i in np.ndindex(*panel.letters.shape) if panel.letters[i]} for panel in panels
                if panel.letters is not None]  # fmt: skip
    assert lettered == [{"a": (1, 1), "b": (1, 2), "c": (2, 1), "d": (2, 2)}] + 3 * [
        {"a": (0, 0), "b": (0, 1), "c": (1, 0), "d": (1, 1)}
    ]


def test_the_caption_is_the_arithmetic():
    x, w = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]), np.array([[[[1, -1]], [[2, 0]]]])
    animation = plots.sliding(x, w, bias=[-3])
    assert animation.caption(1) == "y[0, 1, 0] = 3·1 + 4·(−1) + 7·2 + 8·0 + (−3) (bias) = 10"
    back = plots.sliding(x, w, [[[1], [-2]]], what="weight_grad")
    assert back.caption(-1).endswith("dW[0, 1, 0, 1] = 6·1 + 8·(−2) = −10")
    many = plots.sliding(np.ones((2, 3, 3)), np.ones((1, 2, 3, 3)))
    assert many.caption(0) == "y[0, 0, 0] = 9 (channel 0) + 9 (channel 1) = 18"


# --------------------------------------------------------------------------- the look
@pytest.mark.parametrize("what", ["forward", "transposed", "input_grad", "weight_grad"])
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_outside_the_picture(what, seed):
    x, w, g, options = problem(seed)
    if what == "transposed":
        x, options = g, {name: options[name] for name in ("stride", "dilation", "groups")}
    animation = plots.sliding(x, w, g if what.endswith("grad") else None, what=what, **options)
    figure = Figure()
    (ax,) = animation.strip(steps=[len(animation) // 2], figure=figure)
    FigureCanvasAgg(figure).draw()
    for text in ax.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0, text.get_text()
        assert box.y0 >= 0, text.get_text()
        assert box.x1 <= figure.bbox.width, text.get_text()
        assert box.y1 <= figure.bbox.height, text.get_text()


def test_numbers_stay_in_their_cells():
    figure = Figure()
    x = np.array([[-123.456, 0.25], [1234.5, -0.01]])
    (ax,) = plots.sliding(x, [[-1.25]]).strip(steps=[0], figure=figure)
    cell = ax.transData.transform([[0, 0], [1, 0]])
    width = cell[1, 0] - cell[0, 0]
    numbers = [text for text in ax.texts if text.get_text() in ("−123.5", "0.25", "1234", "−0.01", "−1.25")]
    assert len(numbers) == 5
    assert all(text.get_window_extent().width < width for text in numbers)


def test_channels_that_take_no_part_are_faded(ax):
    animation = plots.sliding(np.ones((2, 3, 3)), np.ones((2, 1, 2, 2)), groups=2)
    drawn = animation.draw(0, ax=ax)
    assert np.max(drawn["x[1]"][0].get_alpha()) < np.min(drawn["x[0]"][0].get_alpha())


# --------------------------------------------------------------------------- files
@pytest.fixture(scope="module")
def animation():
    return plots.sliding(np.arange(9).reshape(3, 3), np.array([[1, 0], [0, -1]]))


def test_a_gif_has_a_frame_per_step(animation, tmp_path):
    path = tmp_path / "a.gif"
    animation.save(path, seconds=0.5)
    with Image.open(path) as gif:
        assert (gif.n_frames, gif.info["loop"]) == (4, 0)
        frames, lasting = [], []
        for i in range(4):
            gif.seek(i)
            lasting.append(gif.info["duration"])
            frames.append(np.asarray(gif.convert("RGB")))
    assert lasting == [500, 500, 500, 1500]
    assert all((frame[:3, :3] == 255).all() for frame in frames)
    assert all((a != b).any() for a, b in pairwise(frames))


def test_the_same_calls_give_the_same_bytes(animation, tmp_path):
    for name in "ab":
        animation.save(tmp_path / f"{name}.gif", dpi=50, steps=[0, -1])
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_other_suffixes_put_all_steps_on_one_page(animation, tmp_path, suffix, magic):
    path = tmp_path / f"steps.{suffix}"
    animation.save(path)
    assert path.read_bytes().startswith(magic)


def test_a_strip_has_an_axes_per_step(animation):
    figure = Figure()
    found = animation.strip(columns=3, figure=figure)
    assert len(found) == len(figure.axes) == 4
    corners = {tuple(np.round(ax.get_position().get_points()[0], 3)) for ax in found}
    assert len(corners) == 4
    assert len(animation.strip(steps=[2], figure=Figure())) == 1


def test_a_notebook_shows_it(animation):
    from base64 import b64decode

    page = animation._repr_html_()
    data = page.removeprefix('<img src="data:image/gif;base64,').split('"')[0]
    with Image.open(io.BytesIO(b64decode(data))) as gif:
        assert gif.n_frames == 4


# --------------------------------------------------------------------------- what it refuses
X, W = np.ones((1, 4, 4)), np.ones((1, 1, 2, 2))


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "message"),
    [
        ((X, W), {"what": "backward"}, ValueError, "'backward'"),
        ((X, W), {"what": "weight_grad"}, ValueError, "what='weight_grad' needs g, the gradient of the output"),
        ((X, W, X), {}, ValueError, "what='forward' needs no g; leave it out"),
        ((X, W, X), {"what": "input_grad", "bias": [1]}, ValueError, "does not depend on the bias; leave it out"),
        ((X, W, X), {"what": "input_grad"}, ValueError, "g.shape is (1, 4, 4), expected (1, 3, 3)"),
        ((X, W), {"flip": True}, TypeError, "'flip' is not drawn; draw w[..., ::-1, ::-1]"),
        ((X, W), {"layout": "channels_last"}, TypeError, "'layout' is not drawn; move the channels to the front"),
        ((X, W), {"strides": 2}, TypeError, "did you mean 'stride'?"),
        ((X[None], W), {}, ValueError, "draw one image, without the batch axis"),
        (
            (np.ones((1, 99, 99)), W),
            {},
            ValueError,
            "a picture has room for 2500, with at least one in each; use a part",
        ),
        ((X * np.nan, W), {}, ValueError, "x has NaN or infinity"),
        ((X * 1j, W), {}, TypeError, "x has dtype complex128, expected real numbers"),
        ((X, np.ones((1, 1, 5, 5))), {}, ValueError, "plots.sliding: "),
        ((X[:, :0], W), {"padding": 2}, ValueError, "with at least one in each"),
    ],
)
def test_it_refuses(arguments, options, kind, message):
    with pytest.raises(kind) as error:
        plots.sliding(*arguments, **options)
    assert message in str(error.value)
    assert str(error.value).startswith("plots.sliding: ")


def test_there_is_no_step_behind_the_last(animation, ax):
    with pytest.raises(IndexError):
        animation.draw(4, ax=ax)
    assert animation.caption(-4) == animation.caption(0)
