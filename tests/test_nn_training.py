"""Training: what `fit` promises, and what it says when something is wrong. Against torch: test_nn_against_torch.py."""

import sys

import numpy as np
import pytest

from npconv import nn

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((40, 1, 6, 6)).astype(np.float32)
LABELS = RNG.integers(0, 3, 40)
# Something to learn: the class is where the image is bright.
for image, label in zip(IMAGES, LABELS, strict=True):
    image[0, 2 * label : 2 * label + 2] += 1.5


def small(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Conv(1, 4, 3, padding=1, rng=rng, dtype=dtype),
        nn.BatchNorm(4, dtype=dtype),
        nn.ReLU(),
        nn.MaxPool(2),
        nn.Flatten(),
        nn.Dropout(0.2, rng=rng),
        head=nn.Linear(36, 3, rng=rng, dtype=dtype),
    )


def fitted(model=None, **options):
    model = model or small()
    defaults = {"loss": nn.CrossEntropy(), "optimizer": nn.Adam(model, rate=0.01), "epochs": 3, "batch_size": 16}
    history = nn.fit(model, (IMAGES, LABELS), **(defaults | {"rng": 1} | options))
    return model, history


def same(a, b):
    return all((x == y).all() for x, y in zip(a.weights().values(), b.weights().values(), strict=True))


# --------------------------------------------------------------------------- what fit promises
def test_it_learns_and_tells():
    _, history = fitted(epochs=12, validation=(IMAGES[:10], LABELS[:10]))
    assert len(history) == 12
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert set(history.metrics) == {"accuracy", "validation loss", "validation accuracy"}
    assert all(len(values) == 12 for values in (*history.metrics.values(), history.rate))
    assert history.metrics["accuracy"][-1] > 0.9
    assert history.seconds > 0
    best = min(history.metrics["validation loss"])
    assert history.metrics["validation loss"][history.best] == best


def test_one_seed_one_result():
    (a, first), (b, second), (c, _) = fitted(), fitted(), fitted(rng=2)
    assert first.loss == second.loss
    assert same(a, b)
    assert not same(a, c)


def test_an_epoch_is_every_example_once():
    seen = []

    class Watch(nn.Loss):
        def __call__(self, scores, target):
            seen.append(np.array(target))
            return nn.MSE()(scores, np.zeros_like(scores))

    model = nn.Linear(1, 1, rng=0)
    x = np.arange(10, dtype=np.float32)[:, None]
    nn.fit(model, (x, np.arange(10)), loss=Watch(), optimizer=nn.SGD(model, rate=0.0), epochs=2, batch_size=4, rng=0)
    assert [len(batch) for batch in seen] == [4, 4, 2, 4, 4, 2]
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist() != list(range(10))


def test_the_means_weigh_the_last_batch_by_its_size():
    model = nn.Linear(1, 1, initial="zeros")
    y = np.array([[0.0]] * 8 + [[3.0]] * 2, np.float32)
    options = {"loss": nn.MSE(), "optimizer": nn.SGD(model, rate=0.0), "epochs": 1, "batch_size": 4, "rng": 0}
    history = nn.fit(model, (np.ones((10, 1), np.float32), y), validation=(np.ones((10, 1), np.float32), y), **options)
    assert history.loss == [pytest.approx(1.8)]
    assert history.metrics["validation loss"] == [pytest.approx(1.8)]


def test_the_schedule_sets_the_rate_and_leaves_it_as_it_was():
    model = small()
    opt = nn.SGD(model, rate=0.1)
    rates = []
    _, history = fitted(model, optimizer=opt, schedule=nn.cosine(3), callback=lambda now: rates.append(opt.rate))
    assert rates == [pytest.approx(0.1 * nn.cosine(3)(step / 3)) for step in range(9)]
    assert history.rate == rates[2::3]
    assert opt.rate == 0.1


def test_clipping_bounds_the_step():
    model = small()
    before = {name: a.copy() for name, a in model.parameters().items()}
    fitted(model, optimizer=nn.SGD(model, rate=1.0), clip=1e-3, epochs=1, batch_size=40)
    moved = np.sqrt(sum(((a - before[name]) ** 2).sum() for name, a in model.parameters().items()))
    assert moved == pytest.approx(1e-3, rel=1e-3)


def test_augmentation_is_for_training_only_and_by_the_generator():
    drawn = []

    def change(x, rng):
        drawn.append(rng.random())
        return x

    _, history = fitted(augment=change, validation=(IMAGES, LABELS), epochs=2)
    assert len(drawn) == 6
    drawn.clear()
    _, again = fitted(augment=change, epochs=2, validation=(IMAGES, LABELS))
    assert again.loss == history.loss


