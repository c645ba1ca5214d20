"""Pictures of models: feature maps are the layers' outputs, a frame is what a unit depends on."""

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="plots need the extra `plot`")

from matplotlib.figure import Figure

from npconv import nn, plots


def network(last=False):
    how = {"layout": "channels_last" if last else "channels_first"}
    return nn.Sequential(
        nn.Conv(2, 4, 3, padding=1, rng=0, **how),
        nn.BatchNorm(4, **how),
        nn.ReLU(),
        nn.MaxPool(2, **how),
        nn.Residual(nn.Conv(4, 4, 3, padding=1, rng=1, **how))
        if not last
        else nn.Conv(4, 4, 3, padding=1, rng=1, **how),
        nn.Conv(4, 3, (3, 1), stride=2, rng=2, **how),
        nn.ReLU(),
        nn.Flatten(**how),
        nn.Linear(36, 5, rng=3),
    )


# --------------------------------------------------------------------------- feature maps
@pytest.mark.parametrize("last", [False, True])
def test_feature_maps_are_the_layers_outputs(last):
    image = np.random.default_rng(0).standard_normal((2, 14, 16))
    given = np.moveaxis(image, 0, -1) if last else image
    model = network(last)
    drawn = plots.feature_maps(model, given, maps=4, figure=Figure())
    middle = "4 Conv" if last else "4 Residual"
    assert list(drawn) == ["input", "0 Conv, BatchNorm, ReLU", "3 MaxPool", middle, "5 Conv, ReLU"]
    x = given[None].astype(np.float64)
    outputs = {}
    for name, layer in list(model.children.items())[:7]:
        x = layer(x)
        outputs[name] = np.moveaxis(x[0], -1, 0) if last else x[0]
    for label, name in zip(list(drawn)[1:], ("2", "3", "4", "6"), strict=True):
        pictures = [picture.get_array() for picture in drawn[label]]
        assert all(any((picture == part).all() for part in outputs[name]) for picture in pictures)
        assert len(pictures) == min(4, len(outputs[name]))


def test_the_image_of_three_channels_is_in_colour():
    image = np.random.default_rng(0).random((3, 8, 9))
    drawn = plots.feature_maps(nn.Sequential(nn.Conv(3, 2, 3, rng=0)), image, figure=Figure())
    (one,) = drawn["input"]
    assert np.allclose(one.get_array(), np.moveaxis(image, 0, -1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((nn.ReLU(),), "an image goes with a model, and with nothing else; give both, or arrays alone"),
        (({"a": np.ones((1, 2, 2))}, np.ones((1, 2, 2))), "an image goes with a model, and with nothing else"),
        (({},), "0 layers and maps=3 leave nothing to draw"),
        ((nn.ReLU(), np.ones((2, 2))), "image.shape is (2, 2), expected one image, (C, H, W) or in the model's layout"),
        ((nn.Flatten(), np.ones((1, 2, 2))), "Flatten has no layer whose output has two spatial axes"),
    ],
)
def test_feature_maps_refuse(arguments, message):
    with pytest.raises(ValueError) as error:
        plots.feature_maps(*arguments)
    assert str(error.value).startswith(f"plots.feature_maps: {message}")


# --------------------------------------------------------------------------- the receptive field
def box(frame):
    """Rows and columns inside the frame."""
    top, left = round(frame.get_y() + 0.5), round(frame.get_x() + 0.5)
    return (top, top + frame.get_height()), (left, left + frame.get_width())


def depends(model, x, row, column, last=False):
    """The pixels that move the unit, found by moving each; weights that are random hide none."""
    base = model(x)
    here = (0, row, column) if last else (0, slice(None), row, column)
    found = np.zeros(x.shape[1:3] if last else x.shape[2:], bool)
    for i, j in np.ndindex(*found.shape):
        moved = x.copy()
        moved[(0, i, j) if last else (0, slice(None), i, j)] += 1
        found[i, j] = (model(moved)[here] != base[here]).any()
    rows, columns = np.nonzero(found.any(1))[0], np.nonzero(found.any(0))[0]
    return (rows[0], rows[-1] + 1), (columns[0], columns[-1] + 1)


LINEAR = [
    [nn.Conv(1, 2, 3, rng=0, dtype=np.float64), nn.Conv(2, 2, (1, 4), stride=(2, 3), rng=1, dtype=np.float64)],
    [nn.Conv(1, 2, 3, dilation=2, padding=((1, 3), (0, 2)), rng=0, dtype=np.float64), nn.AvgPool(2)],
    [nn.Conv(1, 2, 2, stride=2, rng=0), nn.ConvTranspose(2, 1, 3, stride=2, rng=1), nn.Conv(1, 2, 2, rng=2)],
    [nn.AvgPool(2), nn.Upsample(2), nn.Conv(1, 1, 3, padding=1, rng=0)],
    [nn.Conv(1, 2, 3, padding=1, padding_mode="circular", rng=0)],
    [nn.Residual(nn.Sequential(nn.Conv(1, 1, 3, padding=1, rng=0), nn.Conv(1, 1, 3, padding=1, rng=1)))],
    [nn.Parallel(nn.Conv(1, 2, 1, rng=0), nn.Conv(1, 2, (5, 1), padding=((2, 2), (0, 0)), rng=1))],
]


