"""Weights in and out: torch's, safetensors', Keras' and NumPy's files, and the names of seven networks."""

import json
import subprocess
import sys
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from npconv import nn
from npconv.nn import models

torch = pytest.importorskip("torch", reason="it makes the checkpoints")
import torch_models as of_torch  # noqa: E402

#: name -> (ours, as an expression; torch's; channels, height and width)
SEVEN = {
    "lenet": ("models.lenet5()", of_torch.lenet5, (1, 28)),
    "vgg": ("models.vgg11(hidden=64)", lambda: of_torch.VGG(64), (3, 40)),
    "resnet": ("models.resnet18()", lambda: of_torch.ResNet((2, 2, 2, 2), False), (3, 48)),
    "resnet50": ("models.resnet50()", lambda: of_torch.ResNet((3, 4, 6, 3), True), (3, 48)),
    "densenet": ("models.densenet121()", of_torch.DenseNet, (3, 48)),
    "inception": ("models.googlenet()", of_torch.GoogLeNet, (3, 48)),
    "mobilenet": ("models.mobilenet_v2()", of_torch.MobileNet, (3, 48)),
    "unet": ("models.unet(width=8)", of_torch.UNet, (3, 48)),
}
#: Largest difference of two float32 libraries, over the largest output.
BOUND = 1e-5

# What a fresh process does where neither torch nor Keras can be imported: loads each file, and compares the outputs.
READER = """
import json, sys
sys.modules |= dict.fromkeys(("torch", "keras", "tensorflow"))
import numpy as np
from npconv import nn
from npconv.nn import models
model, expected, flattened, *paths = eval(sys.argv[1]), np.load(sys.argv[2]), json.loads(sys.argv[3]), *sys.argv[4:]
errors = {}
for path in paths:
    for a in model.weights().values():
        a[...] = np.nan
    model.load(nn.match_weights(nn.load_weights(path, flattened=flattened if path.endswith(".h5") else None), model))
    y = model(expected["x"])
    errors[path[path.index("."):]] = float(np.abs(y - expected["y"]).max() / np.abs(expected["y"]).max())
print(json.dumps(errors))
"""


def compared(folder: Path, name: str, call: str, flattened: dict | None = None) -> dict[str, float]:
    """The largest difference of each file of this name."""
    paths = sorted(path.name for path in folder.glob(f"{name}.*") if path.suffix != ".npz")
    command = [sys.executable, "-c", READER, call, f"{name}.npz", json.dumps(flattened), *paths]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


LONG = {"resnet50": pytest.mark.long}


@pytest.mark.parametrize("name", [pytest.param(name, marks=LONG.get(name, ())) for name in SEVEN])
def test_checkpoints_of_torch(tmp_path, name):
    """torch's outputs, from its .pt and from .safetensors, in a process that has no torch."""
    safetensors_torch = pytest.importorskip("safetensors.torch", reason="it writes torch's .safetensors")
    call, make_torch, (channels, size) = SEVEN[name]
    theirs = of_torch.checkpoint(make_torch())
    torch.save(theirs.state_dict(), tmp_path / f"{name}.pt")
    safetensors_torch.save_file(theirs.state_dict(), tmp_path / f"{name}.safetensors")
    x = np.random.default_rng(1).standard_normal((2, channels, size, size)).astype(np.float32)
    with torch.no_grad():
        np.savez(tmp_path / f"{name}.npz", x=x, y=theirs(torch.from_numpy(x)).numpy())
    errors = compared(tmp_path, name, call)
    assert set(errors) == {".pt", ".safetensors"}
    assert max(errors.values()) < BOUND, errors


@pytest.mark.parametrize("name", ["lenet", "vgg", "densenet", "mobilenet"])
def test_layers_by_their_order(name):
    call, make_torch, _ = SEVEN[name]
    theirs = of_torch.checkpoint(make_torch())
    weights = {f"layer.{k}".replace("conv", "c"): v.numpy() for k, v in theirs.state_dict().items()}
    model = eval(call, {"models": models})
    by_order = nn.match_weights(weights, model, order=True)
    by_name = nn.match_weights({k: v.numpy() for k, v in theirs.state_dict().items()}, model)
    assert all(np.array_equal(by_order[k], by_name[k]) for k in by_name)
    assert list(by_order) == list(by_name) == list(model.weights())