def test_early_stopping_brings_back_the_best():
    model = small()
    history = nn.fit(
        model,
        (IMAGES, LABELS),
        loss=nn.CrossEntropy(),
        optimizer=nn.SGD(model, rate=0.7),
        epochs=60,
        batch_size=8,
        validation=(IMAGES[:12], (LABELS[:12] + 1) % 3),  # what is learned makes this worse
        early_stopping=3,
        rng=0,
    )
    losses = history.metrics["validation loss"]
    assert len(history) < 60
    assert history.best == len(history) - 4 == int(np.argmin(losses))
    assert nn.CrossEntropy()(model(IMAGES[:12]), (LABELS[:12] + 1) % 3)[0] == pytest.approx(min(losses), rel=1e-6)


def test_the_callback_sees_every_step_and_may_stop():
    told = []

    def callback(now):
        told.append((now.epoch, now.batch, now.batches, now.epoch_ends, len(now.history)))
        return now.epoch == 1

    _, history = fitted(callback=callback, epochs=5)
    assert told == [(e, b, 3, b == 3, e + (b == 3)) for e in range(2) for b in (1, 2, 3)]
    assert len(history) == 2


def test_progress_needs_tqdm_and_only_then(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    fitted(epochs=1)
    with pytest.raises(ImportError, match=r'pip install "npconv\[cli\]"'):
        fitted(epochs=1, progress=True)


def test_progress_bar(capsys):
    pytest.importorskip("tqdm", reason="the bar is tqdm's")
    _, shown = fitted(progress=True)
    assert shown.loss == fitted()[1].loss
    assert "0/9" in capsys.readouterr().err


def test_plot():
    figure = pytest.importorskip("matplotlib.figure", reason="the extra `plot`").Figure()
    _, history = fitted(validation=(IMAGES, LABELS))
    assert [line.get_label() for line in history.plot(figure=figure)[1:]] == ["accuracy", "validation accuracy"]


def test_frozen_parameters_stay():
    model = small()
    before = {name: a.copy() for name, a in model.parameters().items()}
    head = {name: a for name, a in model.parameters().items() if name.startswith("head")}
    fitted(model, optimizer=nn.SGD(head, rate=0.1), clip=1.0)
    assert {n for n, a in model.parameters().items() if (a != before[n]).any()} == {"head.weight", "head.bias"}


def test_lists_one_hot_chances_and_a_batch_larger_than_the_data():
    """All of them are one training."""
    found = []
    for data, batch in (
        ((IMAGES, LABELS), 40), ((IMAGES.tolist(), LABELS.tolist()), 1000), ([list(IMAGES), np.eye(3)[LABELS]], 40),
    ):  # fmt: skip
        model = small()
        opt = nn.SGD(model, rate=0.1)
        nn.fit(model, data, loss=nn.CrossEntropy(), optimizer=opt, epochs=3, batch_size=batch, rng=1)
        found.append(model["head"].params["weight"])
    for weight in found[1:]:
        np.testing.assert_allclose(weight, found[0], rtol=1e-4, atol=1e-6)


def test_a_memory_map_will_do(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    model, plain = small(), fitted()[0]
    nn.fit(
        model, (np.load(tmp_path / "x.npy", mmap_mode="r"), LABELS.tolist()),
        loss=nn.CrossEntropy(), optimizer=nn.Adam(model, rate=0.01), epochs=3, batch_size=16, rng=1,
    )  # fmt: skip
    assert same(model, plain)


# --------------------------------------------------------------------------- what it refuses
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, "fit: epochs is 0, needs a whole number of at least 1"),
        ({"batch_size": 2.5}, "fit: batch_size is 2.5"),
        ({"early_stopping": 3}, "fit: early_stopping watches the validation loss"),
        ({"clip": -1}, "fit: clip is -1, needs a number above 0"),
        ({"clip": "1"}, "fit: clip is '1', needs a number above 0"),
        ({"checkpoint_every": 3}, "fit: checkpoint_every needs a folder"),
        ({"checkpoint": __file__}, "test_nn_training.py, a file; needs a folder"),
        ({"checkpoint": 5}, "fit: checkpoint is 5, needs the path of a folder"),
        ({"loss": nn.MSE}, "fit: loss is <class 'npconv.nn.losses.MSE'>, needs an object such as nn.CrossEntropy()"),
        ({"optimizer": "adam"}, "fit: optimizer is 'adam', needs an object such as nn.Adam(model)"),
        ({"schedule": 0.1}, "fit: schedule is 0.1, needs a function such as nn.cosine(epochs)"),
        ({"schedule": lambda t: None}, "fit: schedule(0) is None, needs a number of at least 0"),
        ({"schedule": lambda t: np.nan}, "fit: schedule(0) is nan"),
        ({"augment": 3}, "fit: augment is 3, needs a function such as nn.augment(flip=True)"),
        ({"augment": lambda x, rng: None}, "augment made None of 16 images of shape (16, 1, 6, 6)"),
        ({"augment": lambda x, rng: x[1:]}, "augment made an array of shape (15, 1, 6, 6) of 16 images"),
        ({"callback": 3}, "fit: callback is 3, needs a function"),
        ({"rng": "seed"}, "fit: rng is 'seed', needs None, an int or a numpy.random.Generator"),
        ({"validation": (IMAGES[:, :, :4], LABELS)}, "fit: validation after epoch 1: layer head (Linear"),
        ({"validation": (IMAGES, LABELS + 9)}, "fit: validation after epoch 1: CrossEntropy: the target at (0,) is"),
        ({"validation": (IMAGES[:0], LABELS[:0])}, "fit: validation is empty"),
        ({"validation": (IMAGES, LABELS[:3])}, "fit: validation has inputs of shape (40, 1, 6, 6) for targets of"),
        ({"validation": IMAGES}, "fit: validation is ndarray, needs a pair"),
        ({"optimizer": nn.SGD(nn.Linear(2, 2), rate=0.1)}, "fit: the optimizer was made for another model: 'weight'"),
    ],
)
def test_options_are_checked(change, words):
    with pytest.raises((ValueError, TypeError, NotADirectoryError)) as error:
        fitted(**change)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((IMAGES[:0], LABELS[:0]), "fit: data is empty: inputs of shape (0, 1, 6, 6)"),
        ((IMAGES, LABELS[:5]), "fit: data has inputs of shape (40, 1, 6, 6) for targets of shape (5,)"),
        ((IMAGES, LABELS + 1), "the scores have 3 classes, 0 to 2"),
        ((IMAGES, LABELS - 1), "is -1, but the scores have 3 classes"),
        ((IMAGES, LABELS * 1.0), "classes are whole numbers: target.astype(int)"),
        ((IMAGES, np.array(["a", "b", "c"])[LABELS]), "classes are whole numbers: np.unique(target, return_inverse"),
        ((IMAGES, np.eye(3, dtype=int)[LABELS]), "target.argmax(1) if it is one-hot, target.astype(float) if"),
        ((IMAGES, LABELS[:, None]), "the target has shape (32, 1); for scores of shape (32, 3) it is (32,)"),
        (((x, y) for x, y in zip(IMAGES, LABELS, strict=True)), "fit: data is generator, needs a pair"),
        (((x for x in IMAGES), LABELS), "for inputs, needs an array with an example per entry"),
        ((IMAGES, None), "fit: data has None for targets"),
        (([[1, 2], [3]], [0, 1]), "fit: data has examples of several shapes"),
        ((IMAGES[:, 0], LABELS), "layer 0 (Conv(1, 4, 3, padding=1)): conv: the input has shape (32, 6, 6), 3 axes"),
        ((IMAGES.astype(object), LABELS), "layer 0 (Conv(1, 4, 3, padding=1)): conv: x has dtype object"),
        ((IMAGES[:, :, :5], LABELS), "layer head (Linear"),
        ((np.repeat(IMAGES, 2, 1), LABELS), "layer 0 (Conv"),
    ],
)
def test_data_is_checked(data, words):
    model = small()
    before = {name: a.copy() for name, a in model.parameters().items()}
    with pytest.raises((ValueError, TypeError)) as error:
        nn.fit(model, data, loss=nn.CrossEntropy(), optimizer=nn.SGD(model, rate=0.1), epochs=1, rng=0)
    assert words in str(error.value)
    assert str(error.value).startswith("fit: ")
    assert all((a == before[name]).all() for name, a in model.parameters().items())


