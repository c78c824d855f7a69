"""Masks: what they say, what they do to a model, and their file."""

import copy
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from gonzo.pruning.masks import Masks
from gonzo.pruning.plan import plan_pruning


def random_masks(seed=0, density=0.5, **shapes):
    generator = torch.Generator().manual_seed(seed)
    shapes = shapes or {"b": (7, 5), "a": (3, 4), "c": (2, 3, 3)}
    return Masks({n: torch.rand(s, generator=generator) < density for n, s in shapes.items()})


def network():
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


# Values


def test_full_masks_of_a_plan_and_of_names():
    model = network()
    masks = Masks.full(model, plan_pruning(model))
    assert list(masks) == ["0.weight", "2.weight"]
    assert (masks.alive, masks.total, masks.density) == (35, 35, 1.0)
    assert masks["0.weight"].dtype == torch.bool
    assert list(Masks.full(model, ["2.weight", "0.weight"])) == ["2.weight", "0.weight"]
    assert Masks.full(model, ["0.bias"])["0.bias"].tolist() == [True] * 5


def test_full_follows_the_model_to_its_device():
    model = network().to("meta")
    assert Masks.full(model, ["0.weight"])["0.weight"].device.type == "meta"


def test_counts_and_densities():
    masks = Masks({"a": torch.tensor([True, False, True]), "b": torch.tensor([[False], [False]])})
    assert (masks.alive, masks.total, masks.density) == (2, 5, 0.4)
    assert (masks.alive_of("a"), masks.alive_of("b")) == (2, 0)
    assert repr(masks) == "Masks(2 parameters, 2 of 5 alive)"
    assert str(masks).splitlines() == [
        "         alive  weights  density",
        "a            2        3   66.67 %",
        "b            0        2    0.00 %",
        "total        2        5   40.00 %",
    ]


def test_no_masks_and_empty_masks():
    assert Masks({}).density == 1.0
    assert str(Masks({"a": torch.ones(0, 3, dtype=torch.bool)})).splitlines()[1].endswith("-")


def test_they_copy_what_they_are_made_of():
    mask = torch.ones(3, dtype=torch.bool)
    masks = Masks({"a": mask})
    mask[0] = False
    assert masks.alive == 3
    with pytest.raises(TypeError, match="does not support item assignment"):
        masks["a"] = mask


def test_equality_is_bitwise_and_knows_no_order():
    masks = random_masks()
    assert masks == Masks({name: masks[name] for name in reversed(list(masks))})
    assert masks == masks.to("cpu")
    changed = {name: mask.clone() for name, mask in masks.items()}
    changed["c"][1, 2, 2] ^= True
    assert masks != Masks(changed)
    assert masks != Masks({name: masks[name] for name in ("a", "b")})
    assert masks != Masks({name: mask.flatten() for name, mask in masks.items()})
    assert masks != dict(masks)
    with pytest.raises(TypeError, match="unhashable"):
        hash(masks)


def test_what_is_no_mask():
    with pytest.raises(TypeError, match=r"a: expected a bool tensor, got torch.float32; write we"):
        Masks({"a": torch.ones(3)})
    with pytest.raises(TypeError, match="a: expected a bool tensor, got list"):
        Masks({"a": [True]})
    with pytest.raises(TypeError, match=r"got the string '0.weight'; \['0.weight'\]"):
        Masks.full(network(), "0.weight")


# On a model


def test_apply_zeroes_what_is_pruned_and_nothing_else():
    model = network()
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
        model[0].weight[0, 1] = -1.0
    before = copy.deepcopy(model.state_dict())
    alive = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    alive[0, :2] = False
    weight = model[0].weight
    Masks({"0.weight": alive}).apply_(model)
    assert model[0].weight is weight
    assert torch.equal(weight[alive], before["0.weight"][alive])
    pruned = weight.detach()[~alive]
    assert torch.equal(pruned.view(torch.int32), torch.zeros_like(pruned, dtype=torch.int32))
    for name in ("0.bias", "2.weight", "2.bias"):
        assert torch.equal(model.state_dict()[name], before[name])


def test_of_zeros_reads_masks_off_the_weights():
    model = network()
    plan = plan_pruning(model)
    masks = random_masks(**{p.name: p.shape for p in plan.parameters})
    masks.apply_(model)
    assert Masks.of_zeros(model, plan) == masks
    assert list(Masks.of_zeros(model, ["2.weight"])) == ["2.weight"]


