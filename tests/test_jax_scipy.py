"""Agreement with JAX and SciPy where torch has no such case.

JAX: rank 0 and 4, input dilation, negative and asymmetric padding, "same" with a stride, any letters, local
convolution, patches in any rank, and the weight gradient as `batch_group_count`. SciPy and NumPy: true
convolution and the border modes. All in float64, to 160 u max S, S the sum of |products|: the peer run on
absolute values.
"""

import numpy as np
import pytest

import npconv
from problems import Dice, disagreement

jax = pytest.importorskip("jax", reason="jax is a peer of this file (the extra `test` installs it)")
ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is a peer of this file")
signal = pytest.importorskip("scipy.signal", reason="scipy is a peer of this file")
from jax import lax  # noqa: E402

U = 2.0**-53
LETTERS = {0: "", 1: "W", 2: "HW", 3: "DHW", 4: "TDHW"}
LONGEST = {0: 1, 1: 20, 2: 9, 3: 5, 4: 3}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def agree(name: str, ours, theirs, sums=None) -> None:
    """Within 160 u max(sums); without sums, to the last bit."""
    bound = 0.0 if sums is None else 160 * U * np.max(np.asarray(sums), initial=0)
    wrong = disagreement(np.asarray(ours), np.asarray(theirs), bound)
    assert wrong is None, f"{name}: {wrong}"


def sizes(*arrays) -> tuple:
    return tuple(None if a is None else np.abs(a) for a in arrays)


