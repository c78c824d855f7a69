"""Figures show the numbers that they are given."""

from itertools import pairwise

import pytest
import torch

pytest.importorskip("matplotlib", reason="needs the extra gonzo-translation[plot]")

from gonzo.translation.frequency_bands import by_frequency
from gonzo.translation.hubness import Hubness
from gonzo.translation.plots import plot_frequency_bands, plot_hubness, plot_stability
from gonzo.translation.word_translation_scores import word_translation


def legend(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().texts]


def test_hubness_is_the_share_retrieved_at_least_so_often():
    hubs = Hubness(torch.tensor([0, 1, 1, 2, 16, 0, 0, 0]))
    figure = plot_hubness({"nearest neighbours": hubs, "CSLS": Hubness(torch.tensor([2, 3]))})
    line = figure.axes[0].lines[0]
    assert line.get_xydata().tolist() == [[1, 4 / 8], [2, 2 / 8], [16, 1 / 8]]
    assert line.get_drawstyle() == "steps-pre"  # above 2 and up to 16 it is the share of 16
    assert legend(figure)[0] == (
        f"nearest neighbours: skewness {hubs.skewness:.1f}, 50% never retrieved"
    )
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"


def test_bands_are_precisions_with_their_intervals():
    vectors = torch.eye(6)
    gold = torch.tensor([[0, 0], [1, 2], [2, 2], [3, 3]])
    bands = by_frequency(word_translation(vectors, vectors, gold, method="nn"), edges=(2, 5))
    figure = plot_frequency_bands({"one": bands, "other": bands})
    axes = figure.axes[0]
    assert [round(bar.get_height()) for bar in axes.patches] == [50, 100] * 2
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        "1–2\n2 words", "3–5\n2 words", "6–\n0 words",
    ]  # fmt: skip
    assert legend(figure) == ["one", "other"]
    (low, high) = bands[0].scores.interval(1)
    drawn = axes.containers[0].get_children()[2].get_segments()[0][:, 1]
    assert drawn.tolist() == pytest.approx([100 * low, 100 * high])


def test_stability_marks_the_failed_and_the_kept_seed():
    criteria = {0: [0.3, 0.6], 1: [0.2, 0.2], 2: [0.3, 0.7]}
    figure = plot_stability(criteria, failed={1}, chosen=2)
    axes = figure.axes[0]
    seeds = [line for line in axes.lines if len(line.get_xdata()) == 2]
    assert [list(line.get_ydata()) for line in seeds] == list(criteria.values())
    assert [line.get_linestyle() for line in seeds] == ["-", "--", "-"]
    assert [line.get_linewidth() for line in seeds] == [1, 1, 2.5]
    crosses = [line for line in axes.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [line.get_xydata().tolist() for line in crosses] == [[[2, 0.2]]]
    assert legend(figure) == ["aligned (2)", "failed (1)", "kept: seed 2"]
    heights = sorted(text.xy[1] for text in axes.texts)
    assert len(heights) == 3
    assert min(b - a for a, b in pairwise(heights)) > 0.01


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plot_hubness({}), "plot_hubness: expected at least one result"),
        (
            lambda: plot_hubness({"a": Hubness(torch.zeros(3, dtype=torch.int64))}),
            "plot_hubness: expected at least one result, in which something was found",
        ),
        (lambda: plot_frequency_bands({}), "expected results with the same bands, got"),
        (lambda: plot_stability({}), "expected at least one seed, each with at least one epoch"),
        (lambda: plot_stability({1: []}), "at least one seed, each with at least one epoch"),
        (
            lambda: plot_stability({1: [0.5]}, failed={2}, chosen=1),
            r"expected failed and chosen seeds of \[1\], got \[1, 2\]",
        ),
    ],
)
def test_nothing_to_draw(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
