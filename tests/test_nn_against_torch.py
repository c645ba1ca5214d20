"""A hundred steps here and in torch, from the same weights in the same order: every loss equal, relative to itself.

1e-4 in float32, 1e-10 in float64, for each layer in the middle of a network, each loss, optimizer and schedule.
"""

from collections import OrderedDict

import numpy as np
import pytest

from npconv import nn
from npconv.nn.run import train_step

torch = pytest.importorskip("torch", reason="the oracle of training is torch")
T = torch.nn

RNG = np.random.default_rng(0)
#: So many that nothing is learned by heart: a loss near 0 is a difference of scores, and in float32 has no four digits.
IMAGES = RNG.standard_normal((400, 1, 6, 6))
LABELS = RNG.integers(0, 3, 400)
for image, label in zip(IMAGES, LABELS, strict=True):
    image[0, 2 * label : 2 * label + 2] += 0.5


def residual():
    class Around(T.Module):
        def __init__(self):
            super().__init__()
            self.body = T.Sequential(T.Conv2d(4, 4, 3, padding=1), T.Tanh())

        def forward(self, x):
            return x + self.body(x)

    return Around()


def beside():
    class Side(T.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = T.Conv2d(4, 2, 1), T.Conv2d(4, 3, 3, padding=1)

        def forward(self, x):
            return torch.cat([self.a(x), self.b(x)], 1)

    return Side()


def around_shrinking():
    class Around(T.Module):
        def __init__(self):
            super().__init__()
            self.body, self.shortcut = T.Conv2d(4, 6, 3, 2, 1), T.Conv2d(4, 6, 1, 2)

        def forward(self, x):
            return self.body(x) + self.shortcut(x)

    return Around()


def dropout():
    """torch's own draws are another generator's: the mask is drawn as `nn.Dropout` says it draws its own."""

    class Dropped(T.Module):
        def __init__(self):
            super().__init__()
            self.rng = np.random.default_rng(9)

        def forward(self, x):
            return x * torch.tensor(self.rng.random(tuple(x.shape), np.float32) >= 0.3) / (1 - 0.3)

    return Dropped()


def separable():
    parts = {"depthwise": T.Conv2d(4, 8, 3, padding=1, groups=4, bias=False), "pointwise": T.Conv2d(8, 5, 1)}
    return T.Sequential(OrderedDict(parts))


#: Ours, given keywords for what has parameters; torch's.
LAYERS = {
    "conv": (lambda k: nn.Conv(4, 6, 3, stride=2, padding=1, **k), lambda: T.Conv2d(4, 6, 3, 2, 1)),
    "conv, groups": (
        lambda k: nn.Conv(4, 6, (3, 2), dilation=2, groups=2, bias=False, **k),
        lambda: T.Conv2d(4, 6, (3, 2), dilation=2, groups=2, bias=False),
    ),
    "conv, circular": (
        lambda k: nn.Conv(4, 4, 3, padding=1, padding_mode="circular", **k),
        lambda: T.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
    ),
    "transposed": (
        lambda k: nn.ConvTranspose(4, 3, 3, stride=2, padding=1, output_padding=1, **k),
        lambda: T.ConvTranspose2d(4, 3, 3, 2, 1, 1),
    ),
    "depthwise": (
        lambda k: nn.DepthwiseConv(4, 3, multiplier=2, padding=1, **k),
        lambda: T.Conv2d(4, 8, 3, padding=1, groups=4),
    ),
    "separable": (lambda k: nn.SeparableConv(4, 5, 3, multiplier=2, padding=1, **k), separable),
    "max-pool": (lambda k: nn.MaxPool(3, stride=2, padding=1), lambda: T.MaxPool2d(3, 2, 1)),
    "avg-pool": (lambda k: nn.AvgPool(3, stride=2, padding=1), lambda: T.AvgPool2d(3, 2, 1)),
    "adaptive": (lambda k: nn.AdaptiveAvgPool((4, 2)), lambda: T.AdaptiveAvgPool2d((4, 2))),
    "global": (lambda k: nn.GlobalAvgPool(), lambda: T.AdaptiveAvgPool2d(1)),
    "upsample": (lambda k: nn.Upsample(2), lambda: T.Upsample(scale_factor=2)),
    "upsample, linear": (lambda k: nn.Upsample(2, mode="linear"), lambda: T.Upsample(scale_factor=2, mode="bilinear")),
    "batch norm": (lambda k: nn.BatchNorm(4, dtype=k["dtype"]), lambda: T.BatchNorm2d(4)),
    "layer norm": (lambda k: nn.LayerNorm((4, 6, 6), dtype=k["dtype"]), lambda: T.LayerNorm((4, 6, 6))),
    "group norm": (lambda k: nn.GroupNorm(2, 4, dtype=k["dtype"]), lambda: T.GroupNorm(2, 4)),
    "dropout": (lambda k: nn.Dropout(0.3, rng=9), dropout),
    "linear": (lambda k: nn.Linear(6, 5, **k), lambda: T.Linear(6, 5)),
    "flatten": (lambda k: nn.Flatten(), T.Flatten),
    "sequential": (
        lambda k: nn.Sequential(nn.Conv(4, 5, 3, **k), nn.Sequential(nn.Tanh(), nn.Conv(5, 2, 1, **k))),
        lambda: T.Sequential(T.Conv2d(4, 5, 3), T.Sequential(T.Tanh(), T.Conv2d(5, 2, 1))),
    ),
    "relu": (lambda k: nn.ReLU(), T.ReLU),
    "relu6": (lambda k: nn.ReLU6(), T.ReLU6),
    "leaky relu": (lambda k: nn.LeakyReLU(0.1), lambda: T.LeakyReLU(0.1)),
    "silu": (lambda k: nn.SiLU(), T.SiLU),
    "gelu": (lambda k: nn.GELU(), T.GELU),
    "gelu, tanh": (lambda k: nn.GELU(approximate=True), lambda: T.GELU("tanh")),
    "sigmoid": (lambda k: nn.Sigmoid(), T.Sigmoid),
    "tanh": (lambda k: nn.Tanh(), T.Tanh),
    "softmax": (lambda k: nn.Softmax("channels"), lambda: T.Softmax(1)),
    "residual, shortcut": (
        lambda k: nn.Residual(nn.Conv(4, 6, 3, stride=2, padding=1, **k), nn.Conv(4, 6, 1, stride=2, **k)),
        around_shrinking,
    ),
    "residual": (lambda k: nn.Residual(nn.Sequential(nn.Conv(4, 4, 3, padding=1, **k), nn.Tanh())), residual),
    "parallel": (lambda k: nn.Parallel(a=nn.Conv(4, 2, 1, **k), b=nn.Conv(4, 3, 3, padding=1, **k)), beside),
}


#: What is left of `nn`'s layers: bases, x itself, and a scale with nothing to train.
NO_CASE = {nn.Layer, nn.Container, nn.Identity, nn.Normalise}

ONE_HOT = np.eye(3)[LABELS]
#: Ours, torch's, the target.
LOSSES = {
    "cross-entropy": (nn.CrossEntropy(), T.CrossEntropyLoss(), LABELS),
    "smoothed": (nn.CrossEntropy(0.1), T.CrossEntropyLoss(label_smoothing=0.1), LABELS),
    "chances": (nn.CrossEntropy(), T.CrossEntropyLoss(), 0.7 * ONE_HOT + 0.1),
    "mse": (nn.MSE(), T.MSELoss(), ONE_HOT),
    "l1": (nn.L1(), T.L1Loss(), ONE_HOT),
    "l1, far": (nn.L1(), T.L1Loss(), 30 * ONE_HOT + 15),
    "huber": (nn.Huber(), T.HuberLoss(), ONE_HOT),
    "huber 0.5": (nn.Huber(0.5), T.HuberLoss(delta=0.5), ONE_HOT),
    "bce": (nn.BCEWithLogits(), T.BCEWithLogitsLoss(), ONE_HOT),
}
SGD = (lambda m: nn.SGD(m, rate=0.02, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9))
OPTIMIZERS = {
    "sgd": (lambda m: nn.SGD(m, rate=0.05), lambda p: torch.optim.SGD(p, lr=0.05)),
    "momentum": SGD,
    "nesterov": (
        lambda m: nn.SGD(m, rate=0.02, momentum=0.9, nesterov=True, decay=1e-3),
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-3),
    ),
    "adam": (lambda m: nn.Adam(m, rate=1e-3), lambda p: torch.optim.Adam(p, lr=1e-3)),
    "adamw": (
        lambda m: nn.AdamW(m, rate=1e-3, decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1),
    ),
    "rmsprop": (
        lambda m: nn.RMSprop(m, rate=1e-4, eps=1e-3, momentum=0.5),
        lambda p: torch.optim.RMSprop(p, lr=1e-4, eps=1e-3, momentum=0.5),
    ),
}


