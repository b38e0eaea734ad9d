"""Entropy against 50 digits, and codes that are optimal, reversible and as short as promised."""

import itertools
import math
import warnings

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad.information import (
    cross_entropy_bits,
    cross_entropy_bits_slope,
    entropy_bits,
    entropy_bits_slope,
    huffman_block_code,
    huffman_code,
    kl_bits,
)
from minigrad.losses import TwoClassCrossEntropy

NUMBERS = [0.0, 5e-324, 1e-300, 1e-20, 1e-5, 0.1, 0.3, 0.5 - 1e-9, 0.5, 0.7, 0.9, 1 - 1e-5, 1 - 2**-53, 1.0]


@pytest.fixture(autouse=True)
def _fifty_digits():
    with mp.workdps(50):
        yield


def bits(q, p):
    """-sum q log2 p at 50 digits, of exactly these doubles."""
    if np.ndim(q) == 0:
        logs = [mp.log(p) if p else -mp.inf, mp.log1p(-mp.mpf(p)) if p < 1 else -mp.inf]
        q = [q, 1 - mp.mpf(q)]
    else:
        q, logs = q.tolist(), [mp.log(x) if x else -mp.inf for x in p.tolist()]
    return -mp.fsum(mp.mpf(a) * log for a, log in zip(q, logs, strict=True) if a) / mp.log(2)


def close(got, wanted, rtol=1e-14):
    assert isinstance(got, float)
    subnormal = 5e-324
    assert got == wanted or abs(got - wanted) <= rtol * abs(wanted) + subnormal, (got, wanted)


# Entropy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", NUMBERS)
def test_entropy_of_a_number(q):
    close(entropy_bits(q), bits(q, q))
    assert math.copysign(1, entropy_bits(q)) == 1
    assert entropy_bits(q) <= 1
    close(entropy_bits([q, 1 - q]), bits(np.array([q, 1 - q]), np.array([q, 1 - q])))


def test_entropy_is_one_bit_at_one_half():
    """T-3: at most 1, and equal there; T-4: not -log2 of q itself."""
    assert entropy_bits(0.5) == 1
    assert entropy_bits(0.25) == pytest.approx(0.8112781244591328, rel=1e-15)
    assert entropy_bits(0.25) != -math.log2(0.25)
    assert entropy_bits(np.full(8, 1 / 8)) == 3
    assert entropy_bits([1]) == entropy_bits([0, 1, 0]) == 0


@pytest.mark.parametrize(("q", "p"), list(itertools.product(NUMBERS, NUMBERS)))
def test_cross_entropy_and_divergence_of_numbers(q, p):
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        close(cross_entropy_bits(q, p), bits(q, p))
        wanted = bits(q, p)
        if wanted != mp.inf:
            with mp.workdps(700):  # for the difference
                wanted = bits(q, p) - bits(q, q)
        close(kl_bits(q, p), wanted)


@settings(deadline=None)
@given(q=st.floats(0, 1), relative=st.floats(-1e-3, 1e-3))
def test_the_divergence_keeps_its_accuracy_near_zero(q, relative):
    p = min(q * (1 + relative), 1.0)
    got = kl_bits(q, p)
    assert got >= 0
    with mp.workdps(700):
        wanted = bits(q, p) - bits(q, q)
    if wanted > 1e-290 and q > 1e-290:
        close(got, wanted, 1e-14)


def test_distributions(rng):
    for K in (1, 2, 5, 1000):
        q, p = rng.dirichlet(np.full(K, 0.3)), rng.dirichlet(np.ones(K))
        close(entropy_bits(q), bits(q, q), 1e-13)
        close(cross_entropy_bits(q, p), bits(q, p), 1e-13)
        close(kl_bits(q, p), bits(q, p) - bits(q, q), 1e-12 if K > 1 else 1)
    assert cross_entropy_bits([0.5, 0.5, 0], [0.5, 0.5, 0]) == 1
    assert cross_entropy_bits([0.5, 0.5], [1, 0]) == kl_bits([0.5, 0.5], [1, 0]) == math.inf
    assert kl_bits(q, q) == 0
    assert kl_bits([1, 0], [0.25, 0.75]) == 2
    assert entropy_bits(np.float32([0.1, 0.2, 0.7])) == pytest.approx(entropy_bits([0.1, 0.2, 0.7]), rel=1e-6)


