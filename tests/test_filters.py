"""Image filters against SciPy's ndimage, against the sum written out, and exactly where they promise it."""

import itertools

import numpy as np
import pytest

from npconv import filters

ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy is the independent opinion on filters")

SCIPY_MODES = [name.removeprefix("scipy.") for name in filters.modes if name.startswith("scipy.")]
NUMPY_MODES = [name.removeprefix("numpy.") for name in filters.modes if name.startswith("numpy.")]


def by_hand(image, kernel, mode="reflect", **pad):
    """The sum over a plane padded by np.pad, in Python numbers of the image's kind."""
    h, w = kernel.shape
    padded = np.pad(image, ((h // 2, h - 1 - h // 2), (w // 2, w - 1 - w // 2)), mode, **pad)
    return sum(
        kernel[i, j] * padded[i : i + image.shape[0], j : j + image.shape[1]]
        for i, j in itertools.product(range(h), range(w))
    )


@pytest.mark.parametrize("mode", SCIPY_MODES)
@pytest.mark.parametrize("k", [(3, 3), (1, 5), (4, 2), (2, 7), (9, 9)])
def test_agrees_with_scipy_in_every_mode(mode, k):
    rng = np.random.default_rng(1)
    for shape in [(12, 15), (5, 4), (1, 6)]:
        image, kernel = rng.standard_normal(shape), rng.standard_normal(k)
        expected = ndimage.correlate(image, kernel, mode=mode, cval=0.7 if "constant" in mode else 0.0)
        ours = filters.apply(image, kernel, mode=f"scipy.{mode}", cval=0.7 if "constant" in mode else 0.0)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-13 * np.abs(kernel).sum() * 4)


@pytest.mark.parametrize("mode", NUMPY_MODES)
def test_numpy_names_mean_what_np_pad_means(mode):
    rng = np.random.default_rng(2)
    image, kernel = rng.integers(-9, 9, (6, 5)), rng.integers(-9, 9, (5, 4))
    ours = filters.apply(image, kernel, mode=f"numpy.{mode}")
    assert np.array_equal(ours, by_hand(image, kernel, mode))


def test_the_word_reflect():
    row, first = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 0.0, 0.0]])  # the pixel to the left
    beyond = {name: filters.apply(row, first, mode=name)[0, 0] for name in filters.modes}
    assert [name for name, value in beyond.items() if value == 2] == [
        "reflect",
        "numpy.reflect",
        "scipy.mirror",
        "opencv.reflect_101",
        "opencv.default",
        "torch.reflect",
    ]
    assert beyond["scipy.reflect"] == beyond["opencv.reflect"] == beyond["symmetric"] == 1
    assert beyond["circular"] == beyond["numpy.wrap"] == beyond["scipy.grid-wrap"] == 3
    assert beyond["zeros"] == beyond["constant"] == 0


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "uint64"])
def test_integers_are_exact_and_never_wrap(dtype):
    rng = np.random.default_rng(3)
    info = np.iinfo(dtype)
    high = min(int(info.max), 2**40)
    image = rng.integers(max(int(info.min), -high), high, (9, 8), dtype=dtype, endpoint=True)
    for kernel in (
        filters.sobel("x"),
        filters.laplacian(),
        np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]),
        rng.integers(-99, 99, (6, 5)),
    ):
        ours = filters.apply(image, kernel)
        assert ours.dtype == np.int64
        assert np.array_equal(ours, by_hand(image.astype(object), kernel.astype(object)))


def test_uint8_kernel_and_large_cval_do_not_wrap():
    image = np.full((4, 4), 250, np.uint8)
    heavy = np.full((2, 2), 200, np.uint8)
    assert filters.apply(image, heavy, mode="replicate").tolist() == [[200_000] * 4] * 4
    left = np.array([[1, 0, 0]])
    assert filters.apply(image, left, mode="constant", cval=1000)[0].tolist() == [1000, 250, 250, 250]
    assert filters.apply(image, left, mode="constant", cval=-7)[0].tolist() == [-7, 250, 250, 250]
    assert filters.apply(image, left / 2, mode="constant", cval=0.5)[0].tolist() == [0.25, 125, 125, 125]