def chained(optimizer):
    s = torch.optim.lr_scheduler
    parts = [s.LinearLR(optimizer, 0.25, 1.0, 20), s.CosineAnnealingLR(optimizer, 80)]
    return s.SequentialLR(optimizer, parts, milestones=[20])


#: By steps, as torch counts where its scheduler moves after each.
SCHEDULES = {
    "step": (nn.step(30, 0.5), lambda o: torch.optim.lr_scheduler.StepLR(o, 30, 0.5)),
    "cosine": (nn.cosine(100), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 100)),
    "warm-up": (nn.warm_up(40, start=0.25), lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.25, 1.0, 40)),
    "warm-up, cosine": (nn.warm_up(20, nn.cosine(80), start=0.25), chained),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks; torch's threads would only be in each other's way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


both = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def around(name, dtype):
    """A network with this layer in its middle, here and in torch."""
    ours, theirs = LAYERS[name]
    options = {"dtype": dtype, "rng": np.random.default_rng(3)}
    middle = ours(options)
    size = int(np.prod(middle.out_shape((1, 4, 6, 6))))
    model = nn.Sequential(nn.Conv(1, 4, 3, padding=1, **options), middle, nn.Flatten(), nn.Linear(size, 3, **options))
    return model, T.Sequential(T.Conv2d(1, 4, 3, padding=1), theirs(), T.Flatten(), T.Linear(size, 3))


