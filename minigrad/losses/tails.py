"""Probabilities to the last digits of their tails, and what the losses make of them.

A sure network has p_y = 1 - 1e-20, and 1 - p_y is what its loss is made of: subtraction would give 0. Here p, 1 - p
and their logarithms all come from the log-odds

    l_i = log(p_i / (1 - p_i)) = z_i - log sum_{k != i} e^(z_k),

which lose nothing: p = sigma(l), 1 - p = sigma(-l), log p = -softplus(-l), log(1 - p) = -softplus(l). All of it takes
O(K) a sample.

Letters: ``i, j, k`` class, K classes; ``c`` the true one; rows are samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Tails", "incorrect", "log_odds_matrix", "lse", "rows", "sigmoid", "softmax", "softplus"]


def softplus(u: Any) -> Any:
    """log(1 + e^u), relatively accurate at both ends."""
    return np.maximum(u, 0) + np.log1p(np.exp(-abs(u)))


def sigmoid(u: Any) -> Any:
    """1/(1 + e^-u), relatively accurate at both ends."""
    e = np.exp(-abs(u))
    return np.where(u >= 0, 1, e) / (1 + e)


def rows(z: Any) -> Any:
    """The numbers of the samples, to pick one entry from each row: ``z[rows(z), labels]``."""
    return np.arange(len(z))


def incorrect(z: Any, labels: Any) -> Any:
    """The logits with -inf at the true class, which no sum of exponentials then sees."""
    z = np.array(z, dtype=np.result_type(z, np.float32))
    z[rows(z), labels] = -np.inf
    return z


def lse(z: Any) -> Any:
    """log sum_k e^(z_k) of each row; relatively accurate also where the sum is close to 1."""
    top = z.argmax(axis=1)
    m = z[rows(z), top]
    e = np.exp(z - m[:, None])
    e[rows(z), top] = 0
    return m + np.log1p(e.sum(axis=1))


def softmax(z: Any) -> Any:
    """e^(z_i) / sum_k e^(z_k) of each row."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class Tails:
    """Everything about softmax(z), for logits z (N, K), from the log-odds.

    ``p``, ``q`` = 1 - p, ``log_p``, ``log_q``, each (N, K), and ``lodds``, l (which is +inf for a single class).
    Logits of -inf are classes that are not there.
    """

    def __init__(self, z: Any):
        n, self.top = rows(z), z.argmax(axis=1)
        d = z - z[n, self.top][:, None]
        e = np.exp(d)
        e[n, self.top] = 0
        # Of the classes but i, for i not the top, the top adds 1 to a sum of positive terms: nothing cancels.
        self.lodds = d - np.log1p(e.sum(axis=1, keepdims=True) - e)
        # For the top the second of all is what counts; there may be none.
        d[n, self.top] = -np.inf
        second = d.max(axis=1, keepdims=True)
        second[second == -np.inf] = 0
        others = np.exp(d - second)
        total = others.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore"):
            self.lodds[n, self.top] = -(second + np.log(total))[:, 0]
        self.others = others / np.where(total > 0, total, 1)

    p = property(lambda self: sigmoid(self.lodds), doc="softmax(z).")
    q = property(lambda self: sigmoid(-self.lodds), doc="1 - softmax(z).")
    log_p = property(lambda self: -softplus(-self.lodds), doc="log softmax(z).")
    log_q = property(lambda self: -softplus(self.lodds), doc="log(1 - softmax(z)).")

    def smooth(self, eps: float) -> Any:
        """log((p + eps)/(1 - p + eps)), which is l where eps is 0 (IP-12)."""
        if eps == 0:
            return self.lodds
        # p - (1 - p) = tanh(l/2): the larger one is the smaller one plus tanh(|l|/2)
        size = abs(self.lodds)
        return np.sign(self.lodds) * np.log1p(np.tanh(size / 2) / (sigmoid(-size) + eps))

    def smooth_slope(self, eps: float) -> Any:
        """The derivative of `smooth` by l: (1 + 2 eps) p/(p + eps) (1 - p)/(1 - p + eps)."""
        if eps == 0:
            return np.ones_like(self.lodds)
        floor = float(np.log(eps))
        return (1 + 2 * eps) * sigmoid(self.log_p - floor) * sigmoid(self.log_q - floor)

    def spread(self, v: Any) -> Any:
        """p_k sum_{j != k} v_j/(1 - p_j), for rows v.

        Where p_j may be close to 1, for the top, p_k/(1 - p_j) is the softmax of the others; elsewhere 1 - p_j >= 1/2.
        """
        n = rows(v)
        a = v / self.q.clip(min=0.5)
        a[n, self.top] = 0
        return self.p * (a.sum(axis=1, keepdims=True) - a) + v[n, self.top][:, None] * self.others

    def pull(self, v: Any) -> Any:
        """Rows v times the Jacobian of the log-odds, dl_j/dz_k = [j = k] - [j != k] p_k/(1 - p_j)."""
        return v - self.spread(v)


def log_odds_matrix(z: Any) -> Any:
    """The same Jacobian for one sample as a matrix: 1 on the diagonal, -softmax of the others off it."""
    K = len(z)
    others = np.where(np.eye(K, dtype=bool), -np.inf, z)
    return np.eye(K) - softmax(others)
