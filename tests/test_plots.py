"""The pictures: what they show is what they were given, where they were told to draw it."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="plots need the extra `plot`")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

import npconv
from npconv import plots


@pytest.fixture
def ax():
    return Figure().subplots()


def words(texts):
    return [text.get_text() for text in texts]


# --------------------------------------------------------------------------- colours
def test_zero_is_white_and_signs_are_blue_and_orange():
    assert to_hex(plots.SIGNED(0.5)) == "#ffffff"
    red, _, blue = to_rgb(to_hex(plots.SIGNED(0.25)))
    assert blue > red + 0.5
    red, _, blue = to_rgb(to_hex(plots.SIGNED(0.75)))
    assert red > blue + 0.5


@pytest.mark.parametrize("side", [-1, 1])
def test_stronger_is_darker(side):
    """So that the strength is seen without any colour."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    light = [np.array(to_rgb(plots.SIGNED(0.5 + side * t))) @ weights for t in np.linspace(0, 0.5, 20)]
    assert (np.diff(light) < 0).all()


# --------------------------------------------------------------------------- images
def test_signed_images_have_zero_in_the_middle(ax):
    drawn = plots.image([[-1.0, 0.0, 4.0]], ax=ax)
    assert drawn.get_clim() == (-4, 4)
    assert drawn.get_cmap() == plots.SIGNED
    assert (drawn.get_array() == [[-1, 0, 4]]).all()


def test_other_images_go_from_black_to_white(ax):
    drawn = plots.image([[0.0, 3.0]], ax=ax)
    assert drawn.get_clim() == (0, 3)
    assert drawn.get_cmap().name == "gray"
    assert plots.image([[0.0, 3.0]], ax=ax, limit=9).get_clim() == (0, 9)
    assert plots.image([[0.0, 3.0]], ax=ax, signed=True).get_clim() == (-3, 3)


def test_a_white_picture_has_a_frame(ax):
    plots.image(np.zeros((2, 2)), ax=ax, signed=True)
    assert all(spine.get_visible() for spine in ax.spines.values())
    plots.image(np.zeros((2, 2)), ax=ax)
    assert not any(spine.get_visible() for spine in ax.spines.values())