def test_channels_are_filtered_alike_and_apart():
    rng = np.random.default_rng(4)
    image, kernel = rng.integers(0, 255, (10, 11, 4), dtype=np.uint8), rng.integers(-9, 9, (3, 5))
    ours = filters.apply(image, kernel, mode="circular")
    assert ours.shape == image.shape
    for c in range(4):
        assert np.array_equal(ours[..., c], filters.apply(image[..., c], kernel, mode="circular"))
    assert filters.apply(image[..., :1], kernel).shape == (10, 11, 1)
    assert filters.apply(image[..., :0], kernel).shape == (10, 11, 0)
    assert filters.apply(image[:0], kernel, stride=2).shape == (0, 6, 4)


@pytest.mark.parametrize("stride", [1, 2, (3, 1), (2, 5), 100])
def test_stride_keeps_every_nth_pixel(stride):
    rng = np.random.default_rng(5)
    image = rng.integers(0, 255, (11, 13, 3), dtype=np.uint8)
    for kernel in (rng.integers(-9, 9, (4, 3)), np.outer([1, 2, 3, 2, 1], [1, 0, 0, 0, 0, -1])):
        s, t = (stride, stride) if isinstance(stride, int) else stride
        every = filters.apply(image, kernel)
        assert np.array_equal(filters.apply(image, kernel, stride=stride), every[::s, ::t])


def test_anchor_is_the_kernel_entry_on_the_pixel():
    image = np.arange(30.0).reshape(5, 6)
    for y, x in itertools.product(range(4), range(3)):
        kernel = np.zeros((4, 3))
        kernel[y, x] = 1
        assert np.array_equal(filters.apply(image, kernel, anchor=(y, x)), image)
    # scipy's origin counts from the centre
    kernel = np.random.default_rng(6).standard_normal((4, 3))
    np.testing.assert_allclose(
        filters.apply(image, kernel, anchor=(1, 2), mode="scipy.mirror"),
        ndimage.correlate(image, kernel, origin=(-1, 1), mode="mirror"),
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    ("image", "kernel", "expected"),
    [
        ("float32", "int64", "float32"),
        ("float32", "float64", "float32"),
        ("float64", "float32", "float64"),
        ("float16", "float64", "float16"),
        ("uint8", "float64", "float64"),
        ("uint8", "float32", "float32"),
        ("uint8", "float16", "float32"),
        ("int32", "float32", "float64"),
        ("uint8", "int8", "int64"),
    ],
)
def test_dtypes(image, kernel, expected):
    pixels = np.arange(42).reshape(6, 7).astype(image)
    taps = np.outer([1, 2, 1], [1, 2, 1]).astype(kernel)
    ours = filters.apply(pixels, taps)
    assert ours.dtype == expected
    assert np.array_equal(ours, by_hand(pixels.astype(float), taps.astype(float)))


def test_bfloat16_and_half_round_once():
    bfloat16 = pytest.importorskip("ml_dtypes", reason="bfloat16 is its dtype").bfloat16
    rng = np.random.default_rng(7)
    for dtype in (np.float16, bfloat16):
        image = rng.uniform(0, 255, (9, 9)).astype(dtype)
        for kernel in (filters.box(3), filters.gaussian(1.5)):
            ours = filters.apply(image, kernel)
            exact = by_hand(image.astype(float), kernel)
            assert ours.dtype == dtype
            nearest = exact.astype(dtype)
            assert np.mean(ours == nearest) > 0.95  # float32 inside: rarely the other side of a tie
            np.testing.assert_allclose(ours.astype(float), exact, rtol=float(np.spacing(dtype(1))))


def test_dtype_rounds_half_to_even_and_clips():
    image = np.array([[0, 1, 3, 5, 300, -4]], np.int16)
    ours = filters.apply(image, np.array([[0.5]]), dtype="uint8")
    assert ours.dtype == np.uint8
    assert ours[0].tolist() == [0, 0, 2, 2, 150, 0]
    assert filters.apply(image, np.array([[1]]), dtype=np.uint8)[0].tolist() == [0, 1, 3, 5, 255, 0]
    assert filters.apply(image, np.array([[1]]), dtype="float32").dtype == np.float32
    huge = np.array([[1e300, -1e300, np.inf, 2.0**63, 5.5]])
    one = np.array([[1.0]])
    assert filters.apply(huge, one, dtype="int64")[0].tolist() == [2**63 - 1, -(2**63), 2**63 - 1, 2**63 - 1, 6]
    assert filters.apply(huge, one, dtype="uint64")[0].tolist() == [2**64 - 1, 0, 2**64 - 1, 2**63, 6]
    with pytest.raises(ValueError, match=r"filters\.apply: the result holds NaN, which no uint8 is"):
        filters.apply(np.full((3, 3), np.nan), one, dtype="uint8")


