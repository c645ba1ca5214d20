"""Checkpoints: whole or not there, refused when damaged, and a training that goes on bit for bit."""

import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from npconv import nn
from npconv.nn import checkpoint_file, checkpoints

SRC = Path(__file__).parents[1] / "src"

#: A training with everything that has to survive: dropout, batch norm, augmentation, momentum, a schedule, early
#: stopping. Its last line says what came of it.
TRAINING = textwrap.dedent(
    """
    import hashlib, json, sys
    import numpy as np
    from npconv import nn

    def model():
        rng = np.random.default_rng(5)
        return nn.Sequential(
            nn.Conv(1, 4, 3, padding=1, rng=rng), nn.BatchNorm(4), nn.ReLU(), nn.MaxPool(2),
            nn.Dropout(0.3, rng=11), nn.Flatten(), nn.Linear(36, 3, rng=rng),
        )

    def train(folder, epochs=6, every=1, **options):
        data = np.random.default_rng(0)
        x, y = data.standard_normal((40, 1, 6, 6)).astype(np.float32), data.integers(0, 3, 40)
        m = model()
        history = nn.fit(
            m, (x, y), loss=nn.CrossEntropy(0.1), optimizer=nn.Adam(m, rate=0.2), epochs=epochs, batch_size=8,
            validation=(x[:10], y[:10]), schedule=nn.warm_up(1, nn.cosine(epochs)), augment=nn.augment(crop=1),
            early_stopping=epochs, checkpoint=folder, checkpoint_every=every, rng=3, **options,
        )
        told = [history.loss, history.metrics, history.rate, history.best]
        weights = b"".join(a.tobytes() for a in m.weights().values())
        return hashlib.sha256(json.dumps(told).encode() + weights).hexdigest()

    if __name__ == "__main__":
        print(train(sys.argv[1], int(sys.argv[2])))
    """
)
NAMES: dict = {"__name__": "training"}
exec(TRAINING, NAMES)
train, model = NAMES["train"], NAMES["model"]


@pytest.fixture(scope="module")
def undisturbed():
    """What a training of 6 epochs comes to; no checkpoints change that."""
    return train(None, every=None)


# --------------------------------------------------------------------------- going on
def test_checkpoints_change_nothing(tmp_path, undisturbed):
    assert train(tmp_path) == undisturbed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000029.ckpt", "step-000000030.ckpt"]


class Stop(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("step", [1, 4, 5, 6, 17, 29, 30])
def test_interrupted_once(tmp_path, undisturbed, step):
    """At any step: in an epoch, at its end, after the last."""
    left = [step]

    def callback(now):
        left[0] -= 1
        if not left[0]:
            raise Stop

    with pytest.raises(Stop):
        train(tmp_path, callback=callback)
    assert train(tmp_path) == undisturbed


def test_interrupted_again_and_again(tmp_path, undisturbed):
    def callback(now):
        raise Stop

    for _ in range(30):
        with pytest.raises(Stop):
            train(tmp_path, callback=callback)
    assert train(tmp_path) == undisturbed


def test_more_epochs_go_on_where_fewer_ended(tmp_path):
    options = {"loss": nn.MSE(), "batch_size": 4, "rng": 3, "resume": True}
    x = np.random.default_rng(0).standard_normal((12, 2)).astype(np.float32)
    whole, halves = nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=0)
    nn.fit(whole, (x, x), optimizer=nn.Adam(whole), epochs=5, **options)
    nn.fit(halves, (x, x), optimizer=nn.Adam(halves), epochs=2, checkpoint=tmp_path, **options)
    again = nn.Linear(2, 2, rng=9)
    history = nn.fit(again, (x, x), optimizer=nn.Adam(again), epochs=5, checkpoint=tmp_path, **options)
    assert len(history) == 5
    assert (whole.params["weight"] == again.params["weight"]).all()


def test_resume_false_begins_anew(tmp_path, undisturbed):
    train(tmp_path, epochs=1)
    assert train(tmp_path, resume=False) == undisturbed


def test_anew_and_interrupted_the_old_files_are_not_gone_on_from(tmp_path, undisturbed):
    train(tmp_path, epochs=2)

    def callback(now):
        if now.batch == 3:
            raise Stop

    with pytest.raises(Stop):
        train(tmp_path, resume=False, callback=callback)
    assert [path.name for path in checkpoints.files(tmp_path)] == ["step-000000003.ckpt", "step-000000002.ckpt"]
    assert train(tmp_path) == undisturbed


