"""The visual discrimination task, judged by networks whose answers are known."""

import pytest
import torch

from gonzo.neuroevo.seeds import Episodes
from gonzo.neuroevo.visual_discrimination import VisualDiscrimination


class Answers:
    """Stands for networks that answer with a fixed convolution of the field."""

    weight = torch.zeros(2, 1)

    def __init__(self, side: int) -> None:
        self.side, self.seen = side, torch.empty(0)

    def __call__(self, fields):
        self.seen = fields.reshape(-1, self.side, self.side)
        blurred = torch.nn.functional.avg_pool2d(
            self.seen[:, None], 3, 1, padding=1, divisor_override=9
        )
        corner = torch.zeros_like(blurred)
        return torch.stack([blurred.flatten(1), corner.flatten(1)])


@pytest.mark.parametrize("side", [4, 5, 7])
def test_a_blur_solves_it_and_a_corner_does_not(side):
    most = {4: 4 * 7, 5: 9 * 16, 7: 25 * 40}[side]
    problem = VisualDiscrimination(side, trials=most)
    answers = Answers(side)
    fitness = problem.evaluate(answers, Episodes(0, 0, (0, 1)))
    assert fitness.dtype == torch.float64
    assert fitness[0] == 1
    # The middle's row and column are uniform on 1 … side - 2; the corner is at 0.
    square = sum(i * i for i in range(1, side - 1)) / (side - 2)
    assert fitness[1].item() == pytest.approx(1 - 2 * square / (2 * (side - 1) ** 2))
    assert answers.seen.flatten(1).unique(dim=0).shape[0] == most
    assert (answers.seen.sum((1, 2)) == 10).all()


def test_trials_are_kept_apart():
    problem = VisualDiscrimination(5, trials=100, seed=3)
    answers = Answers(5)
    problem.evaluate(answers, Episodes(0, 0, (0, 1)))
    shown = {tuple(field.flatten().tolist()) for field in answers.seen}
    assert problem.test_fitness(answers)[0] == 1
    apart = {tuple(field.flatten().tolist()) for field in answers.seen}
    assert len(shown) == 100
    assert len(apart) == 44
    assert not shown & apart


def test_the_middle_of_the_field_as_what_to_beat():
    """One placement is shown; over all, rows and columns are uniform on 1 … side - 2."""
    problem = VisualDiscrimination(7, trials=1)
    square = problem.middle_distance() ** 2 * (25 * 40 - 1)
    everywhere = 2 * 25 * 40 * sum((i - 3) ** 2 for i in range(1, 6)) / 5
    assert 0 <= round(everywhere - square, 6) <= 8  # the squared distance of the one shown
    assert (everywhere - square) == pytest.approx(round(everywhere - square), abs=1e-6)
    with pytest.raises(ValueError, match="all placements are shown"):
        VisualDiscrimination(5, trials=144).middle_distance()


def test_substrate_fits():
    problem = VisualDiscrimination(5)
    assert len(problem.substrate.inputs) == problem.inputs == 25
    assert len(problem.substrate.outputs) == problem.outputs == 25


def test_bad_input():
    with pytest.raises(ValueError, match="expected a side of at least 4, got 3"):
        VisualDiscrimination(3)
    with pytest.raises(ValueError, match=r"expected 1 … 144 trials, the placements .* got 145"):
        VisualDiscrimination(5, trials=145)
    with pytest.raises(ValueError, match="all placements are shown"):
        VisualDiscrimination(5, trials=144).test_fitness(Answers(5))
