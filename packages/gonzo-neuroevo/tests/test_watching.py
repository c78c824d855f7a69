"""What is shown of a run: the live view, and figures with every genome in them."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from gonzo.neuroevo.config import NEATConfig
from gonzo.neuroevo.live import LiveView
from gonzo.neuroevo.neat import NEAT
from gonzo.neuroevo.plots import plot_fitness, plot_species


@pytest.fixture
def watched():
    neat = NEAT(2, 1, replace(NEATConfig(), population=40, threshold=1.2))
    for _ in range(6):
        neat.tell(torch.arange(40.0))
    return neat


def test_the_live_view_says_where_it_is(watched, monkeypatch):
    console = pytest.importorskip("rich.console")
    screen = io.StringIO()
    shown = console.Console(file=screen, width=100, force_terminal=True)
    monkeypatch.setattr("rich.live.get_console", lambda: shown)
    with LiveView(12, target=50.0) as view:
        view(watched, watched.history[-1])
    text = screen.getvalue()
    assert "6 of 12" in text
    assert "39 of 50" in text
    assert "in generation 0" in text
    bar = sum(text.split("species")[-1].count(block) for block in "█")
    assert bar == 48


def test_a_view_of_no_generations_is_refused():
    with pytest.raises(ValueError, match="1 or more generations"):
        LiveView(0)


def test_every_genome_is_in_the_species_plot(watched):
    pytest.importorskip("matplotlib")
    axes = plot_species(watched.history).axes[0]
    sizes = [told.species for told in watched.history]
    large = {key for told in sizes for key, size in told.items() if size >= 2}  # 5 % of 40
    assert len(axes.collections) == len(large) + 1
    tops = [band.get_paths()[0].vertices[:, 1].max() for band in axes.collections]
    assert max(tops) == 40
    assert axes.get_xlim() == (0, 5)
    lines = plot_fitness(watched.history, target=38.0).axes[0].lines
    np.testing.assert_allclose(lines[0].get_ydata(), 39.0)
    np.testing.assert_allclose(lines[1].get_ydata(), 19.5)
    with pytest.raises(ValueError, match="at least one generation"):
        plot_species([])


def test_the_live_view_is_ascii_where_nothing_else_can_be_shown(watched, monkeypatch):
    console = pytest.importorskip("rich.console")
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    shown = console.Console(file=screen, width=100)
    monkeypatch.setattr("rich.live.get_console", lambda: shown)
    with LiveView(12) as view:
        view(watched, watched.history[-1])
    assert b"####" in screen.buffer.getvalue()
