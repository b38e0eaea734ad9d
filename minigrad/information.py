"""Information in bits: entropy, cross entropy, and the Huffman codes that reach them.

A source is a number, the probability of a 1 (Bernoulli), or a distribution (K,), as `cross_entropy_bits` has it.
Nats, in which the losses count, are bits times ln 2: on labels y in {0, 1} ``cross_entropy_bits(y, p)`` is the
two-class cross-entropy loss, since H(0) = H(1) = 0 (TC-28, Tomasi 2019, appendix A.4, whose cases lack the minus,
T-1).

Letters: ``q`` the source as it is, ``p`` the source that is assumed, K symbols, ``m`` bits a block; H(q) is the
entropy, H(q, p) the cross entropy.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import logit, rel_entr, xlog1py, xlogy

__all__ = [
    "HuffmanBlockCode", "HuffmanCode", "cross_entropy_bits", "cross_entropy_bits_slope", "entropy_bits",
    "entropy_bits_slope", "huffman_block_code", "huffman_code", "kl_bits",
]  # fmt: skip

LN2 = math.log(2)
LARGEST_M = 20
"""A block code has 2^m codewords; with more bits than this they fill the memory."""


# Entropy ----------------------------------------------------------------------------------------------------


def entropy_bits(q: Any) -> float:
    """H(q) = -sum_i q_i log2 q_i in bits, 0 log 0 = 0; of a number q that of (q, 1 - q) (TC-25, TC-27, Tomasi 2019,
    appendix A.2).

    The mean of -log2 of the probability of what comes, not of q itself (T-4). For a number it is at most 1, with
    equality at 1/2 (T-3), symmetric about it, and keeps its relative accuracy near 0 and 1.

    Raises ValueError for numbers outside [0, 1], and for an array that is not a distribution (K,).
    """
    q = _probabilities("entropy_bits", "q", q)
    return _cross(q, q)


def cross_entropy_bits(q: Any, p: Any) -> float:
    """H(q, p) = -sum_i q_i log2 p_i in bits; of numbers that of (q, 1 - q) and (p, 1 - p) (TC-26, TC-27, Tomasi 2019,
    appendix A.3).

    What a symbol costs in a code made for p. 0 log 0 = 0, also at p_i = 0; +inf where q_i > 0 and p_i = 0.

    Raises ValueError for numbers outside [0, 1], arrays that are no distributions, and q and p of unlike shapes.
    """
    return _cross(*_pair("cross_entropy_bits", q, p))


def kl_bits(q: Any, p: Any) -> float:
    """KL(q || p) = H(q, p) - H(q) in bits: what it costs to assume p (TC-26, LS-13).

    It is never negative, and keeps its relative accuracy where p is close to q: it is summed from terms
    q log(q / p) - q + p >= 0, not subtracted. +inf where q_i > 0 and p_i = 0.

    Raises ValueError as `cross_entropy_bits` does.
    """
    q, p = _pair("kl_bits", q, p)
    nats = _gaps(q, p, p - q).sum()
    if q.ndim == 0:
        nats += _gaps(1 - q, 1 - p, q - p).sum()
    return float(nats / LN2)


def entropy_bits_slope(q: float) -> float:
    """H'(q) = log2((1 - q) / q) for a number q; +inf at 0 and -inf at 1 (TC-25)."""
    return float(-logit(_probabilities("entropy_bits_slope", "q", q, numbers=True)) / LN2) + 0.0


def cross_entropy_bits_slope(q: float, p: float) -> float:
    """dH(q, p)/dp = ((1 - q) / (1 - p) - q / p) / ln 2 for numbers (TC-26); it is 0 at p = q.

    A term with weight 0 is left out, also where p is 0 or 1; otherwise the slope is -inf at p = 0 and +inf at 1.
    """
    who = "cross_entropy_bits_slope"
    a, b = (_probabilities(who, name, value, numbers=True) for name, value in (("q", q), ("p", p)))
    with np.errstate(divide="ignore", over="ignore"):
        nats = 1 / (1 - b) if a == 0 else -1 / b if a == 1 else (b - a) / b / (1 - b)
    return float(nats / LN2)


def _cross(q: np.ndarray, p: np.ndarray) -> float:
    nats = -xlogy(q, p).sum()
    if q.ndim == 0:
        nats -= xlog1py(1 - q, -p)
    return float(nats / LN2) + 0.0  # -0.0 becomes 0.0


