"""Optimizers, schedules and clipping against torch, a hundred steps of the same gradients."""

import numpy as np
import pytest

from npconv import nn
from npconv.nn import optimizer

torch = pytest.importorskip("torch", reason="the oracle of optimizers is torch")

MOMENTUM = {"rate": 0.05, "momentum": 0.9}
CASES = {
    "sgd": (nn.SGD, torch.optim.SGD, {"rate": 0.1}),
    "sgd, decay": (nn.SGD, torch.optim.SGD, {"rate": 0.1, "decay": 0.03}),
    "momentum": (nn.SGD, torch.optim.SGD, MOMENTUM),
    "momentum, decay": (nn.SGD, torch.optim.SGD, MOMENTUM | {"decay": 0.03}),
    "nesterov": (nn.SGD, torch.optim.SGD, MOMENTUM | {"nesterov": True}),
    "nesterov, decay": (nn.SGD, torch.optim.SGD, MOMENTUM | {"nesterov": True, "decay": 0.03}),
    "adam": (nn.Adam, torch.optim.Adam, {"rate": 0.01}),
    "adam, decay": (nn.Adam, torch.optim.Adam, {"rate": 0.01, "decay": 0.03}),
    "adam, betas": (nn.Adam, torch.optim.Adam, {"rate": 0.01, "betas": (0.8, 0.95), "eps": 1e-3}),
    "adamw": (nn.AdamW, torch.optim.AdamW, {"rate": 0.01}),
    "adamw, decay": (nn.AdamW, torch.optim.AdamW, {"rate": 0.01, "decay": 0.3}),
    "rmsprop": (nn.RMSprop, torch.optim.RMSprop, {"rate": 0.01}),
    "rmsprop, all": (
        nn.RMSprop, torch.optim.RMSprop, {"rate": 0.01, "alpha": 0.9, "eps": 1e-4, "momentum": 0.5, "decay": 0.03},
    ),
}  # fmt: skip
TORCH = {"rate": "lr", "decay": "weight_decay"}
SHAPES = {"0.weight": (4, 3, 3, 3), "0.bias": (4,), "1.weight": (30, 70), "scale": ()}


