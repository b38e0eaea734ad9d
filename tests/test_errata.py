"""Where the sources err about losses: the printed form fails, the corrected one, which is the engine's, holds.

One function an erratum: a property that is wanted, and `told_apart` asserts that only the corrected form has it.
"""

import itertools
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, losses
from minigrad.losses import (
    BatchCrossEntropy,
    BatchMaxMargin,
    BinaryCrossEntropy,
    ComplementaryCrossEntropy,
    CrossEntropy,
    IncorrectLogOddsLSE,
    IncorrectLogOddsPower,
    IncorrectProbabilityLoss,
    LogOdds,
    LogSumInverseProbability,
    NoiseContrastiveEstimation,
    SelfNormalizedCrossEntropy,
    SquaredError,
    TwoClassCrossEntropy,
)
from minigrad.metrics import is_separated

FIRST = np.array([0])


def told_apart(holds, corrected, printed):
    """Both must be looked at: a property that everything has would show nothing."""
    assert holds(corrected)
    with np.errstate(all="ignore"):
        assert not holds(printed)


def near(value, wanted, rel=1e-9):
    return bool(np.allclose(value, wanted, rtol=rel, atol=1e-12))


def gradient(loss, z, labels=FIRST):
    leaf = Tensor(z, requires_grad=True)
    loss(leaf, labels).backward()
    return leaf.grad


def differences(f, z, h=1e-5):
    """The gradient of a function of an array, by central differences."""
    steps = h * np.eye(z.size).reshape(z.size, *z.shape)
    return np.array([(f(z + step) - f(z - step)) / (2 * h) for step in steps]).reshape(z.shape)


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def softplus(u):
    return np.logaddexp(0, u)