def _gaps(q: np.ndarray, p: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """q log(q / p) - q + p >= 0, entry by entry, from an exact difference p - q.

    Where p is near q that is q (r - log(1 + r)) with r = p / q - 1, and log(1 + r) = 2 artanh(s) with
    s = r / (2 + r): the series of artanh, less its first term.
    """
    near = np.abs(difference) < q / 2
    r = np.divide(difference, q, where=near, out=np.zeros_like(q))
    s = r / (2 + r)
    rest = np.polynomial.polynomial.polyval(s * s, 1 / (2 * np.arange(18.0) + 3))
    return np.asarray(np.where(near, q * (r * s - 2 * s**3 * rest), rel_entr(q, p) + difference))


def _pair(who: str, q: Any, p: Any) -> tuple[np.ndarray, np.ndarray]:
    q, p = _probabilities(who, "q", q), _probabilities(who, "p", p)
    if q.shape != p.shape:
        raise ValueError(f"{who}: q {q.shape} and p {p.shape}: give two numbers, or two distributions of equal length")
    return q, p


def _probabilities(who: str, name: str, value: Any, numbers: bool = False) -> np.ndarray:
    """A number in [0, 1] as an array (), or a distribution (K,), whose sum misses 1 by a rounding error at most.

    As in NumPy's `choice`, that is the root of epsilon of the dtype.
    """
    given = np.asarray(value)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"{who}: expected {name} to be numbers, got {given.dtype}: give probabilities such as 0.1")
    array = given.astype(float)
    if array.ndim > (0 if numbers else 1) or array.size == 0:
        wanted = "a number" if numbers else "a number or a distribution (K,)"
        raise ValueError(f"{who}: expected {name} to be {wanted}, got {array.shape}: give one source at a time")
    if not ((0 <= array) & (array <= 1)).all():
        raise ValueError(
            f"{who}: expected {name} in [0, 1], got {array.min():g} to {array.max():g}: give probabilities"
        )
    epsilon = np.finfo(given.dtype if given.dtype.kind == "f" else float).eps
    if array.ndim == 1 and abs(array.sum() - 1) > math.sqrt(epsilon):
        raise ValueError(
            f"{who}: expected {name} {array.shape} to sum to 1, got {array.sum():.10g}: divide it by its sum; "
            f"several Bernoulli sources go in one by one"
        )
    return array


# Huffman codes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class HuffmanCode:
    """A prefix code for the symbols 0 to K - 1, from `huffman_code`.

    ``codewords[i]`` is that of symbol i, a string of "0" and "1"; ``expected_length`` is in bits a symbol;
    ``branches[n - K]`` are the nodes that 0 and 1 lead to from the inner node n, where nodes below K are symbols and
    the last one is the root.
    """

    probabilities: np.ndarray
    branches: tuple[tuple[int, int], ...]
    expected_length: float

    @cached_property
    def codewords(self) -> tuple[str, ...]:
        """The way from the root to each symbol."""
        K = len(self.probabilities)
        words = [""] * (K + len(self.branches))
        for node in range(len(words) - 1, K - 1, -1):
            zero, one = self.branches[node - K]
            words[zero], words[one] = words[node] + "0", words[node] + "1"
        return tuple(words[:K])

    @cached_property
    def lengths(self) -> np.ndarray:
        """The number of bits of each codeword, (K,)."""
        lengths = np.fromiter(map(len, self.codewords), dtype=np.int64)
        lengths.setflags(write=False)
        return lengths

    @property
    def kraft_sum(self) -> float:
        """sum_i 2^-length_i: 1, since no bits are wasted."""
        return math.fsum(np.ldexp(1.0, -self.lengths))

    @property
    def bounds(self) -> tuple[float, float]:
        """H and H + 1, between which the expected length lies: H <= L < H + 1.

        L = H + 1 only where one symbol is certain and others, with probability 0, have codewords too.
        """
        H = _cross(self.probabilities, self.probabilities)
        return H, H + 1

    def expected_length_for(self, q: Any) -> float:
        """Bits a symbol when the symbols come from another distribution q (K,), near H(q, p) bits."""
        q = _probabilities("HuffmanCode.expected_length_for", "q", q)
        if q.shape != self.probabilities.shape:
            raise ValueError(
                f"HuffmanCode.expected_length_for: expected q {self.probabilities.shape}, got {q.shape}: "
                f"give one probability a symbol"
            )
        return float(q @ self.lengths)

    def encode(self, symbols: Any) -> np.ndarray:
        """The codewords of symbols (n,), one after the other, as an array of zeros and ones, uint8.

        Raises TypeError for symbols that are not integers, ValueError for those that have no codeword.
        """
        symbols, K = np.asarray(symbols), len(self.probabilities)
        if symbols.size and symbols.dtype.kind not in "iu":
            raise TypeError(f"HuffmanCode.encode: expected integers, got {symbols.dtype}: number the symbols from 0")
        if symbols.ndim != 1:
            raise ValueError(f"HuffmanCode.encode: expected symbols (n,), got {symbols.shape}: try symbols.ravel()")
        if symbols.size and not 0 <= symbols.min() <= symbols.max() < K:
            raise ValueError(
                f"HuffmanCode.encode: expected symbols from 0 to {K - 1}, got {symbols.min()} to {symbols.max()}: "
                f"only these have codewords"
            )
        if symbols.size and K == 1:
            raise ValueError(
                "HuffmanCode.encode: the codeword of an only symbol is empty, and no bits do not tell how many symbols "
                "there were: send their number"
            )
        text = "".join(map(self.codewords.__getitem__, symbols.tolist()))
        return np.frombuffer(text.encode(), dtype=np.uint8) - ord("0")

    def decode(self, bits: Any) -> np.ndarray:
        """The symbols (n,) whose codewords these bits (l,) are.

        Raises ValueError for a stream that ends inside a codeword. One that ends between two is a shorter message:
        `HuffmanBlockCode` sends the length along.
        """
        return self._decode("HuffmanCode", _bits("HuffmanCode.decode", bits))

    def _decode(self, who: str, bits: np.ndarray) -> np.ndarray:
        branches, K = self.branches, len(self.probabilities)
        root = node = K + len(branches) - 1
        if root == 0 and len(bits):
            raise ValueError(f"{who}.decode: got {len(bits)} bits, but the only codeword is empty: give no bits")
        symbols: list[int] = []
        for bit in bits.tolist():
            node = branches[node - K][bit]
            if node < K:
                symbols.append(node)
                node = root
        if node != root:
            raise ValueError(
                f"{who}.decode: the stream of {len(bits)} bits ends inside the codeword after symbol {len(symbols)}: "
                f"it is cut off, or was made by another code"
            )
        return np.array(symbols, dtype=np.int64)

    def __repr__(self) -> str:
        return f"HuffmanCode({len(self.probabilities)} symbols, {self.expected_length:.6g} bits a symbol)"