def deep(dtype):
    """A network of several kinds of layers, here and in torch."""
    k = {"dtype": dtype, "rng": np.random.default_rng(3)}
    ours = nn.Sequential(
        nn.Conv(1, 4, 3, padding=1, **k), nn.BatchNorm(4, dtype=dtype), nn.SiLU(), nn.MaxPool(2),
        nn.Conv(4, 6, 3, padding=1, **k), nn.GELU(), nn.Flatten(), nn.Linear(54, 3, **k),
    )  # fmt: skip
    theirs = T.Sequential(
        T.Conv2d(1, 4, 3, padding=1), T.BatchNorm2d(4), T.SiLU(), T.MaxPool2d(2),
        T.Conv2d(4, 6, 3, padding=1), T.GELU(), T.Flatten(), T.Linear(54, 3),
    )  # fmt: skip
    return ours, theirs


def alike(model, peer, dtype):
    """torch's network with our weights."""
    peer = peer.to(torch.float64 if dtype is np.float64 else torch.float32)
    state = {path: torch.tensor(a) for path, a in model.weights().items()}
    missing, unknown = peer.load_state_dict(state, strict=False)
    assert not unknown
    assert all(path.endswith("num_batches_tracked") for path in missing)
    return peer


def compare(networks, dtype, loss="cross-entropy", optimizers=SGD, schedules=None, clip=None):
    """A hundred steps each."""
    model, peer = networks
    peer = alike(model, peer, dtype)
    ours, theirs, target = LOSSES[loss]
    opt, their_opt = optimizers[0](model), optimizers[1](peer.parameters())
    rate, scheduler = opt.rate, schedules and schedules[1](their_opt)
    target = target if target.dtype.kind == "i" else target.astype(dtype)
    order = np.random.default_rng(7)
    found, expected = [], []
    for step in range(100):
        chosen = order.permutation(400)[:16]
        x, y = IMAGES[chosen].astype(dtype), target[chosen]
        value, _, grads = train_step(model, x, y, ours)
        if clip:
            assert step or nn.clip_gradients(dict(grads), clip) > clip, "nothing was clipped"
            nn.clip_gradients(grads, clip)
        if schedules:
            opt.rate = rate * schedules[0](step)
        opt.step(grads)
        found.append(value)
        their_opt.zero_grad()
        out = theirs(peer(torch.tensor(x)), torch.tensor(y))
        out.backward()
        if clip:
            T.utils.clip_grad_norm_(peer.parameters(), clip)
        their_opt.step()
        if scheduler:
            scheduler.step()
        expected.append(float(out.detach()))
    assert np.mean(found[-10:]) < 0.95 * np.mean(found[:10]), "nothing was learned: the comparison says little"
    close(found, expected, dtype)