def test_shrunk_blue_and_orange_are_white():
    """Not brown: there are more numbers than pixels, and their mean is zero."""
    figure = Figure(figsize=(1, 1), dpi=50)
    ax = figure.add_axes((0, 0, 1, 1))
    plots.image(np.indices((333, 333)).sum(0) % 2 * 2.0 - 1, ax=ax, size=False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert np.asarray(canvas.buffer_rgba())[20:30, 20:30].min() > 200


def test_images_of_zeros_and_nans_have_a_scale(ax):
    assert plots.image(np.zeros((2, 2)), ax=ax).get_clim() == (0, 1)
    assert plots.image([[np.nan, 2.0, np.inf]], ax=ax).get_clim() == (0, 2)


def test_colours_stay(ax):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    assert (plots.image(pixels, ax=ax).get_array() == pixels).all()
    assert plots.image(np.full((2, 2, 3), 1.5), ax=ax).get_array().max() == 1


def test_the_size_is_under_the_title(ax):
    plots.image(np.ones((3, 5)), ax=ax, title="red")
    assert ax.get_title() == "red\n3 × 5"
    plots.image(np.ones((3, 5)), ax=ax, title="red", size=False)
    assert ax.get_title() == "red"


def test_image_refuses():
    with pytest.raises(ValueError) as error:
        plots.image(np.ones((1, 2, 4)))
    assert str(error.value) == "plots.image: values.shape is (1, 2, 4), expected (H, W) or (H, W, 3)"


def test_frames(ax):
    _, frame = plots.boxed(np.ones((9, 9)), (2, 5), (3, 7), ax=ax)
    assert frame.get_bbox().bounds == (2.5, 1.5, 4, 3)


def test_grid_keeps_order_and_hides_the_rest():
    figure = Figure()
    maps = np.arange(5.0)[:, None, None] * np.ones((2, 3))
    drawn = plots.image_grid(maps, columns=3, titles=list("abcde"), title="all", limit=4, figure=figure)
    assert [one.get_array().max() for one in drawn] == [0, 1, 2, 3, 4]
    assert {one.get_clim() for one in drawn} == {(0, 4)}
    assert [one.axes.get_title()[0] for one in drawn] == list("abcde")
    assert len(figure.axes) == 6
    assert not figure.axes[5].axison
    assert figure.get_suptitle() == "all"


def test_grid_refuses():
    with pytest.raises(ValueError, match=r"^plots.image_grid: images is empty$"):
        plots.image_grid([])
    with pytest.raises(ValueError, match=r"^plots.image_grid: 1 titles for 2 images$"):
        plots.image_grid(np.ones((2, 3, 3)), titles=["a"])


def test_feature_maps_show_those_that_vary():
    maps = np.zeros((5, 4, 6))
    maps[1, 0, 0], maps[3, 0, 0] = 1, 9
    figure = Figure()
    drawn = plots.feature_maps({"first": maps, "second": np.ones((1, 2, 2))}, maps=2, figure=figure)
    assert [one.get_array().max() for one in drawn["first"]] == [1, 9]
    assert [one.axes.get_title() for one in drawn["first"]] == ["map 2", "map 4"]
    assert len(drawn["second"]) == 1
    labels = [row.get_suptitle() for row in figure.subfigs]
    assert labels == ["first: 5 maps of 4 × 6", "second: 1 map of 2 × 2"]


def test_feature_maps_refuse():
    with pytest.raises(ValueError) as error:
        plots.feature_maps({"layer": np.ones((2, 2))})
    assert str(error.value) == "plots.feature_maps: 'layer' has shape (2, 2), expected (C, H, W)"


# --------------------------------------------------------------------------- kernels
def test_numbers_are_written_in_the_cells(ax):
    cells, texts = plots.numbers([[0, -1], [0.125, 12.5]], ax=ax)
    assert words(texts) == ["0", "−1", "0.12", "12.5"]
    assert [text.get_position() for text in texts] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert (cells.get_array() == [[0, -1], [0.125, 12.5]]).all()
    assert words(plots.numbers([[-0.001, 100]], ax=ax)[1]) == ["0", "100"]


def test_long_numbers_are_written_short(ax):
    texts = plots.numbers([[123.456, -1234.56, np.nan, np.inf, 99.999]], ax=ax)[1]
    assert words(texts) == ["123.5", "−1235", "nan", "∞", "100"]


def test_longer_numbers_are_smaller(ax):
    short, long = (plots.numbers([[value, 1]], ax=ax)[1][0].get_fontsize() for value in (2, -0.25))
    assert long < short


def test_numbers_can_be_read(ax):
    """Black or white, whichever differs more from the cell."""
    cells, texts = plots.numbers(np.linspace(-1, 1, 9)[None], ax=ax)
    for text, value in zip(texts, np.linspace(-1, 1, 9), strict=True):
        light = np.array(to_rgb(cells.to_rgba(value)[:3])) @ [0.299, 0.587, 0.114]
        assert abs(light - np.array(to_rgb(text.get_color())).mean()) > 0.4


def test_marked_cells_are_framed(ax):
    _, texts = plots.numbers([[0, 5, 0]], ax=ax, marked=[[True, True, False]])
    assert len(ax.patches) == 2
    assert texts[2].get_color() == plots.GREY != texts[0].get_color()


def test_filtered_shows_all_three():
    x = np.random.default_rng(0).random((6, 7))
    kernel = npconv.filters.sobel("x")
    y = npconv.filters.apply(x, kernel)
    before, texts, after = plots.filtered(x, kernel, y, limit=2, figure=Figure())
    assert (before.get_array() == x).all()
    assert words(texts) == ["−1", "0", "1", "−2", "0", "2", "−1", "0", "1"]
    assert (after.get_array() == y).all()
    assert after.get_clim() == (-2, 2)


def test_what_is_not_given_is_computed():
    rng = np.random.default_rng(2)
    x, w = rng.random((2, 6, 7)), rng.standard_normal((2, 3, 3))
    drawn = plots.products(x, w, stride=2, padding=1, figure=Figure())
    assert np.allclose(drawn[-1].get_array(), npconv.conv(x, w[None], stride=2, padding=1)[0])
    assert np.allclose(drawn[1].get_array(), npconv.conv(x[1:], w[None, 1:], stride=2, padding=1)[0])
    _, _, after = plots.filtered(x[0], w[0], figure=Figure())
    assert (after.get_array() == npconv.filters.apply(x[0], w[0])).all()
    with pytest.raises(TypeError, match=r"^plots.products: stride would compute the parts, and they are given"):
        plots.products(x, w, np.ones((2, 4, 5)), stride=2)


def test_products_end_in_their_sum():
    rng = np.random.default_rng(1)
    x, w = rng.integers(0, 9, (3, 5, 6)), rng.integers(-2, 3, (3, 3, 3))
    parts = npconv.conv(x, w[:, None], groups=3)
    drawn = plots.products(x, w, parts, figure=Figure())
    assert (drawn[-1].get_array() == npconv.conv(x, w[None])[0]).all()
    assert len({one.get_clim() for one in drawn}) == 1
    with pytest.raises(ValueError, match=r"must each be \(C, height, width\) with one C$"):
        plots.products(x, w[:2], parts)


@pytest.mark.parametrize(
    ("size", "kernel", "options"),
    [
        ((4, 3), (2, 2), {"input_dilation": 2, "padding": 1}),
        ((7, 7), (3, 3), {"stride": 2, "padding": 1}),
        ((5, 6), (2, 3), {"stride": (1, 2), "padding": ((0, 1), (2, 0))}),
        ((9, 8), (3, 2), {"stride": 3, "dilation": 2, "padding": "same"}),
        ((8, 8), (3, 3), {"stride": 2}),
        ((6, 6), (3, 3), {"padding": 3}),
    ],
)
def test_the_padded_gradient_gives_the_input_gradient(size, kernel, options):
    rng = np.random.default_rng(2)
    w = rng.integers(-3, 4, (1, 1, *kernel))
    shape = npconv.conv(np.zeros((1, *size)), w, **options).shape
    g = rng.integers(-3, 4, shape)
    dx = plots.padded_gradient(g, w, input_shape=(1, *size), figure=Figure(), **options)[-1].get_array()
    assert (dx == npconv.conv_input_grad(g, w, input_shape=(1, *size), **options)[0]).all()


def test_the_padded_gradient_is_spread_and_padded():
    """Stride 2 puts one zero between; a kernel of 2 without padding needs one zero around."""
    figure = Figure()
    g = np.array([[[1, 2], [3, 4]]])
    plots.padded_gradient(g, np.ones((1, 1, 2, 2)), input_shape=(1, 4, 4), stride=2, figure=figure)
    (spread,) = [ax.images[0].get_array() for ax in figure.axes if "spread" in ax.get_title()]
    assert spread.tolist() == [
        [0, 0, 0, 0, 0],
        [0, 1, 0, 2, 0],
        [0, 0, 0, 0, 0],
        [0, 3, 0, 4, 0],
        [0, 0, 0, 0, 0],
    ]


def test_the_padded_gradient_does_not_draw_copies():
    g = np.ones((1, 3, 3))
    with pytest.raises(ValueError) as error:
        plots.padded_gradient(g, np.ones((1, 1, 3, 3)), input_shape=(1, 3, 3), padding=1, padding_mode="reflect")
    assert str(error.value) == (
        "plots.padded_gradient: padding_mode='reflect' copies elements, and their gradients meet again; "
        'use plots.sliding(..., what="input_grad")'
    )
    with pytest.raises(TypeError, match=r"^plots.padded_gradient: 'flip' is not drawn"):
        plots.padded_gradient(g, np.ones((1, 1, 3, 3)), input_shape=(1, 5, 5), flip=True)
    with pytest.raises(ValueError, match=r"^plots.padded_gradient: g.shape is \(1, 3, 3\), expected \(1, 4, 4\)$"):
        plots.padded_gradient(g, np.ones((1, 1, 3, 3)), input_shape=(1, 6, 6))


def test_the_padded_gradient_refuses():
    with pytest.raises(ValueError) as error:
        plots.padded_gradient(np.ones((2, 2)), np.ones((1, 1, 2, 2)), input_shape=(1, 3, 3))
    assert str(error.value) == (
        "plots.padded_gradient: g.shape is (2, 2) and w.shape (1, 1, 2, 2), expected (1, *out) and (1, 1, *k)"
    )


# --------------------------------------------------------------------------- charts
def test_the_race_is_sorted_and_the_choice_is_orange(ax):
    bars = plots.race(["fft", "gemm", "direct"], [0.004, 0.002, 0.1], chosen="fft", ax=ax)
    assert [bar.get_width() for bar in bars] == pytest.approx([2, 4, 100])
    assert [to_hex(bar.get_facecolor()) for bar in bars] == [plots.BLUE, plots.ORANGE, plots.BLUE]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["gemm", "fft", "direct"]
    assert {"2.00 ms", "4.00 ms (chosen)", "100 ms"} <= set(words(ax.texts))
    with pytest.raises(ValueError, match=r"^plots.race: 1 names for 0 times$"):
        plots.race(["fft"], [])


def test_the_race_of_an_explanation(ax):
    found = npconv.explain((1, 2, 8, 8), (3, 2, 3, 3), measure=True)
    bars = plots.race(found, ax=ax)
    measured = {c.name: c.measured for c in found.candidates if c.measured is not None}
    assert [bar.get_width() for bar in bars] == pytest.approx(sorted(1e3 * t for t in measured.values()))
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == sorted(measured, key=measured.get)
    orange = [to_hex(bar.get_facecolor()) == plots.ORANGE for bar in bars]
    assert orange == [name == found.choice for name in names]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((["a"], [np.nan]), {}, "the times are [nan], expected numbers >= 0"),
        ((["a"], [1]), {"chosen": "b"}, "chosen='b' is none of a"),
        (
            (npconv.explain((1, 1, 4, 4), (1, 1, 3, 3)),),
            {},
            "nothing was measured; use npconv.explain(..., measure=True)",
        ),
        (
            (npconv.explain((1, 1, 4, 4), (1, 1, 3, 3)), [1]),
            {},
            "an explanation brings its own times; leave seconds out",
        ),
    ],
)
def test_the_race_refuses(arguments, options, message):
    with pytest.raises(ValueError) as error:
        plots.race(*arguments, **options)
    assert str(error.value) == f"plots.race: {message}"