@pytest.mark.parametrize("p", [1e-9, 0.1, 0.5, 0.9, 1.0])
def test_the_loss_is_a_length_of_code(p):
    """TC-28 with the minus of T-1: on labels the cross entropy is the loss, up to the unit."""
    for y in (0, 1):
        loss = float(TwoClassCrossEntropy()(np.array([p]), np.array([y])))
        assert cross_entropy_bits(y, p) * math.log(2) == pytest.approx(loss, rel=1e-15)


@pytest.mark.parametrize("q", NUMBERS)
def test_slopes(q):
    slope = entropy_bits_slope(q)
    if q in (0, 1):
        assert slope == (math.inf if q == 0 else -math.inf)
    else:
        wanted = mp.log((1 - mp.mpf(q)) / mp.mpf(q), 2)
        assert abs(slope - wanted) <= 1e-14 * abs(wanted) + 1e-22
    for p in NUMBERS:
        a, b = mp.mpf(q), mp.mpf(p)
        terms = [(1 - a) / (1 - b) if b != 1 else mp.inf if a != 1 else 0, a / b if b else mp.inf if a else 0]
        wanted = float((terms[0] - terms[1]) / mp.log(2))
        assert cross_entropy_bits_slope(q, p) == pytest.approx(wanted, rel=1e-14)
    assert entropy_bits_slope(0.5) == cross_entropy_bits_slope(0.3, 0.3) == 0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: entropy_bits(1.1), ValueError, r"entropy_bits: expected q in \[0, 1\], got 1.1"),
        (lambda: entropy_bits(-1e-9), ValueError, "-1e-09"),
        (lambda: entropy_bits(math.nan), ValueError, "nan"),
        (lambda: entropy_bits([0.5, math.nan]), ValueError, "nan"),
        (lambda: entropy_bits("0.5"), TypeError, "give probabilities"),
        (lambda: entropy_bits([]), ValueError, r"\(0,\)"),
        (lambda: entropy_bits([[0.5, 0.5]]), ValueError, r"\(1, 2\)"),
        (lambda: entropy_bits([0.5, 0.4]), ValueError, "sum to 1, got 0.9: divide it by its sum"),
        (lambda: cross_entropy_bits(0.5, 2), ValueError, "expected p in"),
        (lambda: cross_entropy_bits(0.5, [0.5, 0.5]), ValueError, r"q \(\) and p \(2,\)"),
        (lambda: kl_bits([1.0], [0.5, 0.5]), ValueError, r"kl_bits: q \(1,\) and p \(2,\)"),
        (lambda: entropy_bits_slope([0.5, 0.5]), ValueError, "expected q to be a number"),
        (lambda: cross_entropy_bits_slope(0.5, 1.5), ValueError, "expected p in"),
    ],
)
def test_what_is_no_source_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


# Codes for any alphabet -------------------------------------------------------------------------------------

distributions = st.lists(st.floats(0, 1), min_size=2, max_size=40).filter(sum).map(lambda w: np.array(w) / sum(w))


@settings(deadline=None)
@given(p=distributions)
def test_a_code_is_complete_free_of_prefixes_and_within_its_bounds(p):
    code = huffman_code(p)
    words = sorted(code.codewords)
    assert not any(b.startswith(a) for a, b in itertools.pairwise(words))
    assert code.kraft_sum == 1
    assert code.lengths.tolist() == [len(word) for word in code.codewords]
    H, above = code.bounds
    assert H == entropy_bits(p)
    assert H - 1e-12 <= code.expected_length <= above
    assert code.expected_length == pytest.approx(float(p @ code.lengths), rel=1e-12)
    assert code.expected_length_for(p) == float(p @ code.lengths)
    order = np.argsort(-p, kind="stable")
    likely, unlikely = order[:-1], order[1:]
    assert (code.lengths[likely] <= code.lengths[unlikely])[p[likely] > p[unlikely]].all()


