"""RCSLS: its loss against loops, its gradient against autograd, its descent, its messages."""

import pytest
import torch

from gonzo.translation.relaxed_csls import rcsls, relaxed_csls_loss


def unit(vectors):
    return vectors / vectors.norm(dim=1, keepdim=True)


def rotated_pair(n=120, d=12, *, noise=0.5, dtype=torch.float64, seed=0):
    """Source words in clusters, so that there are hubs, and their noisy rotation."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    clusters = normal(8, d)[torch.randint(8, (n,), generator=generator)]
    source = unit(clusters + normal(n, d))
    rotation = torch.linalg.qr(normal(d, d))[0]
    target = unit(source @ rotation.mT + noise * normal(n, d) / d**0.5)
    return source.to(dtype), target.to(dtype), rotation.to(dtype)


def loss_of(mapping, x, y, source, target, k):
    """The criterion, word by word, differentiable: autograd holds the neighbours fixed too."""
    total = 0.0
    for a, b in zip(x, y, strict=True):
        there = torch.stack([(mapping @ a) @ t for t in target])
        back = torch.stack([(mapping @ s) @ b for s in source])
        total = total - 2 * (mapping @ a) @ b
        total = total + there.topk(k).values.mean() + back.topk(k).values.mean()
    return total / len(x)


@pytest.mark.parametrize("neighbours", [1, 3, 100])
def test_loss_and_gradient_are_those_of_the_loop(neighbours):
    x, y, _ = rotated_pair(20, 5)
    source, target, _ = rotated_pair(30, 5, seed=1)
    mapping = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
    expected = loss_of(mapping, x, y, source, target, min(neighbours, 30))
    expected.backward()
    expected = expected.detach()
    loss, gradient = relaxed_csls_loss(mapping.detach(), x, y, source, target, neighbours)
    assert loss == pytest.approx(float(expected), abs=1e-12)
    torch.testing.assert_close(gradient, mapping.grad, rtol=0, atol=1e-12)


def test_blocks_do_not_change_the_loss(monkeypatch):
    x, y, rotation = rotated_pair(50, 6)
    whole = relaxed_csls_loss(rotation, x, y, x, y, 5)
    monkeypatch.setattr("gonzo.translation.relaxed_csls._BLOCK", 120)
    parts = relaxed_csls_loss(rotation, x, y, x, y, 5)
    assert parts[0] == pytest.approx(whole[0], abs=1e-14)
    torch.testing.assert_close(parts[1], whole[1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("projection", ["spectral", "orthogonal", "none"])
def test_the_losses_fall_and_are_those_of_the_mapping(projection):
    source, target, _ = rotated_pair()
    found = rcsls(source[:60], target[:60], source, target, projection=projection)
    assert len(found.losses) > 3
    assert all(b <= a for a, b in zip(found.losses, found.losses[1:], strict=False))
    assert found.losses[-1] < found.losses[0] - 1e-3
    again, _ = relaxed_csls_loss(found.mapping, source[:60], target[:60], source, target, 10)
    assert again == pytest.approx(found.losses[-1], abs=1e-12)
    values = torch.linalg.svdvals(found.mapping)
    if projection == "spectral":
        assert values.max() <= 1 + 1e-12
    elif projection == "orthogonal":
        torch.testing.assert_close(values, torch.ones_like(values))
    else:
        assert values.max() > 1.01


def test_a_step_that_would_raise_the_loss_is_taken_back():
    source, target, rotation = rotated_pair()
    pairs = source[:60], target[:60]
    one = rcsls(*pairs, source, target, learning_rate=1e6, steps=1, projection="orthogonal")
    assert len(one.losses) == 1
    more = rcsls(*pairs, source, target, learning_rate=1e3, steps=25, projection="orthogonal")
    assert 1 < len(more.losses) < 26
    assert more.losses[-1] < more.losses[0]
    none = rcsls(*pairs, source, target, start=rotation, steps=0)
    torch.testing.assert_close(none.mapping, rotation)


def test_it_starts_from_procrustes_and_from_a_mapping():
    source, target, rotation = rotated_pair(noise=0)
    found = rcsls(source[:60], target[:60], source, target, steps=0)
    torch.testing.assert_close(found.mapping, rotation)
    begun = rcsls(source[:60], target[:60], source, target, start=3 * rotation, steps=0)
    torch.testing.assert_close(begun.mapping, rotation)  # projected onto spectral norm 1


def test_lengths_do_not_matter_and_rare_words_can_be_left_out():
    source, target, _ = rotated_pair()
    length = torch.rand(len(source), 1, dtype=torch.float64) + 0.5
    plain = rcsls(source[:60], target[:60], source, target)
    scaled = rcsls((length * source)[:60], target[:60], length * source, target / length)
    torch.testing.assert_close(scaled.mapping, plain.mapping)
    few = rcsls(source[:60], target[:60], source, target, max_rows=70)
    cut = rcsls(source[:60], target[:60], source[:70], target[:70])
    torch.testing.assert_close(few.mapping, cut.mapping)
    assert not torch.allclose(few.mapping, plain.mapping)


def test_csls_retrieval_of_unseen_words_gets_better():
    source, target, _ = rotated_pair(800, 20, noise=0.8, dtype=torch.float32)
    # The directions matter unequally to the other language, which no rotation can say.
    target = unit(target * torch.linspace(2, 0.2, 20) @ torch.linalg.qr(torch.randn(20, 20))[0])
    pairs = source[:400], target[:400]
    right = []
    for steps in (0, 30):
        mapped = unit(source @ rcsls(*pairs, source, target, steps=steps).mapping.mT)
        cosines = mapped @ target.mT
        scores = 2 * cosines - cosines.topk(10, 0).values.mean(0)
        right.append((scores.argmax(1) == torch.arange(800))[400:].float().mean().item())
    assert right[1] > right[0] + 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_pairs": torch.zeros(3, 4)}, r"one shape \(pairs, dimensions\), got \(3, 4\)"),
        ({"source": torch.zeros(9, 4)}, r"source of shape \(words, 5\) like the pairs, got \(9, 4"),
        ({"target": torch.zeros(0, 5)}, r"target of shape \(words, 5\)"),
        ({"start": torch.eye(4)}, r"start of shape \(5, 5\), got \(4, 4\)"),
        ({"neighbours": 0}, "neighbours of at least 1, got 0"),
        ({"max_rows": 0}, "max_rows of at least 1, got 0"),
        ({"steps": -1}, "steps of at least 0 and a positive learning rate, got -1"),
        ({"learning_rate": 0.0}, "positive learning rate"),
        ({"projection": "nuclear"}, "one of spectral, orthogonal, none, got 'nuclear'"),
    ],
)
def test_bad_input(change, message):
    arguments = {
        "source_pairs": torch.randn(6, 5),
        "target_pairs": torch.randn(6, 5),
        "source": torch.randn(9, 5),
        "target": torch.randn(8, 5),
    }
    with pytest.raises(ValueError, match=message):
        rcsls(**arguments | change)


def test_dtypes_must_agree():
    x = torch.randn(6, 5)
    with pytest.raises(TypeError, match=r"one floating dtype, got torch.float32, torch.float64"):
        rcsls(x, x, x.double(), x)