def close(found, expected, dtype):
    np.testing.assert_allclose(found, expected, rtol=1e-10 if dtype is np.float64 else 1e-4, atol=0)


@both
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, dtype):
    compare(around(name, dtype), dtype)


@both
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, dtype):
    compare(deep(dtype), dtype, loss=name)


@both
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name, dtype):
    compare(deep(dtype), dtype, optimizers=OPTIMIZERS[name])


@both
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name, dtype):
    compare(deep(dtype), dtype, schedules=SCHEDULES[name])


@both
def test_clipping(dtype):
    compare(deep(dtype), dtype, clip=0.5)


@both
def test_fit_is_that_loop(dtype):
    """Order, batches, schedule, clipping and validation of `fit`, written out in torch: two epochs of 50 batches."""
    # Not Adam: a bias before batch norm has the gradient 0, and Adam makes whole steps of its rounding error, which
    # the running mean then lags behind.
    model, peer = deep(dtype)
    peer, x, found = alike(model, peer, dtype), IMAGES.astype(dtype), []
    history = nn.fit(
        model, (x, LABELS), loss=nn.CrossEntropy(0.1), optimizer=SGD[0](model), epochs=2, batch_size=8,
        validation=(x[:8], LABELS[:8]), schedule=nn.step(1, 0.5), clip=1.0, rng=5,
        callback=lambda now: found.append(now.loss),
    )  # fmt: skip
    opt = SGD[1](peer.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(opt, 1, 0.5)
    loss, rng = T.CrossEntropyLoss(label_smoothing=0.1), np.random.default_rng(5)
    expected, validation = [], []
    for _ in range(2):
        for chosen in np.split(rng.permutation(400), 50):
            opt.zero_grad()
            out = loss(peer(torch.tensor(x[chosen])), torch.tensor(LABELS[chosen]))
            out.backward()
            T.utils.clip_grad_norm_(peer.parameters(), 1.0)
            opt.step()
            expected.append(float(out.detach()))
        scheduler.step()
        peer.eval()
        validation.append(float(loss(peer(torch.tensor(x[:8])), torch.tensor(LABELS[:8])).detach()))
        peer.train()
    close(found, expected, dtype)
    close(history.metrics["validation loss"], validation, dtype)
    assert history.loss == pytest.approx(np.reshape(expected, (2, 50)).mean(1), rel=1e-4)


def test_nothing_is_left_out():
    """Every layer, loss, optimizer and schedule of `nn` is in a table above."""
    made = [layer for name in LAYERS for _, layer in around(name, np.float32)[0].walk()]
    assert {type(layer) for layer in made} | NO_CASE == set(public(nn.Layer))
    assert {type(ours) for ours, _, _ in LOSSES.values()} | {nn.Loss} == set(public(nn.Loss))
    model = nn.Linear(1, 1)
    assert {type(ours(model)) for ours, _ in OPTIMIZERS.values()} | {nn.Optimizer} == set(public(nn.Optimizer))
    names = {ours.__qualname__.split(".")[0] for ours, _ in SCHEDULES.values()}
    assert names == {name for name in nn.__all__ if getattr(nn, name).__module__ == "npconv.nn.schedules"}


def public(base):
    found = (getattr(nn, name) for name in nn.__all__)
    return [kind for kind in found if isinstance(kind, type) and issubclass(kind, base)]
