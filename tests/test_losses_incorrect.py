"""The losses of the incorrect-category patent: 50 digits, worked examples, errata, refusals."""

import itertools
import warnings

import mpmath as mp
import numpy as np
import pytest
from exact import exact, worst

from minigrad import Tensor
from minigrad.losses import (
    ComplementaryCrossEntropy,
    CrossEntropy,
    IncorrectLogOddsLSE,
    IncorrectLogOddsPower,
    IncorrectProbabilityLoss,
    LogOdds,
    LogSumInverseProbability,
)

# Definitions, as literally as they are printed: with 950 digits 1 - p may be subtracted


def softmax(z):
    e = [mp.exp(v) for v in z]
    return [v / sum(e) for v in e]


def lodds(p, eps=0):
    return mp.log((p + mp.mpf(eps)) / (1 - p + mp.mpf(eps)))


def wrong(p, y):
    return [v for k, v in enumerate(p) if k != y]


def mean_exponential(p, y, c, sharpness, eps=0):
    return mp.mpf(c) / sharpness * mp.log(sum(mp.exp(sharpness * lodds(v, eps)) for v in wrong(p, y)))


def power(p, y, c, a, b, signed=False):
    S = sum(lodds(v) ** a for v in wrong(p, y))
    return c * (mp.sign(S) * abs(S) ** mp.mpf(b) if signed else S ** mp.mpf(b))


def log_inverse(p, y):
    return mp.log(sum(1 / v for v in wrong(p, y)))


def total(p, y, ce=-1, cce=0, corr=0, big=0, small=0, ln_z=0, eps=0):
    return (
        ce * mp.log(p[y]) + cce * mp.log(1 - p[y]) + corr * lodds(p[y], eps) + mean_exponential(p, y, big, 1, eps)
        + mean_exponential(p, y, small, -1, eps) + ln_z * log_inverse(p, y)
    )  # fmt: skip