class Breaks(nn.ReLU):
    """Gives one NaN from its n-th training step on, forward or backward."""

    def __init__(self, when, backward=False):
        super().__init__()
        self.left, self.back = when, backward

    def forward(self, x, *, training=True):
        y, saved = super().forward(x, training=training)
        self.left -= training
        if self.left < 0 and not self.back:
            y = y.copy()
            y.flat[0] = np.nan
        return y, saved

    def backward(self, g, saved, *, input_grad=True):
        gx, grads = super().backward(g, saved, input_grad=input_grad)
        if self.left < 0 and self.back:
            gx = gx.copy()
            gx.flat[0] = np.inf
        return gx, grads

    def __repr__(self):
        return "Breaks()"


@pytest.mark.parametrize("backward", [False, True])
def test_a_number_that_is_not_finite_ends_it(tmp_path, backward):
    """It names the step and the layer, and saves the model as it was."""

    def made(when):
        rng = np.random.default_rng(0)
        return nn.Sequential(
            nn.Conv(1, 2, 3, rng=rng), nn.BatchNorm(2), nn.Dropout(0.1, rng=rng),
            nn.Residual(nn.Sequential(Breaks(when, backward))), nn.Flatten(), nn.Linear(32, 3, rng=rng),
        )  # fmt: skip

    model = made(4)
    with pytest.raises(nn.DivergedError) as error:
        fitted(model, checkpoint=tmp_path)
    assert error.value.step == 5
    assert error.value.layer == "3.body.0"
    assert "step 5 (epoch 2, batch 2)" in str(error.value)
    assert f"in the {'gradients' if backward else 'output'} of layer 3.body.0 (Breaks())" in str(error.value)
    assert error.value.checkpoint.name in str(error.value)
    # The checkpoint, and the model at hand, are those of an undisturbed run of four steps.
    steps, peer = [], made(10**9)
    fitted(peer, callback=lambda now: steps.append({n: a.copy() for n, a in peer.weights().items()}))
    assert all((a == steps[3][name]).all() for name, a in model.weights().items())
    other = made(10**9)
    assert nn.load_checkpoint(error.value.checkpoint, other, nn.Adam(other), rng=np.random.default_rng()).step == 4
    assert same(other, model)
    resumed = made(10**9)
    fitted(resumed, checkpoint=tmp_path)
    assert same(resumed, peer)