def test_the_last_is_damaged_and_the_one_before_is_taken(tmp_path, undisturbed):
    def callback(now):
        if (now.epoch, now.batch) == (3, 2):
            raise Stop

    with pytest.raises(Stop):
        train(tmp_path, callback=callback)
    newest = checkpoints.files(tmp_path)[0]
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(RuntimeWarning, match=r"step-000000017.ckpt: is damaged: its checksum is wrong; going on from"):
        assert train(tmp_path) == undisturbed


def test_all_are_damaged(tmp_path):
    train(tmp_path, epochs=1)
    for path in checkpoints.files(tmp_path):
        path.write_bytes(b"")
    with pytest.raises(nn.CheckpointError, match=r"no checkpoint in .* is whole"):
        train(tmp_path)


def test_left_overs_are_swept(tmp_path):
    (tmp_path / ".step-abc.part").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    train(tmp_path, epochs=1)
    assert {p.name for p in tmp_path.iterdir()} == {"notes.txt", "step-000000004.ckpt", "step-000000005.ckpt"}


# --------------------------------------------------------------------------- killed
def start(script, folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(SRC), "NPCONV_KERNELS": "numpy"}
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), *map(str, arguments)], stdout=subprocess.PIPE, env=environment
    )


def killed_and_resumed(tmp_path, times, epochs):
    """Kill a training at random moments, so many times; then let it end. (what it came to, steps after each kill)."""
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    chance, steps = random.Random(4), []
    for _ in range(times):
        before = {path.name for path in checkpoints.files(tmp_path)}
        process = start(script, tmp_path, epochs)
        # Not before the first new checkpoint: else a slow machine would never come to an end.
        while process.poll() is None and {path.name for path in checkpoints.files(tmp_path)} == before:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        steps.append(int(checkpoints.files(tmp_path)[0].stem.split("-")[1]))
    process = start(script, tmp_path, epochs)
    out, _ = process.communicate()
    return out.decode().strip(), steps


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
@pytest.mark.parametrize("times", [6, pytest.param(50, marks=pytest.mark.long)])
def test_killed_at_random_moments(tmp_path, times):
    epochs = 10 * times
    alone = tmp_path / "alone"
    alone.mkdir()
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    expected = start(script, alone, epochs).communicate()[0].decode().strip()
    found, steps = killed_and_resumed(tmp_path, times, epochs)
    assert found == expected
    assert steps == sorted(steps), "a step was lost"
    assert steps[0] < steps[-1] < 5 * epochs, "every kill came after the end"


CRASHES = ["mkstemp", "fdopen", "fsync", "replace", "after replace", "unlink"]


@pytest.mark.parametrize("where", CRASHES)
def test_killed_at_each_call_of_a_write(tmp_path, undisturbed, where, monkeypatch):
    """The process is gone before the call, at one write after another: no `finally` runs."""

    class Gone(BaseException):
        pass

    count, limit = [0], [0]

    def dying(real, late=False):
        def call(*args, **kwargs):
            result = real(*args, **kwargs) if late else None
            count[0] += 1
            if count[0] == limit[0]:
                raise Gone
            return result if late else real(*args, **kwargs)

        return call

    def no_cleaning(self, missing_ok=False):
        """What a killed process does not do."""

    targets = {"mkstemp": (checkpoint_file.tempfile, "mkstemp"), "unlink": (Path, "unlink")}
    owner, name = targets.get(where, (checkpoint_file.os, where.removeprefix("after ")))
    for nth in (1, 2, 7, 12):
        folder = tmp_path / str(nth)
        with monkeypatch.context() as patch:
            if where != "unlink":
                patch.setattr(Path, "unlink", no_cleaning)
            count[0], limit[0] = 0, nth
            patch.setattr(owner, name, dying(getattr(owner, name), late=where == "after replace"))
            with pytest.raises(Gone):
                train(folder)
        assert train(folder) == undisturbed


