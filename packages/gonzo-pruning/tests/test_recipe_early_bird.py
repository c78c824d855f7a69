"""The recipe of early-bird tickets at a tiny size: it goes on, and counts what it says."""

import math

import pytest
import torch

pytestmark = pytest.mark.recipe


@pytest.fixture
def recipe():
    """It imports gonzo.lab, which is there with the extra [recipes] alone."""
    from gonzo.pruning.recipes import early_bird

    return early_bird


@pytest.fixture
def tiny(recipe):
    return recipe.Config(
        subset=True,
        images=60,
        size=recipe.Size(widths=(4, 4, 6)),
        drawing=recipe.Drawing(channels="0.5", window=2),
        epochs=4,
        ticket_epochs=1,
        batch=20,
        seeds=1,
    )


def test_it_runs_and_a_killed_run_goes_on_to_the_same_numbers(tmp_path, recipe, tiny, monkeypatch):
    from gonzo.lab import Run

    with Run(tmp_path / "whole") as run:
        whole = recipe.main(tiny, run)
    assert recipe.RECIPE.metrics.keys() <= whole.keys()
    assert all(math.isfinite(value) for value in whole.values())
    assert whole["channels_gap"] == whole["channels_early"] - whole["channels_late"]
    assert whole["weights_gain"] == whole["weights_early"] - whole["weights_random"]
    assert whole["dense"] > 0
    for name in ("mask-distances", "tickets"):
        assert (tmp_path / "whole" / "figures" / f"{name}.svg").exists()

    real, calls = recipe.Search.end_epoch, []

    def dying(search, epoch):
        calls.append(epoch)
        if len(calls) in (3, 4):
            raise KeyboardInterrupt
        real(search, epoch)

    monkeypatch.setattr(recipe.Search, "end_epoch", dying)
    for _ in range(2):
        with (
            pytest.raises(KeyboardInterrupt),
            Run(tmp_path / "cut", checkpoint_seconds=0.0) as run,
        ):
            recipe.main(tiny, run)
    with Run(tmp_path / "cut") as run:
        assert recipe.main(tiny, run) == whole
    monkeypatch.setattr(recipe, "accuracy", None)  # a finished run is read, not measured again
    with Run(tmp_path / "whole") as run:
        assert recipe.main(tiny, run) == whole


def test_a_search_is_kept_as_tensors_and_numbers(tmp_path, recipe, tiny):
    model = recipe.network(tiny.size)
    search = recipe.Search(tiny.drawing, model, tiny.epochs)
    for epoch in range(1, 4):
        search.end_epoch(epoch)
    torch.save(search.state_dict(), tmp_path / "search.pt")
    other = recipe.Search(tiny.drawing, model, tiny.epochs)
    other.load_state_dict(torch.load(tmp_path / "search.pt", weights_only=True))
    for each in (search, other):
        each.end_epoch(4)
    for kind in ("channels", "weights"):
        # Nothing was trained: two equal masks are enough for a window of two.
        assert search.drawn_at(kind) == other.drawn_at(kind) == 2
        masks, again = search.drawn(kind, 5), other.drawn(kind, 5)
        assert masks == again
        assert masks["early"] == masks["late"] == masks["first"]
        assert masks["random"] != masks["early"]
        counts = [masks["random"].alive_of(name) for name in masks["random"]]
        assert counts == [masks["early"].alive_of(name) for name in masks["early"]]
        assert search.distances(kind).tolist() == [[0.0] * 4] * 4
    assert (
        list(search.states)
        == list(other.states)
        == ["first", "early-channels", *(["early-weights", "late"])]
    )


def test_what_is_not_drawn_in_time_is_the_ticket_of_the_end(recipe, tiny):
    model = recipe.network(tiny.size)
    search = recipe.Search(tiny.drawing, model, tiny.epochs)
    for epoch in range(1, 5):
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter)
        search.end_epoch(epoch)
    for kind in ("channels", "weights"):
        assert search.drawn_at(kind) == 4
        masks = search.drawn(kind, 0)
        assert masks["early"] == masks["late"] != masks["first"]
        start = search.start(kind, "early")
        assert torch.equal(start["1.weight"], model[1].weight)
        distances = search.distances(kind)
        assert float(distances[0, 3]) == pytest.approx(masks["first"].distance(masks["late"]))


def test_cost_counts_multiply_adds_of_the_search_and_of_the_ticket(recipe, tiny):
    from gonzo.pruning.masks import Masks

    # 7 × 7 places for two convolutions, 3 × 3 after pooling, and a linear layer to 10 classes.
    whole = 49 * 9 * (4 + 16) + 9 * 9 * 24 + 60
    alive = {"a": [True, False, False, False], "b": [True, True, False, False]}
    channels = Masks(
        {**{name: torch.tensor(mask) for name, mask in alive.items()}, "c": torch.ones(6) > 0}
    )
    left = 49 * 9 * (1 + 2) + 9 * 9 * 12 + 60
    assert tiny.cost(3, channels) == 60 * (3 * whole + left)


def test_a_pruned_channel_stays_zero_while_its_ticket_is_trained(recipe, tiny, tmp_path):
    from gonzo.lab import Run

    trained = {}

    def spy(model, split):
        trained["model"] = model
        return 1.0

    original, recipe.accuracy = recipe.accuracy, spy
    try:
        splits = recipe.digits(subset=True, validation=0, seed=0, data_dir=None)
        splits = type(splits)(splits.train.part(torch.arange(60)), splits.test, splits.test)
        model = recipe.network(tiny.size)
        search = recipe.Search(tiny.drawing, model, tiny.epochs)
        for epoch in range(1, 5):
            search.end_epoch(epoch)
        masks = search.drawn("channels", 0)["random"]
        with Run(tmp_path) as run:
            recipe._ticket(tiny, run, splits, search.start("channels", "first"), masks, 0)
    finally:
        recipe.accuracy = original
    for name, mask in masks.items():
        norm = trained["model"].get_submodule(name.removesuffix(".weight"))
        assert (norm.weight[~mask] == 0).all()
        assert (norm.bias[~mask] == 0).all()
        assert (norm.weight[mask] != model.get_parameter(name)[mask]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 0}, "a batch of 1 to images, 10000, got 0"),
        ({"epochs": 4}, "epochs of at least window, 5, got 4"),
        ({"ticket_epochs": 0}, "ticket_epochs of at least 1, got 0"),
        ({"lr": 0}, "lr above 0, got 0"),
        ({"seeds": 0}, "seeds of at least 1, got 0"),
    ],
)
def test_bad_configs_are_explained(recipe, change, message):
    with pytest.raises(ValueError, match=message):
        recipe.Config(**change)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("Size", {"side": 10}, "a side of 28, 14 or 7, got 10"),
        ("Size", {"widths": (3,)}, r"widths of at least two layers, got \(3,\)"),
        ("Drawing", {"channels": "1"}, "rates between 0 and 1, got 1"),
        ("Drawing", {"weights": "0"}, "rates between 0 and 1, got 0"),
    ],
)
def test_bad_parts_are_explained(recipe, part, change, message):
    with pytest.raises(ValueError, match=message):
        getattr(recipe, part)(**change)


def test_more_images_than_there_are(recipe, tmp_path):
    from gonzo.lab import Run

    config = recipe.Config(subset=True, images=10_001)
    with Run(tmp_path) as run, pytest.raises(ValueError, match="images of at most 10000, got 1000"):
        recipe.main(config, run)