@pytest.mark.parametrize(
    ("x", "y", "loss", "words"),
    [
        (np.where(np.arange(40) == 7, np.nan, 1.0)[:, None], np.ones((40, 1)), nn.MSE(), "already, in example 7."),
        (np.ones((40, 1)), np.where(np.arange(40) == 9, np.inf, 1.0)[:, None], nn.MSE(), "already, in example 9."),
        (np.ones((40, 1)), np.full((40, 1), 1e200), nn.MSE(), "it appeared in the loss, MSE()"),
    ],
)
def test_data_that_is_not_finite(x, y, loss, words):
    model = nn.Linear(1, 1, rng=0, dtype=np.float64)
    with pytest.raises(nn.DivergedError, match="no checkpoint was asked for") as error:
        nn.fit(model, (x, y), loss=loss, optimizer=nn.SGD(model, rate=0.1), epochs=1, batch_size=40, rng=0)
    assert words in str(error.value)
    assert error.value.layer is None


def test_a_validation_that_is_not_finite_ends_it_too(tmp_path):
    """No epoch would be the best one, and early stopping would never stop."""
    x = IMAGES.copy()
    x[17, 0, 2, 3] = np.nan
    with pytest.raises(nn.DivergedError) as error:
        fitted(validation=(x, LABELS), early_stopping=1, checkpoint=tmp_path, checkpoint_every=2)
    assert str(error.value).startswith("fit: validation after step 3 (epoch 1): the loss is nan: the data has ")
    assert "in example 17. The newest checkpoint is " in str(error.value)
    assert error.value.checkpoint == tmp_path / "step-000000002.ckpt"
    model = nn.Sequential(nn.Linear(1, 1, initial="ones"), nn.Linear(1, 1, initial="ones"))
    data, far = (np.zeros((4, 1), np.float32),) * 2, (np.full((2, 1), 3e38, np.float32), np.zeros((2, 1), np.float32))
    model["0"].params["weight"][:] = 2
    with pytest.raises(nn.DivergedError, match=r"the output of layer 0 .* There is no checkpoint") as error:
        nn.fit(model, data, loss=nn.MSE(), optimizer=nn.SGD(model, rate=0.0), epochs=1, validation=far, rng=0)
    assert error.value.layer == "0"


def test_where_it_cannot_be_saved_the_place_is_told_all_the_same(tmp_path, monkeypatch):
    model = small()
    model["head"].params["weight"][:] = 1e38

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("npconv.nn.run.save_checkpoint", full)
    with pytest.raises(nn.DivergedError, match=r"could not be saved: .*No space left on device") as error:
        fitted(model, checkpoint=tmp_path)
    assert error.value.layer == "head"
    assert error.value.checkpoint is None