class FullDisk:
    """A file on a disk that has room for so many bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        self.room -= memoryview(data).nbytes
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)


@pytest.mark.parametrize("room", [0, 20, 2000, 4000])
def test_a_full_disk_is_an_error_and_leaves_the_old_files(tmp_path, undisturbed, monkeypatch, room):
    train(tmp_path, epochs=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert all(len(content) > 4000 for content in before.values())
    real = os.fdopen
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_file.os, "fdopen", lambda handle, mode: FullDisk(real(handle, mode), room))
        with pytest.raises(OSError, match=r"No space left on device: .*step-000000006\.ckpt"):
            train(tmp_path, epochs=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert train(tmp_path) == undisturbed


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only(tmp_path):
    train(tmp_path, epochs=1)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="step-"):
            train(tmp_path, epochs=2)
    finally:
        tmp_path.chmod(0o700)
    assert len(checkpoints.files(tmp_path)) == 2


# --------------------------------------------------------------------------- one's own loop
@pytest.mark.parametrize("kind", ["PCG64", "MT19937", "Philox", "SFC64"])
def test_everything_comes_back(tmp_path, kind):
    def made():
        rng = np.random.Generator(getattr(np.random, kind)(7))
        m = nn.Sequential(nn.Linear(3, 3, rng=0), nn.Dropout(rng=rng), nn.Linear(3, 3, rng=1, dtype=np.float64))
        return m, nn.SGD(m, rate=0.1, momentum=0.9), np.random.Generator(getattr(np.random, kind)(8))

    m, opt, rng = made()
    for _ in range(3):
        y, saved = m.forward(np.ones((2, 3), np.float32))
        opt.step(m.backward(np.ones_like(y), saved)[1])
        rng.random(5)
        rng.integers(0, 2, 3, np.uint32)  # half of a 64-bit draw is left over
    facts = {"what": "mine", "numbers": [1, 0.1, None]}
    path = nn.save_checkpoint(tmp_path / "new" / "folder", m, opt, step=3, rng=rng, facts=facts, extra={"a": np.eye(2)})
    assert path.name == "step-000000003.ckpt"
    other, other_opt, other_rng = made()
    for source in (tmp_path / "new" / "folder", path):
        found = nn.load_checkpoint(source, other, other_opt, rng=other_rng)
        assert found.step == 3
        assert found.facts == facts
        assert (found.arrays["a"] == np.eye(2)).all()
    assert all((a == b).all() for a, b in zip(m.weights().values(), other.weights().values(), strict=True))
    assert all((a == b).all() for a, b in zip(opt.state().values(), other_opt.state().values(), strict=True))
    assert (rng.random(9) == other_rng.random(9)).all()
    assert (rng.integers(0, 9, 9, np.uint32) == other_rng.integers(0, 9, 9, np.uint32)).all()
    x = np.ones((4, 3), np.float32)
    assert (m.forward(x)[0] == other.forward(x)[0]).all()


def test_none_is_there(tmp_path):
    assert nn.load_checkpoint(tmp_path, nn.Linear(2, 2)) is None
    assert nn.load_checkpoint(tmp_path / "nowhere", nn.Linear(2, 2)) is None


def test_every_dtype_and_shape(tmp_path):
    arrays = {
        f"{dtype} {shape}": np.ones(shape, dtype) * 3
        for dtype in ("?", "b", "H", "i", "q", "e", "f", "d", "F", "D", ">f4")
        for shape in ((), (0,), (3,), (2, 0, 4), (5, 7, 2))
    }
    arrays["strided"] = np.arange(24.0).reshape(4, 6)[::2, ::-3].T
    m = nn.Linear(2, 2)
    nn.save_checkpoint(tmp_path, m, step=0, extra=arrays)
    found = nn.load_checkpoint(tmp_path, m).arrays
    assert set(found) == set(arrays)
    for name, a in arrays.items():
        assert found[name].dtype == a.dtype.newbyteorder("=")
        assert found[name].shape == a.shape
        assert (found[name] == a).all()
        assert found[name].flags.writeable
        assert found[name].flags.owndata
    with pytest.raises(TypeError, match="no number's"):
        nn.save_checkpoint(tmp_path, m, step=1, extra={"o": np.array([object()])})


def test_how_many_are_kept(tmp_path):
    for step in range(5):
        nn.save_checkpoint(tmp_path, nn.Linear(2, 2), step=step, keep=3)
    assert [path.name for path in checkpoints.files(tmp_path)] == [f"step-00000000{i}.ckpt" for i in (4, 3, 2)]


# --------------------------------------------------------------------------- files that are none
@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    m = nn.Linear(5, 5, rng=0)
    return nn.save_checkpoint(tmp_path_factory.mktemp("whole"), m, nn.Adam(m), step=1).read_bytes()


def refused(tmp_path, content):
    path = tmp_path / "step-000000001.ckpt"
    path.write_bytes(content)
    m = nn.Linear(5, 5, rng=0)
    before = m.params["weight"].copy()
    with pytest.raises(nn.CheckpointError) as error:
        nn.load_checkpoint(tmp_path, m, nn.Adam(m))
    assert (m.params["weight"] == before).all()
    return str(error.value)


def test_cut_anywhere(tmp_path, whole):
    for length in (*range(100), *range(100, len(whole), 37), len(whole) - 1):
        refused(tmp_path, whole[:length])


def test_any_flipped_bit(tmp_path, whole):
    rng = np.random.default_rng(0)
    for at in rng.integers(0, 8 * len(whole), 100):
        changed = bytearray(whole)
        changed[at // 8] ^= 1 << at % 8
        refused(tmp_path, bytes(changed))


def signed(header, data=b"", length=None):
    """A file with a right checksum: somebody else may write one too."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = (len(text) if length is None else length).to_bytes(8, "little") + text + data
    return checkpoint_file.MAGIC + hashlib.sha256(body).digest() + body


