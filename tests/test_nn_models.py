"""The seven networks: a page each, and one training step of each gives torch's numbers, in both layouts."""

from pathlib import Path

import numpy as np
import pytest

from npconv import nn
from npconv.nn import models
from test_nn_summary import memory_of

torch = pytest.importorskip("torch", reason="torch is the peer of this file (the extra `test` installs it)")
import torch_models as of_torch  # noqa: E402

#: name -> (ours, torch's, the input); so large that a batch norm at the end still has eight values per channel.
SEVEN = {
    "lenet": (models.lenet5, of_torch.lenet5, (2, 1, 28, 28)),
    "vgg": (lambda **k: models.vgg11(hidden=32, **k), lambda: of_torch.VGG(32), (2, 3, 40, 40)),
    "resnet": (models.resnet18, lambda: of_torch.ResNet((2, 2, 2, 2), False), (2, 3, 40, 40)),
    "densenet": (models.densenet121, of_torch.DenseNet, (2, 3, 64, 64)),
    "inception": (models.googlenet, of_torch.GoogLeNet, (2, 3, 40, 40)),
    "mobilenet": (models.mobilenet_v2, of_torch.MobileNet, (2, 3, 40, 40)),
    "unet": (lambda **k: models.unet(width=8, **k), of_torch.UNet, (2, 3, 32, 32)),
}


def test_a_page_each():
    files = {path.name: len(path.read_text().splitlines()) for path in Path(models.__file__).parent.glob("[!_]*.py")}
    assert len(files) == len(SEVEN)
    assert {name: count for name, count in files.items() if count > 60} == {}


#: Every network in both layouts, and what is too slow for a default run.
CASES = [(name, layout) for name in SEVEN for layout in ("channels_first", "channels_last")]
SLOW = [(name, "channels_last") for name in ("vgg", "densenet", "mobilenet")]


@pytest.mark.parametrize(
    ("name", "layout"), [pytest.param(*case, marks=[pytest.mark.long] if case in SLOW else []) for case in CASES]
)
def test_a_training_step(name, layout):
    make, make_torch, shape = SEVEN[name]
    rng = np.random.default_rng(0)
    theirs = of_torch.checkpoint(make_torch()).double().train()
    ours = make(layout=layout, dtype=np.float64)
    ours.load(nn.match_weights({key: a.numpy() for key, a in theirs.state_dict().items()}, ours))
    for layer in theirs.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    for _, layer in ours.walk():
        if isinstance(layer, nn.Dropout):
            layer.rate = 0.0

    def turned(a, order):
        return np.ascontiguousarray(np.moveaxis(a, *order)) if layout == "channels_last" and a.ndim > 2 else a

    x = rng.standard_normal(shape)
    source = torch.from_numpy(x).requires_grad_()
    expected = theirs(source)
    g = rng.standard_normal(expected.shape)
    expected.backward(torch.from_numpy(g))
    mine = turned(x, (1, -1))
    y, saved = ours.forward(mine)
    gx, grads = ours.backward(turned(g, (1, -1)), saved)

    # the gradients under the names of the parameters; running statistics stay, as they are after the step
    after = {key: a.numpy() for key, a in theirs.state_dict().items()}
    after |= {key: a.grad.numpy() for key, a in theirs.named_parameters() if a.grad is not None}
    state = {key: a for key, a in ours.weights().items() if key not in grads}
    found = {"y": turned(y, (-1, 1)), "gx": turned(gx, (-1, 1)), **grads, **state}
    peers = {"y": expected.detach().numpy(), "gx": source.grad.numpy(), **nn.match_weights(after, ours)}
    assert set(found) == set(peers)
    largest = max(np.abs(a).max() for a in grads.values())  # some gradients are 0 but for rounding
    errors = {
        key: np.abs(a - peers[key]).max() / max(np.abs(peers[key]).max(), 1e-6 * largest) for key, a in found.items()
    }
    assert max(errors.values()) < 1e-8, sorted(errors.items(), key=lambda item: -item[1])[:5]

    table = nn.summary(ours, mine.shape, dtype=np.float64)
    assert table.rows[-1].out_shape == y.shape
    assert table.parameters == sum(p.numel() for key, p in theirs.named_parameters() if not key.startswith("aux"))
    assert table.kept_bytes == sum(memory_of(saved).values())
