"""The game against autograd and torch's own optimiser, its rules, and a hidden rotation found."""

import pytest
import torch
from torch import nn

from gonzo.translation.adversarial import AdversarialAligner, AdversarialConfig, Draws
from gonzo.translation.discriminator import Discriminator
from gonzo.translation.orthogonal import orthogonality_error
from gonzo.translation.refinement import RefinementConfig, refine

SMALL = AdversarialConfig(
    epochs=2, epoch_steps=3, batch=4, hidden=7, criterion_words=20, most_frequent=30
)


def cloud(n=40, dim=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


class Recorded:
    """Draws that are kept, so that another implementation can use the same."""

    def __init__(self, draws):
        self.draws, self.rows, self.masks = draws, [], []

    def words(self):
        self.rows.append(self.draws.words())
        return self.rows[-1]

    def mask(self):
        self.masks.append(self.draws.mask())
        return self.masks[-1]


def recorded_game(x, y, config):
    draws = Recorded(Draws(x, y, config, torch.Generator().manual_seed(1)))
    return AdversarialAligner(x, y, config, seed=0, draws=draws), draws


def test_steps_equal_those_of_autograd_and_sgd():
    x, y = cloud(), cloud(50, seed=1)
    game, draws = recorded_game(x, y, SMALL)
    own = game.discriminator
    net = nn.Sequential(
        nn.Linear(6, 7), nn.LeakyReLU(0.2), nn.Linear(7, 7), nn.LeakyReLU(0.2), nn.Linear(7, 1)
    ).double()
    mapping = nn.Linear(6, 6, bias=False).double()
    with torch.no_grad():
        mapping.weight.copy_(torch.eye(6))
        for layer, weight, bias in ((0, own.w1, own.b1), (2, own.w2, own.b2)):
            net[layer].weight.copy_(weight)
            net[layer].bias.copy_(bias)
        net[4].weight.copy_(own.w3[None])
        net[4].bias.copy_(own.b3)
    for _ in range(6):
        game.step()
    learn, move = (torch.optim.SGD(part.parameters(), 0.1) for part in (net, mapping))
    rows, masks = iter(draws.rows), iter(draws.masks)
    wanted = torch.tensor([0.8] * 4 + [0.2] * 4, dtype=torch.float64)
    loss = nn.BCEWithLogitsLoss()
    for _ in range(6):
        for _ in range(5):
            i, j = next(rows)
            with torch.no_grad():
                words = torch.cat((mapping(x[i]), y[j])) * next(masks)
            learn.zero_grad()
            loss(net(words)[:, 0], wanted).backward()
            learn.step()
        i, j = next(rows)
        move.zero_grad()
        loss(net(torch.cat((mapping(x[i]), y[j])))[:, 0], 1 - wanted).backward()
        move.step()
        with torch.no_grad():
            w = mapping.weight
            w.copy_(1.01 * w - 0.01 * w @ w.T @ w)
    assert torch.allclose(game.mapping, mapping.weight, atol=1e-12, rtol=0)
    assert torch.allclose(own.w2, net[2].weight, atol=1e-12, rtol=0)
    assert torch.allclose(own.b1, net[0].bias, atol=1e-12, rtol=0)
    assert torch.allclose(own.w3, net[4].weight[0], atol=1e-12, rtol=0)
    assert torch.allclose(own.b3, net[4].bias, atol=1e-12, rtol=0)
    assert (game.mapping - torch.eye(6)).abs().max() > 1e-3


def test_draws_are_uniform_over_the_most_frequent_and_masks_keep_the_mean():
    x, y = cloud(1000), cloud(20, seed=1)
    config = AdversarialConfig(batch=32, most_frequent=50, dropout=0.25)
    draws = Draws(x, y, config, torch.Generator().manual_seed(0))
    rows, columns = zip(*(draws.words() for _ in range(200)), strict=True)
    counts = torch.cat(rows).bincount(minlength=50)
    assert len(counts) == 50
    assert 80 < counts.min() <= counts.max() < 180
    assert set(torch.cat(columns).tolist()) == set(range(20))
    mask = torch.stack([draws.mask() for _ in range(50)])
    assert mask.shape == (50, 64, 6)
    assert set(mask.unique().tolist()) == {0.0, 1 / 0.75}
    assert mask.mean().item() == pytest.approx(1, abs=0.02)


def rates(monkeypatch, config, criteria):
    told = iter(criteria)
    monkeypatch.setattr("gonzo.translation.adversarial.mean_similarity", lambda *a, **k: next(told))
    game = AdversarialAligner(cloud(), cloud(seed=1), config)
    seen = []
    for _ in criteria:
        game.end_epoch()
        seen.append((round(game.mapping_rate / 0.1, 6), round(game.discriminator_rate / 0.1, 6)))
    return seen, [report.best for report in game.history]


def test_the_papers_learning_rates_halve_whenever_the_criterion_is_below_its_best(monkeypatch):
    seen, best = rates(monkeypatch, AdversarialConfig.paper(), [0.5, 0.4, 0.45, 0.6])
    expected = [0.95, 0.95**2 / 2, 0.95**3 / 4, 0.95**4 / 4]
    assert seen == [(round(rate, 6),) * 2 for rate in expected]
    assert best == [True, False, False, True]


def test_muses_learning_rate_halves_from_the_second_time_and_its_discriminators_stays(monkeypatch):
    seen, _ = rates(monkeypatch, AdversarialConfig.muse(), [0.5, 0.4, 0.6, 0.55])
    expected = [0.98, 0.98**2, 0.98**3, 0.98**4 / 2]
    assert seen == [(round(rate, 6), 1.0) for rate in expected]


def test_the_mapping_can_have_a_rate_of_its_own(monkeypatch):
    config = AdversarialConfig(mapping_learning_rate=3.0)
    seen, _ = rates(monkeypatch, config, [0.5, 0.6])
    assert seen == [(28.5, 0.95), (round(30 * 0.95**2, 6), round(0.95**2, 6))]


def test_the_presets_differ_where_the_code_differs_from_the_paper():
    paper, muse = AdversarialConfig.paper(), AdversarialConfig.muse()
    assert (paper.orthogonality, muse.orthogonality) == (0.01, 0.001)
    assert (paper.smoothing, muse.smoothing) == (0.2, 0.1)
    assert (paper.criterion_rule, muse.criterion_rule) == ("paper", "muse")
    small = AdversarialConfig.small()
    assert (small.first_mapping_rate, small.learning_rate, small.shrink) == (3.0, 0.1, 1.0)
    assert RefinementConfig.paper().direction == "intersection"
    assert RefinementConfig.muse().direction == "source-to-target"


def test_it_goes_on_where_it_was_saved():
    x, y = cloud(), cloud(50, seed=1)
    whole = AdversarialAligner(x, y, SMALL, seed=3)
    whole.fit()
    first = AdversarialAligner(x, y, SMALL, seed=3)
    for _ in range(3):
        first.step()
    first.end_epoch()
    first.step()
    second = AdversarialAligner(x, y, SMALL, seed=9)
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        second.step()
    second.end_epoch()
    assert torch.equal(second.mapping, whole.mapping)
    assert torch.equal(second.best_mapping, whole.best_mapping)
    assert second.history == whole.history


def test_what_it_gave_out_does_not_change():
    x, y = cloud(), cloud(50, seed=1)
    game = AdversarialAligner(x, y, SMALL)
    game.step()
    state, best, mapping = game.state_dict(), game.best_mapping, game.mapping
    before = mapping.clone()
    for _ in range(3):
        game.step()
    expected = game.mapping.clone()
    assert torch.equal(mapping, before)
    assert torch.equal(best, before)
    game.load_state_dict(state)
    assert torch.equal(game.mapping, before)
    for _ in range(3):
        game.step()
    assert torch.equal(game.mapping, expected)


def test_another_seed_is_another_game():
    x, y = cloud(), cloud(50, seed=1)
    first, again, other = (AdversarialAligner(x, y, SMALL, seed=seed).fit() for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_hidden_rotation_is_found():
    """Words in clusters of unequal size, and the same words turned: nothing says which is which."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    dim, n = 6, 1000
    centres = 1.5 * draw(8, dim)
    sizes = 1 / torch.arange(1.0, 9.0)
    x = centres[torch.multinomial(sizes, n, True, generator=generator)] + 0.3 * draw(n, dim)
    x /= x.norm(dim=1).mean()
    w = torch.linalg.qr(draw(dim, dim))[0]
    y = (x @ w.T)[torch.randperm(n, generator=generator)]
    config = AdversarialConfig(
        epochs=4, epoch_steps=1000, hidden=32, criterion_words=500, smoothing=0.1
    )
    game = AdversarialAligner(x, y, config, seed=0)
    refined = refine(x, y, game.fit(), RefinementConfig(criterion_words=500))
    assert orthogonality_error(game.mapping) < 0.1
    assert (refined.mapping - w).abs().max() < 1e-5
    assert [report.best for report in game.history][:2] == [True, True]


def test_bad_input():
    x, y = cloud(), cloud(seed=1)
    with pytest.raises(ValueError, match=r"one dimension d, got \(40, 6\) and \(40, 5\)"):
        AdversarialAligner(x, y[:, :5])
    broken = y.clone()
    broken[3, 2] = float("nan")
    with pytest.raises(ValueError, match="target vectors hold NaN or infinity"):
        AdversarialAligner(x, broken)
    with pytest.raises(ValueError, match="expected epochs of at least 1, got 0"):
        AdversarialConfig(epochs=0)
    with pytest.raises(ValueError, match="0 <= dropout < 1"):
        AdversarialConfig(dropout=1.0)
    with pytest.raises(ValueError, match="learning rates above 0"):
        AdversarialConfig(mapping_learning_rate=0.0)
    with pytest.raises(ValueError, match="learning rates above 0"):
        AdversarialConfig(learning_rate=0.0)
    wild = AdversarialAligner(x, y, AdversarialConfig(learning_rate=1e12, epoch_steps=20))
    with pytest.raises(ValueError, match="no longer finite; lower learning_rate"):
        wild.fit()
    other = Discriminator(6, 8, generator=torch.Generator(), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"expected w1 of shape \(8, 6\), got \(7, 6\)"):
        other.load_state_dict(AdversarialAligner(x, y, SMALL).discriminator.state_dict())
