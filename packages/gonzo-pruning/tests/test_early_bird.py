"""The watcher that draws a ticket when its mask stands still, on weights whose order is known."""

import io
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gonzo.pruning.channels import batch_norm_scales
from gonzo.pruning.early_bird import EarlyBird
from gonzo.pruning.random_scores import RandomScores


def layer(alive):
    """A layer of 20 weights, of which those in `alive` are large."""
    model = nn.Linear(10, 2, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.1)
        model.weight.view(-1)[list(alive)] = 1.0
    return model


def drift(start):
    """Half of the weights alive, moved on by `start`: neighbours differ in 10 %."""
    return [(start + i) % 20 for i in range(10)]


def test_it_draws_once_the_window_is_full_and_still():
    watcher = EarlyBird(0.5)
    answers = [watcher.update(layer(drift(0))) for _ in range(6)]
    assert answers == [False] * 4 + [True] * 2
    assert watcher.drawn_at == 5
    assert watcher.updates == 6
    assert watcher.distances == (0.0,) * 4
    assert watcher.ticket["weight"].view(-1)[:10].all()
    assert watcher.ticket.alive == 10


def test_it_waits_while_the_mask_moves_and_keeps_the_first_ticket():
    watcher = EarlyBird(0.5, window=3, threshold=0.11)
    places = [0, 1, 2, 3, 3, 4, 9, 9, 9]
    answers = [watcher.update(layer(drift(place))) for place in places]
    # At 3, 3 after 2 the distances are 0.1 and 0.
    assert answers == [False] * 4 + [True] * 5
    assert watcher.drawn_at == 5
    assert watcher.ticket["weight"].view(-1)[3:13].all()
    assert len(watcher.masks) == 3


def test_the_newest_mask_is_compared_with_all_that_are_kept():
    watcher = EarlyBird(0.5, window=4, threshold=0.15)
    for place in (0, 1, 2, 3):
        assert not watcher.update(layer(drift(place)))
    # Consecutive masks are 0.1 apart, which would do; the ends of the window are not.
    assert watcher.distances == pytest.approx((0.3, 0.2, 0.1))


def test_a_distance_of_the_threshold_is_too_much():
    for threshold, drawn in ((0.1, False), (0.1001, True)):
        watcher = EarlyBird(0.5, window=2, threshold=threshold)
        watcher.update(layer(drift(0)))
        assert watcher.update(layer(drift(1))) is drawn
        assert watcher.distances == (0.1,)


@given(st.lists(st.integers(0, 19), min_size=1, max_size=12), st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_it_is_the_rule_written_out(places, window):
    watcher = EarlyBird(0.5, window=window, threshold=0.25)
    masks = [set(drift(place)) for place in places]
    expected = None
    for epoch in range(window, len(masks) + 1):
        *earlier, newest = masks[epoch - window : epoch]
        if expected is None and all(len(newest ^ mask) / 20 < 0.25 for mask in earlier):
            expected = epoch
    for place in places:
        drawn = watcher.update(layer(drift(place)))
    assert watcher.drawn_at == expected
    assert drawn is (expected is not None)


def test_it_goes_on_from_a_checkpoint():
    places = [0, 5, 1, 1, 1, 1, 7]
    for cut in range(len(places)):
        whole, first = EarlyBird(0.5, window=3), EarlyBird(0.5, window=3)
        for place in places[:cut]:
            first.update(layer(drift(place)))
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second = EarlyBird(0.5, window=3)
        second.load_state_dict(torch.load(file, weights_only=True))
        for place in places[cut:]:
            second.update(layer(drift(place)))
        for place in places:
            whole.update(layer(drift(place)))
        assert second.drawn_at == whole.drawn_at == 5
        assert second.ticket == whole.ticket
        assert list(second.masks) == list(whole.masks)
        assert second.updates == 7


def test_channels_are_ranked_by_their_scales_over_all_layers():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)
    )
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([-5.0, 0.1, 0.2, 3.0]))
        model[4].weight.copy_(torch.tensor([1.0, 2.0, 0.3, 0.0, -4.0, 0.4]))
    watcher = EarlyBird(0.5, window=2, names=batch_norm_scales(model))
    watcher.update(model)
    assert watcher.masks[0]["1.weight"].tolist() == [True, False, False, True]
    assert watcher.masks[0]["4.weight"].tolist() == [True, True, False, False, True, False]
    layered = EarlyBird(0.5, window=2, names=batch_norm_scales(model), scope="layer")
    layered.update(model)
    assert [layered.masks[0].alive_of(name) for name in layered.masks[0]] == [2, 3]


def test_another_criterion_ranks():
    model = layer(range(20))
    watchers = [EarlyBird(0.3, window=2, criterion=RandomScores(seed)) for seed in (0, 0, 1)]
    for watcher in watchers:
        watcher.update(model)
    first, same, other = (watcher.masks[0] for watcher in watchers)
    assert first == same != other
    assert first.alive == 14


def test_a_rate_near_one_draws_whatever_happens():
    """What the docstring warns of: two masks of 5 % cannot differ in more than a tenth."""
    for before, after in itertools.pairwise([0, 7, 13, 4]):
        watcher = EarlyBird(0.95, window=2, threshold=0.101)
        watcher.update(layer([before]))
        assert watcher.update(layer([after]))
        assert watcher.distances == (0.1,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 1.2}, "1.2"),
        ({"window": 1}, "a window of at least 2 masks, got 1"),
        ({"window": 2.5}, "a window of at least 2 masks, got 2.5"),
        ({"threshold": 0}, "a threshold above 0, at most 1, got 0"),
        ({"threshold": 2}, "a threshold above 0, at most 1, got 2"),
        ({"threshold": "x"}, "a threshold above 0, at most 1, got 'x'"),
        ({"names": "weight"}, r"several names, such as \['weight'\]"),
        ({"names": []}, "at least one name"),
        ({"scope": "row"}, "the scope 'layer' or 'global', got 'row'"),
    ],
)
def test_bad_input_is_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        EarlyBird(**{"rate": 0.5, **arguments})


def test_another_model_or_other_names_are_refused():
    watcher = EarlyBird(0.5, window=2)
    watcher.update(layer(drift(0)))
    with pytest.raises(ValueError, match=r"expected the model of earlier .*\(2, 10\).*\(4, 4\)"):
        watcher.update(nn.Linear(4, 4))
    assert watcher.updates == len(watcher.masks) == 1
    with pytest.raises(ValueError, match="gamma"):
        EarlyBird(0.5, names=["gamma"]).update(layer(drift(0)))