def smallest(p, deepest):
    """The smallest expected length of all prefix codes, by trying all lengths."""
    return min(
        np.dot(p, lengths)
        for lengths in itertools.product(range(1, deepest + 1), repeat=len(p))
        if sum(2.0**-l for l in lengths) <= 1
    )


def test_no_prefix_code_is_shorter(rng):
    for K in (2, 3, 4, 5):
        for _ in range(3):
            p = rng.dirichlet(np.full(K, 0.5))
            assert huffman_code(p).expected_length == pytest.approx(smallest(p, K), rel=1e-13)


def test_ties_are_broken_in_one_way():
    """The older node first: no codeword longer than it must be, and the same code each time."""
    code = huffman_code([0.4, 0.2, 0.2, 0.1, 0.1])
    assert code.codewords == huffman_code([0.4, 0.2, 0.2, 0.1, 0.1]).codewords
    assert sorted(code.lengths) == [2, 2, 2, 3, 3]
    assert code.expected_length == pytest.approx(2.2, rel=1e-15)
    assert (huffman_code(np.full(16, 1 / 16)).lengths == 4).all()
    assert repr(code) == "HuffmanCode(5 symbols, 2.2 bits a symbol)"


def test_a_chain_is_as_long_as_it_must_be():
    p = np.append(2.0 ** -np.arange(1, 101), 2.0**-100)
    code = huffman_code(p)
    assert code.lengths.tolist() == [*range(1, 101), 100]
    assert code.expected_length == pytest.approx(entropy_bits(p), rel=1e-15)
    np.testing.assert_array_equal(code.decode(code.encode([100, 0, 99])), [100, 0, 99])


@settings(deadline=None)
@given(p=distributions, data=st.data())
def test_symbols_come_back(p, data):
    symbols = data.draw(st.lists(st.integers(0, len(p) - 1)))
    code = huffman_code(p)
    stream = code.encode(symbols)
    assert stream.dtype == np.uint8
    assert "".join(map(str, stream)) == "".join(code.codewords[symbol] for symbol in symbols)
    np.testing.assert_array_equal(code.decode(stream), symbols)


def test_an_only_symbol_takes_no_bits():
    code = huffman_code([1.0])
    assert code.codewords == ("",)
    assert code.expected_length == entropy_bits([1.0]) == 0
    assert code.kraft_sum == 1
    assert code.decode(code.encode([])).size == 0
    with pytest.raises(ValueError, match="send their number"):
        code.encode([0, 0])
    with pytest.raises(ValueError, match="only codeword is empty"):
        code.decode([0])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda c: huffman_code(0.3), ValueError, r"give \[q, 1 - q\]"),
        (lambda c: huffman_code([3, 1]), ValueError, "got 1 to 3"),
        (lambda c: huffman_code([0.3, 0.3]), ValueError, "sum to 1"),
        (lambda c: huffman_code([]), ValueError, r"\(0,\)"),
        (lambda c: c.encode([0, 3]), ValueError, "symbols from 0 to 2, got 0 to 3"),
        (lambda c: c.encode([-1]), ValueError, "got -1"),
        (lambda c: c.encode([0.0]), TypeError, "float64"),
        (lambda c: c.encode([[0]]), ValueError, r"\(1, 1\)"),
        (lambda c: c.decode([1]), ValueError, "ends inside the codeword after symbol 0"),
        (lambda c: c.decode([0, 2]), ValueError, "nothing but 0 and 1, got 0 to 2"),
        (lambda c: c.decode([0.5]), ValueError, "0.5"),
        (lambda c: c.decode("01"), ValueError, r"bits \(n,\)"),
        (lambda c: c.expected_length_for([0.5, 0.5]), ValueError, r"\(3,\), got \(2,\)"),
    ],
)
def test_what_a_code_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call(huffman_code([0.5, 0.25, 0.25]))


