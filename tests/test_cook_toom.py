"""The Winograd matrices against the definition of a correlation, in exact fractions."""

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest

from npconv.algorithms import rounding
from npconv.algorithms.cook_toom import DEFAULT_POINTS, amplification, matrices

SIZES = [(m, r) for m in range(1, 9) for r in range(1, 8) if m + r - 2 <= 9]


def form_of(at, g, bt):
    """Coefficient of d_s g_t in output i, in fractions: (m, n, r)."""
    n, r = len(bt), len(g[0])
    return [[[sum(row[k] * bt[k][s] * g[k][t] for k in range(n)) for t in range(r)] for s in range(n)] for row in at]


def bilinear_form(m, r, points=None):
    f = matrices(m, r, points)
    return form_of(f.AT, f.G, f.BT)


def correlation_form(m, r):
    return [[[int(s == i + t) for t in range(r)] for s in range(m + r - 1)] for i in range(m)]


@pytest.mark.parametrize(("m", "r"), SIZES)
def test_default_points_give_the_correlation_exactly(m, r):
    assert bilinear_form(m, r) == correlation_form(m, r)


@pytest.mark.parametrize(
    "points",
    [
        (0, 1, -1, 2, -2),
        ("1/3", "-2/7", 5, 0.1, Fraction(9, 4)),
        (3, 1, 4, 15, 9),
    ],
)
def test_any_distinct_points_are_exact(points):
    assert bilinear_form(4, 3, points) == correlation_form(4, 3)
    assert bilinear_form(3, 4, points) == correlation_form(3, 4)


def test_a_wrong_entry_would_be_seen():
    f = matrices(2, 3)
    wrong = [list(row) for row in f.AT]
    wrong[1][2] = -wrong[1][2]
    assert form_of(f.AT, f.G, f.BT) == correlation_form(2, 3)
    assert form_of(wrong, f.G, f.BT) != correlation_form(2, 3)


@pytest.mark.parametrize(("m", "r"), [(1, 3), (4, 1), (1, 1), (2, 1)])
def test_one_output_or_one_tap_is_the_definition_itself(m, r):
    assert amplification(m, r) == 1.0
    assert all(c in (0, 1) for rows in (matrices(m, r).AT, matrices(m, r).G) for row in rows for c in row)
    given = tuple(range(m + r - 2))  # points asked for are used, and exact too
    assert matrices(m, r, given).points == given
    assert bilinear_form(m, r, given) == correlation_form(m, r)


def test_f23_is_the_published_one_up_to_row_order_and_scaling():
    # Lavin and Gray, arXiv:1509.09308, section 4.1.
    bt = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1.0]])
    g = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1.0]])
    at = np.array([[1, 1, 1, 0], [0, 1, -1, -1.0]])
    published = np.einsum("ik,kt,ks->kits", at, g, bt)
    ours = np.einsum("ik,kt,ks->kits", *matrices(2, 3).arrays)
    assert any(np.array_equal(ours[list(order)], published) for order in permutations(range(4)))


def test_f23_keeps_integers_exact():
    f = matrices(2, 3)
    assert all(c.denominator == 1 for row in f.BT + f.AT for c in row)
    assert all((2 * c).denominator == 1 for row in f.G for c in row)


@pytest.mark.parametrize(("m", "r"), [s for s in SIZES if sum(s) != 7])
def test_data_transform_is_coprime_integers(m, r):
    for row in matrices(m, r).BT:
        assert all(c.denominator == 1 for c in row)
        assert np.gcd.reduce([int(c) for c in row]) == 1


def test_sqrt_points_give_the_numbers_of_the_ideal_ones():
    _, _, bt = matrices(4, 3).arrays
    assert bt[0].tolist() == [1, 0, -2.5, 0, 1, 0]
    assert bt[5].tolist() == [0, 1, 0, -2.5, 0, 1]
    np.testing.assert_allclose(np.abs(bt[1:3]), [[0, 2**0.5, 2, 0.5**0.5, 1, 0]] * 2, rtol=2e-16)
    for given, square in zip(DEFAULT_POINTS[5][1::2], (Fraction(1, 2), Fraction(2)), strict=True):
        assert abs(given**2 - square) < Fraction(1, 10**25)


@pytest.mark.parametrize(("m", "r"), [(4, 3), (6, 3), (4, 5), (3, 4)])
def test_two_dimensional_float32_error(m, r):
    rng = np.random.default_rng(7)
    n = m + r - 1
    d = np.maximum(rng.standard_normal((400, n, n)), 0).astype(np.float32)
    g = rng.standard_normal((400, r, r)).astype(np.float32)
    at, gg, bt = (a.astype(np.float32) for a in matrices(m, r).arrays)
    y = at @ ((gg @ g @ gg.T) * (bt @ d @ bt.T)) @ at.T
    windows = np.lib.stride_tricks.sliding_window_view(d.astype(np.float64), (r, r), (1, 2))
    exact = np.einsum("nijkl,nkl->nij", windows, g.astype(np.float64))
    worst = np.abs(y - exact).max() / np.sqrt((exact**2).mean())
    assert worst < {(4, 3): 1e-5, (3, 4): 1e-5, (6, 3): 6e-5, (4, 5): 6e-5}[m, r]


def test_default_points_of_f43_beat_the_integer_ones():
    assert amplification(4, 3, ndim=2) < 0.6 * amplification(4, 3, (0, 1, -1, 2, -2), ndim=2)


def test_equal_arguments_share_one_read_only_result():
    assert matrices(4, 3) is matrices(4, 3, DEFAULT_POINTS[5]) is matrices(4, 3, list(DEFAULT_POINTS[5]))
    with pytest.raises(ValueError, match="read-only"):
        matrices(4, 3).arrays[0][0, 0] = 2
    assert [a.shape for a in matrices(4, 3).arrays] == [(4, 6), (6, 3), (6, 6)]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((2, 3, (0, 1, 1)), ValueError, "cook_toom: points must be distinct, got 1 at positions 1 and 2"),
        ((2, 3, (0, "1/2", 0.5)), ValueError, "cook_toom: points must be distinct, got 1/2 at positions 1 and 2"),
        ((4, 3, (0, 1)), ValueError, "cook_toom: m + r - 2 = 5 finite points are needed (infinity is added), got 2"),
        (
            (2, 2, (0, float("inf"))),
            ValueError,
            "cook_toom: points must be finite numbers (infinity is added), got (0, inf)",
        ),
        (
            (2, 2, (0, float("nan"))),
            ValueError,
            "cook_toom: points must be finite numbers (infinity is added), got (0, nan)",
        ),
        ((0, 3), ValueError, "cook_toom: m must be at least 1, got 0"),
        ((2, -1), ValueError, "cook_toom: r must be at least 1, got -1"),
        ((2.0, 3), TypeError, "cook_toom: m must be an int, got 2.0"),
        (
            (9, 9),
            ValueError,
            "cook_toom: there are default points for m + r - 2 <= 9, got 16; "
            "give 16 distinct `points`, or use a smaller tile",
        ),
    ],
)
def test_refusals(arguments, kind, message):
    with pytest.raises(kind) as caught:
        matrices(*arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("m", rounding.AMPLIFICATION)
def test_what_was_written_down_is_what_is_derived(m):
    most = max(DEFAULT_POINTS) + 2 - m
    assert [rounding.amplification(m, r) for r in range(2, most + 1)] == pytest.approx(
        [amplification(m, r) for r in range(2, most + 1)], rel=1e-7
    )
    assert rounding.amplification(m, 3, 2) == pytest.approx(amplification(m, 3, ndim=2), rel=1e-7)