def quiet(name, **changes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return IncorrectProbabilityLoss.preset(name, **changes)


DEFINITIONS = {
    "cce": (ComplementaryCrossEntropy(), lambda p, y: mp.log(1 - p[y])),
    "lodds": (LogOdds(), lambda p, y: -lodds(p[y])),
    "lodds, eps": (LogOdds(-0.5, 1e-6), lambda p, y: -lodds(p[y], 1e-6) / 2),
    "big": (IncorrectLogOddsLSE(1, 2), lambda p, y: mean_exponential(p, y, 1, 2)),
    "small": (IncorrectLogOddsLSE(-1, -1), lambda p, y: mean_exponential(p, y, -1, -1)),
    "small, eps": (IncorrectLogOddsLSE(-1, -1, 1e-3), lambda p, y: mean_exponential(p, y, -1, -1, 1e-3)),
    "ln_z": (LogSumInverseProbability(), log_inverse),
    "power 2": (IncorrectLogOddsPower(1, 2, 0.5), lambda p, y: power(p, y, 1, 2, 0.5)),
    "power -4": (IncorrectLogOddsPower(-1, -4, -0.25), lambda p, y: power(p, y, -1, -4, -0.25)),
    "power 3": (IncorrectLogOddsPower(-1, 3, 1), lambda p, y: power(p, y, -1, 3, 1)),
    "power -3": (IncorrectLogOddsPower(1, -3, -1 / 3, "signed"), lambda p, y: power(p, y, 1, -3, -1 / 3, True)),
    "ce+big+small": (quiet("ce+big+small"), lambda p, y: total(p, y, big=1, small=-1)),
    "lodds+ln_z": (quiet("lodds+ln_z"), lambda p, y: total(p, y, 0, corr=-1, ln_z=1)),
    "ce+ln_z": (quiet("ce+ln_z"), lambda p, y: total(p, y, ln_z=1)),
    "all": (quiet("all"), lambda p, y: total(p, y, -1, 1, -1, 1, -1, 1)),
    "all, eps": (quiet("all", eps=1e-3), lambda p, y: total(p, y, -1, 1, -1, 1, -1, 1, 1e-3)),
}
MODERATE = [[0.25, -1.25, 2.0, 0.75], [1.25, 0.5, -2.0, 3.0]]
EXTREME = [
    [40.0, 0.0, 0.5, -1.0], [1000.0, 0.0, -1000.0, 3.0], [1000.25, 1001.25, 999.5, 1000.0], [0.0, 40.0, 36.0, 37.5],
    [700.0, float(np.float32(0.1)), 0.0, 0.25], [16.0, -24.0, 6.0, 1.0],
]  # fmt: skip


def both(loss, z, labels):
    leaf = Tensor(z, requires_grad=True)
    value = loss(leaf, np.asarray(labels))
    value.backward()
    return value, leaf.grad


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize(("points", "tolerance"), [(MODERATE, 1e-12), (EXTREME, 1e-11)])
def test_fifty_digits(name, points, tolerance):
    """And float32, which holds the same logits exactly, to 1e-5."""
    loss, definition = DEFINITIONS[name]
    for z in points:
        value, gradient = exact(lambda z: definition(softmax(z), 0), z)
        for dtype, allowed in ((np.float64, tolerance), (np.float32, 1e-5)):
            got, slope = both(loss, np.array([z], dtype=dtype), [0])
            assert got.dtype == slope.dtype == dtype
            assert worst(got.data, [value]) < allowed, z
            assert worst(slope, gradient) < allowed, z


@pytest.mark.parametrize(
    "name", ["cce", "lodds", "big", "small", "ln_z", "lodds+ln_z", "ce+big+small", "ce+ln_z", "all"]
)
def test_every_entry_of_the_gradient_keeps_its_digits(name):
    """Each relative to itself: p_c - 1 = -1e-17 is not 0."""
    loss, definition = DEFINITIONS[name]
    for z in ([40.0, 0.0, 0.5, -1.0], [-30.0, 20.0, 3.0, 1.0], [60.0, -60.0, 3.0, 2.0]):
        _, gradient = exact(lambda z: definition(softmax(z), 0), z)
        _, slope = both(loss, np.array([z]), [0])
        for got, wanted in zip(slope[0], gradient, strict=True):
            assert worst(np.array([got]), [wanted]) < 1e-11


@pytest.mark.parametrize("eps", [1e-3, 1e-12])
def test_smoothed_log_odds_keep_their_digits_near_one_half(eps):
    """There they are 0, and the logarithms of (p + eps) and (1 - p + eps) would cancel."""
    for z in ([2.0**-30, 0.0], [0.0, 2.0**-20], [40.0, 0.0], [0.0, 700.0]):
        value, _ = exact(lambda z: lodds(softmax(z)[0], eps), z)
        got, _ = both(LogOdds(1, eps), np.array([z]), [0])
        assert got.item() == pytest.approx(float(value), rel=1e-12, abs=0)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_two_classes(name):
    loss, definition = DEFINITIONS[name]
    for z in ([0.3, -1.1], [40.0, 0.0], [0.0, 40.0], [-1000.0, 1000.0]):
        value, gradient = exact(lambda z: definition(softmax(z), 1), z)
        got, slope = both(loss, np.array([z]), [1])
        assert worst(got.data, [value]) < 1e-11, z
        assert worst(slope, gradient) < 1e-11, z


@pytest.mark.parametrize("name", DEFINITIONS)
def test_shifts_change_nothing(name):
    loss, _ = DEFINITIONS[name]
    z = np.array([[0.5, -1.25, 2.0, 0.25], [3.0, 1.0, -1.0, 0.0]])
    still = both(loss, z, [0, 1])
    for shift in (1000.0, -1000.0):
        moved = both(loss, z + shift, [0, 1])
        assert moved[0].item() == pytest.approx(still[0].item(), rel=1e-12)
        np.testing.assert_allclose(moved[1], still[1], rtol=1e-11, atol=1e-13)


# The examples of the patent


def test_ip22_the_worked_example():
    """p_c = 0.51 with the rest (0.24, 0.25) or (0.48, 0.01): three terms see no difference, three do (P-13)."""
    even, uneven = (np.log([[0.51, *rest]]) for rest in ((0.24, 0.25), (0.48, 0.01)))
    for blind in (CrossEntropy(), ComplementaryCrossEntropy(), LogOdds()):
        assert blind(even, np.array([0])).item() == pytest.approx(blind(uneven, np.array([0])).item(), rel=1e-13)
    for loss, values in (
        (IncorrectLogOddsLSE(1, 1), (-0.43213, -0.06916)), (IncorrectLogOddsLSE(-1, -1), (1.81916, 4.60600)),
        (LogSumInverseProbability(), (2.10006, 4.62579)),
    ):  # fmt: skip
        assert [round(loss(z, np.array([0])).item(), 5) for z in (even, uneven)] == list(values)


FIGURE_5 = np.array([0.38, 0.55, 0.06, 0.01])


@pytest.mark.parametrize(
    ("names", "arrows"),
    [
        (["ce", "cce", "lodds", "big", "ce+big", "lodds+big"], "-+--"), (["small", "ln_z"], "+-++"),
        (["ce+small", "lodds+small", "ce+big+small", "lodds+big+small", "ce+ln_z", "lodds+ln_z", "big+small",
          "big+ln_z", "all"], "-+++"),
    ],
)  # fmt: skip
def test_ip19_the_arrows_of_figure_5(names, arrows):
    """How a small step of descent on the logits moves the probabilities: no single term does what is drawn (P-18)."""
    p = FIGURE_5
    for name in names:
        _, g = both(quiet(name), np.log(p)[None], [1])
        moves = -(np.diag(p) - np.outer(p, p)) @ g[0]
        assert "".join("+" if move > 0 else "-" for move in moves) == arrows, name


def test_ip20_equal_incorrect_probabilities_cost_least(rng):
    with_rest = [np.log([0.6, *(0.4 * rng.dirichlet([1, 1, 1]))])[None] for _ in range(50)]
    even = np.log([[0.6, *[0.4 / 3] * 3]])
    for loss in (LogSumInverseProbability(), IncorrectLogOddsLSE(1, 1), IncorrectLogOddsLSE(-1, -3)):
        assert all(loss(z, np.array([0])).item() > loss(even, np.array([0])).item() for z in with_rest)


# Errata


def test_p1_the_argument_is_a_probability():
    """A raw output of 3 would be log(3/-2)."""
    z = np.array([[3.0, -2.0, 0.5]])
    p = np.exp(z[0]) / np.exp(z[0]).sum()
    assert LogOdds(1)(z, np.array([0])).item() == pytest.approx(np.log(p[0] / (1 - p[0])), rel=1e-14)


def test_p2_epsilon_saturates():
    z = np.array([[np.log(1e-12), np.log(1 - 1e-12)]])
    exact_one, rounded = both(LogOdds(1), z, [0]), both(LogOdds(1, 1e-6), z, [0])
    assert exact_one[0].item() == pytest.approx(-27.631, abs=1e-3)
    assert rounded[0].item() == pytest.approx(-13.816, abs=1e-3)
    assert exact_one[1][0, 0] == 1
    assert rounded[1][0, 0] == pytest.approx(1e-6, rel=1e-4)


def test_p3_z_overflows_and_its_logarithm_does_not():
    value, gradient = both(LogSumInverseProbability(), np.array([[1000.0, -1000.0, -1000.0]]), [0])
    assert value.item() == pytest.approx(2000 + np.log(2), rel=1e-15)
    np.testing.assert_array_equal(gradient, [[1, -0.5, -0.5]])


def test_p4_cross_entropy_and_its_complement_add_up_to_log_odds(rng):
    z, labels = rng.normal(size=(5, 4)), np.array([0, 1, 2, 3, 0])
    both_terms = CrossEntropy("none")(z, labels).data + ComplementaryCrossEntropy(reduction="none")(z, labels).data
    np.testing.assert_allclose(both_terms, LogOdds(reduction="none")(z, labels).data, rtol=1e-12)
    np.testing.assert_allclose(quiet("ce+cce", reduction="none")(z, labels).data, both_terms, rtol=1e-12)


def test_p5_two_losses_fall_for_ever_with_a_gradient_of_constant_size():
    for loss, size in ((ComplementaryCrossEntropy(), 1), (LogOdds(), 1)):
        values = []
        for x in (100.0, 200.0):
            value, g = both(loss, np.array([[x, 0.0, 0.0]]), [0])
            assert g[0, 0] == -size
            values.append(value.item())
        assert values[1] - values[0] == pytest.approx(-100, rel=1e-13)


NEGATIVE = np.array([0.55, 0.3, 0.1, 0.05])  # all incorrect log-odds are negative, and differ


@pytest.mark.parametrize(
    ("a", "b", "root", "c", "kind"),
    [
        (4, 0.25, "real", 1, "small"), (-4, -0.25, "real", -1, "big"), (5, 0.2, "signed", -1, "small"),
        (-5, -0.2, "signed", 1, "big"), (3, 1, "real", -1, "small"), (-3, -1, "real", 1, "big"),
    ],
)  # fmt: skip
def test_p6_what_the_power_form_pushes(a, b, root, c, kind):
    """Descent lowers the largest incorrect logit, or raises the smallest; the mean is near that log-odds."""
    value, g = both(IncorrectLogOddsPower(c, a, b, root), np.log(NEGATIVE)[None], [0])
    if kind == "big":
        assert g[0, 1] == max(g[0]) > 0
    else:
        assert g[0, 3] == min(g[0]) < 0
    odds = np.log(NEGATIVE / (1 - NEGATIVE))
    if abs(a * b) == 1:
        near = odds[1] if kind == "big" else odds[3]
        assert abs(value.item()) == pytest.approx(abs(near), rel=0.1)


def test_p6_an_even_power_pushes_a_wrong_winner_up():
    """The sign of the log-odds is lost: +0.99 at p_j = 0.7, where the logit should fall, and -1.00 at 0.45."""
    moves = []
    for p in (0.7, 0.45):
        rest = 1 - p
        z = np.log([[0.6 * rest, p, 0.3 * rest, 0.1 * rest]])
        moves.append(-both(IncorrectLogOddsPower(-1, -4, -0.25), z, [0])[1][0, 1])
    assert moves[0] == pytest.approx(1, abs=0.03)
    assert moves[1] == pytest.approx(-1, abs=0.03)
    lse = -both(IncorrectLogOddsLSE(1, 4), np.log([[0.18, 0.7, 0.09, 0.03]]), [0])[1][0, 1]
    assert lse < -0.9


@pytest.mark.parametrize(
    ("arguments", "p", "words"),
    [
        ((1, 2.5, 0.4), None, "whole exponents only"),
        ((1, 0, 1), None, "other than 0"),
        ((1, 2, 0), None, "constant"),
        ((1, 2, 1, "cube"), None, "'real' or 'signed'"),
        ((-1, 3, 1 / 3), [0.5, 0.3, 0.2], "negative, and its power 0.33.*root='signed'"),
        ((1, -2, -0.5), [0.25, 0.5, 0.25], r"0\^-2 is undefined"),
        ((1, 2, 0.5), [1e-300, 0.5, 0.5], "no gradient"),
    ],
)
def test_p6_what_is_undefined_is_refused_with_the_reason(arguments, p, words):
    with pytest.raises(ValueError, match=words):
        IncorrectLogOddsPower(*arguments)(np.log([p or [0.5, 0.5]]), np.array([0]))


def test_a_log_odds_of_zero_is_fine_where_the_power_is_smooth():
    value, gradient = both(IncorrectLogOddsPower(1, 2, 1), np.log([[0.25, 0.5, 0.25]]), [0])
    assert value.item() == pytest.approx(np.log(3) ** 2)
    assert np.isfinite(gradient).all()


def test_p7_the_sign_of_the_sharpness_decides():
    z = np.log(FIGURE_5)[None]
    assert round(IncorrectLogOddsLSE(1, 10)(z, np.array([1])).item(), 4) == -0.4895
    assert round(IncorrectLogOddsLSE(1, -10)(z, np.array([1])).item(), 4) == -4.5951


def test_p8_two_classes_leave_nothing_to_spread():
    z = np.array([[0.4, -1.3]])
    l = LogOdds(1)(z, np.array([0])).item()
    for sharpness in (-4, 0.5, 7):
        assert IncorrectLogOddsLSE(1, sharpness)(z, np.array([0])).item() == pytest.approx(-l, rel=1e-14)
    value, gradient = both(IncorrectProbabilityLoss(0, c_big=1, c_small=-1), z, [0])
    assert (value.item(), abs(gradient).max()) == (0, 0)
    inverse = LogSumInverseProbability()(z, np.array([0])).item()
    assert inverse == pytest.approx(-ComplementaryCrossEntropy()(z, np.array([0])).item(), rel=1e-14)


def test_p9_inverse_probabilities_hold_p_c_at_one_half():
    """Descent on ce + ln_z ends at (1/2, 1/6, 1/6, 1/6), not at p_c = 1."""
    with pytest.warns(UserWarning, match=r"-1 log\(1 - p_c\).*p_c < 1.*P-9"):
        loss = IncorrectProbabilityLoss(-1, ln_z_coeff=1)
    z = np.array([[0.0, 0.5, -0.5, 0.2]])
    for _ in range(300):
        z -= both(loss, z, [0])[1]
    np.testing.assert_allclose(np.exp(z[0]) / np.exp(z[0]).sum(), [1 / 2, 1 / 6, 1 / 6, 1 / 6], rtol=1e-9)
    for zeta in (0.25, 3.0):
        even = np.log([[1 / (1 + zeta), *[zeta / (1 + zeta) / 3] * 3]])
        assert abs(both(quiet("ce+ln_z", ln_z_coeff=zeta), even, [0])[1]).max() < 1e-15


def test_p9_epsilon_ends_what_the_warning_warns_of():
    """Log-odds with eps are bounded, and so is what they add to: it does not fall for ever."""
    with pytest.warns(UserWarning, match=r"1 log\(1 - p_c\) .* until 1 - p_c is about 0.001 \(P-9\)"):
        loss = IncorrectProbabilityLoss(p_corr_lodds=-1, eps=1e-3)
    falls = [both(loss, np.array([[z, 0.0, 0.0]]), [0])[0].item() for z in (4.0, 100.0, 1000.0)]
    assert falls[0] > falls[1] == pytest.approx(falls[2])


@pytest.mark.parametrize(
    ("name", "S"),
    [("ce", 0), ("ce+big+small", 0), ("lodds+ln_z", 0), ("cce", 1), ("lodds", 1), ("ce+big", 1), ("ce+small", -1),
     ("ln_z", -1), ("all", 1)],
)  # fmt: skip
def test_p9_the_warning(name, S):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loss = IncorrectProbabilityLoss.preset(name)
    assert loss.singularity == S
    assert [("for ever" in str(w.message), "p_c < 1" in str(w.message)) for w in caught] == [(S > 0, S < 0)] * (S != 0)


def test_p9_s_is_the_slope_in_the_tail():
    """IP-21: on the even ray the loss behaves like S log(1 - p_c), log(1 - p_c) = log 3 - z_c."""
    for name, changes in (("all", {}), ("ce+cce+big", {"c_big": 0.5}), ("ce+ln_z", {"ln_z_coeff": 0.3})):
        loss = quiet(name, **changes)
        values = [loss(np.array([[x, 0.0, 0.0, 0.0]]), np.array([0])).item() for x in (100.0, 200.0)]
        assert (values[1] - values[0]) / -100 == pytest.approx(loss.singularity, rel=1e-12)
    assert not IncorrectProbabilityLoss(-1, 0.1, -0.2, 0.4, ln_z_coeff=0.7).singularity  # 0.1 + 0.2 + 0.4 - 0.7


def test_p10_the_logarithm_is_natural():
    """With a binary one the soft maximum would be the maximum over log 2."""
    z = np.log(FIGURE_5)[None]
    largest = np.log(0.38 / 0.62)
    assert IncorrectLogOddsLSE(1, 60)(z, np.array([1])).item() == pytest.approx(largest, rel=1e-9)


def test_p16_the_reduction_over_a_batch_is_a_choice(rng):
    z, y = rng.normal(size=(4, 3)), np.array([0, 1, 2, 0])
    each = LogOdds(reduction="none")(z, y).data
    assert each.shape == (4,)
    assert LogOdds(reduction="sum")(z, y).item() == pytest.approx(each.sum())
    assert LogOdds()(z, y).item() == pytest.approx(each.mean())


def test_p11_a_small_sharpness_prefers_an_uneven_rest():
    even, uneven = np.log([[0.9, *[0.1 / 3] * 3]]), np.log([[0.9, 0.098, 0.001, 0.001]])
    half, one = (
        [IncorrectLogOddsLSE(1, sharpness)(z, np.array([0])).item() for z in (even, uneven)] for sharpness in (0.5, 1)
    )
    assert [round(v, 2) for v in half] == [-1.17, -1.87]
    assert one[0] < one[1]


def test_p12_the_logarithm_of_a_difference_is_never_taken():
    value = ComplementaryCrossEntropy()(np.array([[40.0, 0.0, 0.0]]), np.array([0])).item()
    assert round(value, 3) == -39.307
    with np.errstate(divide="ignore"):
        e = np.exp([40.0, 0.0, 0.0])
        assert np.log(-e[0] + e.sum()) != pytest.approx(np.log(2), abs=1e-3)


def test_p14_the_gradient_of_log_odds_has_constant_size():
    for z in ([0.1, 0.3, -0.2], [40.0, 1.0, 0.0], [-1000.0, 0.0, 1.0]):
        _, g = both(LogOdds(), np.array([z]), [0])
        assert g[0, 0] == -1
        assert g[0, 1:].sum() == pytest.approx(1, rel=1e-15)
        assert (g[0, 1:] > 0).all()


# The total loss


def test_the_total_is_the_sum_of_its_terms(rng):
    z, labels = 3 * rng.normal(size=(6, 5)), np.array([0, 1, 2, 3, 4, 0])
    for eps in (0, 1e-3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loss = IncorrectProbabilityLoss(-0.7, 0.3, -0.4, 0.9, 2.5, -0.6, -1.5, 0.8, eps)
        value, gradient = both(loss, z, labels)
        terms = [
            CrossEntropy(), ComplementaryCrossEntropy(0.3), LogOdds(-0.4, eps), IncorrectLogOddsLSE(0.9, 2.5, eps),
            IncorrectLogOddsLSE(-0.6, -1.5, eps), LogSumInverseProbability(0.8),
        ]  # fmt: skip
        parts = [both(term, z, labels) for term in terms]
        weights = [0.7, 1, 1, 1, 1, 1]
        values, gradients = zip(*((w * v.item(), w * g) for w, (v, g) in zip(weights, parts, strict=True)), strict=True)
        assert value.item() == pytest.approx(sum(values), rel=1e-12)
        np.testing.assert_allclose(gradient, sum(gradients), rtol=1e-11, atol=1e-14)


def test_the_default_is_cross_entropy(rng):
    z, labels = rng.normal(size=(4, 3)), np.array([0, 1, 2, 0])
    assert IncorrectProbabilityLoss()(z, labels).item() == pytest.approx(CrossEntropy()(z, labels).item(), rel=1e-14)


def test_presets():
    assert quiet("ce+big+small", lambda_big=4).lambda_big == 4
    assert quiet("all").cce_coeff == 1
    with pytest.raises(ValueError, match=r"no term huge.*ln_z"):
        IncorrectProbabilityLoss.preset("ce+huge")


# Refusals


@pytest.mark.parametrize("loss", [loss for loss, _ in DEFINITIONS.values()], ids=list(DEFINITIONS))
def test_refusals(loss):
    z = np.array([[0.1, 0.2, 0.3], [1.0, 0.0, -2.0]])
    for bad, labels, error in (
        (z, [0, 3], ValueError), (z, [0.0, 1.0], TypeError), (z, [0], ValueError), (z[0], [0], ValueError),
        (z[:0], np.zeros(0, int), ValueError), (z[:, :1], [0, 0], ValueError), (z * np.nan, [0, 1], ValueError),
        (z, np.full((2, 3), 1 / 3), ValueError),
    ):  # fmt: skip
        with pytest.raises(error, match=type(loss).__name__):
            loss(bad, np.array(labels))
    assert loss(z, np.eye(3)[[1, 2]]).item() == loss(z, np.array([1, 2])).item()


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogOdds(eps=-1), lambda: IncorrectLogOddsLSE(1, 0), lambda: IncorrectLogOddsLSE(1, 1, -1),
        lambda: IncorrectProbabilityLoss(lambda_small=0), lambda: IncorrectLogOddsPower(1, 2, 1, eps=-1),
    ],
)  # fmt: skip
def test_hyperparameters_that_are_refused(make):
    with pytest.raises(ValueError, match=r"(?i)eps|sharpness|lambda"):
        make()


def test_all_equal_logits():
    """p = 1/K everywhere: log(1 - 1/K), -log(1/(K-1)), log((K-1) K)."""
    z, y = np.full((1, 5), 3.0), np.array([2])
    assert ComplementaryCrossEntropy()(z, y).item() == pytest.approx(np.log(4 / 5))
    assert LogOdds()(z, y).item() == pytest.approx(np.log(4))
    assert LogSumInverseProbability()(z, y).item() == pytest.approx(np.log(20))
    for loss, _ in itertools.islice(DEFINITIONS.values(), 3, 6):
        _, gradient = both(loss, z, y)
        assert np.ptp(np.delete(gradient[0], 2)) < 1e-15
