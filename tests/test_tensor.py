"""Tensors and the tape."""

import gc
import pickle
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor
from minigrad.operation import registry


def leaf(*values: float) -> Tensor:
    return Tensor(list(values), requires_grad=True)


def test_backward_twice_gives_the_same_and_accumulate_adds() -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward()
    y.backward()
    assert x.grad.tolist() == [2.0, 4.0]
    y.backward(accumulate=True)
    assert x.grad.tolist() == [4.0, 8.0]


@pytest.mark.parametrize("method", ["vjp", "jacobian"])
def test_without_its_graph_backward_gives_the_same_once(method: str) -> None:
    x = leaf(0.5, 2.0)

    def diamond() -> Tensor:
        h = mg.tanh(x)
        return (h * mg.exp(h) + h).sum()

    diamond().backward()
    retained = x.grad
    y = diamond()
    y.backward(method=method, retain_graph=False)
    np.testing.assert_allclose(x.grad, retained, rtol=1e-15)
    assert y.parents == ()
    for late in (y, y * 2.0):
        with pytest.raises(ValueError, match=r"Sum\(.*let go.*retain_graph=False"):
            late.backward(method=method)


def test_results_are_let_go_as_their_gradients_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    alive = []
    vjp = mg.registry["tanh"].vjp

    def counted(self: Any, *arrays: Any) -> Any:
        alive.append(sum(result() is not None for result in results))
        return vjp(self, *arrays)

    monkeypatch.setattr(mg.registry["tanh"], "vjp", counted)
    for retain_graph, counts in ((True, [5, 5, 5, 5]), (False, [5, 4, 3, 2])):
        y = leaf(0.1)
        results = []
        for _ in range(4):
            y = mg.tanh(y)
            results.append(weakref.ref(y))
        y = y.sum()
        results.append(weakref.ref(y))
        y.backward(retain_graph=retain_graph)
        assert alive == counts
        alive.clear()


@pytest.mark.parametrize("method", ["vjp", "jacobian"])
def test_both_methods_through_a_net(method: str, rng: np.random.Generator) -> None:
    """dl/dW of l = sum(g softmax(W x)) by hand: (diag p - p p^T) g x^T."""
    W, x, g = rng.normal(size=(3, 4)), rng.normal(size=4), rng.normal(size=3)
    weight = Tensor(W, requires_grad=True)
    p = mg.softmax(mg.affine(x, weight))
    (p * g).sum().backward(method=method)
    q = p.data
    np.testing.assert_allclose(weight.grad, np.outer(q * g - q * (q @ g), x), rtol=1e-12)


def test_a_hundred_thousand_operations() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert x.grad.tolist() == [1.0]


def test_a_diamond_chain_is_linear() -> None:
    """y = y + y has 2^10000 paths, and 10,000 operations."""
    x = Tensor(2.0**-1000, requires_grad=True)
    y = x
    for _ in range(1000):
        y = y + y
    y.backward()
    assert x.grad == 2.0**1000
    z = x
    for n in range(10_000):
        z = (z + z) * 0.5 if n % 2 else z + z - z
    z.backward()
    assert x.grad == 1.0


def test_a_leaf_used_twice_and_a_leaf_that_is_the_output() -> None:
    x = leaf(3.0)
    (x * x + x).backward()
    assert x.grad.tolist() == [7.0]
    x.backward()
    assert x.grad.tolist() == [1.0]


def test_no_gradient_shares_memory() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    seed = np.ones(2)
    (x + y).backward(seed)
    x.grad[0] = y.grad[1] = 100
    assert x.grad.tolist() == [100.0, 1.0]
    assert y.grad.tolist() == [1.0, 100.0]
    assert seed.tolist() == [1.0, 1.0]
    (2 * (x + y)).sum().backward()
    x.grad[0] = 100
    assert y.grad.tolist() == [2.0, 2.0]
    z = leaf(1.0, 2.0)
    z.reshape(2, 1).sum().backward()
    z.grad[0] = 5  # would fail on a read-only view


def test_data_is_copied() -> None:
    data = np.ones(2)
    x = Tensor(data)
    data[0] = 7
    assert x.data[0] == 1
    w = Tensor(np.ones((2, 3)), requires_grad=True)
    for view in (w.reshape(6), w.T, w[0], mg.broadcast_to(w, (4, 2, 3))):
        assert not np.shares_memory(view.data, w.data)


def test_broadcasting_is_recorded() -> None:
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    b = leaf(1.0, 2.0, 3.0)
    y = x * b
    assert [type(parent.op).__name__ for parent in y.parents] == ["NoneType", "BroadcastTo"]
    y.sum().backward()
    assert b.grad.tolist() == [2.0, 2.0, 2.0]
    s = Tensor(2.0, requires_grad=True)
    (s * np.ones((2, 3))).sum().backward()
    assert s.grad == 6.0