def test_inputs_are_left_alone_and_the_result_is_its_own():
    image = np.arange(12.0).reshape(3, 4)
    image.flags.writeable = False
    ours = filters.apply(image, np.array([[1.0]]))
    ours[0, 0] = 99
    assert image[0, 0] == 0
    view = image[::-1, ::2]
    assert np.array_equal(filters.apply(view, "sharpen"), filters.apply(view.copy(), "sharpen"))


# --------------------------------------------------------------------------- named kernels
def test_the_list_and_the_sums():
    assert set(filters.kernels) == {
        "box",
        "emboss",
        "gaussian",
        "identity",
        "laplacian",
        "prewitt",
        "scharr",
        "sharpen",
        "sobel",
    }
    zero_sum = [filters.laplacian(), filters.laplacian(diagonals=True)]
    zero_sum += [make(axis) for make in (filters.sobel, filters.prewitt, filters.scharr) for axis in "xy"]
    assert all(kernel.dtype == np.int64 and kernel.sum() == 0 for kernel in zero_sum)
    assert all(filters.kernels[name]().sum() == 1 for name in ("sharpen", "emboss", "identity"))
    assert filters.gaussian(2.3).sum() == pytest.approx(1, rel=1e-14)
    assert filters.box((3, 5)).sum() == pytest.approx(1, rel=1e-14)
    image = np.random.default_rng(8).integers(0, 255, (8, 9, 3), dtype=np.uint8)
    assert np.array_equal(filters.apply(image, "identity"), image)
    assert not filters.apply(np.full((5, 5), 255, np.uint8), "laplacian").any()


def test_named_kernels_agree_with_scipy():
    image = np.random.default_rng(9).uniform(0, 255, (20, 25))
    for axis, name in enumerate("yx"):
        for make, theirs in ((filters.sobel, ndimage.sobel), (filters.prewitt, ndimage.prewitt)):
            ours = filters.apply(image, make(name), mode="scipy.reflect")
            np.testing.assert_allclose(ours, theirs(image, axis), rtol=0, atol=1e-10)
    np.testing.assert_allclose(
        filters.apply(image, filters.laplacian(), mode="scipy.nearest"),
        ndimage.laplace(image, mode="nearest"),
        rtol=0,
        atol=1e-10,
    )
    for sigma, truncate in ((1.0, 4.0), (2.5, 3.0), ((0.7, 2.0), 4.0)):
        ours = filters.apply(image, filters.gaussian(sigma, truncate=truncate), mode="scipy.mirror")
        theirs = ndimage.gaussian_filter(image, sigma, truncate=truncate, mode="mirror")
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    np.testing.assert_allclose(
        filters.apply(image, filters.box((3, 5)), mode="scipy.wrap"),
        ndimage.uniform_filter(image, (3, 5), mode="wrap"),
        rtol=1e-12,
    )
    for name in ("sobel", "prewitt"):
        x, y = (getattr(ndimage, name)(image, axis, mode="mirror") for axis in (1, 0))
        ours = filters.gradient_magnitude(image, name)
        np.testing.assert_allclose(ours, np.hypot(x, y), rtol=1e-10, atol=1e-9)


def test_x_sees_vertical_edges():
    image = np.zeros((6, 6), np.uint8)
    image[:, 3:] = 200
    for make in (filters.sobel, filters.prewitt, filters.scharr):
        assert filters.apply(image, make("x")).max() > 0
        assert not filters.apply(image, make("y")).any()
        assert np.array_equal(make("y"), make("x").T)


def test_gradient_magnitude_dtypes():
    image = np.random.default_rng(10).integers(0, 255, (7, 8, 3), dtype=np.uint8)
    assert filters.gradient_magnitude(image).dtype == np.float64
    for dtype in (np.float16, np.float32):
        ours = filters.gradient_magnitude(image.astype(dtype), "scharr")
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, filters.gradient_magnitude(image, "scharr"), rtol=1e-3)