def huffman_code(probabilities: Any) -> HuffmanCode:
    """The code of smallest expected length for a distribution (K,) of symbols (Huffman 1952; TC-24).

    The two least likely nodes are merged until one is left. The expected length is the sum of the probabilities of
    the merged nodes, however ties are broken; the lengths depend on that (of equally likely nodes the older ones are
    merged first, which keeps the longest codeword short). Symbols of probability 0 get codewords too, and an only
    symbol the empty one.

    Raises ValueError unless the probabilities are a distribution.
    """
    p = _probabilities("huffman_code", "probabilities", probabilities)
    if p.ndim == 0:
        raise ValueError(
            f"huffman_code: expected a distribution (K,), got the number {p:g}: give [q, 1 - q], or use "
            f"huffman_block_code(q, m)"
        )
    return _merged(p)


def _merged(p: np.ndarray) -> HuffmanCode:
    heap = [(probability, node) for node, probability in enumerate(p.tolist())]
    heapq.heapify(heap)
    branches, merged = [], []
    for node in range(len(p), 2 * len(p) - 1):
        p_first, first = heapq.heappop(heap)
        p_second, second = heapq.heapreplace(heap, (p_first + heap[0][0], node))
        branches.append((second, first) if p_first < p_second else (first, second))  # 0 leads to the likelier
        merged.append(p_first + p_second)
    p.setflags(write=False)
    return HuffmanCode(p, tuple(branches), math.fsum(merged))