def test_arrays_and_numbers_mix_in_from_both_sides() -> None:
    x = leaf(2.0, 4.0)
    a = np.array([1.0, 3.0])
    for result, expected in (
        (a + x, [3, 7]), (a - x, [-1, -1]), (a * x, [2, 12]), (a / x, [0.5, 0.75]), (1 - x, [-1, -3]), (2**x, [4, 16]),
        (x**2, [4, 16]), (-x, [-2, -4]), (abs(-x), [2, 4]), (x / 2, [1, 2]), (a @ x, 14), (x @ a, 14),
    ):  # fmt: skip
        assert isinstance(result, Tensor)
        np.testing.assert_array_equal(result.data, expected)


@pytest.mark.parametrize("shape", [(2,), (1, 2)])
@pytest.mark.parametrize("asking", [(True, True), (True, False), (False, True), (False, False)])
def test_arithmetic_records_what_calling_its_operation_does(asking: tuple[bool, bool], shape: tuple[int, ...]) -> None:
    x = Tensor([1.0, 2.0], requires_grad=asking[0])
    y = Tensor(np.full(shape, 3.0), requires_grad=asking[1])

    def recorded(z: Tensor) -> list[object]:
        edges = [None if edge is None else (type(edge.op), edge.shape) for edge in z.edges]
        return [z.data.tolist(), z.requires_grad, type(z.op), edges, [array.tolist() for array in z.record]]

    assert recorded(x - y) == recorded(mg.subtract(x, y))
    if shape == x.shape:
        assert [id(z) for z in (x - y).edges] == [id(z) if z.requires_grad else id(None) for z in (x, y) if any(asking)]
    with mg.no_grad():
        assert recorded(x - y) == [(x.data - y.data).tolist(), False, type(None), [], []]


def test_float32_stays_float32() -> None:
    x = Tensor(np.ones(3, dtype=np.float32), requires_grad=True)
    y = (2 * x + 1.0) ** 2 / 3 - x.mean()
    assert y.dtype == np.float32
    y.sum().backward()
    assert x.grad.dtype == np.float32


def test_no_grad() -> None:
    x = leaf(1.0)
    with mg.no_grad():
        y = x * 2
    assert not y.requires_grad
    assert y.parents == ()
    with pytest.raises(ValueError, match="requires_grad=True"):
        y.backward()

    @mg.no_grad()
    def double(t: Tensor) -> Tensor:
        return t * 2

    assert not double(x).requires_grad
    assert (x * 2).requires_grad
    with pytest.raises(ZeroDivisionError), mg.no_grad():
        raise ZeroDivisionError
    assert (x * 2).requires_grad


