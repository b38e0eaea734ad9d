"""Plots on the simplex: where things are drawn, what the lines and arrows mean, and how it looks.

``python tests/test_plots_simplex.py`` draws the pictures of tests/reference anew: look at them before you keep them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon
from matplotlib.path import Path as Outline
from matplotlib.quiver import Quiver
from matplotlib.text import Text
from PIL import Image

import minigrad as mg
from minigrad import nn
from minigrad.losses import (
    CrossEntropy,
    IncorrectProbabilityLoss,
    LogSumInverseProbability,
    MaxMargin,
    SquaredError,
)
from minigrad.metrics import decision_regions
from minigrad.optim import SGD
from minigrad.plots import (
    OKABE_ITO,
    animate_trajectory,
    barycentric,
    barycentric_inverse,
    descent_field,
    grouped,
    loss_levels,
    simplex,
    softmax_outputs,
    trajectory,
)
from minigrad.snapshots import Snapshots
from minigrad.training import fit

REFERENCE = Path(__file__).parent / "reference"
V = np.array([[0, 0], [1, 0], [1 / 2, np.sqrt(3) / 2]])


def softmax(z: Any) -> np.ndarray:
    e = np.exp(np.asarray(z) - np.max(z, axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def squared_error(z: Any, labels: Any) -> Any:
    return SquaredError()(mg.softmax(z), mg.data.one_hot(labels, 3))


LOSSES: list[tuple[Any, Any]] = [
    (CrossEntropy(), None), (CrossEntropy(), (2, 0.1)), (IncorrectProbabilityLoss.preset("ce+big+small"), None),
    (IncorrectProbabilityLoss.preset("ce+big+small"), (2, 0.2)), (LogSumInverseProbability(reduction="none"), (0, 0.5)),
    (LogSumInverseProbability(reduction="sum"), None), (squared_error, None), (MaxMargin(), None),
]  # fmt: skip


def loss_at(loss: Any, p: np.ndarray, label: int) -> float:
    return float(np.sum(loss(mg.Tensor(np.log(p)[None]), np.array([label])).data))


def learning(N: int, K: int = 3, T: int = 9) -> np.ndarray:
    """Softmax outputs (T, N, K) of examples whose logits move from noise to class n modulo K."""
    rng = np.random.default_rng(5)
    start, end = rng.normal(size=(2, N, K)) * 0.6
    end[np.arange(N), np.arange(N) % K] += 3
    share = np.linspace(0, 1, T)[:, None, None]
    return softmax((1 - share) * start + share * end)


def found(ax: Any, kind: Any, label: str | None = None) -> list[Any]:
    return [artist for artist in ax.get_children() if isinstance(artist, kind) and label in (None, artist.get_label())]


def words(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.findobj(Text) if text.get_text()]


# The map ----------------------------------------------------------------------------------------------------


def test_the_corners_are_the_matrix_of_the_lesson() -> None:
    np.testing.assert_allclose(barycentric(np.eye(3)), V, atol=1e-15)
    np.testing.assert_allclose(barycentric(np.eye(2)), [[0, 0], [1, 0]], atol=1e-15)


@pytest.mark.parametrize("K", range(3, 12))
def test_polygons_are_regular_with_sides_of_length_1(K: int) -> None:
    xy = barycentric(np.eye(K))
    np.testing.assert_allclose(np.linalg.norm(np.roll(xy, -1, axis=0) - xy, axis=1), 1)
    centre = barycentric(np.full(K, 1 / K))
    np.testing.assert_allclose(np.linalg.norm(xy - centre, axis=1), 1 / (2 * np.sin(np.pi / K)))


@pytest.mark.parametrize("K", [2, 3])
def test_the_inverse_undoes_the_map(K: int, rng: np.random.Generator) -> None:
    p = rng.dirichlet(np.ones(K), size=(4, 5))
    np.testing.assert_allclose(barycentric_inverse(barycentric(p), K), p, atol=1e-14)


def test_four_classes_are_not_told_apart() -> None:
    np.testing.assert_allclose(barycentric([0.5, 0, 0.5, 0]), barycentric([0, 0.5, 0, 0.5]))
    with pytest.raises(ValueError, match="got 4"):
        barycentric_inverse([0.5, 0.5], 4)


def test_points_outside_have_negative_coordinates() -> None:
    assert (barycentric_inverse([0.5, -0.1])[2] < 0).all()


@pytest.mark.parametrize(
    ("p", "words"),
    [
        ([[0.5, 0.5], [0.5, 0.6]], r"row \[1\].*sum that is not 1"),
        ([[1.5, -0.5]], "negative entries: give probabilities, not logits"),
        ([[0.5, np.nan]], "nan"),
        ([0.5, 0.6], "p = .*sum that is not 1"),
        ([[1.0]], "K >= 2"),
        (0.5, "K >= 2"),
        (np.zeros((0, 3)), "K >= 2"),
    ],
)
def test_what_is_no_distribution_is_refused(p: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        barycentric(p)


def test_single_precision_is_a_distribution() -> None:
    p = softmax(np.random.default_rng(0).normal(size=(1000, 3))).astype(np.float32)
    assert barycentric(p).dtype == float


def test_points_of_the_plane_have_two_coordinates() -> None:
    with pytest.raises(ValueError, match=r"\(3,\)"):
        barycentric_inverse([0.1, 0.2, 0.7])


# Parts of many classes --------------------------------------------------------------------------------------


def test_three_of_the_classes_are_the_softmax_of_their_logits(rng: np.random.Generator) -> None:
    z = rng.normal(size=(2, 4, 10))
    np.testing.assert_allclose(grouped(softmax(z), [3, 8, 9]), softmax(z[..., [3, 8, 9]]))


def test_groups_add_their_probabilities(rng: np.random.Generator) -> None:
    p = rng.dirichlet(np.ones(5), size=7)
    sums = grouped(p, [(0, 4), 2, (1, 3)])
    np.testing.assert_allclose(sums, np.stack([p[:, 0] + p[:, 4], p[:, 2], p[:, 1] + p[:, 3]], axis=1))


@pytest.mark.parametrize(
    ("parts", "words"),
    [([1], "two parts or more"), ([0, ()], "each with a class"), ([0, (0, 1)], "twice"), ([0, 3], "0 to 2"),
     ([0, -1], "0 to 2")],
)  # fmt: skip
def test_parts_that_make_no_sense_are_refused(parts: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        grouped([0.2, 0.3, 0.5], parts)


def test_parts_without_any_probability_are_refused() -> None:
    with pytest.raises(ValueError, match="probability 0 to all"):
        grouped([[0.0, 0.0, 1.0]], [0, 1])


# The simplex ------------------------------------------------------------------------------------------------


def test_each_region_holds_the_points_that_are_decided_so(rng: np.random.Generator) -> None:
    ax = simplex()
    tinted = [patch for patch in found(ax, Polygon) if patch.get_fill()]
    assert len(tinted) == 3
    p = rng.dirichlet(np.ones(3), size=500)
    for k, region in enumerate(tinted):
        inside = Outline(region.get_xy()).contains_points(barycentric(p))
        np.testing.assert_array_equal(inside, decision_regions(p / p.sum(axis=1, keepdims=True))[:, k])
    assert len({patch.get_facecolor() for patch in tinted}) == 3


def test_the_boundaries_meet_in_the_centre_and_end_between_two_corners() -> None:
    ax = simplex()
    boundaries = [line.get_xydata() for line in ax.get_lines() if len(line.get_xydata()) == 2]
    assert len(boundaries) == 3
    for start, end in boundaries:
        np.testing.assert_allclose(start, barycentric([1 / 3, 1 / 3, 1 / 3]))
        np.testing.assert_allclose(sorted(barycentric_inverse(end)), [0, 0.5, 0.5], atol=1e-12)
    (dot,) = [line for line in ax.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(dot.get_xydata(), [barycentric([1 / 3, 1 / 3, 1 / 3])])


def test_lines_of_the_grid_have_the_probability_that_is_written_at_their_side() -> None:
    ax = simplex(classes=["a", "b", "c"])
    (grid,), (ticks,) = (found(ax, LineCollection, label) for label in ("grid", "ticks"))
    labels = [text for text in found(ax, Text) if text.get_text().startswith("0.")]
    assert len(grid.get_segments()) == len(ticks.get_segments()) == len(labels) == 12
    for n, (line, tick, text) in enumerate(zip(grid.get_segments(), ticks.get_segments(), labels, strict=True)):
        np.testing.assert_allclose(barycentric_inverse(line)[:, n // 4], float(text.get_text()), atol=1e-12)
        np.testing.assert_allclose(barycentric_inverse(tick)[:, n // 4], float(text.get_text()), atol=1e-12)
        np.testing.assert_allclose(text.xy, line[0])
        assert barycentric_inverse(tick[1]).min() < 0  # it points outward
    assert {"← probability of a", "probability of b →", "← probability of c"} < set(words(ax))


def test_two_classes_are_a_segment_with_a_dot_in_the_middle() -> None:
    ax = simplex(classes=["no", "yes"])
    assert ax.get_xlim() == (0, 1)
    boundary, dot = ax.get_lines()
    assert list(boundary.get_xdata()) == [0.5, 0.5]
    np.testing.assert_array_equal(dot.get_xydata(), [[0.5, 0]])
    assert {"no", "yes", "probability of yes"} <= set(words(ax))


def test_a_polygon_names_its_corners_in_their_places() -> None:
    ax = simplex(classes=7)
    placed = {text.get_text(): text.xy for text in found(ax, Text) if text.get_text().startswith("class")}
    np.testing.assert_allclose([placed[f"class {k}"] for k in range(7)], barycentric(np.eye(7)))
    assert not found(ax, LineCollection)


def test_the_region_of_the_correct_class_is_green() -> None:
    tints = [to_rgb(patch.get_facecolor()) for patch in found(simplex(label=1), Polygon) if patch.get_fill()]
    assert tints[0] == tints[2]
    assert len(set(tints[0])) == 1  # grey
    assert tints[1][1] == max(tints[1]) > min(tints[1])
    assert "class 1\n(correct)" in words(simplex(label=1))


def test_regions_can_be_left_out() -> None:
    ax = simplex(regions=False)
    assert not [patch for patch in found(ax, Polygon) if patch.get_fill()]
    assert not ax.get_lines()


def test_a_zoom_shows_the_part_at_a_corner() -> None:
    ax = simplex(zoom=(1, 0.1))
    (outline,) = [patch for patch in found(ax, Polygon) if not patch.get_fill()]
    shown = barycentric_inverse(outline.get_xy()[:3])
    np.testing.assert_allclose(shown, [[0.1, 0.9, 0], [0, 1, 0], [0, 0.9, 0.1]], atol=1e-12)
    left, right = ax.get_xlim()
    assert 0.1 < right - left < 0.11
    assert {"0.92", "0.98", "towards\nclass 0", "class 1"} < set(words(ax))


def test_plots_draw_on_the_axes_that_are_given() -> None:
    ax = Figure().add_subplot()
    assert simplex(ax) is ax
    assert loss_levels(CrossEntropy(), 0, ax) is ax
    assert descent_field(CrossEntropy(), 0, ax) is ax
    assert trajectory(learning(2), ax) is ax


@pytest.mark.parametrize(
    ("what", "words"),
    [({"classes": 1}, "two classes or more"), ({"classes": "abc"}, "two classes or more"), ({"label": 3}, "label=3"),
     ({"label": -1}, "label=-1"), ({"zoom": (3, 0.1)}, "zoom"), ({"zoom": (0, 0)}, "zoom")],
)  # fmt: skip
def test_simplices_that_cannot_be_are_refused(what: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        simplex(**what)


# Losses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "zoom"), LOSSES)
def test_on_a_level_line_the_loss_has_the_value_that_is_written(loss: Any, zoom: Any) -> None:
    """Up to 1/500 of a side: the width of a line."""
    (lines,) = found(loss_levels(loss, 2, zoom=zoom), ContourSet)
    corner, size = zoom or (0, 1.0)
    steps = np.diff(lines.levels)
    np.testing.assert_allclose(steps, steps[0])
    assert {text.get_text() for text in lines.labelTexts} == {f"{level:.4g}" for level in lines.levels}
    seen, h = 0, 1e-6 * size
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        p = barycentric_inverse(path.vertices)
        assert (p[:, corner] > 1 - size - 1e-9).all()
        for point in path.vertices[p.min(axis=1) > 1e-3 * size][::7]:
            near = barycentric_inverse(point + h * np.array([[0, 0], [1, 0], [0, 1]]))
            value, right, up = (loss_at(loss, row, 2) for row in near)
            assert abs(value - level) < 2e-3 * size * np.hypot(right - value, up - value) / h
            seen += 1
    assert seen > 50


def test_levels_that_are_asked_for_are_drawn() -> None:
    (lines,) = found(loss_levels(CrossEntropy(), 0, levels=[0.5, 1.0]), ContourSet)
    assert list(lines.levels) == [0.5, 1.0]
    points = barycentric_inverse(lines.get_paths()[0].vertices)
    np.testing.assert_allclose(points[:, 0], np.exp(-0.5), atol=1e-3)


def test_levels_of_two_classes_stand_where_the_loss_takes_them() -> None:
    ax = loss_levels(CrossEntropy(), 1, classes=2)
    levels = [line for line in ax.get_lines() if line.get_label().startswith("loss")]
    assert len(levels) >= 3
    for line in levels:
        x = line.get_xdata()[0]
        assert -np.log(x) == pytest.approx(float(line.get_label().removeprefix("loss ")), abs=1e-6)


def test_a_constant_loss_has_no_levels() -> None:
    ax = loss_levels(lambda z, y: (z * 0.0).sum(), 0)
    assert not found(ax, ContourSet)


@pytest.mark.parametrize(("loss", "zoom"), LOSSES[:-1])
def test_arrows_point_where_a_step_of_descent_on_the_logits_goes(loss: Any, zoom: Any) -> None:
    (arrows,) = found(descent_field(loss, 2, zoom=zoom), Quiver)
    p = barycentric_inverse(np.stack([arrows.X, arrows.Y], axis=1))
    drawn = np.stack([arrows.U, arrows.V], axis=1)
    assert len(p) == 120
    steps = np.empty_like(p)
    h, eye = 1e-5, np.eye(3)
    for n, z in enumerate(np.log(p)):
        g = [(loss_at(loss, np.exp(z + h * e), 2) - loss_at(loss, np.exp(z - h * e), 2)) / (2 * h) for e in eye]
        steps[n] = (softmax(z - h * np.array(g)) - p[n]) / h
    moves = steps @ V
    length = np.linalg.norm(moves, axis=1, keepdims=True)
    longest = np.linalg.norm(drawn, axis=1).max()
    assert longest == pytest.approx(0.95 / 14 * (zoom[1] if zoom else 1))
    np.testing.assert_allclose(drawn / longest, moves / np.sqrt(length * length.max()), atol=0.01)


def test_where_a_loss_is_flat_no_arrow_moves() -> None:
    (arrows,) = found(descent_field(MaxMargin(), 1, zoom=(1, 0.1)), Quiver)
    assert not arrows.U.any()
    assert not arrows.V.any()


def test_cross_entropy_descends_everywhere() -> None:
    (arrows,) = found(descent_field(CrossEntropy(), 1), Quiver)
    p = barycentric_inverse(np.stack([arrows.X, arrows.Y], axis=1))
    after = barycentric_inverse(np.stack([arrows.X + arrows.U / 50, arrows.Y + arrows.V / 50], axis=1))
    assert (after[:, 1] > p[:, 1]).all()


def test_arrows_of_two_classes_point_to_the_correct_one() -> None:
    (arrows,) = found(descent_field(CrossEntropy(), 0, classes=2), Quiver)
    assert (arrows.U < 0).all()
    assert not arrows.V.any()


@pytest.mark.parametrize("plot", [loss_levels, descent_field])
def test_losses_need_two_or_three_classes_and_a_label_among_them(plot: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="got 4"):
        plot(CrossEntropy(), 0, classes=4)
    with pytest.raises(ValueError, match="label=3"):
        plot(CrossEntropy(), 3)


# Trajectories -----------------------------------------------------------------------------------------------


def marked(ax: Any, label: str) -> np.ndarray:
    return np.concatenate([line.get_xydata() for line in ax.get_lines() if line.get_label() == label] or [[]])


def test_paths_go_through_the_outputs_in_the_order_of_time() -> None:
    p, times = learning(4), [0, 1, 2, 4, 8, 16, 32, 64, 128]
    ax = trajectory(p, times=times, unit="step")
    (paths,) = found(ax, LineCollection, "paths")
    xy = barycentric(p)
    np.testing.assert_allclose(np.array(paths.get_segments()), np.stack([xy[:-1], xy[1:]], axis=2).reshape(-1, 2, 2))
    np.testing.assert_allclose(paths.get_array().reshape(8, 4)[:, 1], (np.array(times[1:]) + times[:-1]) / 2)
    assert (paths.norm.vmin, paths.norm.vmax, paths.get_cmap().name) == (0, 128, "cividis")
    bar = ax.figure.axes[1]
    assert bar.get_ylabel() == "step"
    assert bar.get_ylim() == (0, 128)


def test_starts_and_ends_are_marked_and_wrong_ends_otherwise() -> None:
    p = learning(6)
    labels = np.array([0, 1, 2, 0, 1, 1])  # the last one ends at 2
    ax = trajectory(p, labels=labels)
    np.testing.assert_allclose(marked(ax, "start"), barycentric(p[0]))
    np.testing.assert_allclose(marked(ax, "end, correct"), barycentric(p[-1, :5]))
    np.testing.assert_allclose(marked(ax, "end, incorrect"), barycentric(p[-1, 5:]))
    markers = {line.get_label(): (line.get_marker(), line.get_markerfacecolor()) for line in ax.get_lines()}
    assert markers["end, correct"] == ("s", OKABE_ITO["green"])
    assert markers["end, incorrect"] == ("X", OKABE_ITO["vermilion"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["start", "end, correct", "end, incorrect"]


def test_each_path_has_an_arrow_in_its_direction() -> None:
    p = learning(5)
    ax = trajectory(p)
    arrows = found(ax, FancyArrowPatch)
    assert len(arrows) == 5
    for arrow, path in zip(arrows, barycentric(p).transpose(1, 0, 2), strict=True):
        tail, head = (np.array(end) for end in arrow._posA_posB)
        near = np.linalg.norm(path - tail, axis=1).argmin()
        assert 0 < near < len(path) - 1
        along = path[near + 1] - path[near - 1]
        assert (head - tail) @ along > 0.9 * np.linalg.norm(head - tail) * np.linalg.norm(along)


def test_an_arrow_points_where_the_path_goes_there_not_where_it_came_from() -> None:
    corners = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.5, 0.05, 0.45]])  # a short leg and a long one
    legs = [corners[i] + share * (corners[i + 1] - corners[i]) for i in range(2) for share in np.linspace(0, 1, 20)]
    (arrow,) = found(trajectory(np.array(legs)[np.r_[:20, 21:40]]), FancyArrowPatch)
    tail, head = (barycentric_inverse(end) for end in arrow._posA_posB)
    np.testing.assert_allclose((head - tail) / np.abs(head - tail).max(), [0, -1, 1], atol=1e-9)


def test_many_examples_get_few_arrows_and_thin_paths() -> None:
    one, many = trajectory(learning(1)), trajectory(learning(300))
    assert len(found(many, FancyArrowPatch)) == 12
    (thick,), (thin,) = (found(ax, LineCollection, "paths") for ax in (one, many))
    assert len(thin.get_segments()) == 300 * 8
    assert thin.get_linewidth()[0] < thick.get_linewidth()[0]
    assert thin.get_alpha() < 1


def test_one_example_is_a_trajectory_too() -> None:
    p = learning(1)
    np.testing.assert_allclose(marked(trajectory(p[:, 0], labels=0), "end, correct"), barycentric(p[-1]))


def test_a_path_that_stays_at_a_corner_is_seen_in_a_zoom() -> None:
    z = np.zeros((6, 1, 3))
    z[:, 0, 2] = np.arange(6, 12)
    still = trajectory(softmax(z), labels=2, loss=CrossEntropy())
    assert not found(still, FancyArrowPatch)
    close = trajectory(softmax(z), labels=2, loss=CrossEntropy(), zoom=(2, 0.01))
    assert len(found(close, FancyArrowPatch)) == 1
    assert len(marked(close, "start")) == 1
    far = trajectory(softmax(z), labels=2, zoom=(2, 0.001))  # it starts outside of that
    assert len(marked(far, "start")) == 0
    assert len(marked(far, "end, correct")) == 1


def test_a_constant_path_is_drawn_without_warning(tmp_path: Path) -> None:
    trajectory(np.full((4, 2, 3), 1 / 3)).figure.savefig(tmp_path / "still.png")


def test_two_classes_have_time_upward() -> None:
    p, times = learning(3, K=2), np.arange(9) * 10
    ax = trajectory(p, labels=[0, 1, 0], times=times)
    np.testing.assert_allclose(marked(ax, "start"), np.stack([p[0, :, 1], [0, 0, 0]], axis=1))
    np.testing.assert_allclose(marked(ax, "end, correct"), np.stack([p[-1, :, 1], [80, 80, 80]], axis=1))
    assert ax.get_ylim() == (0, 80)
    assert ax.get_ylabel() == "epoch →"
    assert len(ax.figure.axes) == 1


def test_classes_and_groups_of_classes_are_drawn_as_parts() -> None:
    p = learning(6, K=6)
    parts = [(0, 3), 1, (2, 4, 5)]
    ax = trajectory(p, labels=np.arange(6), parts=parts)
    np.testing.assert_allclose(marked(ax, "start"), barycentric(grouped(p[0], parts)))
    assert {"classes\n0, 3", "class 1", "classes\n2, 4, 5"} < set(words(ax))
    assert len(marked(ax, "end, incorrect")) == 0
    named = trajectory(p, classes=list("abcdef"), parts=[(0, 3), 1, 2])
    assert {"a, d", "b", "c"} < set(words(named))


def test_more_classes_are_drawn_on_a_polygon() -> None:
    p = learning(5, K=5)
    np.testing.assert_allclose(marked(trajectory(p), "end"), barycentric(p[-1]))


@pytest.mark.parametrize("K", [2, 3])
def test_a_loss_is_drawn_under_examples_of_one_class(K: int) -> None:
    ax = trajectory(learning(3, K)[:, 1:2], labels=1, loss=CrossEntropy())
    if K == 3:
        assert found(ax, ContourSet)
    else:
        assert [line for line in ax.get_lines() if line.get_label().startswith("loss")]
    assert found(ax, Quiver)
    (paths,) = found(ax, LineCollection, "paths")
    assert paths.get_zorder() > max(quiver.get_zorder() for quiver in found(ax, Quiver))


@pytest.mark.parametrize(
    ("p", "what", "words"),
    [
        (learning(2)[0, 0], {}, "T >= 2"),
        (learning(2)[:1], {}, "T >= 2"),
        (learning(2) * 2, {}, "sum that is not 1"),
        (np.log(learning(2)), {}, "negative"),
        (learning(2), {"labels": [0, 3]}, "0 to 2"),
        (learning(2), {"labels": [0, 1, 2]}, "one for each of 2"),
        (learning(2), {"labels": [0.0, 1.0]}, "labels"),
        (learning(2), {"classes": ["a", "b"]}, "3 classes"),
        (learning(2), {"times": [0, 1]}, "expected 9"),
        (learning(2), {"times": np.zeros(9)}, "increasing"),
        (learning(2), {"loss": CrossEntropy()}, "one label"),
        (learning(2), {"loss": CrossEntropy(), "labels": [0, 1]}, "one label"),
        (learning(2, 4), {"loss": CrossEntropy(), "labels": 0}, "2 or 3 classes"),
        (learning(2, 4), {"labels": 3, "parts": [0, 1, 2]}, "class 3, which is in none"),
        (learning(2), {"zoom": (1, 2.0)}, "zoom"),
    ],
)
def test_what_makes_no_trajectory_is_refused(p: Any, what: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        trajectory(p, **what)


# From training to the picture -------------------------------------------------------------------------------


def test_outputs_are_recorded_while_the_digits_are_learned(tmp_path: Path) -> None:
    digits = mg.data.digits(seed=0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.8, seed=2), nn.Linear(64, 10, seed=0))
    history = Snapshots()
    x, y = digits.test.x[:20], digits.test.y[:20]
    model.eval()
    first = softmax(model(x).data)
    fit(model, CrossEntropy(), SGD(model.parameters(), 0.05), digits.train, epochs=2, snapshots=history)
    last = softmax(model(x).data)
    for parameter in model.parameters():
        parameter.data = parameter.data + 1  # the network has gone on since the last snapshot
    model.train()
    before = model.state_dict()
    p = softmax_outputs(model, history, x)
    assert p.shape == (3, 20, 10)
    assert all(module.training for module in model.modules())
    assert all((before[name] == array).all() for name, array in model.state_dict().items())
    np.testing.assert_allclose(p[0], first)
    np.testing.assert_allclose(p[-1], last)
    assert (p[-1].argmax(axis=1) == y).mean() > 0.4
    three = np.isin(y, [3, 8, 9])
    ax = trajectory(p[:, three], labels=y[three], parts=[3, 8, 9], times=history.times, unit=history.per)
    ax.figure.savefig(tmp_path / "digits.png")


def test_outputs_need_snapshots_of_a_classifier() -> None:
    with pytest.raises(ValueError, match="no snapshots"):
        softmax_outputs(nn.Linear(2, 3), Snapshots(), np.zeros((1, 2)))
    model, history = nn.Linear(2, 3), Snapshots()
    history.record(model)
    with pytest.raises(ValueError, match="logits"):
        softmax_outputs(model, history, np.zeros(2))


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_a_trajectory_is_written_as_a_moving_picture(suffix: str, tmp_path: Path) -> None:
    p = learning(3)
    path = animate_trajectory(p, tmp_path / f"moving{suffix}", labels=np.arange(3), frames=5, fps=10)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with Image.open(path) as moving:
        assert moving.format == suffix[1:].upper()
        assert moving.n_frames == 5
        assert moving.info["loop"] == 0
        pictures = []
        for t in range(5):
            moving.seek(t)
            pictures.append(np.asarray(moving.convert("RGB"), dtype=int))
            assert moving.info["duration"] == (2000 if t == 4 else 100)
    drawn = [np.abs(picture - pictures[0]).max(axis=2) > 60 for picture in pictures]
    assert (np.diff([mask.sum() for mask in drawn]) > 0).all()
    vermilion, green = (
        [np.abs(picture - 255 * np.array(to_rgb(OKABE_ITO[name]))).max(axis=2) < 60 for picture in pictures]
        for name in ("vermilion", "green")
    )
    assert min(mask.sum() for mask in vermilion + green) > 20  # a palette has to keep the rare ones
    assert max(mask[:, 500:].any(axis=1).sum() for mask in vermilion) < 8  # one mark on the bar, not several


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_sixty_frames_of_fifty_examples_are_less_than_half_a_megabyte(suffix: str, tmp_path: Path) -> None:
    path = animate_trajectory(learning(50, T=60), tmp_path / f"many{suffix}", labels=np.arange(50) % 3, frames=15)
    assert 4 * path.stat().st_size < 500_000


def test_other_files_and_nothing_that_moves_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.gif or \.webp"):
        animate_trajectory(learning(1), tmp_path / "moving.mp4")
    with pytest.raises(ValueError, match="frames=1"):
        animate_trajectory(learning(1), tmp_path / "moving.gif", frames=1)
    with pytest.raises(ValueError, match="labels"):
        animate_trajectory(learning(1), tmp_path / "moving.gif", labels=7)
    assert not list(tmp_path.iterdir())