def draw(seed: int):
    """x, w and our options, drawn from what both promise: any rank from 0 to 4, any sign of padding."""
    dice, rng = Dice("jax", seed), np.random.default_rng(seed)
    rank = seed % 5
    kernel = dice.ints(rank, 1, 3)
    stride, dilation, spread = (dice.ints(rank, 1, 3) for _ in range(3))
    padding, shape = [], []
    for k, d, D in zip(kernel, dilation, spread, strict=True):
        e, (lo, hi) = d * (k - 1) + 1, (dice.int(-2, 3), dice.int(-2, 3))
        n = dice.int(1, LONGEST[rank])
        while (n - 1) * D + 1 + lo + hi < e or (n - 1) * D + 1 < max(-lo, -hi, -lo - hi):
            n += 1
        padding.append((lo, hi))
        shape.append(n)
    groups = dice.pick(1, 1, 2, 3)
    inner, outer = groups * dice.int(1, 3), groups * dice.int(1, 3)
    x = rng.standard_normal((dice.int(1, 2), inner, *shape))
    w = rng.standard_normal((outer, inner // groups, *kernel))
    options = {"stride": stride, "dilation": dilation, "input_dilation": spread, "padding": tuple(padding)}
    return x, w, options | {"groups": groups}, rng


def jax_conv(x, w, *, stride, padding, dilation, groups=1, input_dilation=None, letters=None):
    """JAX's convolution, with our names."""
    return lax.conv_general_dilated(
        x, w, stride, padding, input_dilation, dilation, letters, feature_group_count=groups
    )


@pytest.mark.parametrize("seed", range(30))
def test_conv_and_its_gradients(seed):
    x, w, options, rng = draw(seed)
    y = npconv.conv(x, w, **options)
    g = rng.standard_normal(y.shape)

    def run(x, w, g):
        expected, back = jax.vjp(lambda x, w: jax_conv(x, w, **options), x, w)
        return expected, *back(g)

    for name, ours, theirs, sums in zip(
        ("y", "dx", "dw"),
        (y, *npconv.conv_grads(g, x, w, bias=False, **options)[:2]),
        run(x, w, g),
        run(*sizes(x, w, g)),
        strict=True,
    ):
        agree(name, ours, theirs, sums)


@pytest.mark.parametrize("seed", range(8))
def test_jvp(seed):
    x, w, options, rng = draw(seed)
    dx, dw = rng.standard_normal(x.shape), rng.standard_normal(w.shape)

    def run(x, w, dx, dw):
        return jax.jvp(lambda x, w: jax_conv(x, w, **options), (x, w), (dx, dw))

    found = npconv.conv_jvp(x, w, dx, dw, **options)
    for name, ours, theirs, sums in zip(("y", "dy"), found, run(x, w, dx, dw), run(*sizes(x, w, dx, dw)), strict=True):
        agree(name, ours, theirs, sums)


@pytest.mark.parametrize("name", ["same", "same_lower", "valid"])
@pytest.mark.parametrize("seed", range(10))
def test_named_padding_with_a_stride(name, seed):
    """Rules R4 and R5: TensorFlow's "same", with the odd one at the end or at the beginning."""
    x, w, options, _ = draw(seed)
    del options["input_dilation"]
    reach = [d * (k - 1) for d, k in zip(options["dilation"], w.shape[2:], strict=True)]
    x = np.pad(x, [(0, 0), (0, 0), *((0, e) for e in reach)], mode="symmetric")  # "valid" needs the room
    theirs = options | {"padding": name.upper()}
    y = npconv.conv(x, w, **options | {"padding": name})
    agree(name, y, jax_conv(x, w, **theirs), jax_conv(*sizes(x, w), **theirs))


@pytest.mark.parametrize("seed", range(12))
def test_letters_are_dimension_numbers(seed):
    """Any order of the letters, spatial axes matched by letter.

    Values per axis follow x's order of the letters here, the kernel's order in JAX.
    """
    x, w, options, rng = draw(seed)
    spatial = LETTERS[w.ndim - 2]
    layout, kernel = ("".join(rng.permutation(list(pair + spatial))) for pair in ("NC", "OI"))
    xt = x.transpose([("NC" + spatial).index(c) for c in layout])
    wt = w.transpose([("OI" + spatial).index(c) for c in kernel])

    def ordered(letters: str) -> dict:
        axes = [spatial.index(c) for c in letters if c in spatial]
        return {name: v if name == "groups" else tuple(v[a] for a in axes) for name, v in options.items()}

    y = npconv.conv(xt, wt, layout=layout, kernel_layout=kernel, **ordered(layout))
    theirs = ordered(kernel) | {"letters": (layout, kernel, layout)}
    agree(layout, y, jax_conv(xt, wt, **theirs), jax_conv(*sizes(xt, wt), **theirs))
    last = npconv.conv(np.moveaxis(x, 1, -1), w.transpose(*range(2, w.ndim), 1, 0), layout="channels_last", **options)
    agree(
        "channels_last",
        np.moveaxis(last, -1, 1),
        jax_conv(x, w, **options),
        jax_conv(*sizes(x, w), **options),
    )


@pytest.mark.parametrize("seed", range(12))
def test_the_weight_gradient_is_a_convolution_with_batch_groups(seed):
    """Rule R22: x with channels as batch, over g as the kernel; batch_group_count is the number of groups."""
    x, w, options, rng = draw(seed)
    options["input_dilation"] = (1,) * (w.ndim - 2)
    options["padding"] = tuple((max(0, lo), max(0, hi) + 3) for lo, hi in options["padding"])
    x = np.pad(x, [(0, 0), (0, 0), *((0, 6) for _ in w.shape[2:])])
    g = rng.standard_normal(npconv.conv(x, w, **options).shape)
    groups, spatial = options["groups"], LETTERS[w.ndim - 2]

    def run(x, g):
        # the windows that would not fit are cut away: the forward call floors
        slack = [
            (size + lo + hi - ((k - 1) * d + 1)) % s
            for size, (lo, hi), k, d, s in zip(
                x.shape[2:],
                options["padding"],
                w.shape[2:],
                options["dilation"],
                options["stride"],
                strict=True,
            )
        ]
        pads = [(lo, hi - cut) for (lo, hi), cut in zip(options["padding"], slack, strict=True)]
        return lax.conv_general_dilated(
            x,
            g,
            options["dilation"],
            pads,
            None,
            options["stride"],
            ("CN" + spatial, "IO" + spatial, "NC" + spatial),
            batch_group_count=groups,
        ).swapaxes(0, 1)

    found = npconv.conv_weight_grad(x, g, kernel_shape=w.shape, **options)
    agree("dw", found, run(x, g), run(*sizes(x, g)))


@pytest.mark.parametrize("seed", range(12))
def test_local_conv(seed):
    """JAX takes each position's kernel flat, (O, C prod(k), *out), and has no groups here."""
    x, w, options, rng = draw(seed)
    del options["input_dilation"], options["groups"]
    kernel = w.shape[2:]
    x = np.pad(x, [(0, 0), (0, 0), *((0, 8) for _ in kernel)], mode="symmetric")
    out = npconv.conv(x, rng.standard_normal((2, x.shape[1], *kernel)), **options).shape[2:]
    w = rng.standard_normal((2, x.shape[1], *kernel, *out))
    bias = rng.standard_normal((2, *out))
    y = npconv.local_conv(x, w, bias, **options)
    g = rng.standard_normal(y.shape)

    def run(x, w, bias, g):
        def forward(x, w):
            return lax.conv_general_dilated_local(
                x,
                w.reshape(2, -1, *out),
                options["stride"],
                options["padding"],
                kernel,
                None,
                options["dilation"],
            )

        y, back = jax.vjp(forward, x, w)
        return y + bias, *back(g)

    grads = npconv.local_conv_grads(g, x, w, bias=False, **options)
    for name, ours, theirs, sums in zip(
        ("y", "dx", "dw"), (y, *grads[:2]), run(x, w, bias, g), run(*sizes(x, w, bias, g)), strict=True
    ):
        agree(name, ours, theirs, sums)


@pytest.mark.parametrize("seed", range(10))
def test_unfold_and_fold(seed):
    """Patches are copies, so unfold is exact, in any rank; fold is their transpose."""
    x, w, options, rng = draw(seed if seed % 5 else seed + 1)
    del options["input_dilation"], options["groups"]
    kernel = w.shape[2:]
    x = np.pad(x, [(0, 0), (0, 0), *((0, 8) for _ in kernel)], mode="symmetric")

    def patches(x):
        found = lax.conv_general_dilated_patches(
            x, kernel, options["stride"], options["padding"], None, options["dilation"]
        )
        return found.reshape(*found.shape[:2], -1)

    columns = npconv.unfold(x, kernel, **options)
    expected, back = jax.vjp(patches, x)
    agree("unfold", columns, expected)
    g = rng.standard_normal(columns.shape)
    agree("fold", npconv.fold(g, x.shape[2:], kernel, **options), back(g)[0], back(abs(g))[0])


@pytest.mark.parametrize("seed", range(15))
def test_conv_transpose_is_jaxs_input_dilation(seed):
    """The definition: x dilated by the stride, padded by e - 1 - lo, over the flipped swapped kernel."""
    dice, rng = Dice("jax transpose", seed), np.random.default_rng(seed)
    rank = seed % 5
    kernel, stride, dilation = (dice.ints(rank, 1, 3) for _ in range(3))
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple((dice.int(-1, e // 2), dice.int(-1, (e - 1) // 2)) for e in spans)
    extra = tuple(dice.int(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))
    groups, per_in, per_out = dice.int(1, 2), dice.int(1, 3), dice.int(1, 3)
    x = rng.standard_normal((2, groups * per_in, *dice.ints(rank, 1, LONGEST[rank])))
    w = rng.standard_normal((groups * per_in, per_out, *kernel))
    pads = [(e - 1 - lo, e - 1 - hi + m) for e, (lo, hi), m in zip(spans, padding, extra, strict=True)]

    def run(x, w):
        turned = w.reshape(groups, per_in, per_out, *kernel).swapaxes(1, 2).reshape(-1, per_in, *kernel)
        turned = turned[(..., *(slice(None, None, -1),) * rank)]
        ones = (1,) * rank
        return jax_conv(x, turned, stride=ones, padding=pads, dilation=dilation, input_dilation=stride, groups=groups)

    y = npconv.conv_transpose(
        x, w, stride=stride, padding=padding, dilation=dilation, output_padding=extra, groups=groups
    )
    agree("y", y, run(x, w), run(*sizes(x, w)))


# --- SciPy and NumPy


@pytest.mark.parametrize("mode", ["full", "valid"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_flip_is_the_mathematical_convolution(rank, mode):
    """Rule R11: SciPy's convolve flips, its correlate does not (it conjugates, nothing on real data)."""
    rng = np.random.default_rng(rank)
    x, w = rng.standard_normal((7,) * rank), rng.standard_normal((2, 3, 4)[:rank])
    for flip, peer in ((True, signal.convolve), (False, signal.correlate)):
        y = npconv.conv(x[None, None], w[None, None], padding=mode, flip=flip)[0, 0]
        agree(peer.__name__, y, peer(x, w, mode, "direct"), peer(abs(x), abs(w), mode, "direct"))
    if rank == 1:
        y = npconv.conv(x[None, None], w[None, None], padding=mode, flip=True)[0, 0]
        agree("numpy", y, np.convolve(x, w, mode), np.convolve(abs(x), abs(w), mode))


SAME = {
    "convolve": (True, "same_lower"),
    "correlate": (False, "same_lower"),
    "convolve2d": (True, "same_lower"),
    "correlate2d": (False, "same"),  # by one from correlate, for an even kernel: scipy#1968
}


@pytest.mark.parametrize("k", [2, 3, 4, 5])
@pytest.mark.parametrize("name", SAME)
def test_which_same_is_scipys(name, k):
    """Rule R7: a crop of "full" to the first input's shape; the odd one's place depends on the function."""
    rng, (flip, padding) = np.random.default_rng(k), SAME[name]
    x, w = rng.standard_normal((9, 8)), rng.standard_normal((k, k))
    y = npconv.conv(x[None, None], w[None, None], padding=padding, flip=flip)[0, 0]
    peer = getattr(signal, name)
    agree(name, y, peer(x, w, "same"), peer(abs(x), abs(w), "same"))
    other = {"same": "same_lower", "same_lower": "same"}[padding]
    other = npconv.conv(x[None, None], w[None, None], padding=other, flip=flip)[0, 0]
    assert np.allclose(other, y) == (k % 2 == 1)


NDIMAGE = {
    "zeros": "constant",
    "reflect": "mirror",  # the trap of rule R20: their "reflect" is our "symmetric"
    "symmetric": "reflect",
    "replicate": "nearest",
    "circular": "grid-wrap",
}


@pytest.mark.parametrize("mode", NDIMAGE)
@pytest.mark.parametrize("shape", [(9, 8), (3, 2), (5, 1, 4)])
def test_border_modes_against_ndimage(mode, shape):
    """The kernel may be larger than the image: the border then wraps more than once."""
    rng = np.random.default_rng(len(shape))
    x, w = rng.standard_normal(shape), rng.standard_normal((5, 7, 3)[: len(shape)])
    y = npconv.conv(x[None, None], w[None, None], padding="same", padding_mode=mode)[0, 0]
    theirs = ndimage.correlate(x, w, mode=NDIMAGE[mode])
    agree(mode, y, theirs, ndimage.correlate(abs(x), abs(w), mode=NDIMAGE[mode]))


NUMPY = {
    "constant": "constant",
    "reflect": "reflect",
    "symmetric": "symmetric",
    "replicate": "edge",
    "circular": "wrap",
}


@pytest.mark.parametrize("mode", NUMPY)
@pytest.mark.parametrize("seed", range(20))
def test_padding_modes_against_numpy_pad(mode, seed):
    """Any amount on any side, many times the axis; a kernel of one tap shows the padded array itself."""
    dice, rng = Dice("np.pad", seed), np.random.default_rng(seed)
    rank = dice.int(1, 3)
    x = rng.standard_normal((1, 2, *dice.ints(rank, 1, 4)))
    pads = tuple((dice.int(0, 11), dice.int(0, 11)) for _ in range(rank))
    extra = {"constant_values": 2.5} if mode == "constant" else {}
    expected = np.pad(x, [(0, 0), (0, 0), *pads], NUMPY[mode], **extra)
    identity = np.eye(2).reshape(2, 2, *(1,) * rank)
    value = 2.5 if mode == "constant" else 0
    y = npconv.conv(x, identity, padding=pads, padding_mode=mode, padding_value=value)
    agree(mode, y, expected)
    # and the gradient gives every copy back to where it came from: the transpose of the map, column by column
    g = rng.integers(-4, 5, y.shape).astype(float)
    dx = npconv.conv_input_grad(g, identity, input_shape=x.shape, padding=pads, padding_mode=mode, padding_value=value)
    places = np.arange(x.size).reshape(x.shape)
    copies = np.pad(places, [(0, 0), (0, 0), *pads], NUMPY[mode], **({"constant_values": -1} if extra else {}))
    sums = np.zeros(x.size)
    np.add.at(sums, copies[copies >= 0], g[copies >= 0])
    agree("dx", dx, sums.reshape(x.shape))