@dataclass(frozen=True, eq=False)
class HuffmanBlockCode:
    """A Huffman code for blocks of ``m`` bits that are 1 with probability ``q``, from `huffman_block_code`.

    ``code`` is the `HuffmanCode` of the 2^m blocks, each numbered as it reads in binary, first bit first.
    """

    q: float
    m: int
    code: HuffmanCode

    @property
    def rate(self) -> float:
        """Expected code bits a source bit, L_m / m. It need not fall with each m (T-23)."""
        return self.code.expected_length / self.m

    @property
    def codewords(self) -> tuple[str, ...]:
        """``codewords[int("011", 2)]`` is that of the block 011, a string of "0" and "1"."""
        return self.code.codewords

    @property
    def lengths(self) -> np.ndarray:
        """The number of bits of each codeword, (2^m,)."""
        return self.code.lengths

    @property
    def kraft_sum(self) -> float:
        """The sum of 2^-length over the codewords: 1."""
        return self.code.kraft_sum

    @property
    def bounds(self) -> tuple[float, float]:
        """H(q) and H(q) + 1/m, between which the rate lies: H <= rate < H + 1/m (TC-24).

        A certain source, q in {0, 1}, has rate 1/m and reaches the upper one: something must be sent.
        """
        H = entropy_bits(self.q)
        return H, H + 1 / self.m

    def rate_for(self, q: float) -> float:
        """Expected code bits a source bit when the bits are 1 with another probability: near H(q, self.q) for large m
        (TC-26, Tomasi 2019, appendix A.3).

        Raises ValueError for q outside [0, 1].
        """
        return float(_blocks(_number("HuffmanBlockCode.rate_for", q), self.m) @ self.lengths) / self.m

    def encode(self, bits: Any) -> np.ndarray:
        """A stream of n bits, zeros and ones (n,), as one of code bits, uint8.

        First comes n: n + 1 in binary, after as many zeros as it has further digits (Elias's gamma code,
        2 floor(log2(n + 1)) + 1 bits). Then the codewords; the last block is filled up with zeros, which `decode`
        drops again. ``code.encode`` has the codewords alone.

        Raises ValueError for anything but zeros and ones.
        """
        source = _bits("HuffmanBlockCode.encode", bits)
        blocks = np.pad(source, (0, -len(source) % self.m)).reshape(-1, self.m)
        return np.concatenate([_gamma(len(source) + 1), self.code.encode(blocks @ self._places)])

    def decode(self, bits: Any) -> np.ndarray:
        """Exactly the bits (n,) that `encode` was given, uint8.

        Raises ValueError for a stream that is cut off, goes on after its end, or was made by another code as far as
        that can be seen: each shorter or longer stream is refused.
        """
        who = "HuffmanBlockCode.decode"
        stream = _bits(who, bits)
        digits = int(stream.argmax()) + 1 if stream.any() else len(stream) + 1
        if len(stream) < 2 * digits - 1:
            raise ValueError(f"{who}: the stream of {len(stream)} bits ends inside its length: it is cut off")
        n = int("".join(map(str, stream[digits - 1 : 2 * digits - 1].tolist())), 2) - 1
        symbols = self.code._decode("HuffmanBlockCode", stream[2 * digits - 1 :])
        if len(symbols) != -(-n // self.m):
            raise ValueError(
                f"{who}: the stream says {n} bits, {-(-n // self.m)} blocks of {self.m}, and holds {len(symbols)}: it "
                f"is cut off or goes on too long, or was made by another code"
            )
        source, filling = np.split((symbols[:, None] // self._places & 1).astype(np.uint8).ravel(), [n])
        if filling.any():
            raise ValueError(f"{who}: the last block is not filled up with zeros: the stream is of another code")
        return source

    @property
    def _places(self) -> np.ndarray:
        """The values of the bits of a block: 2^(m - 1), ..., 1."""
        return np.asarray(1 << np.arange(self.m)[::-1])

    def __repr__(self) -> str:
        return f"HuffmanBlockCode(q={self.q:g}, m={self.m}, rate={self.rate:.6g} bits a bit)"


def huffman_block_code(q: float, m: int) -> HuffmanBlockCode:
    """The Huffman code for blocks of m independent bits, 1 with probability q (TC-24, Tomasi 2019, appendix A.1).

    A block with k ones has probability q^k (1 - q)^(m - k). The rate tends to H(q) as m grows, though not
    monotonically (T-23): H(q) <= rate < H(q) + 1/m. For q in {0, 1} blocks of probability 0 get codewords as well.

    Raises ValueError for q outside [0, 1], and for m that is not a whole number from 1 to 20.
    """
    q = _number("huffman_block_code", q)
    if not isinstance(m, (int, np.integer)) or isinstance(m, bool) or m < 1:
        raise ValueError(f"huffman_block_code: expected m to be a whole number from 1, got {m!r}: it counts bits")
    if m > LARGEST_M:
        raise ValueError(
            f"huffman_block_code: m={m} needs 2^{m} codewords: take m <= {LARGEST_M}; the rate is within 1/m of the "
            f"entropy anyway"
        )
    return HuffmanBlockCode(q, int(m), _merged(_blocks(q, int(m))))


def _blocks(q: float, m: int) -> np.ndarray:
    """The probabilities of the 2^m blocks."""
    k = np.arange(m + 1)
    return np.asarray((q**k * (1 - q) ** (m - k))[np.bitwise_count(np.arange(2**m))])


def _number(who: str, q: Any) -> float:
    return float(_probabilities(who, "q", q, numbers=True))


def _bits(who: str, bits: Any) -> np.ndarray:
    given = np.asarray(bits)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "biuf"):
        raise ValueError(f"{who}: expected bits (n,), got {given.shape} of {given.dtype}: give an array of 0 and 1")
    if not ((given == 0) | (given == 1)).all():
        raise ValueError(f"{who}: expected nothing but 0 and 1, got {given.min()} to {given.max()}: give bits")
    return given.astype(np.uint8)


def _gamma(n: int) -> np.ndarray:
    """Elias's gamma code of n >= 1: its binary digits after as many zeros as there are digits but the first."""
    digits = f"{n:b}"
    return np.array([0] * (len(digits) - 1) + [int(digit) for digit in digits], dtype=np.uint8)