def quiet(name, **changes):
    """A preset without the warning of P-9."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return IncorrectProbabilityLoss.preset(name, **changes)


def test_every_erratum_that_a_loss_cites_is_here():
    """Those of Tomasi, of Keren et al. and of US 12387092."""
    texts = [path.read_text() for path in Path(losses.__file__).parent.glob("*.py")]
    cited = {"".join(pair).lower() for text in texts for pair in re.findall(r"\b([TKP])-(\d+)\b", text)}
    shown = {match for name in globals() for match in re.findall(r"^test_([tkp]\d+)_", name)}
    assert cited <= shown, f"no test for {sorted(cited - shown)}"


# Tomasi -----------------------------------------------------------------------------------------------------


def test_t1_the_cases_of_two_class_cross_entropy_lack_a_minus():
    """A.4: log p for y = 1 and log(1 - p) for y = 0, where the line above has their negatives."""

    def printed(p, y):
        return np.where(y == 1, np.log(p), np.log(1 - p))

    p, y = np.array([0.9, 0.3, 0.5, 0.2]), np.array([1, 0, 1, 1])
    middle = -y * np.log(p) - (1 - y) * np.log(1 - p)
    told_apart(lambda cases: near(cases(p, y), middle), lambda p, y: TwoClassCrossEntropy("none")(p, y).data, printed)


def test_t5_the_risk_is_convex_in_the_logits_and_not_in_the_weights():
    """Two weights in series, z = w_1 w_2: L(1, 1) = L(-1, -1) = .313 < L(0, 0) = .693."""

    def risk(z):
        return CrossEntropy()(np.array([[z, 0.0]]), FIRST).item()

    def under_its_chords(f):
        ends = [(np.array([1.0, 1.0]), np.array([-1.0, -1.0])), (np.array([-3.0, 0.5]), np.array([2.0, 0.25]))]
        return all(f((a + b) / 2) <= (f(a) + f(b)) / 2 for a, b in ends)

    told_apart(under_its_chords, lambda z: risk(z[0]) + risk(z[1]), lambda w: risk(w[0] * w[1]))
    assert [round(risk(z), 3) for z in (1, 0)] == [0.313, 0.693]


def test_t6_the_jacobian_of_softmax_is_not_diagonal():
    """Without its other entries the gradient of cross-entropy is (p_y - 1) e_y, not p - e_y."""
    z, y = np.array([0.5, -1.0, 2.0]), 2
    p = softmax(z)
    slope = np.where(np.arange(3) == y, -1 / p, 0)  # of -log p_y
    wanted = differences(lambda z: -np.log(softmax(z)[y]), z)
    full = mg.registry["softmax"]().jacobian(z)
    told_apart(lambda J: near(slope @ J, wanted, 1e-8), full, np.diag(p * (1 - p)))
    np.testing.assert_allclose(gradient(CrossEntropy(), z[None], np.array([y]))[0], wanted, rtol=1e-8)


def test_t16_the_quadratic_loss_has_no_half():
    """Not an error but a choice that must be one: Tomasi has none, the layer-wise losses have 1/2."""
    a, y = np.array([[1.0, -2.0]]), np.array([[0.5, 1.0]])
    told_apart(
        lambda loss: near(differences(loss, a), 2 * (a - y), 1e-8),
        lambda a: SquaredError()(a, y).item(),
        lambda a: ((a - y) ** 2).sum() / 2,
    )


def test_t22_the_two_forms_are_equal_only_if_0_log_0_is_0():
    """In IEEE arithmetic the weighted form is nan where the prediction is perfect."""
    told_apart(
        lambda loss: loss(np.array([1.0]), np.array([1])) == 0,
        lambda p, y: TwoClassCrossEntropy()(p, y).item(),
        lambda p, y: (-y * np.log(p) - (1 - y) * np.log(1 - p)).item(),
    )


# Keren, Sabato and Schuller ---------------------------------------------------------------------------------


def test_k1_the_second_sum_of_binary_cross_entropy_lacks_a_minus():
    """As printed a false logit that grows is rewarded without end."""
    z = np.array([[3.0, 50.0]])
    told_apart(
        lambda loss: loss(z) >= 0,
        lambda z: BinaryCrossEntropy()(z, FIRST).item(),
        lambda z: softplus(-z[0, 0]) - softplus(z[0, 1]),
    )


@pytest.mark.parametrize(
    "printed",
    [
        lambda z, r: (softplus(-z) * r).sum() - (softplus(z) * (1 - r)).sum(),  # the sum ends before the second term
        lambda z, r: (softplus(-z) * r + softplus(z) * (1 - r))[:, : len(z)].sum(),  # j up to n, the number of examples
    ],
)
def test_k2_the_sum_of_the_multi_label_form_brackets_both_terms_of_all_classes(printed):
    z, r = np.array([[1.0, 2.0, -0.5]]), np.array([[1, 0, 1]])
    each = [TwoClassCrossEntropy()(1 / (1 + np.exp(-z[:, j])), r[:, j]).item() for j in range(3)]
    told_apart(lambda loss: near(loss(z, r), sum(each)), lambda z, r: BinaryCrossEntropy()(z, r).item(), printed)


def test_k3_the_sum_of_the_divergence_begins_at_1():
    """From "i = j" on, some terms are missing, and what is left may be negative."""
    P, Q = np.array([0.2, 0.8]), np.array([0.1, 0.9])
    terms = P * np.log(P / Q)
    told_apart(lambda divergence: divergence >= 0, mg.information.kl_bits(P, Q) * np.log(2), terms[1:].sum())
    assert near(mg.information.kl_bits(P, Q) * np.log(2), terms.sum())


def batch_and_labels(shift=-1000.0):
    """Three samples whose batch cross-entropy is under the bound, true logits at 8 + shift."""
    labels = np.array([0, 1, 1])
    return 8 * np.eye(2)[labels] + shift, labels


def test_k4_what_lies_between_true_and_false_logits_is_a_logarithm():
    """Not 1/(2m), a probability, but log(Z/(2m)); the loss is small enough under 1/(2 m^2)."""
    z, labels = batch_and_labels()
    m, true = len(z), np.arange(2) == labels[:, None]
    assert BatchCrossEntropy()(z, labels).item() < 1 / (2 * m**2) == BatchCrossEntropy().separation_bound(m, 2)
    told_apart(
        lambda between: z[true].min() > between > z[~true].max(),
        np.logaddexp.reduce(z.ravel()) - np.log(2 * m),
        1 / (2 * m),
    )


def test_k5_true_logits_need_not_be_positive():
    """Only their share of the softmax over the batch converges, to 1/m: the loss is blind to a common shift."""
    small = {shift: BatchCrossEntropy()(*batch_and_labels(shift)).item() for shift in (0.0, -1000.0)}
    assert near(small[0.0], small[-1000.0])
    z, labels = batch_and_labels()
    Q = softmax(z)[np.arange(3), labels]
    told_apart(
        lambda claim: claim(z[np.arange(3), labels], Q),
        lambda true, Q: near(Q, 1 / 3, 0.01),
        lambda true, Q: (true > 0).all(),
    )


@pytest.mark.parametrize("tau", [0.2, 1.0, 7.5])
def test_k6_noise_contrastive_estimation_draws_the_true_logit_to_0(tau):
    """The loss never gets under the epsilon of the printed proof, log(1 + tau): the bound is on the excess."""
    loss = NoiseContrastiveEstimation([tau / 10, 1 - tau / 10], 10)
    grid = np.linspace(-10, 10, 2001)
    values = loss.value(np.stack([grid, np.full(2001, -900.0)], axis=1), np.zeros(2001, int))
    assert grid[values.argmin()] == pytest.approx(0, abs=1e-12)  # not at +infinity
    infimum = (1 + tau) * np.log(1 + tau) - tau * np.log(tau)
    excess = loss.separation_bound(1, 2)
    told_apart(lambda epsilon: (values < epsilon).any(), infimum + excess, np.log(1 + tau))
    assert excess > 0


def test_k7_the_bound_of_self_normalization_forgets_alpha():
    loss = SelfNormalizedCrossEntropy(0.001, "sum")
    z, labels = np.array([[5.0, 1.0], [-9.0, -5.0]]), np.array([0, 1])
    assert not is_separated(z, labels)
    printed = min(np.log1p(np.exp(-2)), (1 - np.log(2)) ** 2)
    told_apart(lambda bound: loss(z, labels).item() >= bound, loss.separation_bound(2, 2), printed)


def test_k8_true_logits_are_compared_with_false_ones():
    """Two true logits of different classes cannot each be larger than the other, and the loss is 0 all the same."""
    z, labels = np.array([[2.0, 0.0], [0.0, 2.0]]), np.array([0, 1])
    assert BatchMaxMargin()(z, labels).item() == 0

    def printed(z, labels):
        pairs = [(i, n) for i in range(2) for n in range(2) if labels[i] != labels[n]]
        return all(z[i, labels[i]] > z[n, labels[n]] for i, n in pairs)

    told_apart(lambda conclusion: conclusion(z, labels), is_separated, printed)


@pytest.mark.parametrize("loss", [BatchCrossEntropy(), BatchMaxMargin()], ids=repr)
@pytest.mark.filterwarnings("ignore:.*in a batch of one")
def test_k9_batches_of_one_separate_nothing(loss):
    """LS-05: logits that are not separated, each example alone under the bound of its batch."""
    z, labels = np.array([[40.0, 20.0], [-40.0, -20.0]]), np.array([0, 1])
    assert not is_separated(z, labels)

    def found_out(m):
        batches = [(z[n : n + m], labels[n : n + m]) for n in range(0, 2, m)]
        return any(loss(*batch).item() >= loss.separation_bound(m, 2) for batch in batches)

    told_apart(found_out, 2, 1)


@pytest.mark.parametrize("gap", [20.0, 40.0])
def test_k10_the_code_of_the_authors_saturates(gap):
    """sum P log(P/(Q + 1e-6) + 1e-6): the gradient of a badly wrong batch vanishes, 5e-4 and 0 where it is 1/2."""
    z, labels = np.array([[0.0, gap], [gap, 0.0]]), np.array([0, 1])
    P = np.eye(2)[labels] / 2

    def code(z):
        return (P * np.log(P / (softmax(z) + 1e-6) + 1e-6)).sum()

    wrong = np.array([[-0.5, 0.5], [0.5, -0.5]])
    told_apart(lambda g: near(g, wrong, 1e-6), gradient(BatchCrossEntropy(), z, labels), differences(code, z))
    assert abs(differences(code, z)).max() < 1e-3


def test_k13_the_loss_of_a_sample_is_a_sum():
    """The counterexample's value, 2 log(1 + e^-alpha), is that of the sum; Tomasi's risk is the mean."""
    z, labels = np.array([[6.0, 3.0], [-6.0, -3.0]]), np.array([0, 1])
    told_apart(
        lambda reduction: near(CrossEntropy(reduction)(z, labels).item(), 2 * np.log1p(np.exp(-3))), "sum", "mean"
    )


@pytest.mark.parametrize("loss", [BatchCrossEntropy(), BatchMaxMargin()], ids=repr)
def test_k14_the_lemma_needs_all_batches(loss):
    """Not those of one epoch, in which most pairs of samples are never together: here every sample is in one batch."""
    labels = np.array([0, 1, 1, 0])
    z = 8 * np.eye(2)[labels] + np.array([[100.0], [100.0], [-100.0], [-100.0]])
    assert not is_separated(z, labels)

    def found_out(batches):
        return any(loss(z[[*batch]], labels[[*batch]]).item() >= loss.separation_bound(2, 2) for batch in batches)

    told_apart(found_out, list(itertools.combinations(range(4), 2)), [(0, 1), (2, 3)])


def test_k16_a_class_without_noise_has_no_term():
    """As printed it has 0 log 0: g_j = 1 for q_j = 0."""

    def printed(z, q, t):
        g = 1 / (1 + t * q * np.exp(-z))
        return -np.log(g[1]) - t * (q * np.log(1 - g)).sum()

    z, q = np.array([2.0, -1.0]), np.array([0.0, 1.0])
    told_apart(
        lambda loss: np.isfinite(loss(z, q, 3)),
        lambda z, q, t: NoiseContrastiveEstimation(q, t)(z[None], np.array([1])).item(),
        printed,
    )


def test_k17_noise_contrastive_estimation_is_not_binary_cross_entropy():
    """With t = k and uniform noise it has -log(1 - sigma(z_y)) more; only without that is the infimum 0."""
    z = np.array([[0.5, -2.0, 1.0]])
    noise = NoiseContrastiveEstimation(np.full(3, 1 / 3), 3)(z, FIRST).item()
    binary = BinaryCrossEntropy()(z, FIRST).item()
    told_apart(lambda other: near(noise, other), binary + softplus(z[0, 0]), binary)
    sure = np.array([[50.0, -50.0, -50.0]])
    assert (
        BinaryCrossEntropy()(sure, FIRST).item()
        < np.log(2)
        < NoiseContrastiveEstimation([1 / 3] * 3, 3)(sure, FIRST).item()
    )


# US 12387092 ------------------------------------------------------------------------------------------------


def lodds(p):
    return np.log(p / (1 - p))


def test_p1_the_argument_of_log_odds_is_a_probability():
    """A raw output may be 3, and log(3/-2) is no number."""
    z = np.array([[3.0, -2.0, 0.5]])
    told_apart(lambda form: np.isfinite(form(z)), lambda z: LogOdds(1)(z, FIRST).item(), lambda z: lodds(z[0, 0]))
    assert near(LogOdds(1)(z, FIRST).item(), lodds(softmax(z)[0, 0]))


def test_p2_epsilon_takes_the_constant_gradient():
    """At p = 1e-12: 1 without, 1e-6 with epsilon = 1e-6, and half the value."""
    z = np.log([[1e-12, 1 - 1e-12]])
    told_apart(lambda loss: near(gradient(loss, z)[0, 0], 1), LogOdds(1), LogOdds(1, eps=1e-6))
    assert [round(LogOdds(1, eps)(z, FIRST).item(), 1) for eps in (0, 1e-6)] == [-27.6, -13.8]


def test_p3_the_loss_is_the_logarithm_of_z():
    """Z itself, all that is defined, overflows."""
    z = np.array([[1000.0, -1000.0, -1000.0]])
    told_apart(
        lambda form: np.isfinite(form(z)),
        lambda z: LogSumInverseProbability()(z, FIRST).item(),
        lambda z: (1 / softmax(z)[0, 1:]).sum(),
    )


@pytest.mark.parametrize(
    ("term", "intended"),
    [
        (lambda sign: ComplementaryCrossEntropy(sign), lambda step: step[0] > 0),
        (lambda sign: LogOdds(-sign), lambda step: step[0] > 0),
        (lambda sign: IncorrectLogOddsLSE(sign, 2.0), lambda step: step[1] < 0),
        (lambda sign: IncorrectLogOddsLSE(-sign, -2.0), lambda step: step[3] > 0),
        (lambda sign: LogSumInverseProbability(sign), lambda step: step[3] > 0),
    ],
    ids=["cce up p_c", "lodds up p_c", "big down the largest", "small up the smallest", "ln Z up the smallest"],
)
def test_p4_the_signs_that_descent_needs(term, intended):
    """Coefficients are printed without sign, or "1 (or -1)": only one of the two does what the text says."""
    z = np.log([[0.5, 0.3, 0.15, 0.05]])
    told_apart(lambda sign: intended(-gradient(term(sign), z)[0]), 1, -1)


@pytest.mark.parametrize("unbounded", ["cce", "lodds", "ce+cce", "lodds+big"])
def test_p5_some_sums_fall_for_ever(unbounded):
    """A loss that falls is then no sign of convergence; the sums with S = 0 have a smallest value."""

    def settles(name):
        values = [quiet(name)(np.array([[x, 0.0, 0.0]]), FIRST).item() for x in (100.0, 200.0)]
        return near(*values)

    told_apart(settles, "lodds+ln_z", unbounded)


def test_p6_a_large_positive_power_finds_the_smallest_log_odds():
    """All are negative, so that the mean that is meant to find the largest finds the smallest."""
    p = np.array([0.55, 0.3, 0.1, 0.05])
    largest = lodds(p[1:]).max()

    def finds_the_largest(loss):
        return near(abs(loss(np.log(p)[None], FIRST).item()), abs(largest), 0.05)

    printed = IncorrectLogOddsPower(1, 8, 1 / 8)
    told_apart(finds_the_largest, IncorrectLogOddsPower(1, -9, -1 / 9, root="signed"), printed)
    told_apart(finds_the_largest, IncorrectLogOddsLSE(1, 20), printed)


def test_p6_an_even_power_pushes_a_wrong_winner_up():
    """p_j = 0.7: its log-odds is positive, the even power forgets that, and descent raises it further."""
    z = np.log([[0.18, 0.7, 0.09, 0.03]])
    told_apart(
        lambda loss: gradient(loss, z)[0, 1] > 0, IncorrectLogOddsLSE(1, 4), IncorrectLogOddsPower(-1, -4, -1 / 4)
    )


def test_p6_an_odd_power_of_negative_numbers_has_no_real_root():
    z = np.log([[0.55, 0.3, 0.1, 0.05]])

    def printed(z):
        return (lodds(softmax(z)[0, 1:]) ** 3).sum() ** (1 / 3)

    signed = IncorrectLogOddsPower(1, 3, 1 / 3, root="signed")
    told_apart(lambda form: np.isfinite(form(z)), lambda z: signed(z, FIRST).item(), printed)
    with pytest.raises(ValueError, match="root='signed'"):
        IncorrectLogOddsPower(1, 3, 1 / 3)(z, FIRST)


def test_p7_the_small_form_needs_a_negative_lambda():
    """With the same sign eq. 12 is eq. 11 again, and finds the largest."""
    p = np.array([0.55, 0.38, 0.06, 0.01])
    told_apart(
        lambda sharpness: near(IncorrectLogOddsLSE(1, sharpness)(np.log(p)[None], FIRST).item(), lodds(0.01), 0.01),
        -10,
        10,
    )


def test_p8_two_classes_leave_nothing_to_spread():
    """One incorrect category: "big" and "small" cancel, whatever their sharpness."""
    told_apart(
        lambda K: abs(gradient(quiet("big+small", lambda_big=3), np.log([[0.5, *[0.4, 0.1][: K - 1]]]))).max() > 1e-3,
        3,
        2,
    )


def test_p9_inverse_probabilities_hold_p_c_down():
    """ce + ln_z trains to p_c = 1/2 exactly; S = 0, as in ce + big + small, lets it go to 1."""

    def ends_at(name):
        loss, z = quiet(name), np.array([[0.0, 0.5, -0.5, 0.2]])
        for _ in range(300):
            z = z - gradient(loss, z)
        return softmax(z)[0, 0]

    told_apart(lambda name: ends_at(name) > 0.99, "ce+big+small", "ce+ln_z")
    assert near(ends_at("ce+ln_z"), 1 / 2)
    with pytest.warns(UserWarning, match="P-9"):
        IncorrectProbabilityLoss.preset("ce+ln_z")


def test_p10_the_logarithm_is_natural():
    """With log_2 beside exp the soft maximum tends to the maximum over log 2."""
    p = np.array([0.55, 0.38, 0.06, 0.01])
    printed = np.log2(np.exp(60 * lodds(p[1:])).sum()) / 60
    natural = IncorrectLogOddsLSE(1, 60)(np.log(p)[None], FIRST).item()
    told_apart(lambda value: near(value, lodds(0.38), 1e-6), natural, printed)
    assert near(printed, lodds(0.38) / np.log(2), 1e-6)


def test_p11_an_even_spread_costs_least_from_lambda_1_on():
    even, uneven = np.log([[0.9, *[0.1 / 3] * 3]]), np.log([[0.9, 0.098, 0.001, 0.001]])

    def prefers_even(sharpness):
        loss = IncorrectLogOddsLSE(1, sharpness)
        return loss(even, FIRST).item() < loss(uneven, FIRST).item()

    told_apart(prefers_even, 1, 0.5)


def test_p12_the_middle_line_cancels():
    """log(-e^x_c + sum e^x_i) is -infinity at (40, 0, 0), where log 2 is right."""
    z = np.array([[40.0, 0.0, 0.0]])
    e = np.exp(z[0])
    told_apart(
        lambda form: near(form(), np.log(2) - 40),
        lambda: ComplementaryCrossEntropy()(z, FIRST).item(),
        lambda: np.log(-e[0] + e.sum()) - np.log(e.sum()),
    )


@pytest.mark.parametrize("blind", ["ce", "cce", "lodds"])
def test_p13_three_terms_do_not_see_the_spread(blind):
    """p_c = .51 with (.24, .25) or (.48, .01): the worked example of the patent."""
    even, uneven = (np.log([[0.51, *rest]]) for rest in ((0.24, 0.25), (0.48, 0.01)))

    def prefers_even(name):
        return quiet(name)(even, FIRST).item() < quiet(name)(uneven, FIRST).item() - 1e-6

    for seeing in ("big", "small", "ln_z"):
        told_apart(prefers_even, seeing, blind)


def test_p14_the_constant_gradient_is_that_of_the_logits():
    """By p_c itself the derivative is 1/(p (1 - p))."""

    def by_logit(p):
        return gradient(LogOdds(1), np.log([[p, (1 - p) / 2, (1 - p) / 2]]))[0, 0]

    def by_probability(p):
        return differences(lambda p: lodds(p).item(), np.array(p), 1e-7).item()

    told_apart(lambda slope: near(slope(0.5), slope(0.99), 1e-6), by_logit, by_probability)
    assert near(by_probability(0.99), 1 / (0.99 * 0.01), 1e-4)
