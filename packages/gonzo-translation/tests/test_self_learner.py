"""Self-learning: what it recovers, its draws, its schedule, resuming, and its messages."""

import pytest
import torch

from gonzo.core.ops.csls_topk import csls_topk_both
from gonzo.translation.self_learner import SelfLearner, self_learning
from gonzo.translation.similarity_start import similarity_pairs


def unit(vectors):
    return vectors / vectors.norm(dim=1, keepdim=True)


def hidden_rotation(n, d, *, noise=0.0, seed=0):
    """Source, target, the rotation, and which target row each source row is."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    source = unit(normal(n, d) * torch.linspace(1, 0.3, d, dtype=torch.float64))
    source = unit(source - source.mean(0))
    rotation = torch.linalg.qr(normal(d, d))[0]
    order = torch.randperm(n, generator=generator)
    target = unit(source @ rotation.mT + noise * normal(n, d) / d**0.5)[order]
    return source, target, rotation, order.argsort()


def test_the_start_without_pairs_finds_a_hidden_rotation():
    source, target, _, place = hidden_rotation(300, 20)
    pairs = similarity_pairs(source, target)
    assert pairs.shape == (600, 2)
    assert (place[pairs[:, 0]] == pairs[:, 1]).all()
    assert len(similarity_pairs(source, target[:200], vocabulary=250)) == 400


def test_without_noise_a_hidden_rotation_and_order_are_found_exactly():
    source, target, rotation, place = hidden_rotation(600, 30)
    learner = SelfLearner(source, target, patience=2)
    found = learner.fit()
    assert (place[found.pairs[:, 0]] == found.pairs[:, 1]).all()
    assert found.objective[-1] == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(learner.mapping, rotation, rtol=0, atol=1e-12)
    x, z = source @ found.source_map.mT, target @ found.target_map.mT
    torch.testing.assert_close(x, z[place], rtol=0, atol=1e-10)


def test_with_noise_iterations_mend_a_start_that_is_mostly_wrong():
    source, target, _, place = hidden_rotation(800, 40, noise=0.2)
    start = similarity_pairs(source, target)
    assert (place[start[:, 0]] == start[:, 1]).double().mean() < 0.7
    found = self_learning(source.float(), target.float(), patience=1, keep=0.5)
    assert (place[found.pairs[:, 0]] == found.pairs[:, 1]).all()


def test_a_few_pairs_are_a_start_too_and_may_be_rare_words():
    source, target, rotation, place = hidden_rotation(400, 20)
    rare = torch.arange(300, 340)
    pairs = torch.stack([rare, place[rare]], 1)
    learner = SelfLearner(source, target, start_pairs=pairs, vocabulary=250, patience=1, keep=1.0)
    torch.testing.assert_close(learner.mapping, rotation)
    assert learner.result().pairs.equal(pairs)
    learner.fit()
    assert learner.pairs.max() < 250
    assert learner.pairs.shape == (500, 2)


def test_what_is_drawn_is_the_best_of_those_that_a_mask_keeps():
    depth, keep, rows = 6, 0.3, 40_000
    source, target, *_ = hidden_rotation(20, 4)
    learner = SelfLearner(source, target, keep=keep)
    ranks = learner._drawn(torch.arange(depth).expand(rows, depth))
    drawn = torch.bincount(ranks, minlength=depth) / rows
    masks = torch.rand(4 * rows, depth) < keep
    masks = masks[masks.any(1)]  # a row without any is drawn again
    masked = torch.bincount(masks.int().argmax(1), minlength=depth) / len(masks)
    torch.testing.assert_close(drawn, masked, rtol=0, atol=0.015)
    expected = keep * (1 - keep) ** torch.arange(depth)
    torch.testing.assert_close(drawn, expected / expected.sum(), rtol=0, atol=0.01)


def test_an_iteration_pairs_drawn_neighbours_of_both_directions():
    source, target, *_ = hidden_rotation(60, 6, noise=1.5)
    learner = SelfLearner(source, target, neighbours=4, keep=0.2, seed=3)
    mapped = source @ learner.mapping.mT
    forth, back = (found.indices for found in csls_topk_both(mapped, target, 32, neighbours=4))
    best = torch.stack([mapped[i] @ target[forth[i, 0]] for i in range(60)])
    best_back = torch.stack([target[j] @ mapped[back[j, 0]] for j in range(60)])
    objective = learner.step()
    assert objective == pytest.approx(float(torch.cat([best, best_back]).mean()), abs=1e-12)
    for i, j in learner.pairs[:60].tolist():
        assert j in forth[i]
    for i, j in learner.pairs[60:].tolist():
        assert i in back[j]
    assert (learner.pairs[:60, 1] != forth[:, 0]).sum() > 20  # most are not the best
    x, z = source[learner.pairs[:, 0]], target[learner.pairs[:, 1]]
    left, _, right = torch.linalg.svd(z.mT @ x)
    torch.testing.assert_close(learner.mapping, left @ right)


def test_the_probability_doubles_when_nothing_is_gained_and_the_end_is_at_one():
    source, target, *_ = hidden_rotation(200, 10)
    keeps = []
    found = self_learning(
        source, target, keep=0.3, patience=2, on_step=lambda learner: keeps.append(learner.keep)
    )
    # The first iteration finds all; two without gain follow at each probability.
    assert keeps == [0.3, 0.3, 0.6, 0.6, 1.0, 1.0, 1.0]
    assert len(found.objective) == 7


def test_one_seed_one_result():
    source, target, *_ = hidden_rotation(150, 10, noise=1.0)
    one, same, other = (
        self_learning(source, target, patience=2, seed=seed).objective for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_a_learner_that_is_saved_goes_on_to_the_same_end():
    source, target, *_ = hidden_rotation(150, 10, noise=1.0)
    whole = SelfLearner(source, target, patience=2, seed=4)
    expected = whole.fit()
    cut = SelfLearner(source, target, patience=2, seed=4)
    for _ in range(5):
        cut.step()
    state = {name: value.clone() for name, value in cut.state_dict().items()}
    cut.step()  # what was saved does not change
    resumed = SelfLearner(source, target, patience=2, seed=9)
    resumed.load_state_dict(state)
    found = resumed.fit()
    assert found.objective == expected.objective
    assert found.pairs.equal(expected.pairs)
    assert found.source_map.equal(expected.source_map)
    again = SelfLearner(source, target, patience=2)
    again.load_state_dict(resumed.state_dict())
    assert again.finished


def test_a_step_after_the_end_is_refused():
    source, target, *_ = hidden_rotation(50, 5)
    learner = SelfLearner(source, target, keep=1.0, patience=1)
    learner.fit()
    with pytest.raises(RuntimeError, match=r"finished; call result\(\)"):
        learner.step()


def test_vocabularies_of_two_words_and_of_different_sizes():
    words = torch.eye(2, dtype=torch.float64)
    found = self_learning(words, words.flip(0), patience=1)
    assert found.pairs.shape == (4, 2)
    source, target, *_ = hidden_rotation(90, 8)
    found = self_learning(source, target[:40], patience=1)
    assert found.pairs.shape == (130, 2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"source": torch.zeros(9, 4)}, ValueError, r"same dimensions, got \(9, 4\) and \(8, 5\)"),
        ({"source": torch.zeros(1, 5)}, ValueError, "source has 1 words, expected at least 2"),
        ({"source": torch.full((9, 5), torch.inf)}, ValueError, "source vectors hold NaN or inf"),
        ({"source": torch.zeros(9, 5).double()}, TypeError, "got torch.float64 and torch.float32"),
        ({"vocabulary": 1}, ValueError, "vocabulary of at least 2, got 1"),
        ({"start_vocabulary": 0}, ValueError, "start_vocabulary of at least 2, got 0"),
        ({"neighbours": 0}, ValueError, "neighbours of at least 1, got 0"),
        ({"patience": 0}, ValueError, "patience of at least 1, got 0"),
        ({"keep": 0.0}, ValueError, "keep above 0 and at most 1, got 0.0"),
        ({"growth": 1.0}, ValueError, "growth above 1, got 1.0"),
        ({"start_pairs": torch.zeros(3, 3).long()}, ValueError, r"\(pairs, 2\).*got \(3, 3\)"),
        ({"start_pairs": torch.zeros(3, 2)}, TypeError, "int64, got torch.float32"),
        ({"start_pairs": torch.tensor([[0, 8]])}, ValueError, r"0 … 8 and 0 … 7, got \[0, 8\]"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {"source": torch.randn(9, 5), "target": torch.randn(8, 5)}
    with pytest.raises(error, match=message):
        SelfLearner(**arguments | change)
