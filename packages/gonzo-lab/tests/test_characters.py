"""Text as numbers: the same stretches for every model, and every character judged once."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gonzo.core.nn import CausalAttention, LanguageModel, ResidualStack
from gonzo.core.nn.linear_cross_entropy import IGNORED
from gonzo.lab import Run, tinyshakespeare
from gonzo.lab.characters import Text, bigram_bits, bits_per_character, learn, load
from gonzo.lab.training import Training


def language_model(vocab_size: int, n_layer: int = 1) -> LanguageModel:
    stack = ResidualStack([CausalAttention(4, n_head=1) for _ in range(n_layer)])
    return LanguageModel(vocab_size, stack)


def test_the_text_in_numbers_is_the_text(tmp_path: Path) -> None:
    letters = sorted(set(tinyshakespeare("train")))
    with Run(tmp_path / "run") as run:
        for judge in ("valid", "test"):
            text = load(judge, run)
            assert text.vocab_size == len(letters) == 65
            for tokens, split in ((text.train, "train"), (text.held_out, judge)):
                assert "".join(letters[i] for i in tokens.tolist()) == tinyshakespeare(split)


def test_every_model_learns_from_the_same_stretches_of_the_training_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, list[Tensor]] = {}

    def watched(model: LanguageModel, tokens: Tensor) -> Tensor:
        seen.setdefault(id(model), []).append(tokens)
        return loss(model, tokens)

    loss = LanguageModel.loss
    monkeypatch.setattr(LanguageModel, "loss", watched)
    training, context = Training(steps=3, batch=4, warmup=1), 64
    with Run(tmp_path / "run") as run:
        text = load("test", run)
        models = [language_model(text.vocab_size, n_layer) for n_layer in (1, 2)]
        for number, model in enumerate(models):
            with run.part(str(number)):
                learn(model, text.train, training, context, run)
    first, second = (torch.stack(batches) for batches in seen.values())
    assert torch.equal(first, second)
    assert first.shape == (3, 4, context + 1)
    as_bytes = bytes(text.train.tolist())
    assert all(bytes(row.tolist()) in as_bytes for row in first.flatten(0, 1))


class Recorder(nn.Module):
    """A model whose loss is the mean of its targets; it keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[list[int], list[int]]] = []

    def loss(self, tokens: Tensor, *, targets: Tensor) -> Tensor:
        self.asked += zip(tokens.tolist(), targets.tolist(), strict=True)
        counted = targets[targets != IGNORED]
        return counted.double().mean() * math.log(2)


@pytest.mark.parametrize(("n", "context"), [(2, 8), (9, 8), (10, 8), (100, 8), (77, 7), (50, 2)])
def test_every_character_but_the_first_is_predicted_once(n: int, context: int) -> None:
    model, text = Recorder(), torch.arange(n)
    bits = bits_per_character(model, text, context)  # ty: ignore[invalid-argument-type]
    assert bits == pytest.approx(n / 2)
    predicted = []
    for read, targets in model.asked:
        for place, target in enumerate(targets):
            if target != IGNORED:
                assert read[place] == target - 1, "the next character is predicted"
                known = place + 1
                assert known >= min(target, context // 2)
                assert read[:known] == list(range(target - known, target))
                predicted.append(target)
    assert sorted(predicted) == list(range(1, n))


def test_one_window_over_all_of_the_text_is_the_models_own_loss() -> None:
    torch.manual_seed(0)
    model, text = language_model(5), torch.randint(5, (40,))
    expected = float(model.loss(text[None]).detach()) / math.log(2)
    assert bits_per_character(model, text, 39) == pytest.approx(expected, rel=1e-6)


def test_counted_pairs_know_what_follows_a_character_and_nothing_else() -> None:
    alternating = torch.arange(20_000) % 2
    assert bigram_bits(Text(alternating, alternating[:50], 2)) < 1e-3
    # After 1 comes 0 or 2, by what was before it, which pairs cannot tell: a bit every other time.
    cycle = torch.tensor([0, 1, 2, 1]).repeat(5000)
    assert bigram_bits(Text(cycle, cycle[:4001], 3)) == pytest.approx(0.5, abs=1e-3)