@pytest.mark.parametrize("layers", LINEAR, ids=range(len(LINEAR)))
@pytest.mark.parametrize("place", [(0, 0), (2, 1), (-1, -1)])
def test_the_frame_holds_what_a_unit_depends_on(layers, place):
    x = np.random.default_rng(0).standard_normal((1, 1, 12, 14))
    model = nn.Sequential(*layers)
    height, width = model.out_shape(x.shape)[2:]
    unit = place[0] % height, place[1] % width
    _, frame, heat = plots.receptive_field(model, x[0], unit=unit, ax=Figure().subplots())
    assert box(frame) == depends(model, x, *unit)
    seen = np.asarray(heat.get_array()) > 1e-12
    (top, bottom), (left, right) = box(frame)
    seen[top:bottom, left:right] = False
    assert not seen.any()


def test_the_frame_has_the_summarys_size_inside_the_image():
    model = nn.Sequential(*list(network().children.values())[:4], *list(network().children.values())[5:7])
    rows = {row.path: row for row in nn.summary(model, (1, 2, 40, 44)).rows}
    image = np.random.default_rng(0).standard_normal((2, 40, 44))
    for path in ("0", "3", "5"):
        _, frame, _ = plots.receptive_field(
            model, image, layer=path, unit=(6, 7), effective=False, ax=Figure().subplots()
        )
        assert (frame.get_height(), frame.get_width()) == rows[path].field


def test_rounding_is_not_seeing():
    """On a plane of this size the default algorithm transforms, and what is zero by definition is not zero any more."""
    layers = [layer for i in range(2) for layer in (nn.Conv(8, 8, 5, rng=i), nn.ReLU(), nn.MaxPool(2))]
    image = np.random.default_rng(0).random((8, 200, 250))
    _, frame, _ = plots.receptive_field(nn.Sequential(*layers), image, effective=False, ax=Figure().subplots())
    assert (frame.get_height(), frame.get_width()) == (16, 16)


def test_the_orange_is_the_gradient_of_the_unit():
    rng = np.random.default_rng(3)
    model = nn.Sequential(nn.Conv(2, 3, 3, rng=0), nn.Tanh(), nn.MaxPool(2), nn.Conv(3, 2, 3, rng=1))
    x = rng.standard_normal((1, 2, 14, 14))
    _, _, heat = plots.receptive_field(model, x[0], unit=(1, 2), channel=1, ax=Figure().subplots())
    step, numeric = 1e-6, np.zeros((14, 14))
    for c, i, j in np.ndindex(2, 14, 14):
        up, down = x.copy(), x.copy()
        up[0, c, i, j] += step
        down[0, c, i, j] -= step
        numeric[i, j] += abs(float((model(up) - model(down))[0, 1, 1, 2])) / (2 * step)
    assert np.allclose(heat.get_array(), numeric / numeric.max(), atol=1e-6)
    assert heat.get_array().max() == 1


def test_channels_last_sees_the_same():
    first, last = (nn.Sequential(*list(network(last).children.values())[:4]) for last in (False, True))
    image = np.random.default_rng(0).standard_normal((2, 14, 16))
    frames = [
        box(plots.receptive_field(model, x, unit=(2, 5), ax=Figure().subplots())[1])
        for model, x in ((first, image), (last, np.moveaxis(image, 0, -1)))
    ]
    assert frames[0] == frames[1] == ((3, 7), (9, 13))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "7"}, "layer='7' is none of those whose output has two spatial axes: 0, 1, 2, 3, 4, 5, 6"),
        ({"unit": (9, 0)}, "unit=(9, 0), channel=None is not in the 3 × 3 × 4 of layer 6"),
        ({"channel": 3}, "unit=None, channel=3 is not in the 3 × 3 × 4 of layer 6"),
    ],
)
def test_the_receptive_field_refuses(options, message):
    with pytest.raises(ValueError) as error:
        plots.receptive_field(network(), np.ones((2, 14, 16)), **options)
    assert str(error.value) == f"plots.receptive_field: {message}"


# --------------------------------------------------------------------------- kernels
def test_kernels_of_three_channels_are_colours_around_grey():
    w = np.zeros((2, 3, 2, 2))
    w[0, 0, 0, 0], w[1, 2, 1, 1] = 4, -2
    first, second = (one.get_array() for one in plots.kernels(w, figure=Figure()))
    assert first[0, 0].tolist() == [1, 0.5, 0.5]
    assert second[1, 1].tolist() == [0.5, 0.5, 0.25]


@pytest.mark.parametrize(("channels", "titles"), [(1, ["0", "1"]), (2, ["[0, 0]", "[0, 1]", "[1, 0]", "[1, 1]"])])
def test_other_kernels_are_signed_on_one_scale(channels, titles):
    w = np.random.default_rng(0).standard_normal((2, channels, 3, 4))
    drawn = plots.kernels(w, title="all", figure=Figure())
    assert [one.axes.get_title() for one in drawn] == titles
    assert {one.get_clim() for one in drawn} == {(-np.abs(w).max(), np.abs(w).max())}
    assert all((one.get_array() == plane).all() for one, plane in zip(drawn, w.reshape(-1, 3, 4), strict=True))


def test_the_kernels_of_a_model_are_its_first():
    model = nn.Sequential(nn.ReLU(), nn.Conv(1, 3, 3, rng=0), nn.Conv(3, 2, 3, rng=1))
    drawn = plots.kernels(model, figure=Figure())
    assert (drawn[2].get_array() == model["1"].params["weight"][2, 0]).all()
    with pytest.raises(ValueError, match=r"^plots.kernels: ReLU has no convolution with two spatial axes$"):
        plots.kernels(nn.ReLU())
    with pytest.raises(ValueError, match=r"^plots.kernels: weights.shape is \(3, 3\), expected \(O, C, h, w\)$"):
        plots.kernels(np.ones((3, 3)))
