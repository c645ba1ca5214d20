"""`npconv filter`: the pixels against SciPy, the files and pipes, and what is refused."""

import io
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("click", reason="the command needs the extra `cli`")
pytest.importorskip("tqdm", reason="the command needs the extra `cli`")
Image = pytest.importorskip("PIL.Image", reason="pictures are read with Pillow (the extra `plot`)")
ndimage = pytest.importorskip("scipy.ndimage", reason="the oracle is SciPy's")

from click.testing import CliRunner  # noqa: E402

from npconv import filters  # noqa: E402
from npconv.border_modes import modes  # noqa: E402
from npconv.cli import main  # noqa: E402
from npconv.cli.kernel_names import EDGES, NAMES  # noqa: E402


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def picture(pixels: np.ndarray, name: str = "p.png") -> str:
    Image.fromarray(pixels).save(name)
    return name


def run(*arguments: object, stdin: bytes | None = None):
    return CliRunner().invoke(main, ["filter", *map(str, arguments)], input=stdin)


def filtered(*arguments: object, out: str = "out.npy") -> np.ndarray:
    """The numbers, or pixels, that a filter gives."""
    result = run(*arguments, "--out", out)
    assert result.exit_code == 0, result.stderr
    return np.load(out) if out.endswith(".npy") else np.asarray(Image.open(out))


def correlated(image: np.ndarray, kernel: np.ndarray, mode: str = "mirror", **more) -> np.ndarray:
    return ndimage.correlate(image.astype(np.float64), np.asarray(kernel, np.float64), mode=mode, **more)


SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])


# --------------------------------------------------------------------------- what comes out
def test_edges_in_one_call():
    pixels = drawn(9, 12)
    y = filtered(picture(pixels))
    np.testing.assert_allclose(y, np.hypot(correlated(pixels, SOBEL), correlated(pixels, SOBEL.T)), rtol=1e-12)


def test_each_channel_alike_and_grey_first():
    pixels = drawn(7, 8, 3)
    y = filtered(picture(pixels), "--kernel", "sobel-y")
    assert y.dtype == np.int64
    for c in range(3):
        np.testing.assert_array_equal(y[..., c], correlated(pixels[..., c], SOBEL.T))
    luma = np.asarray(Image.fromarray(pixels).convert("L"))
    y = filtered("p.png", "--kernel", "sobel-y", "--grey", out="grey.npy")
    np.testing.assert_array_equal(y, correlated(luma, SOBEL.T))