def arrays(rng, dtype):
    return {name: np.asarray(rng.standard_normal(shape), dtype) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_torch_hundred_steps(name, dtype):
    """Gradients that depend on the parameters, as a loss's do, and on the batch, so that they never vanish."""
    ours, theirs, options = CASES[name]
    rng = np.random.default_rng(0)
    p = arrays(rng, dtype)
    copies = {key: torch.tensor(a.copy()) for key, a in p.items()}
    opt = ours(p, **options)
    peer = theirs(list(copies.values()), **{TORCH.get(key, key): value for key, value in options.items()})
    for _ in range(100):
        batch = arrays(rng, dtype)
        opt.step({key: np.sin(a) + batch[key] for key, a in p.items()})
        for key, a in copies.items():
            a.grad = torch.sin(a) + torch.tensor(batch[key])
        peer.step()
    tolerance = 1e-12 if dtype is np.float64 else 2e-5
    for key, a in p.items():
        assert a.dtype == dtype
        scale = float(copies[key].abs().max())
        np.testing.assert_allclose(a, copies[key].numpy(), rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("name", CASES)
def test_blocks_change_nothing(name, monkeypatch):
    """The same bits, however an array is cut."""
    ours, _, options = CASES[name]
    found = []
    for block in (1 << 30, 256):
        monkeypatch.setattr(optimizer, "BLOCK", block)
        rng = np.random.default_rng(1)
        p = arrays(rng, np.float32)
        opt = ours(p, **options)
        for _ in range(3):
            opt.step(arrays(rng, np.float32))
        found.append(p)
    assert all((found[0][key] == found[1][key]).all() for key in SHAPES)


@pytest.mark.parametrize("name", CASES)
def test_state_goes_on_bit_for_bit(name):
    ours, _, options = CASES[name]
    rng = np.random.default_rng(2)
    start, grads = arrays(rng, np.float32), [arrays(rng, np.float32) for _ in range(6)]
    whole = {key: a.copy() for key, a in start.items()}
    opt = ours(whole, **options)
    for g in grads:
        opt.step(g)
    halves = {key: a.copy() for key, a in start.items()}
    first = ours(halves, **options)
    for g in grads[:3]:
        first.step(g)
    second = ours(halves, **(options | {"rate": 0.5}))
    second.load(first.state())
    for g in grads[3:]:
        second.step(g)
    assert second.rate == options["rate"]
    assert all((whole[key] == halves[key]).all() for key in SHAPES)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_left_alone(name):
    ours, _, options = CASES[name]
    rng = np.random.default_rng(3)
    opt = ours(arrays(rng, np.float32), **options)
    grads = arrays(rng, np.float32)
    kept = {key: g.copy() for key, g in grads.items()}
    for g in grads.values():
        g.flags.writeable = False
    opt.step(grads)
    opt.step(grads)
    assert all((grads[key] == kept[key]).all() for key in SHAPES)


def test_strided_parameters_and_gradients():
    rng = np.random.default_rng(4)
    store = rng.standard_normal((9, 7))
    p, straight = store[::2].T, store[::2].T.copy()
    g = rng.standard_normal((5, 7)).T
    nn.Adam({"p": p}, rate=0.1).step({"p": g})
    nn.Adam({"p": straight}, rate=0.1).step({"p": g.copy()})
    assert (p == straight).all()


def test_a_choice_of_parameters_leaves_the_rest():
    model = nn.Sequential(body=nn.Linear(3, 4, rng=0), head=nn.Linear(4, 2, rng=1))
    before = {name: a.copy() for name, a in model.parameters().items()}
    opt = nn.SGD({name: a for name, a in model.parameters().items() if name.startswith("head.")}, rate=1.0)
    opt.step({name: np.ones_like(a) for name, a in before.items()})
    changed = {name for name, a in model.parameters().items() if (a != before[name]).any()}
    assert changed == {"head.weight", "head.bias"}


def test_a_layer_that_serves_twice_has_one_average():
    """As in torch: its gradients are added, and it moves once."""
    shared = nn.Linear(3, 3, rng=0)
    start = shared.params["weight"].copy()
    opt = nn.Adam(nn.Sequential(shared, nn.ReLU(), shared), rate=0.1)
    g = {f"{i}.{name}": np.full(a.shape, i + 1.0, np.float32) for i in (0, 2) for name, a in shared.params.items()}
    opt.step(g)
    alone = {"weight": start}
    nn.Adam(alone, rate=0.1).step({"weight": np.full((3, 3), 4.0, np.float32)})
    assert (shared.params["weight"] == alone["weight"]).all()
    with pytest.raises(ValueError, match=r"no gradient for '2\.weight'"):
        opt.step({name: a for name, a in g.items() if name.startswith("0")})


@pytest.mark.parametrize("limit", [0.5, 1e3])
def test_clipping_is_torchs(limit):
    grads = arrays(np.random.default_rng(5), np.float32)
    kept = dict(grads)
    peers = [torch.nn.Parameter(torch.tensor(g)) for g in grads.values()]
    for peer, g in zip(peers, grads.values(), strict=True):
        peer.grad = torch.tensor(g.copy())
    norm = float(torch.nn.utils.clip_grad_norm_(peers, limit))
    assert nn.clip_gradients(grads, limit) == pytest.approx(norm, rel=1e-5)
    for name, peer in zip(grads, peers, strict=True):
        np.testing.assert_allclose(grads[name], peer.grad.numpy(), rtol=1e-5)
        assert grads[name].dtype == np.float32
        assert (grads[name] is kept[name]) == (limit > norm)


def chained(optimizer):
    s = torch.optim.lr_scheduler
    parts = [s.LinearLR(optimizer, 0.25, 1.0, 5), s.CosineAnnealingLR(optimizer, 25)]
    return s.SequentialLR(optimizer, parts, milestones=[5])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (nn.step(7, 0.5), lambda o: torch.optim.lr_scheduler.StepLR(o, 7, 0.5)),
        (nn.cosine(30, 0.1), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 30, eta_min=0.02)),
        (nn.warm_up(5, start=0.25), lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.25, 1.0, 5)),
        (nn.warm_up(5, nn.cosine(25), start=0.25), chained),
    ],
    ids=["step", "cosine", "warm-up", "warm-up, cosine"],
)
def test_schedules_are_torchs(ours, theirs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    peer = theirs(optimizer)
    for t in range(30):
        assert 0.2 * ours(t) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        peer.step()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.SGD(nn.ReLU(), rate=0.1), "SGD: the model has no parameters to train"),
        (
            lambda: nn.SGD([nn.Linear(1, 1)], rate=0.1),
            "SGD: [Linear(1, 1)] is neither a model nor a dict of parameters",
        ),
        (lambda: nn.SGD({"p": [1.0]}, rate=0.1), "SGD: 'p' is [1.0], not an array of floats to write into"),
        (lambda: nn.SGD({"p": np.ones(3, int)}, rate=0.1), "not an array of floats"),
        (lambda: nn.SGD({"p": np.ones(3)}, rate=-1), "SGD: rate is -1, needs a number of at least 0"),
        (lambda: nn.SGD({"p": np.ones(3)}, rate=np.nan), "SGD: rate is nan"),
        (lambda: nn.SGD({"p": np.ones(3)}, rate=1, momentum=1), "SGD: momentum is 1, needs a number below 1"),
        (lambda: nn.SGD({"p": np.ones(3)}, rate=1, nesterov=True), "SGD: nesterov looks along the momentum"),
        (lambda: nn.Adam({"p": np.ones(3)}, betas=(0.9, 2)), "Adam: betas[1] is 2"),
        (lambda: nn.RMSprop({"p": np.ones(3)}, decay="1"), "RMSprop: decay is '1'"),
        (lambda: nn.SGD({"p": np.ones(3)}, rate=1).step({}), "SGD: there is no gradient for 'p'"),
        (lambda: nn.SGD({"p": np.ones(3)}, rate=1).step({"p": np.ones(2)}), "gradient of 'p' has shape (2,)"),
        (lambda: nn.Adam({"p": np.ones(3)}).load(nn.SGD({"p": np.ones(3)}, rate=1).state()), "another optimizer's"),
        (lambda: nn.Adam({"p": np.ones(3)}).load(nn.Adam({"p": np.ones(2)}).state()), "(2,) in the state"),
        (lambda: nn.clip_gradients({}, 0), "clip_gradients: limit is 0"),
        (lambda: nn.step(0), "step: every is 0"),
        (lambda: nn.cosine(10, 2), "cosine: lowest is 2"),
        (lambda: nn.warm_up(-1), "warm_up: length is -1"),
    ],
)
def test_refusals(make, words):
    with pytest.raises((ValueError, TypeError)) as error:
        make()
    assert words in str(error.value)


def test_a_refused_step_changes_nothing():
    p = {"a": np.ones(2), "b": np.ones(3)}
    opt = nn.SGD(p, rate=1.0)
    with pytest.raises(ValueError, match="'b' has shape"):
        opt.step({"a": np.ones(2), "b": np.ones(4)})
    assert (p["a"] == 1).all()
    assert opt.steps == 0