def test_history_draws_every_series():
    accuracy = {name: [0.5, 0.6] for name in "abcdef"}
    lines = plots.history([2.0, 1.0], accuracy, figure=Figure())
    assert [line.get_label() for line in lines[1:]] == list("abcdef")
    assert len({(line.get_color(), line.get_marker()) for line in lines[1:5]}) == 4
    assert len(plots.history([2.0, 1.0], {}, figure=Figure())) == 1


def test_confusion_refuses():
    with pytest.raises(ValueError, match=r"^plots.confusion: counts has shape \(2, 3\), expected \(classes, classes\)"):
        plots.confusion(np.ones((2, 3), int))
    with pytest.raises(ValueError, match=r"^plots.confusion: 1 labels for 2 classes$"):
        plots.confusion(np.ones((2, 2), int), labels=["a"])


def test_history_is_in_per_cent():
    accuracy = {"seen": [0.5, 0.75], "held out": [0.25, 0.5]}
    loss, seen, held = plots.history([2.0, 1.0], accuracy, figure=Figure())
    assert loss.get_ydata().tolist() == [2, 1]
    assert seen.get_ydata().tolist() == [50, 75]
    assert held.get_xdata().tolist() == [1, 2]


def test_confusion_writes_counts(ax):
    texts = plots.confusion([[90, 1], [0, 80]], labels=["cat", "dog"], ax=ax)
    assert words(texts) == ["90", "1", "", "80"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["cat", "dog"]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("is", "answered")
    assert texts[0].get_fontsize() == plots.numbers([[90, 1], [0, 80]], ax=ax)[1][0].get_fontsize()


# --------------------------------------------------------------------------- where it draws
def test_without_axes_it_draws_where_pyplot_is():
    from matplotlib import pyplot

    pyplot.switch_backend("Agg")
    _, (_, second) = pyplot.subplots(1, 2)
    assert plots.image(np.ones((2, 2))).axes is second
    before = pyplot.get_fignums()
    plots.image_grid(np.ones((2, 3, 3)))
    assert len(pyplot.get_fignums()) == len(before) + 1
    pyplot.close("all")


def test_with_axes_pyplot_stays_out():
    code = (
        "import sys, numpy as np; from matplotlib.figure import Figure; from npconv import plots\n"
        "plots.image(np.ones((2, 2)), ax=Figure().subplots())\n"
        "plots.feature_maps({'a': np.ones((2, 2, 2))}, figure=Figure())\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_without_matplotlib_it_says_what_to_install():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "try:\n    import npconv.plots\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == 'npconv.plots needs matplotlib: pip install "npconv[plot]"\n'
