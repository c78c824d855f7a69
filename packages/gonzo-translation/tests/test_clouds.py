"""The plane and the choice of pairs; and of the picture, what a reader would look for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.translation.clouds import plot_clouds, principal_plane, spread_out


def test_the_plane_is_that_of_the_largest_variance():
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64)).Q
    spread = torch.tensor([9.0, 4.0, 0.5, 0.2, 0.1], dtype=torch.float64)
    points = torch.randn(2000, 5, generator=generator, dtype=torch.float64) * spread @ turn + 3
    plane = principal_plane(points)
    torch.testing.assert_close(plane.axes @ plane.axes.T, torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(
        (plane.axes @ turn.T).abs()[:, :2], torch.eye(2).double(), atol=0.02, rtol=0
    )
    variances, _ = torch.linalg.eigh(points.T.cov())
    assert plane.share == pytest.approx(float(variances[-2:].sum() / variances.sum()), rel=1e-9)
    shown = plane.project(points)
    assert shown.mean(0).abs().max() < 1e-9
    assert shown.var(0)[0] > shown.var(0)[1]
    assert (plane.axes.sum(1) >= 0).all()


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(1, 10), st.integers(0, 1000))
def test_points_are_spread_greedily(n, number, seed):
    points = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)).round(decimals=1)
    chosen = spread_out(points, number)
    assert len(chosen) == len(set(chosen)) == min(n, number)
    for place in range(1, len(chosen)):
        near = torch.cdist(points, points[chosen[:place]]).min(1).values
        assert near[chosen[place]] == pytest.approx(float(near.max()), abs=1e-5)


def test_a_plane_needs_two_points():
    with pytest.raises(
        ValueError, match=r"at least 2 points of at least 2 dimensions, got \(1, 5\)"
    ):
        principal_plane(torch.zeros(1, 5))


def drawn(source=None, pairs=None, **settings):
    target = torch.randn(80, 10)
    turn = torch.linalg.qr(torch.randn(10, 10)).Q
    source = target @ turn if source is None else source
    return plot_clouds(
        source,
        target + 0.05 * torch.randn(80, 10),
        target,
        source_words=[f"été{i}" for i in range(80)],
        target_words=[f"summer{i}" for i in range(80)],
        pairs=torch.arange(80)[:, None].expand(80, 2) if pairs is None else pairs,
        **settings,
    )


@pytest.mark.parametrize("labels", [6, 40])
def test_labels_do_not_overlap(labels):
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = drawn(labels=labels, points=60)
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes:
        boxes = [text.get_window_extent(renderer) for text in axes.texts]
        assert 8 <= len(boxes) <= 2 * labels
        frame = axes.get_window_extent(renderer)
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i])
            assert frame.contains(box.x0, box.y0)
            assert frame.contains(box.x1, box.y1)
        assert len(axes.lines) == labels


def test_the_target_stays_where_it_is_and_the_source_moves_onto_it():
    pytest.importorskip("matplotlib")
    before, after = drawn(points=50).axes
    clouds = [
        [torch.from_numpy(c.get_offsets().data.copy()) for c in axes.collections[:2]]
        for axes in (before, after)
    ]
    assert torch.equal(clouds[0][1], clouds[1][1])
    assert clouds[0][0].shape == (50, 2)
    distances = [(source - target).norm(dim=1).mean() for source, target in clouds]
    assert distances[1] < 0.2 * distances[0]


def test_equal_and_short_words_and_those_not_drawn_are_not_joined():
    pytest.importorskip("matplotlib")
    vectors = torch.randn(6, 4)
    figure = plot_clouds(
        vectors, vectors, vectors,
        source_words=["one", "deux", "no", "four", "five", "six"],
        target_words=["one", "two", "non", "quatre", "cinq", "seis"],
        pairs=torch.tensor([[0, 0], [1, 1], [2, 2], [3, 3], [3, 4], [4, 3], [5, 5]]),
        points=5,
    )  # fmt: skip
    assert {text.get_text() for text in figure.axes[0].texts} <= {"deux", "two", "four", "quatre"}
    assert len(figure.axes[0].lines) == 2


def test_without_pairs_the_clouds_are_drawn_alone():
    pytest.importorskip("matplotlib")
    figure = drawn(pairs=torch.zeros(0, 2, dtype=torch.int64), names=("French", "English"))
    assert not figure.axes[0].texts
    assert [text.get_text() for text in figure.axes[0].get_legend().texts] == ["French", "English"]


def test_wrong_arguments():
    with pytest.raises(
        ValueError, match=r"mapped \(n, d\) and target \(m, d\), got \(80, 9\), \(80, 10"
    ):
        drawn(torch.zeros(80, 9))
    with pytest.raises(ValueError, match="expected words for all rows, 2 and 2, got 1 and 2"):
        plot_clouds(
            *torch.eye(2).expand(3, 2, 2), source_words=["a"], target_words=["a", "b"],
            pairs=torch.zeros(0, 2, dtype=torch.int64),
        )  # fmt: skip