def test_a_rate_that_is_too_large_is_found_out():
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Conv(1, 2, 3, rng=rng), nn.ReLU(), nn.Flatten(), head=nn.Linear(32, 3, rng=rng))
    with pytest.raises(nn.DivergedError) as error:
        fitted(model, optimizer=nn.SGD(model, rate=1e30), epochs=20)
    assert error.value.layer == "head"
    assert all(np.isfinite(a).all() for a in model.weights().values())
    assert "forward" not in vars(model[0]), "the watch was not taken off"


# --------------------------------------------------------------------------- augmentation
def test_shifts_are_pads_and_crops():
    x = np.random.default_rng(0).random((200, 2, 5, 7))
    y = nn.augment(crop=2)(x, np.random.default_rng(1))
    padded = np.pad(x, [(0, 0), (0, 0), (2, 2), (2, 2)])
    offsets = set()
    for before, after in zip(padded, y, strict=True):
        found = [
            (i, j) for i in range(5) for j in range(5) if (before[:, i : i + 5, j : j + 7] == after).all()
        ]  # fmt: skip
        assert len(found) == 1
        offsets.add(found[0])
    assert len(offsets) == 25
    assert y.dtype == x.dtype


@pytest.mark.parametrize("flip", [True, (1,), (0, 1)])
def test_flips(flip):
    x = np.random.default_rng(0).random((64, 2, 4, 4))
    y = nn.augment(flip=flip)(x, np.random.default_rng(1))
    last = nn.augment(flip=flip, layout="channels_last")(np.moveaxis(x, 1, -1), np.random.default_rng(1))
    assert (np.moveaxis(last, -1, 1) == y).all()
    kinds = {(a == b).all() for a, b in zip(x, y, strict=True)}
    assert kinds == {True, False}
    axes = (3,) if flip in (True, (1,)) else (2, 3)
    allowed = [x] + [np.flip(x, a) for a in ((3,), (2,), (2, 3)) if set(a) <= set(axes)]
    assert all(any((image == other[i]).all() for other in allowed) for i, image in enumerate(y))


def test_a_shift_larger_than_the_image():
    x = np.ones((20, 1, 2, 2))
    y = nn.augment(crop=5)(x, np.random.default_rng(0))
    assert y.shape == x.shape
    assert 0 <= y.sum() < x.sum()
    assert (x == 1).all()


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_normalise_as_a_first_layer(layout):
    x = np.random.default_rng(0).normal([[[[3.0]], [[-1.0]]]], [[[[2.0]], [[0.0]]]], (30, 2, 4, 4))
    x = x if layout == "channels_first" else np.moveaxis(x, 1, -1)
    layer = nn.Normalise.of(x, layout=layout, dtype=np.float64)
    y, saved = layer.forward(x)
    channel = np.moveaxis(y, 1 if layout == "channels_first" else -1, 0)
    assert abs(channel[0].mean()) < 1e-12
    assert channel[0].std() == pytest.approx(1)
    assert not channel[1].any()
    g = np.random.default_rng(1).standard_normal(y.shape)
    assert np.vdot(y, g) == pytest.approx(np.vdot(x - layer.state["mean"].reshape(
        (2, 1, 1) if layout == "channels_first" else 2), layer.backward(g, saved)[0]))  # fmt: skip
    assert layer.backward(g, saved, input_grad=False) == (None, {})
    with pytest.raises(ValueError, match=r"layer 0 \(Normalise\(2 channels\)\): x has shape"):
        nn.Sequential(layer).forward(np.ones((1, 5, 5, 5)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.augment(crop=-1), "augment: crop is -1"),
        (lambda: nn.augment(layout="NCHW"), "augment: layout is 'NCHW'"),
        (lambda: nn.augment(flip=(2,))(IMAGES, RNG), "augment: flip names the spatial axis 2, but the images have 2"),
        (lambda: nn.Normalise([0.0], [0.0]), "Normalise: a deviation is not above 0"),
        (lambda: nn.Normalise([0.0], [1.0, 2.0]), "Normalise: mean has shape (1,) and deviation (2,)"),
        (lambda: nn.Normalise.of(np.ones(3)), "Normalise.of: x has shape (3,)"),
    ],
)
def test_refusals(make, words):
    with pytest.raises(ValueError) as error:
        make()
    assert words in str(error.value)