def test_of_zeros_counts_negative_zero_as_pruned_and_nan_as_alive():
    model = nn.Linear(3, 1, bias=False)
    model.weight.data = torch.tensor([[-0.0, torch.nan, 1e-45]])
    assert Masks.of_zeros(model, ["weight"])["weight"].tolist() == [[False, True, True]]


def test_a_moved_model_is_the_same_model():
    model = network()
    masks = Masks.full(model, plan_pruning(model))
    masks.check(model.to("meta"))
    masks.apply_(model.to_empty(device="cpu").double())


def test_check_lists_all_that_differs():
    masks = random_masks(**{"0.weight": (4, 5), "1.weight": (3, 5), "2.weight": (3, 5)})
    with pytest.raises(ValueError, match="the masks do not fit the model") as caught:
        masks.check(network())
    lines = str(caught.value).splitlines()[1:]
    assert lines[0] == "  0.weight: the mask has shape (4, 5), the parameter (5, 4)"
    assert lines[1].startswith("  there is nothing called '1.weight' in Sequential; did you mean ")
    assert len(lines) == 2
    with pytest.raises(ValueError, match="do not fit"):
        masks.apply_(network())


def test_tied_weights_have_one_mask():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    masks = random_masks(**{"1.weight": (3, 3)})
    masks.apply_(model)  # by any of its names
    assert torch.equal(model[0].weight != 0, masks["1.weight"])
    with pytest.raises(ValueError, match=r"1.weight is tied to 0.weight; one mask is enough"):
        Masks({"0.weight": masks["1.weight"], "1.weight": masks["1.weight"]}).check(model)
    with pytest.raises(ValueError, match=r"1.weight is tied to 0.weight; one mask is enough"):
        Masks.full(model, ["0.weight", "1.weight"])


def test_unknown_names():
    for make in (Masks.full, Masks.of_zeros):
        with pytest.raises(
            ValueError, match=r"nothing called '3.weight' in Sequential; did you mean"
        ):
            make(network(), ["3.weight"])


# Against each other


def test_distance_and_overlap():
    one = Masks({"a": torch.tensor([True, True, False]), "b": torch.tensor([True, False])})
    two = Masks({"a": torch.tensor([True, False, True]), "b": torch.tensor([True, False])})
    assert one.distance(two) == two.distance(one) == 2 / 5
    assert one.overlap(two) == two.overlap(one) == 2 / 4
    assert (one.distance(one), one.overlap(one)) == (0.0, 1.0)


def test_of_nothing():
    none = Masks({"a": torch.zeros(3, dtype=torch.bool)})
    assert (none.distance(none), none.overlap(none)) == (0.0, 1.0)
    assert (Masks({}).distance(Masks({})), Masks({}).overlap(Masks({}))) == (0.0, 1.0)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3))
def test_the_distance_is_a_metric(seeds):
    x, y, z = (random_masks(seed) for seed in seeds)
    assert x.distance(z) <= x.distance(y) + y.distance(z) + 1e-12
    assert (x.distance(y) == 0) == (x == y)
    differing, common = x.distance(y) * x.total, x.overlap(y)
    union = (x.alive + y.alive + differing) / 2
    assert common == pytest.approx((union - differing) / union if union else 1.0)


def test_masks_of_different_shapes_have_no_distance():
    one, two = random_masks(a=(3,), b=(2,)), random_masks(a=(4,), c=(2,))
    for compare in (one.distance, one.overlap):
        with pytest.raises(ValueError, match="masks of different shapes") as caught:
            compare(two)
        assert str(caught.value).splitlines()[1:] == [
            "  a: (3,) and (4,)",
            "  b: (2,) and missing",
            "  c: missing and (2,)",
        ]


# Random masks


def test_shuffled_keeps_the_counts_and_repeats():
    masks = random_masks(density=0.3)
    shuffled = masks.shuffled(torch.Generator().manual_seed(1))
    assert shuffled != masks
    assert list(shuffled) == list(masks)
    for name, mask in masks.items():
        assert shuffled.alive_of(name) == masks.alive_of(name) == int(shuffled[name].sum())
        assert shuffled[name].shape == mask.shape
    assert shuffled == masks.shuffled(torch.Generator().manual_seed(1))
    assert shuffled != masks.shuffled(torch.Generator().manual_seed(2))