def entry(**change):
    return {"arrays": {"model/a": {"dtype": "float32", "shape": [4], "offset": 0} | change}, "step": 1}


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04" + bytes(100),
        b"\x80\x04cos\nsystem\n" + bytes(100),
        signed(b"{"),
        signed(b"[]"),
        signed(b"\xff\xfe"),
        signed(b"[" * 100_000),
        signed({}),
        signed({"arrays": []}),
        signed({}, length=2**63),
        signed(entry(), b"123"),
        signed(entry(shape=[10**18]), bytes(16)),
        signed(entry(shape=[2**40, 2**40]), bytes(16)),
        signed(entry(shape=[-4]), bytes(16)),
        signed(entry(shape=[True]), bytes(16)),
        signed(entry(shape=[1] * 100), bytes(16)),
        signed(entry(offset=-4), bytes(16)),
        signed(entry(offset=1.5), bytes(16)),
        signed(entry(dtype="object"), bytes(16)),
        signed(entry(dtype="O,O"), bytes(16)),
        signed(entry(dtype="M8[s]"), bytes(64)),
        signed(entry(dtype=None), bytes(64)),
        signed(entry(dtype="U1000000000"), bytes(64)),
        signed(entry(), bytes(16)),
    ],
)
def test_files_that_are_none(tmp_path, content):
    refused(tmp_path, content)


@pytest.mark.parametrize(
    ("other", "optimizer", "words"),
    [
        (lambda: nn.Linear(5, 4), nn.Adam, "of another training"),
        (lambda: nn.Linear(5, 5, bias=False), nn.Adam, "of another training"),
        (lambda: nn.Linear(5, 5, dtype=np.float64), nn.Adam, "is float32 there, but float64 here"),
        (lambda: nn.Linear(5, 5), lambda m: nn.SGD(m, rate=1), "another optimizer's state"),
        (lambda: nn.Sequential(nn.Linear(5, 5), nn.Dropout()), nn.Adam, "the generator 'layer 1' is not in both"),
    ],
)
def test_of_another_training(tmp_path, whole, other, optimizer, words):
    (tmp_path / "step-000000001.ckpt").write_bytes(whole)
    m = other()
    opt = optimizer(m)
    before = {**{n: a.copy() for n, a in m.weights().items()}, **opt.state()}
    with pytest.raises(nn.CheckpointError) as error:
        nn.load_checkpoint(tmp_path, m, opt)
    assert words in str(error.value)
    assert str(error.value).startswith("step-000000001.ckpt is of another training: ")
    assert all((a == before[name]).all() for name, a in {**m.weights(), **opt.state()}.items())


def test_another_kind_of_generator(tmp_path):
    m = nn.Linear(2, 2)
    nn.save_checkpoint(tmp_path, m, step=1, rng=np.random.default_rng(0))
    with pytest.raises(nn.CheckpointError, match="the generator 'rng' was a 'PCG64'"):
        nn.load_checkpoint(tmp_path, m, rng=np.random.Generator(np.random.MT19937()))


def test_fit_refuses_another_trainings_folder(tmp_path):
    m, x = nn.Linear(2, 2, rng=0), np.ones((8, 2), np.float32)
    options = {"loss": nn.MSE(), "optimizer": nn.SGD(m, rate=0.1), "epochs": 1, "checkpoint": tmp_path}
    nn.fit(m, (x, x), batch_size=4, **options)
    for data, batch, words in (((x, x), 2, "batch_size is 2, but .* has 4"), ((x[:6], x[:6]), 4, "examples is 6")):
        with pytest.raises(nn.CheckpointError, match=words):
            nn.fit(m, data, batch_size=batch, **options)