def test_gaussian_size():
    assert filters.gaussian(1.0).shape == (9, 9)
    assert filters.gaussian((0.5, 2.0)).shape == (5, 17)
    assert filters.gaussian(1.0, size=(4, 5)).shape == (4, 5)
    even = filters.gaussian(1.0, size=4)
    assert np.array_equal(even, even[::-1, ::-1])


# --------------------------------------------------------------------------- separable kernels
@pytest.mark.parametrize("seed", range(20))
def test_integer_products_are_found_exactly(seed):
    rng = np.random.default_rng(seed)
    column, row = rng.integers(-6, 6, rng.integers(1, 8)), rng.integers(-6, 6, rng.integers(1, 8))
    kernel = np.outer(column, row)
    split = filters.separate(kernel)
    assert split is not None
    assert all(part.dtype == np.int64 for part in split)
    assert np.array_equal(np.outer(*split), kernel)
    if min(kernel.shape) > 1 and kernel.any():
        broken = kernel.copy()
        i, j = np.argwhere(kernel)[0]
        broken[i, j] += 1
        if np.linalg.matrix_rank(broken) > 1:
            assert filters.separate(broken) is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_products_are_found_to_rounding(dtype):
    rng = np.random.default_rng(11)
    eps = np.finfo(dtype).eps
    for _ in range(50):
        kernel = np.outer(rng.standard_normal(7), rng.standard_normal(5)).astype(dtype)
        split = filters.separate(kernel)
        assert split is not None
        assert split[0].dtype == split[1].dtype == dtype
        np.testing.assert_allclose(np.outer(*split).astype(float), kernel.astype(float), rtol=5 * float(eps))
        kernel[3, 2] *= dtype(1 + 32 * eps)
        assert filters.separate(kernel) is None


def test_what_is_and_what_is_no_product():
    for name in ("sobel", "prewitt", "scharr", "box", "gaussian", "identity"):
        assert filters.separate(filters.kernels[name]()) is not None
    for name in ("laplacian", "sharpen", "emboss"):
        assert filters.separate(filters.kernels[name]()) is None
    assert filters.separate(np.array([[2, 3], [4, 6]]))[1].tolist() == [2, 3]
    assert filters.separate(np.array([[np.nan, 1.0], [1, 1]])) is None
    assert filters.separate(np.array([[np.inf, 1.0], [1, 1]])) is None
    assert not np.outer(*filters.separate(np.zeros((3, 4)))).any()
    assert not np.outer(*filters.separate(np.zeros((3, 4), int))).any()


@pytest.mark.parametrize("mode", ["reflect", "symmetric", "replicate", "circular", "zeros", "constant"])
def test_two_passes_equal_one(mode, monkeypatch):
    rng = np.random.default_rng(12)
    image = rng.integers(0, 255, (13, 9, 2), dtype=np.uint8)
    whole, small = np.outer([1, -4, 6, 4, 1, 2], [3, 4, 6, -4, 1]), filters.gaussian((1.0, 2.0))
    cval = 17 if mode == "constant" else 0
    results = []
    for taps in (0, 10**9):
        monkeypatch.setattr(filters, "_SPLIT_TAPS", taps)
        results.append([filters.apply(image, k, mode=mode, cval=cval, stride=(1, 2)) for k in (whole, small)])
    assert np.array_equal(results[0][0], results[1][0])
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-12)