def test_shuffled_is_uniform():
    masks = Masks({"a": torch.tensor([True, True, False, False, False])})
    generator = torch.Generator().manual_seed(0)
    counts = sum(masks.shuffled(generator)["a"].int() for _ in range(2000))
    # Standard deviation 22 around 800.
    assert counts.sub(800).abs().max() < 100


def test_shuffled_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    random_masks().shuffled(torch.Generator().manual_seed(0))
    assert torch.equal(torch.random.get_rng_state(), before)


# Bits and files


def test_pack_and_unpack():
    masks = random_masks()
    packed = masks.pack()
    assert {name: len(bits) for name, bits in packed.items()} == {"b": 5, "a": 2, "c": 3}
    shapes = {name: mask.shape for name, mask in masks.items()}
    assert Masks.unpack(packed, shapes) == masks
    with pytest.raises(ValueError, match=r"bits of \['a', 'b', 'c'\] but shapes of \['a'\]"):
        Masks.unpack(packed, {"a": (3, 4)})
    with pytest.raises(ValueError, match="a: expected 1 bytes"):
        Masks.unpack(packed, {**shapes, "a": (2, 3)})


def test_files_round_trip_in_order(tmp_path):
    masks = random_masks(**{"z": (3, 5), "a.b": (), "empty": (0, 4), "é": (9,)})
    masks.save(tmp_path / "masks.safetensors")
    loaded = Masks.load(tmp_path / "masks.safetensors")
    assert loaded == masks
    assert list(loaded) == ["z", "a.b", "empty", "é"]
    assert [mask.shape for mask in loaded.values()] == [mask.shape for mask in masks.values()]


def test_the_same_masks_are_the_same_bytes(tmp_path):
    for index in range(5):
        random_masks().save(tmp_path / str(index))
    assert len({(tmp_path / str(index)).read_bytes() for index in range(5)}) == 1


def test_a_file_takes_a_bit_a_weight(tmp_path):
    random_masks(a=(1000, 800)).save(tmp_path / "masks")
    assert 100_000 < (tmp_path / "masks").stat().st_size < 100_500


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    old = random_masks(1)
    old.save(tmp_path / "masks")

    def interrupt(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("gonzo.pruning.masks.save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        random_masks(2).save(tmp_path / "masks")
    assert Masks.load(tmp_path / "masks") == old
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*masks"):
        Masks.load(tmp_path / "masks")


@pytest.mark.parametrize("length", [0, 4, 50, -1])
def test_a_truncated_file(tmp_path, length):
    path = tmp_path / "masks"
    random_masks().save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="masks is damaged, or no safetensors file"):
        Masks.load(path)


def test_a_foreign_file(tmp_path):
    save_file({"a": torch.ones(3)}, tmp_path / "model")
    with pytest.raises(ValueError, match=r"was not written by Masks.save"):
        Masks.load(tmp_path / "model")


def rewritten(path, *, tensors=None, text=None, **changes):
    """Write the file of random masks with other contents."""
    masks = random_masks()
    masks.save(path)
    document = {"format": 1, "shapes": {n: list(m.shape) for n, m in masks.items()}, **changes}
    tensors = load_file(path) if tensors is None else tensors
    save_file(tensors, path, {"gonzo.pruning.masks": text or json.dumps(document)})
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"text": "{"},
        {"text": "[]"},
        {"text": "{}"},
        {"shapes": {"a": [3, 4]}},
        {"shapes": {"a": [3, 4], "b": [7, 5], "c": [2, 3, -3]}},
        {"shapes": {"a": 3, "b": [7, 5], "c": [2, 3, 3]}},
        {"shapes": {"a": [3, 4], "b": [7, 9], "c": [2, 3, 3]}},
        {"tensors": {"a": torch.ones(2), "b": torch.ones(5), "c": torch.ones(3)}},
        {
            "tensors": {
                n: torch.full((s,), 255, dtype=torch.uint8)
                for n, s in {"b": 5, "a": 2, "c": 3}.items()
            }
        },
    ],
    ids=str,
)
def test_a_damaged_file(tmp_path, change):
    with pytest.raises(ValueError, match="masks is damaged: "):
        Masks.load(rewritten(tmp_path / "masks", **change))


def test_a_file_of_a_later_version(tmp_path):
    with pytest.raises(ValueError, match=r"format 2 and this version reads up to 1; pip install"):
        Masks.load(rewritten(tmp_path / "masks", format=2))