def test_every_name_of_the_library_is_taken():
    assert set(filters.kernels) <= set(NAMES)
    picture(drawn(5, 6))
    for name in NAMES:
        y = filtered("p.png", "--kernel", name, out=f"{name}.npy")
        base, _, axis = name.partition("-")
        if name in EDGES:
            expected = filters.gradient_magnitude(np.asarray(Image.open("p.png")), name)
        else:
            kernel = filters.gaussian(2.0) if name == "blur" else filters.kernels[base](*axis)
            expected = filters.apply(np.asarray(Image.open("p.png")), kernel)
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("written", "kernel"),
    [
        ("0,-1,0; -1,5,-1; 0,-1,0", [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
        ("-1,0,1", [[-1, 0, 1]]),
        ("1/9 1/9 1/9; 1/9 1/9 1/9; 1/9 1/9 1/9;", np.full((3, 3), 1 / 9)),
        ("0.5;0.5", [[0.5], [0.5]]),
        ("k.txt", [[1, 2], [3, -4]]),
        ("k.npy", [[0.25, 0.75]]),
        ("2", [[2]]),
    ],
)
def test_kernels_of_ones_own(written, kernel):
    Path("k.txt").write_text("1 2\n3, -4\n")
    np.save("k.npy", [[0.25, 0.75]])
    pixels = drawn(6, 7)
    y = filtered(picture(pixels), "--kernel", written)
    np.testing.assert_allclose(y, correlated(pixels, kernel), rtol=1e-12, atol=1e-12)
    assert (y.dtype == np.int64) == (np.asarray(kernel).dtype == np.int64)


@pytest.mark.parametrize(
    ("more", "how"),
    [
        (("--mode", "scipy.reflect"), {"mode": "reflect"}),
        (("--mode", "replicate"), {"mode": "nearest"}),
        (("--mode", "opencv.wrap"), {"mode": "grid-wrap"}),
        (("--mode", "constant", "--cval", "7"), {"mode": "constant", "cval": 7}),
    ],
)
def test_borders(more, how):
    pixels = drawn(6, 7)
    y = filtered(picture(pixels), "--kernel", "emboss", *more)
    np.testing.assert_array_equal(y, correlated(pixels, [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], **how))


@pytest.mark.parametrize(("kernel", "stride"), [("sobel", "3"), ("sobel", "2,3"), ("box", "2,3"), ("laplacian", "4")])
def test_stride_keeps_every_so_many(kernel, stride):
    picture(drawn(13, 17))
    rows, columns = (int(n) for n in (stride.split(",") * 2)[:2])
    every = filtered("p.png", "--kernel", kernel)
    np.testing.assert_allclose(
        filtered("p.png", "--kernel", kernel, "--stride", stride, out="s.npy"), every[::rows, ::columns], rtol=1e-14
    )


def test_sigma_and_size():
    pixels = drawn(30, 40)
    y = filtered(picture(pixels), "--kernel", "gaussian", "--sigma", "1.5")
    np.testing.assert_allclose(y, ndimage.gaussian_filter(pixels.astype(float), 1.5, mode="mirror"), rtol=1e-12)
    y = filtered("p.png", "--kernel", "box", "--size", "3,5", out="b.npy")
    np.testing.assert_allclose(y, correlated(pixels, np.full((3, 5), 1 / 15)), rtol=1e-12)


# --------------------------------------------------------------------------- numbers as pixels
def test_clipped_where_the_kernel_does_not_sum_to_zero():
    pixels = drawn(8, 9)
    expected = correlated(pixels, [[0, -1, 0], [-1, 5, -1], [0, -1, 0]])
    assert ((expected < 0) | (expected > 255)).any()
    np.testing.assert_array_equal(
        filtered(picture(pixels), "--kernel", "sharpen", out="out.png"), expected.clip(0, 255)
    )
    np.testing.assert_array_equal(
        filtered("p.png", "--kernel", "sharpen", "--values", "abs", out="abs.png"), np.abs(expected).clip(0, 255)
    )


def test_stretched_around_grey_where_there_are_signs():
    pixels = drawn(20, 20)
    exact = correlated(pixels, SOBEL)
    y = filtered(picture(pixels), "--kernel", "sobel-x", out="out.png").astype(float)
    top = np.percentile(np.abs(exact), 99.5)
    np.testing.assert_allclose(y, (127.5 + 127.5 * exact / top).clip(0, 255), atol=0.51)
    flat = filtered(picture(np.full((9, 9), 77, np.uint8), "f.png"), "--kernel", "sobel-x", out="flat.png")
    assert set(np.unique(flat)) <= {127, 128}


def test_the_strength_of_edges_reaches_white():
    pixels = drawn(20, 20, 3)
    y = filtered(picture(pixels), out="out.png")
    assert y.shape == (20, 20, 3)
    assert y.max() == 255
    assert y.min() < 60
    assert filtered(picture(np.zeros((5, 5), np.uint8), "z.png"), out="zero.png").max() == 0


def test_a_picture_of_16_bits_stays_one():
    pixels = np.random.default_rng(1).integers(0, 65536, (8, 9)).astype(np.uint16)
    Image.fromarray(pixels).save("deep.png")
    y = filtered("deep.png", "--kernel", "identity", out="out.png")
    np.testing.assert_array_equal(y, pixels)
    y = filtered("deep.png", "--kernel", "box", out="box.png").astype(float)
    np.testing.assert_allclose(y, correlated(pixels, np.full((3, 3), 1 / 9)), atol=0.51)
    assert "has 8 bits a channel" in run("deep.png", "--out", "deep.jpg").stderr


def test_arrays():
    x = np.random.default_rng(2).standard_normal((6, 7, 5)).astype(np.float32)
    np.save("x.npy", x)
    y = filtered("x.npy", "--kernel", "laplacian")
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, filters.apply(x, "laplacian"))
    assert "has 1 or 3 channels, and this array 5" in run("x.npy", "--out", "x.png").stderr.replace("picture ", "")