# --------------------------------------------------------------------------- refusals
IMAGE = np.zeros((5, 6), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "message"),
    [
        (
            (IMAGE > 0, "box"),
            {},
            TypeError,
            "filters.apply: image has dtype bool: booleans are no numbers here; use image.astype(np.uint8) to count",
        ),
        (
            (IMAGE * 1j, "box"),
            {},
            TypeError,
            "filters.apply: image has dtype complex128: needs a real one; filter .real and .imag apart",
        ),
        (
            (IMAGE, np.ones((3, 3)) * 1j),
            {},
            TypeError,
            "filters.apply: kernel has dtype complex128: needs a real one; filter .real and .imag apart",
        ),
        (
            (IMAGE[0], "box"),
            {},
            ValueError,
            "filters.apply: image has shape (6,), needs (H, W) or (H, W, C); "
            "filter the images of a batch one by one, or use npconv.depthwise_conv",
        ),
        (
            (IMAGE[None, ..., None], "box"),
            {},
            ValueError,
            "filters.apply: image has shape (1, 5, 6, 1), needs (H, W) or (H, W, C); "
            "filter the images of a batch one by one, or use npconv.depthwise_conv",
        ),
        (
            (IMAGE, np.ones(3)),
            {},
            ValueError,
            "filters.apply: kernel has shape (3,), needs (h, w) with at least one entry",
        ),
        (
            (IMAGE, np.ones((3, 0))),
            {},
            ValueError,
            "filters.apply: kernel has shape (3, 0), needs (h, w) with at least one entry",
        ),
        (
            (IMAGE, "sobl"),
            {},
            ValueError,
            "filters.apply: kernel='sobl' is unknown, needs one of 'box', 'emboss', 'gaussian', 'identity', "
            "'laplacian', 'prewitt', 'scharr', 'sharpen', 'sobel'; did you mean 'sobel'?",
        ),
        (
            (IMAGE, "box"),
            {"mode": "mirror"},
            ValueError,
            "filters.apply: mode='mirror' is another library's word, needs its name too: "
            "'scipy.mirror' (our 'reflect')",
        ),
        (
            (IMAGE, "box"),
            {"mode": "wrap"},
            ValueError,
            "filters.apply: mode='wrap' is another library's word, needs its name too: "
            "'numpy.wrap' (our 'circular') or 'scipy.wrap' (our 'circular') or 'opencv.wrap' (our 'circular')",
        ),
        (
            (IMAGE, "box"),
            {"mode": 3},
            TypeError,
            "filters.apply: mode must be a string, got 3 of type int; use a name such as 'reflect' or 'scipy.mirror'",
        ),
        (
            (IMAGE, "box"),
            {"cval": 3},
            ValueError,
            "filters.apply: cval=3 has no use in mode='reflect', needs mode='constant'",
        ),
        ((IMAGE, "box"), {"cval": "3"}, TypeError, "filters.apply: cval must be a number, got '3' of type str"),
        (
            (IMAGE, "sobel"),
            {"cval": float("nan"), "mode": "constant"},
            ValueError,
            "filters.apply: cval=nan is no integer, but image and kernel are; use a float image",
        ),
        (
            (IMAGE, "sobel"),
            {"cval": 1e30, "mode": "constant"},
            ValueError,
            "filters.apply: cval=1e+30 exceeds int64; use a float image",
        ),
        (
            (IMAGE, "sobel"),
            {"cval": 0.5, "mode": "constant"},
            ValueError,
            "filters.apply: cval=0.5 is no integer, but image and kernel are; use a float image",
        ),
        (
            (IMAGE, "box"),
            {"stride": 0},
            ValueError,
            "filters.apply: stride on every axis must be >= 1, got 0; use 1 or more",
        ),
        (
            (IMAGE, "box"),
            {"anchor": (1, 3)},
            ValueError,
            "filters.apply: anchor=(1, 3) lies outside the kernel on axis 1: 3 >= 3",
        ),
        (
            (IMAGE, "box"),
            {"dtype": "complex64"},
            TypeError,
            "filters.apply: dtype=complex64 is no real number, needs an integer or a float dtype",
        ),
        (
            (np.full((3, 3), 2**63, np.uint64), "sobel"),
            {},
            ValueError,
            "filters.apply: image reaches 9223372036854775808, exact sums are int64; use .astype(np.float64)",
        ),
    ],
)
def test_refusals(arguments, options, kind, message):
    with pytest.raises(kind) as caught:
        filters.apply(*arguments, **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: filters.sobel("z"), "filters.sobel: axis='z' is unknown, needs one of 'x', 'y'"),
        (lambda: filters.gaussian(0), "filters.gaussian: sigma must be a positive number or two of them (y, x), got 0"),
        (
            lambda: filters.gaussian((1, 2, 3)),
            "filters.gaussian: sigma must be a positive number or two of them (y, x), got (1, 2, 3)",
        ),
        (lambda: filters.gaussian(1, truncate=0), "filters.gaussian: truncate must be positive, got 0"),
        (lambda: filters.box(0), "filters.box: size on every axis must be >= 1, got 0; use 1 or more"),
        (
            lambda: filters.gradient_magnitude(IMAGE, "box"),
            "filters.gradient_magnitude: operator='box' is unknown, needs one of 'sobel', 'prewitt', 'scharr'",
        ),
        (
            lambda: filters.separate(np.ones(3)),
            "filters.separate: kernel has shape (3,), needs (h, w) with at least one entry",
        ),
    ],
)
def test_refusals_of_kernels(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
