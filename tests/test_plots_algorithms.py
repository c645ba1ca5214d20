"""Pictures of algorithms: their numbers are the algorithms' own."""

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="plots need the extra `plot`")

from matplotlib.figure import Figure

import npconv
from npconv import plots


def shown(drawn, start):
    """The numbers of the one matrix whose title starts so; its texts say the same."""
    ((cells, texts),) = [pair for title, pair in drawn.items() if title == start or title.startswith(f"{start}:")]
    values = np.asarray(cells.get_array())
    written = [text.get_text().replace("−", "-").split("/") for text in texts]
    as_numbers = [float(a[0]) / float(a[-1]) if len(a) == 2 else float(a[0]) for a in written]
    assert np.allclose(np.reshape(as_numbers, values.shape), values, atol=0.006)
    return values


# --------------------------------------------------------------------------- im2col
@pytest.mark.parametrize(
    ("size", "weights", "options"),
    [
        ((1, 4, 5), (1, 1, 2, 3), {}),
        ((2, 5, 4), (3, 2, 3, 2), {"stride": (2, 1), "padding": ((1, 0), (0, 2))}),
        ((1, 6, 6), (2, 1, 2, 2), {"dilation": 3, "padding": 1, "padding_mode": "reflect"}),
        ((3, 8), (2, 3, 3), {"stride": 2}),
    ],
)
def test_im2col_is_unfold_and_a_matrix_product(size, weights, options):
    rng = np.random.default_rng(0)
    x, w = rng.integers(-4, 5, size), rng.integers(-3, 4, weights)
    drawn = plots.im2col(x, w, row=-1, figure=Figure(), **options)
    windows, columns, outputs = (shown(drawn, name) for name in ("windows", "weights", "outputs"))
    mode = options.get("padding_mode", "zeros")
    if mode == "zeros":
        unfolded = npconv.unfold(x, weights[2:], **options)
    else:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode)
        unfolded = npconv.unfold(padded, weights[2:], dilation=options["dilation"])
    assert (windows == unfolded.T).all()
    assert (columns == w.reshape(len(w), -1).T).all()
    assert (windows @ columns == outputs).all()
    assert (outputs.T.ravel() == npconv.conv(x, w, **options).ravel()).all()


def test_im2col_says_which_window():
    figure = Figure()
    plots.im2col(np.arange(9).reshape(3, 3), [[1, 0], [0, -1]], row=-1, figure=figure)
    (ax,) = figure.axes
    heavy = [c.get_segments() for c in ax.collections if c.get_linewidth()[0] > 2]
    corners = [(np.min(segments, (0, 1)), np.max(segments, (0, 1))) for segments in heavy]
    (low, high), (left, right), (first, last) = corners  # in x, in the windows, in the outputs
    assert (high - low).tolist() == [2, 2]
    assert np.allclose(right - left, (4, 1))
    assert np.allclose(last - first, (1, 1))
    caption = "row 3, the window of output [1, 1], times the weights is row 3 of the outputs"
    assert caption in " ".join(text.get_text() for text in ax.texts)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.ones((2, 3, 3)), np.ones((2, 1, 2, 2))), {"groups": 2}, "groups=2: each group is a matrix product of its"),
        ((np.ones((3, 3)), np.ones((2, 2))), {"row": 4}, "row=4, but there are 4 windows"),
        ((np.ones((60, 60)), np.ones((2, 2))), {}, "a picture has room for 2500"),
    ],
)
def test_im2col_refuses(arguments, options, message):
    with pytest.raises(ValueError) as error:
        plots.im2col(*arguments, **options)
    assert str(error.value).startswith("plots.im2col: ")
    assert message in str(error.value)


# --------------------------------------------------------------------------- Winograd
@pytest.mark.parametrize(("n", "r", "points"), [(4, 3, None), (6, 3, (0, 1, -1, 2, -2)), (5, 2, None), (3, 3, None)])
def test_the_winograd_tile_computes_the_convolution(n, r, points):
    rng = np.random.default_rng(n)
    d, g = rng.integers(-4, 5, (n, n)), rng.integers(-3, 4, (r, r))
    drawn = plots.winograd_tile(d, g, points=points, figure=Figure())
    y = npconv.conv(d[None], g[None, None])[0]
    assert np.allclose(shown(drawn, "y"), y)
    left, data, weights = (shown(drawn, name) for name in ("Bᵀ", "Bᵀ d B", "G g Gᵀ"))
    assert np.allclose(left @ d @ left.T, data)
    assert np.allclose(shown(drawn, "G") @ g @ shown(drawn, "Gᵀ"), weights)
    products = shown(drawn, "Bᵀ d B ∘ G g Gᵀ")
    assert np.allclose(products, data * weights)
    assert np.allclose(shown(drawn, "Aᵀ") @ products @ shown(drawn, "A"), y)


def test_the_winograd_tile_writes_fractions():
    drawn = plots.winograd_tile(np.ones((4, 4)), np.ones((3, 3)), figure=Figure())
    assert "−1/2" in [text.get_text() for text in drawn["G"][1]]


def test_the_winograd_tile_refuses():
    with pytest.raises(ValueError) as error:
        plots.winograd_tile(np.ones((4, 5)), np.ones((3, 3)))
    assert str(error.value) == (
        "plots.winograd_tile: d.shape is (4, 5) and g.shape (3, 3), expected (n, n) and (r, r), r <= n"
    )


# --------------------------------------------------------------------------- spectra
def test_the_third_spectrum_is_the_results():
    rng = np.random.default_rng(1)
    x, kernel = rng.standard_normal((15, 18)), rng.standard_normal((4, 3))
    drawn = plots.spectra(x, kernel, figure=Figure())
    y = npconv.conv(x[None], kernel[None, None], padding="full")[0]
    assert np.allclose(drawn["result"].get_array(), y)
    ours, of_x, of_kernel = (np.expm1(drawn[f"{name} spectrum"].get_array()) for name in ("result", "image", "kernel"))
    assert np.allclose(ours, np.abs(np.fft.fftshift(np.fft.fft2(y))))
    assert np.allclose(ours, of_x * of_kernel)


def test_rounding_is_no_sign():
    drawn = plots.spectra(np.eye(20), np.ones((3, 3)), figure=Figure())
    assert drawn["result"].get_cmap().name == "gray"


def test_spectra_refuse():
    with pytest.raises(ValueError) as error:
        plots.spectra(np.ones((3, 3)), np.ones((5, 3)))
    assert str(error.value) == (
        "plots.spectra: x.shape is (3, 3) and kernel.shape (5, 3), expected (H, W) and (h, w), no larger"
    )