def test_transparent_is_white():
    clear = np.zeros((3, 3, 4), np.uint8)
    clear[1, 1] = 10, 20, 30, 255
    y = filtered(picture(clear), "--kernel", "identity", out="out.png")
    assert y[1, 1].tolist() == [10, 20, 30]
    assert (y[0] == 255).all()


# --------------------------------------------------------------------------- files and pipes
def test_a_pipe():
    buffer = io.BytesIO()
    pixels = drawn(5, 6)
    Image.fromarray(pixels).save(buffer, "PNG")
    result = run("-", "--kernel", "identity", "--out", "-", stdin=buffer.getvalue())
    assert result.exit_code == 0, result.stderr
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(result.stdout_bytes))), pixels)
    assert result.stderr == ""


def test_what_is_there_stays():
    picture(drawn(5, 5))
    Path("out.png").write_bytes(b"mine")
    result = run("p.png", "--out", "out.png")
    assert (result.exit_code, result.stderr) == (1, "npconv: out.png exists; --force replaces it\n")
    assert Path("out.png").read_bytes() == b"mine"
    assert run("p.png", "--out", "out.png", "--force").exit_code == 0
    assert Path("out.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in Path().iterdir()} == {"p.png", "out.png"}


def test_a_write_that_fails_leaves_nothing(monkeypatch):
    picture(drawn(5, 5))

    def refuse(self, target):
        raise OSError(28, "No space left on device", str(self), None, str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    result = run("p.png", "--out", "out.png")
    assert (result.exit_code, result.stderr) == (1, "npconv: cannot write out.png: No space left on device\n")
    assert [path.name for path in Path().iterdir()] == ["p.png"]


def test_many_into_a_folder():
    for name in ("a.png", "b.jpg", "c.png"):
        picture(drawn(6, 6, 3), name)
    result = run("a.png", "b.jpg", "c.png", "--out", "edges")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "3 of 3 images in edges\n", "")
    assert {path.name for path in Path("edges").iterdir()} == {"a.png", "b.png", "c.png"}
    assert run("a.png", "--out", "edges").stderr == f"npconv: {Path('edges') / 'a.png'} exists; --force replaces it\n"


def test_one_of_many_that_is_broken():
    picture(drawn(6, 6), "a.png")
    Path("b.png").write_bytes(b"nothing")
    result = run("a.png", "b.png", "none.png", "--out", "edges")
    assert result.exit_code == 1
    assert result.stdout == "1 of 3 images in edges\n"
    assert result.stderr.startswith("npconv: b.png cannot be read as PNG or JPEG")
    assert result.stderr.endswith(", and 1 more\n")
    assert [path.name for path in Path("edges").iterdir()] == ["a.png"]


def test_two_that_would_be_one():
    for name in ("a.png", "a.jpg"):
        picture(drawn(6, 6), name)
    result = run("a.png", "a.jpg", "--out", "edges")
    assert result.exit_code == 1
    assert "would both become" in result.stderr
    assert not Path("edges").exists()


# --------------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Missing argument 'IMAGES...'"),
        (["p.png"], 2, "Missing option '--out'"),
        (["none.png", "--out", "o.png"], 1, "none.png: No such file or directory"),
        ([".", "--out", "o.png"], 1, ". is not a regular file"),
        (["text.png", "--out", "o.png"], 1, "text.png cannot be read as PNG or JPEG: cannot identify"),
        (["empty.png", "--out", "o.png"], 1, "empty.png cannot be read as PNG or JPEG"),
        (["empty.npy", "--out", "o.png"], 1, "empty.npy is no .npy of plain numbers"),
        (["three.npy", "--out", "o.png"], 1, "three.npy holds float64 of shape (3,)"),
        (["nan.npy", "--out", "o.png"], 1, "not finite; write an .npy"),
        (["zero.npy", "--out", "o.png"], 1, "the image has no pixels: (0, 4)"),
        (["p.png", "--out", "o.gif"], 2, "o.gif is none of the kinds that are written: .png, .jpg"),
        (["p.png", "--out", "no/o.png"], 1, "no is no folder"),
        (["p.png", "--out", "folder.png"], 1, "folder.png is a folder"),
        (["p.png", "-", "--out", "folder"], 2, "a pipe brings one picture and takes one"),
        (
            ["p.png", "--out", "o.png", "--kernel", "sobl"],
            2,
            "is no name, no file and no numbers; did you mean 'sobel'",
        ),
        (["p.png", "--out", "o.png", "--kernel", "zzz"], 2, "the names are sobel, prewitt, scharr"),
        (["p.png", "--out", "o.png", "--kernel", "1,2;3"], 1, "--kernel: the rows have 2, 1 numbers"),
        (["p.png", "--out", "o.png", "--kernel", "1/0"], 1, "--kernel: numbers are written as"),
        (["p.png", "--out", "o.png", "--kernel", "3 x"], 1, "--kernel: numbers are written as"),
        (["p.png", "--out", "o.png", "--kernel", "cube.npy"], 1, "a kernel has shape (h, w)"),
        (["p.png", "--out", "o.png", "--kernel", "p.png"], 1, "p.png is no kernel: neither .npy nor text"),
        (["p.png", "--out", "o.png", "--kernel", "wide.txt"], 1, "each from 1 to 1001; this one has (1, 1002)"),
        (["p.png", "--out", "o.png", "--sigma", "2"], 2, "sobel has neither a sigma nor a size"),
        (["p.png", "--out", "o.png", "--kernel", "box", "--sigma", "2"], 2, "--sigma is for gaussian and blur"),
        (["p.png", "--out", "o.png", "--kernel", "emboss", "--size", "2"], 2, "--size is for box, gaussian and blur"),
        (["p.png", "--out", "o.png", "--kernel", "blur", "--sigma", "0"], 2, "Invalid value for '--sigma'"),
        (["p.png", "--out", "o.png", "--mode", "mirror"], 2, "Invalid value for '--mode'"),
        (["p.png", "--out", "o.png", "--cval", "3"], 1, "cval=3.0 has no use in mode='reflect'"),
        (["p.png", "--out", "o.png", "--stride", "0"], 1, "stride"),
        (["p.png", "--out", "o.png", "--stride", "1,2,3"], 1, "stride"),
        (["p.png", "--out", "o.png", "--stride", "1,2,3", "--kernel", "box"], 1, "stride"),
        (["p.png", "--out", "o.png", "--stride", "-2"], 1, "stride"),
        (["p.png", "--out", "o.png", "--values", "loud"], 2, "Invalid value for '--values'"),
    ],
)
def test_errors_are_one_line(arguments, code, message):
    picture(drawn(5, 5))
    Path("text.png").write_text("no picture")
    Path("folder.png").mkdir()
    Path("wide.txt").write_text("1 " * 1002)
    for name in ("empty.png", "empty.npy"):
        Path(name).touch()
    for name, a in {"three": np.ones(3), "zero": np.ones((0, 4)), "cube": np.ones((2, 2, 2))}.items():
        np.save(f"{name}.npy", a)
    np.save("nan.npy", np.full((3, 3), np.nan))
    before = {path.name for path in Path().iterdir()}
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("npconv: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert {path.name for path in Path().iterdir()} - before == set()


def test_modes_are_the_librarys():
    result = run("--help")
    assert result.exit_code == 0, result.stderr
    option = next(o for o in main.get_command(None, "filter").params if o.name == "mode")
    assert list(option.type.choices) == list(modes)