def test_names_that_do_not_match():
    model = nn.Sequential(conv1=nn.Conv(1, 2, 3, rng=0))
    weights = model.weights()
    with pytest.raises(nn.WeightsError, match=r"1 arrays \('other'\) of the file fit nowhere"):
        nn.match_weights({**weights, "other": np.ones(2)}, model)
    with pytest.raises(nn.WeightsError, match=r"1 arrays \('conv1.bias'\) of the model are missing"):
        nn.match_weights({"conv1.weight": weights["conv1.weight"]}, model)
    with pytest.raises(nn.WeightsError, match=r"'conv1.bias' has shape \(3,\), but the model's is \(2,\)"):
        nn.match_weights({**weights, "conv1.bias": np.ones(3)}, model)
    with pytest.raises(nn.WeightsError, match="two arrays"):
        nn.match_weights({**weights, "conv1_bias": weights["conv1.bias"]}, model)
    with pytest.raises(nn.WeightsError, match="0 layers"):
        nn.match_weights({}, model, order=True)


ARRAYS = {
    "plain": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "transposed": np.arange(24, dtype=np.float32).reshape(2, 3, 4).T,
    "moved": np.moveaxis(np.arange(120.0).reshape(2, 3, 4, 5), 1, 3),
    "every_other": np.arange(20, dtype=np.int64)[::2],
    "backwards": np.arange(6.0)[::-1],
    "big_endian": np.arange(5, dtype=">f4"),
    "scalar": np.float64(3.5),
    "scalar_array": np.array(7, np.int32),
    "none": np.empty((0, 3), np.float32),
    "half": np.array([1, np.inf, np.nan, -0.0], np.float16),
    "flags": np.array([[True, False]]),
    "bytes": np.arange(3, dtype=np.uint8),
    "broadcast": np.broadcast_to(np.float32(2), (2, 2)),
}


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".npz", ".safetensors"])
def test_round_trip_is_bit_exact(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    nn.save_weights(path, ARRAYS)
    for name, a in nn.load_weights(path).items():
        expected = np.asarray(ARRAYS[name])
        assert (a.shape, a.dtype) == (expected.shape, expected.dtype.newbyteorder("=")), name
        assert a.tobytes() == expected.astype(a.dtype).tobytes(), name
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_torch_reads_what_we_write(tmp_path):
    nn.save_weights(tmp_path / "a.pt", ARRAYS)
    found = torch.load(tmp_path / "a.pt", weights_only=True)
    assert list(found) == list(ARRAYS)
    for name, a in found.items():
        assert np.array_equal(a.numpy(), ARRAYS[name], equal_nan=np.asarray(ARRAYS[name]).dtype.kind == "f"), name


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_bfloat16(tmp_path, suffix):
    """Written as such, which torch reads; read as the float32 of the same value, which a model in bfloat16 takes back."""
    model = nn.Sequential(nn.Conv(3, 4, 3, rng=0, dtype=ml_dtypes.bfloat16), nn.BatchNorm(4, dtype=ml_dtypes.bfloat16))
    kept = {name: a.copy() for name, a in model.weights().items()}
    more = {"turned": kept["0.weight"].T, "scalar": kept["0.bias"].reshape(-1)[0], "none": kept["0.bias"][:0]}
    path = tmp_path / f"a{suffix}"
    nn.save_weights(path, {**model.weights(), **more})
    found = nn.load_weights(path)
    for name, a in {**kept, **more}.items():
        assert (found[name].dtype, found[name].shape) == (np.float32, a.shape)
        assert np.array_equal(found[name], a.astype(np.float32)), name
    load = torch.load if suffix == ".pt" else pytest.importorskip("safetensors.torch", reason="torch's side").load_file
    theirs = load(path)
    assert {a.dtype for a in theirs.values()} == {torch.bfloat16}
    assert np.array_equal(theirs["turned"].float().numpy(), found["turned"])
    for a in model.weights().values():
        a[...] = 0
    model.load({name: found[name] for name in kept})
    assert all(a.tobytes() == kept[name].tobytes() for name, a in model.weights().items())
    with pytest.raises(nn.WeightsError, match=r"save it as \.safetensors"):
        nn.save_weights(tmp_path / "a.npz", model)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_views_and_dtypes_of_torch(tmp_path, protocol):
    base = torch.arange(120, dtype=torch.float32).reshape(2, 3, 4, 5)
    kinds = ["float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]
    tensors = {
        "permuted": base.permute(3, 1, 0, 2),
        "sliced": base[:, 1:, ::2],
        "shared": base[1],
        "channels_last": base.to(memory_format=torch.channels_last),
        "expanded": torch.ones(3, 1).expand(3, 4),
        "trained": torch.nn.Parameter(torch.ones(2)),
        "scalar": torch.tensor(3.0),
        "empty": torch.empty(0, 2),
        **{kind: torch.tensor([0, 1, 3]).to(getattr(torch, kind)) for kind in kinds},
        "uint16": torch.tensor([1, 2], dtype=torch.uint8).to(torch.uint16),
    }
    torch.save(tensors, tmp_path / "a.pt", pickle_protocol=protocol)
    found = nn.load_weights(tmp_path / "a.pt")
    assert list(found) == list(tensors)
    for name, a in found.items():
        wide = tensors[name].float() if name == "bfloat16" else tensors[name]
        assert str(a.dtype) == str(wide.dtype).removeprefix("torch."), name
        assert np.array_equal(a, wide.detach().numpy()), name
    assert np.shares_memory(found["sliced"], found["shared"])


def test_inside_a_larger_checkpoint(tmp_path):
    whole = {
        "epoch": 3,
        "state_dict": {"w": torch.ones(2)},
        "optimizer": {"state": {0: {"m": torch.ones(2)}}, "lr": 0.1},
    }
    torch.save(whole, tmp_path / "a.pt")
    assert nn.load_weights(tmp_path / "a.pt", key="state_dict")["w"].tolist() == [1, 1]
    with pytest.raises(nn.WeightsError, match="choose one of key='state_dict'"):
        nn.load_weights(tmp_path / "a.pt")
    with pytest.raises(nn.WeightsError, match="no table 'model'"):
        nn.load_weights(tmp_path / "a.pt", key="model")


def test_what_is_no_state_dict_says_what_to_do(tmp_path):
    model = torch.nn.Linear(2, 2)
    torch.save(model, tmp_path / "whole.pt")
    torch.save(model.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(model, torch.ones(1, 2)), tmp_path / "script.pt")
    for path in tmp_path.iterdir():
        with pytest.raises(nn.WeightsError, match=r"torch.save\(model.state_dict\(\), path\)"):
            nn.load_weights(path)


def test_neither_torch_nor_pickle_reads(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pt")
    code = (
        "import sys; from npconv import nn; sys.addaudithook(lambda e, a: print(e) if e.startswith('pickle.') else None);"
        f"nn.load_weights({str(tmp_path / 'a.pt')!r}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_saving_refuses_and_keeps_the_old(tmp_path):
    path = tmp_path / "a.npz"
    nn.save_weights(path, {"a": np.ones(2)})
    before = path.read_bytes()
    for bad in (
        {"a": np.array(["text"])},
        {"../a": np.ones(2)},
        {"a": np.array([None])},
        {"": np.ones(1)},
        {3: np.ones(1)},
    ):
        with pytest.raises(nn.WeightsError):
            nn.save_weights(path, bad)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    for call in (lambda p: nn.load_weights(p), lambda p: nn.save_weights(p, {})):
        with pytest.raises(nn.WeightsError, match=r"it is one of \.safetensors"):
            call(tmp_path / "a.bin")
    with pytest.raises(FileNotFoundError):
        nn.load_weights(tmp_path / "missing.npz")
    with pytest.raises(nn.WeightsError, match=r"only a \.pt"):
        nn.load_weights(path, key="a")


def written_by_keras(folder: Path, *names: str) -> Path:
    """A folder of files that Keras wrote."""
    for library in ("keras", "h5py"):
        if find_spec(library) is None:
            pytest.skip(f"{library} writes these files")
    command = [sys.executable, str(Path(__file__).parent / "keras_checkpoints.py"), str(folder), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def of_keras(tmp_path_factory):
    return written_by_keras(tmp_path_factory.mktemp("keras"), "layers", "lenet", "unet")


@pytest.fixture(scope="module")
def all_of_keras(tmp_path_factory):
    return written_by_keras(tmp_path_factory.mktemp("keras_all"), *CALLS)


#: The seven, for Keras' layout; the checkpoints have ten classes.
CALLS = {
    "lenet": "models.lenet5(layout='channels_last')",
    "vgg": "models.vgg11(10, hidden=64, layout='channels_last')",
    "resnet": "models.resnet18(10, layout='channels_last')",
    "densenet": "models.densenet121(10, layout='channels_last')",
    "inception": "models.googlenet(10, layout='channels_last')",
    "mobilenet": "models.mobilenet_v2(10, layout='channels_last')",
    "unet": "models.unet(width=8, layout='channels_last')",
}
#: What an .h5 does not say.
FLATTENED = {"lenet": {"fc1": (5, 5, 16)}, "vgg": {"classifier_0": (7, 7, 512)}}


def check_keras(folder: Path, name: str) -> None:
    errors = compared(folder, name, CALLS[name], FLATTENED.get(name))
    assert set(errors) == {".keras", ".weights.h5"}
    assert max(errors.values()) < BOUND, errors


@pytest.mark.parametrize("name", ["lenet", "unet"])
def test_checkpoints_of_keras(of_keras, name):
    """Keras' outputs, from both kinds of file that it writes, in a process that has no Keras."""
    check_keras(of_keras, name)


@pytest.mark.long
@pytest.mark.parametrize("name", CALLS)
def test_all_checkpoints_of_keras(all_of_keras, name):
    check_keras(all_of_keras, name)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_all_layers_of_keras(of_keras, suffix):
    """A model of ours with the weights Keras saved computes what Keras computed."""
    flattened = None if suffix == ".keras" else {"scores": (10, 8, 6), "batch_normalization_2": (10, 8, 6)}
    weights = nn.load_weights(of_keras / f"sequential{suffix}", flattened=flattened)
    norm = partial(nn.BatchNorm, eps=1e-3)
    model = nn.Sequential(
        first=nn.Conv(3, 4, 3, padding=1),
        batch_normalization=norm(4),
        relu=nn.ReLU(),
        depthwise_conv2d=nn.DepthwiseConv(4, 3, multiplier=2),
        batch_normalization_1=norm(8),
        separable_conv2d=nn.SeparableConv(8, 5, 3, multiplier=2),
        conv2d_transpose=nn.ConvTranspose(5, 6, 2, stride=2),
        flatten=nn.Flatten(),
        batch_normalization_2=norm(6 * 10 * 8),
        scores=nn.Linear(6 * 10 * 8, 7),
    )
    given = {name: a for name, a in weights.items() if name != "separable_conv2d.depthwise.bias"}
    missing = set(model.weights()) - set(given)
    assert missing <= {"separable_conv2d.depthwise.bias"}
    model.load({**given, **{name: np.zeros_like(model.weights()[name]) for name in missing}})
    with np.load(of_keras / "sequential.npz") as saved:
        assert np.abs(model(np.moveaxis(saved["x"], -1, 1)) - saved["y"]).max() < 1e-4 * np.abs(saved["y"]).max()


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".h5"])
def test_a_model_inside_a_model_of_keras(of_keras, suffix):
    flattened = None if suffix == ".keras" else {"out": (7, 6, 4)}
    weights = nn.load_weights(of_keras / f"nested{suffix}", flattened=flattened)
    conv, out = (next(name for name in weights if name.endswith(end))[:-7] for end in ("a.weight", "out.weight"))
    model = nn.Sequential(a=nn.Conv(3, 4, 3), relu=nn.ReLU(), flatten=nn.Flatten(), out=nn.Linear(168, 3))
    model.load({name.replace(conv, "a").replace(out, "out"): a for name, a in weights.items()})
    with np.load(of_keras / "nested.npz") as saved:
        assert np.abs(model(np.moveaxis(saved["x"], -1, 1)) - saved["y"]).max() < 1e-4 * np.abs(saved["y"]).max()


def test_what_a_file_of_keras_does_not_say(of_keras):
    with pytest.raises(nn.WeightsError, match=r"'batch_normalization' has no gamma or no beta"):
        nn.load_weights(of_keras / "sequential.weights.h5")
    with pytest.raises(nn.WeightsError, match=r"flattened=\{'scores': \(height, width, channels\)\}|follows a Flatten"):
        nn.load_weights(of_keras / "sequential.h5")
    with pytest.raises(nn.WeightsError, match="has no such layers"):
        nn.load_weights(of_keras / "nested.keras", flattened={"typo": (1, 2, 3)})
    with pytest.raises(nn.WeightsError, match="a Dense has 168 inputs"):
        nn.load_weights(of_keras / "nested.weights.h5", flattened={"inner.a": (1,), "out": (7, 7, 4)})