# Codes for blocks of bits -----------------------------------------------------------------------------------


def test_the_rates_of_the_source():
    """TC-24: q = .1, m = 1 to 6."""
    rates = [huffman_block_code(0.1, m).rate for m in range(1, 7)]
    np.testing.assert_allclose(rates, [1, 0.645, 1.598 / 3, 0.49255, 0.480194, 2.820941 / 6], rtol=1e-14)


def test_more_bits_a_block_can_cost_more():
    """T-23: "increasingly efficient" holds in the limit, not from each m to the next."""
    assert huffman_block_code(0.3, 2).rate == pytest.approx(0.905, rel=1e-15)
    assert huffman_block_code(0.3, 3).rate == pytest.approx(2.726 / 3, rel=1e-15)
    assert huffman_block_code(0.1, 7).rate == pytest.approx(0.474342, abs=5e-7)
    assert huffman_block_code(0.1, 7).rate > huffman_block_code(0.1, 6).rate
    assert huffman_block_code(0.1, 14).rate < 0.473 < entropy_bits(0.1) + 1 / 14


@pytest.mark.parametrize("m", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("q", [0.0, 1e-200, 1e-4, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_the_rate_is_within_its_bounds(q, m):
    code = huffman_block_code(q, m)
    H, above = code.bounds
    assert (H, above) == (entropy_bits(q), entropy_bits(q) + 1 / m)
    if q in (0, 1):
        assert code.rate == above == 1 / m  # 2^m codewords need a bit, though nothing is to be said
    else:
        assert H * (1 - 1e-15) <= code.rate < above or q == 1e-200  # where the rate rounds to 1/m
    assert code.kraft_sum == 1
    assert len(set(code.codewords)) == len(code.codewords) == len(code.lengths) == 2**m
    assert code.rate_for(q) == pytest.approx(code.rate, rel=1e-13)
    assert huffman_block_code(1 - q, m).rate == pytest.approx(code.rate, rel=1e-12)


def test_the_rate_is_exact():
    """It is the one of exact rational arithmetic, on the same double q."""
    q, m = 0.3, 6
    weights = [mp.mpf(q) ** k * (1 - mp.mpf(q)) ** (m - k) for k in (b.bit_count() for b in range(2**m))]
    total = mp.mpf(0)
    while len(weights) > 1:
        weights.sort(reverse=True)
        merged = weights.pop() + weights.pop()
        total += merged
        weights.append(merged)
    close(huffman_block_code(q, m).rate, total / m, 1e-15)


def test_blocks_are_numbered_as_they_read():
    code = huffman_block_code(0.1, 2)
    assert code.codewords == ("0", "100", "11", "101")
    assert code.codewords[int("01", 2)] == "100"
    assert code.lengths.tolist() == [1, 3, 2, 3]
    stream = code.encode([0, 1, 0, 0, 1])
    assert "".join(map(str, stream)) == "00110" + "100" + "0" + "11"  # gamma code of 5 + 1, then 01, 00, 1(0)
    assert repr(code) == "HuffmanBlockCode(q=0.1, m=2, rate=0.645 bits a bit)"


codes = st.builds(huffman_block_code, st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.8, 1.0]), st.integers(1, 6))
streams = st.lists(st.integers(0, 1), max_size=70)


@settings(deadline=None)
@given(code=codes, source=streams)
def test_bits_come_back_whatever_their_number(code, source):
    stream = code.encode(source)
    assert stream.dtype == np.uint8
    assert code.decode(stream).tolist() == source
    assert code.decode(stream.astype(bool)).tolist() == source


@settings(deadline=None)
@given(code=codes, source=streams, data=st.data())
def test_a_stream_that_is_cut_off_or_too_long_is_refused(code, source, data):
    stream = code.encode(source).tolist()
    with pytest.raises(ValueError, match=r"HuffmanBlockCode\.decode: .*cut off"):
        code.decode(stream[: data.draw(st.integers(0, len(stream) - 1))])
    with pytest.raises(ValueError, match=r"HuffmanBlockCode\.decode"):
        code.decode(stream + data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=9)))