def test_no_grad_in_one_thread_leaves_the_others_alone() -> None:
    inside, done = threading.Event(), threading.Event()
    found = []

    def other() -> None:
        inside.wait(5)
        found.append((leaf(1.0) * 2).requires_grad)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with mg.no_grad():
        inside.set()
        done.wait(5)
    thread.join()
    assert found == [True]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.__setitem__(0, 1.0), r"mg\.where"),
        (lambda x: x.__iadd__(1.0), "x = x \\+ y"),
        (lambda x: x.__imul__(1.0), "x = x \\+ y"),
        (lambda x: Tensor([1, 2], requires_grad=True), "dtype=float"),
        (lambda x: Tensor(["a"]), "real numbers"),
        (lambda x: Tensor([1j]), "real numbers"),
    ],
)
def test_what_a_tape_cannot_do_says_what_to_do_instead(change: object, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        change(leaf(1.0, 2.0))  # type: ignore[operator]


def test_refusals_of_backward() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(ValueError, match=r"scalar, got shape \(2,\)"):
        (x * 2).backward()
    for wrong in (np.ones(3), [1.0], 1.0):
        with pytest.raises(ValueError, match=r"gradient has shape \((3|1)?,?\), the tensor \(2,\)"):
            (x * 2).backward(wrong)
    with pytest.raises(ValueError, match="'vjp' or 'jacobian'"):
        x.sum().backward(method="forward")
    with pytest.raises(ValueError, match="requires a gradient"):
        Tensor([1.0]).backward()
    with pytest.raises(ValueError, match="one number"):
        float(x)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: leaf(1.0, 2.0) + leaf(1.0, 2.0, 3.0), r"Add\(\): shapes \(2,\) and \(3,\)"),
        (lambda: mg.affine(np.ones((2, 3)), np.ones((4, 5))), "Affine"),
        (lambda: leaf(1.0, 2.0) @ leaf(1.0, 2.0, 3.0), "MatMul"),
        (lambda: mg.softmax(leaf(1.0), axis=3), "axis 3"),
        (lambda: leaf(1.0, 2.0).reshape(3), r"Reshape\(shape=\(3,\)\)"),
        (lambda: leaf(1.0, 2.0).sum(axis=4), "axis 4"),
    ],
)
def test_mismatched_shapes_name_the_operation(wrong: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        wrong()  # type: ignore[operator]


def test_an_index_out_of_range_is_an_index_error() -> None:
    with pytest.raises(IndexError, match=r"out of bounds.*\(2,\)"):
        leaf(1.0, 2.0)[5]


def test_comparisons_are_arrays() -> None:
    x = leaf(1.0, 2.0)
    assert (x > 1).tolist() == [False, True]
    assert (x == np.array([1.0, 3.0])).tolist() == [True, False]
    assert (x != x).tolist() == [False, False]
    assert {x: 1}[x] == 1


def test_iteration_and_numbers() -> None:
    x = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    first, second = x
    (first * second).sum().backward()
    assert x.grad.tolist() == [[3, 4], [1, 2]]
    assert len(x) == 2
    assert float(x[0, 1]) == 2.0
    assert np.asarray(x.detach()).sum() == 10
    with pytest.raises(TypeError, match="lose the gradient"):
        np.stack([x, x])
    assert "requires_grad" in repr(x)
    assert "op=Sum" in repr(x.sum())


def test_numpy_functions_do_not_lose_gradients_in_silence() -> None:
    x = leaf(1.0, 2.0)
    calls = (np.sum, np.mean, lambda x: np.where([True], x, 0), lambda x: np.concatenate([x, x]), lambda x: Tensor([x]))
    for call in calls:
        with pytest.raises(TypeError, match=r"x\.data"):
            call(x)
    assert np.shape(x) == (2,)
    assert np.sum(x.detach()) == 3
    assert f"{x.sum():.2f}" == "3.00"
    with pytest.raises(TypeError, match=r"conv2d: .*strid.*stride"):
        mg.conv2d(x, x, strid=2)


def test_pickled_networks_train_on(tmp_path: Path) -> None:
    """In a process whose counter begins anew, inputs must still be older than what is made of them."""
    model = mg.nn.Sequential(mg.nn.Linear(2, 3, seed=0), mg.nn.Linear(3, 1, seed=1))
    (tmp_path / "model").write_bytes(pickle.dumps(model))
    code = (
        "import pickle, sys, numpy as np, minigrad as mg; model = pickle.load(open(sys.argv[1], 'rb')); "
        "model(np.ones((1, 2))).sum().backward(); sys.exit(any(p.grad is None for p in model.parameters()))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "model")], check=False).returncode == 0


def test_a_wider_dtype_may_join_after_a_kernel() -> None:
    x = Tensor(np.ones((1, 1, 3, 3), dtype=np.float32), requires_grad=True)
    y = mg.conv2d(x, np.ones((1, 1, 2, 2), dtype=np.float32)) * np.ones((2, 2))
    assert y.dtype == np.float64
    y.sum().backward()
    assert x.grad.dtype == np.float32
    assert x.grad[0, 0, 1, 1] == 4


def test_a_vjp_of_the_wrong_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry["exp"], "vjp", lambda self, g, x, y: np.sum(g * y, axis=0))
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    with pytest.raises(ValueError, match=r"gradient of shape \(3,\) came for a leaf"):
        mg.exp(x).sum().backward()


def test_a_constant_that_wants_a_gradient_is_refused() -> None:
    with pytest.raises(ValueError, match=r"target\.detach"):
        mg.losses.SquaredError()(Tensor(np.ones((1, 2))), Tensor(np.ones((1, 2)), requires_grad=True))


def test_no_grad_may_be_nested_in_itself() -> None:
    once = mg.no_grad()
    with once, once:
        pass
    assert (leaf(1.0) * 2).requires_grad


def test_powers_at_zero() -> None:
    x = leaf(0.0, 2.0)
    (x**0 + x**2).sum().backward()
    assert x.grad.tolist() == [0.0, 4.0]


def test_a_graph_is_freed_with_its_last_tensor() -> None:
    gc.collect()
    before = len(gc.get_objects())
    x = leaf(1.0)
    for _ in range(200):
        (x * 2 + 1).sum().backward()
    gc.collect()
    assert len(gc.get_objects()) - before < 50


def test_a_parameter_that_is_assigned_later_does_not_reach_back() -> None:
    w = leaf(2.0)
    y = w * w
    w.data = np.array([10.0])
    y.backward()
    assert w.grad.tolist() == [4.0]


def test_gradients_that_nobody_asked_for_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the gradient of the input was computed")

    monkeypatch.setattr("minigrad.kernels.conv2d_input", never)
    weight = Tensor(np.ones((1, 1, 2, 2)), requires_grad=True)
    mg.conv2d(np.ones((1, 1, 3, 3)), weight).sum().backward()
    assert weight.grad.tolist() == [[[[4, 4], [4, 4]]]]
