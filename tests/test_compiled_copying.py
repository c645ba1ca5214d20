"""Arrays brought into C order by a kernel: every number in its place, whatever the shape, the order and the strides."""

from __future__ import annotations

import numpy as np
import pytest

import npconv
from npconv.compiled import catalogue, copying
from npconv.windows import pad_mode

if catalogue.unavailable():
    pytest.skip(str(catalogue.unavailable()), allow_module_level=True)


def drawn(rng: np.random.Generator) -> np.ndarray:
    """An array of up to five axes in any order, of any strides, backwards too."""
    rank = int(rng.integers(1, 6))
    shape = rng.integers(1, {1: 5000, 2: 300, 3: 60}.get(rank, 14), rank)
    shape[rng.integers(rank)] = rng.choice([1, 2, 3, 15, 16, 17, 33, 255, 256, 257])
    whole = rng.standard_normal(shape + rng.integers(0, 3, rank)).astype(rng.choice(["f4", "f8"]))
    part = whole[tuple(slice(0, n) for n in shape)]
    if rng.random() < 0.3:
        part = part[tuple(slice(None, None, int(step)) for step in rng.choice([1, 1, 1, 2, -1], rank))]
    return part.transpose(rng.permutation(rank))


@pytest.mark.parametrize("seed", range(8))
def test_every_number_arrives(seed):
    rng, launched = np.random.default_rng(seed), 0
    for _ in range(60):
        a = drawn(rng)
        launched += a.size >= copying.LEAST and copying._launch(a.shape, a.strides, a.dtype) is not None
        found = copying.contiguous(a)
        assert found.flags.c_contiguous
        assert found.dtype == a.dtype
        assert np.array_equal(found, a), (a.shape, a.strides)
    assert launched > 5, launched


def test_what_lies_in_order_is_not_copied():
    a = np.ones((3, 40, 50), np.float32)
    assert copying.contiguous(a) is a


@pytest.mark.parametrize("dtype", [">f4", "f2", "i4", "c8"])
def test_other_numbers_are_left_to_numpy(dtype):
    a = np.arange(48 * 64).astype(dtype).reshape(48, 64).T
    found = copying.contiguous(a)
    assert found.flags.c_contiguous
    assert found.dtype == a.dtype
    assert np.array_equal(found, a)


def test_strides_between_numbers_are_left_to_numpy():
    records = np.zeros((64, 64), [("a", "f4"), ("b", "i2")])
    records["a"] = np.arange(64 * 64, dtype="f4").reshape(64, 64)
    a = records["a"].T  # six bytes from one to the next
    assert np.array_equal(copying.contiguous(a), a)


@pytest.mark.parametrize("shape", [(1, 28, 28, 256), (2, 33, 47, 3), (3, 9, 200, 17)])
def test_a_pool_of_a_turned_picture_has_the_bits_of_its_copy(shape):
    turned = np.moveaxis(np.random.default_rng(5).standard_normal(shape).astype(np.float32), -1, 1)
    assert not turned.flags.c_contiguous
    for pool in (npconv.max_pool, npconv.avg_pool):
        assert np.array_equal(pool(turned, 2), pool(np.ascontiguousarray(turned), 2))


NUMPY = {"reflect": "reflect", "symmetric": "symmetric", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("mode", NUMPY)
@pytest.mark.parametrize("seed", range(4))
def test_borders_are_those_of_numpy_in_the_memory_order_of_the_input(seed, mode):
    rng, launched = np.random.default_rng(seed), 0
    for _ in range(60):
        rank = int(rng.integers(1, 4))
        shape = (*rng.integers(1, 5, 2), *rng.integers(1, (0, 3000, 70, 20)[rank], rank))
        if rng.random() < 0.3:
            shape = (shape[0], int(rng.choice([16, 33])), *shape[2:])
        x = rng.integers(0, 1000, shape).astype(rng.choice(["f4", "f8", "i4", "u8", "u1"]))
        kind = int(rng.integers(4))
        if kind == 0:
            x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        elif kind == 1:
            x = x[::2, :, ::-1]
        pads = tuple((int(lo), int(hi)) for lo, hi in rng.integers(0, 9, (rank, 2)))
        right = np.pad(x, ((0, 0), (0, 0), *pads), mode=NUMPY[mode])
        found = copying.extended(x, pads, mode)
        if found is not None:
            launched += 1
            assert np.array_equal(found, right), (x.shape, x.strides, pads)
            assert found.dtype == x.dtype
            assert kind != 0 or x.shape[1] == 1 or found.strides[1] == x.itemsize
        assert np.array_equal(pad_mode(x, pads, mode), right), (x.shape, x.strides, pads)
    assert launched > 10, launched


@pytest.mark.parametrize("mode", NUMPY)
def test_no_borders_are_no_copy(mode):
    x = np.ones((1, 2, 40, 40), np.float32)
    assert pad_mode(x, ((0, 0), (0, 0)), mode) is x


def test_borders_far_wider_than_the_input_need_no_table_of_their_size():
    x = np.arange(64 * 100, dtype=np.float32).reshape(1, 64, 100)
    assert copying.extended(x, ((1, 1),), "symmetric") is not None
    assert copying.extended(x, ((500, 500),), "symmetric") is None
    assert np.array_equal(pad_mode(x, ((500, 500),), "symmetric"), np.pad(x, ((0, 0), (0, 0), (500, 500)), "symmetric"))