@settings(deadline=None)
@given(code=codes, stream=streams)
def test_any_stream_is_decoded_or_refused(code, stream):
    try:
        source = code.decode(stream)
    except ValueError:
        return
    assert code.encode(source).tolist() == stream  # a message has one stream


@pytest.mark.parametrize(("q", "m"), [(0.1, 1), (0.1, 6), (0.3, 4), (0.02, 10)])
def test_a_million_bits_cost_what_was_promised(q, m, rng):
    n = 1_000_000 + m // 2
    source = rng.random(n) < q
    code = huffman_block_code(q, m)
    stream = code.encode(source)
    deviation = math.sqrt((n / m) * code.lengths.max() ** 2)  # more than that of the length
    assert abs(len(stream) - n * code.rate) < 4 * deviation + 50
    assert len(stream) / n == pytest.approx(code.rate, rel=0.01)
    np.testing.assert_array_equal(code.decode(stream), source)


@pytest.mark.parametrize(("p", "q"), [(0.3, 0.1), (0.1, 0.3), (0.5, 0.1), (0.2, 0.21)])
def test_the_wrong_code_costs_the_cross_entropy(p, q, rng):
    """TC-26: bits a source bit, near H(q, p), never below H(q); and the streams are that long."""
    wanted = cross_entropy_bits(q, p)
    gaps = [abs(huffman_block_code(p, m).rate_for(q) - wanted) for m in (1, 12)]
    assert gaps[1] < 0.02
    assert gaps[1] < gaps[0] or p == 0.5
    code = huffman_block_code(p, 12)
    assert entropy_bits(q) <= huffman_block_code(q, 12).rate <= code.rate_for(q)
    stream = code.encode(rng.random(240_000) < q)
    assert len(stream) / 240_000 == pytest.approx(code.rate_for(q), rel=0.02)


def test_equal_code_lengths_cost_exactly_the_cross_entropy():
    """p = 1/2 makes every codeword m bits long, and H(q, 1/2) = 1 for each q."""
    assert [huffman_block_code(0.5, 5).rate_for(q) for q in (0, 0.1, 1)] == pytest.approx([1, 1, 1], rel=1e-15)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: huffman_block_code(-0.1, 2), r"huffman_block_code: expected q in \[0, 1\]"),
        (lambda: huffman_block_code(1.5, 2), "got 1.5"),
        (lambda: huffman_block_code(math.nan, 2), "nan"),
        (lambda: huffman_block_code([0.1, 0.9], 2), "expected q to be a number"),
        (lambda: huffman_block_code(0.1, 0), "whole number from 1, got 0"),
        (lambda: huffman_block_code(0.1, 2.0), r"got 2\.0"),
        (lambda: huffman_block_code(0.1, True), "got True"),
        (lambda: huffman_block_code(0.1, 21), r"m=21 needs 2\^21 codewords: take m <= 20"),
        (lambda: huffman_block_code(0.1, 2).rate_for(2), r"rate_for: expected q in \[0, 1\]"),
        (lambda: huffman_block_code(0.1, 2).encode([0, 1, 2]), "nothing but 0 and 1, got 0 to 2"),
        (lambda: huffman_block_code(0.1, 2).encode([[0, 1]]), r"\(1, 2\)"),
        (lambda: huffman_block_code(0.1, 2).encode([math.nan]), "nan"),
        (lambda: huffman_block_code(0.1, 2).decode([]), "ends inside its length"),
        (lambda: huffman_block_code(0.1, 2).decode([0, 0, 1]), "ends inside its length"),
        (lambda: huffman_block_code(0.1, 2).decode([1, 0]), "says 0 bits, 0 blocks of 2, and holds 1"),
        (lambda: huffman_block_code(0.1, 2).decode([0, 1, 0, 1, 0, 0]), "not filled up with zeros"),
    ],
)
def test_what_a_block_code_refuses(call, words):
    with pytest.raises(ValueError, match=words):
        call()
