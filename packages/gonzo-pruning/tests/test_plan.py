"""What is pruned, what is not, and why."""

from collections import OrderedDict
from fractions import Fraction

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from gonzo.pruning.plan import Excluded, plan_pruning


def lenet():
    return nn.Sequential(
        OrderedDict(fc1=nn.Linear(784, 300), fc2=nn.Linear(300, 100), output=nn.Linear(100, 10))
    )


class Tied(nn.Module):
    """A language model whose output is its embedding."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.mix = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.embed.weight


class Twice(nn.Module):
    """One weight in two layers, and a layer under two names."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.c = nn.Linear(3, 2)
        self.again = self.c


def reasons(model, **arguments):
    return {e.name: e.reason for e in plan_pruning(model, **arguments).excluded}


def test_linear_layers_in_order_with_their_rates():
    plan = plan_pruning(lenet(), {"output": 0.1, "*": 0.2})
    assert plan.names == ("fc1.weight", "fc2.weight", "output.weight")
    assert dict(plan.rates) == {
        "fc1.weight": Fraction(1, 5),
        "fc2.weight": Fraction(1, 5),
        "output.weight": Fraction(1, 10),
    }
    assert [p.shape for p in plan.parameters] == [(300, 784), (100, 300), (10, 100)]
    assert plan.total == 266_200
    assert plan.excluded == tuple(
        Excluded(f"{layer}.bias", "bias") for layer in ("fc1", "fc2", "output")
    )


def test_plans_are_values():
    assert plan_pruning(lenet()) == plan_pruning(lenet(), "20 %")
    assert plan_pruning(lenet()) != plan_pruning(lenet(), 0.3)
    with pytest.raises(TypeError):
        plan_pruning(lenet()).rates["fc1.weight"] = Fraction(1)


def test_the_table_shows_both():
    text = str(plan_pruning(lenet(), {"output": 0.1, "*": 0.29}))
    assert "fc1.weight     300 × 784  235,200  29 %" in text
    assert "output.weight   10 × 100    1,000  10 %" in text
    assert "266,200" in text
    assert "output.bias  bias" in text
    assert "also b.weight" in str(plan_pruning(Twice()))


@pytest.mark.parametrize(
    ("layer", "pruned"),
    [
        (nn.Bilinear(2, 3, 4), {"weight"}),
        (nn.Conv1d(2, 4, 3), {"weight"}),
        (nn.Conv2d(2, 4, 3), {"weight"}),
        (nn.Conv3d(2, 4, 3), {"weight"}),
        (nn.ConvTranspose1d(2, 4, 3), {"weight"}),
        (nn.ConvTranspose2d(2, 4, 3), {"weight"}),
        (nn.RNN(3, 4), {"weight_ih_l0", "weight_hh_l0"}),
        (nn.GRU(3, 4, num_layers=2), {f"weight_{g}h_l{i}" for g in "ih" for i in (0, 1)}),
        (
            nn.LSTM(3, 4, bidirectional=True, proj_size=2),
            {f"weight_{g}_l0{r}" for g in ("ih", "hh", "hr") for r in ("", "_reverse")},
        ),
        (nn.LSTMCell(3, 4), {"weight_ih", "weight_hh"}),
        (nn.MultiheadAttention(4, 2, add_bias_kv=True), {"in_proj_weight", "out_proj.weight"}),
        (
            nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
            {"q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_that_multiply(layer, pruned):
    plan = plan_pruning(layer)
    assert set(plan.names) == pruned
    assert {e.reason for e in plan.excluded} <= {"bias"}
    assert len(plan.names) + len(plan.excluded) == len(list(layer.parameters()))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        *((norm, "normalisation") for norm in (nn.BatchNorm1d(3), nn.BatchNorm2d(3))),
        *((norm, "normalisation") for norm in (nn.LayerNorm(3), nn.GroupNorm(1, 3))),
        *((norm, "normalisation") for norm in (nn.RMSNorm(3), nn.InstanceNorm1d(3, affine=True))),
        *((table, "embedding") for table in (nn.Embedding(3, 3), nn.EmbeddingBag(3, 3))),
        (nn.PReLU(3), "not a weight of a known layer: name it in include"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_that_do_not(layer, reason):
    model = nn.Sequential(nn.Linear(3, 3, bias=False), layer)
    assert set(reasons(model).values()) == {reason}
    assert plan_pruning(model).names == ("0.weight",)


def test_a_bare_parameter_is_pruned_when_asked_for():
    model = nn.Sequential(nn.Linear(3, 3, bias=False))
    model.register_parameter("mixing", nn.Parameter(torch.ones(3, 3)))
    assert reasons(model) == {"mixing": "not a weight of a known layer: name it in include"}
    plan = plan_pruning(model, {"mixing": 0.5, "*": 0.1}, include=["mixing"])
    assert plan.names == ("mixing", "0.weight")
    assert plan.rates["mixing"] == Fraction(1, 2)


def test_subclasses_of_layers_are_layers():
    class Mine(nn.Linear):
        pass

    assert plan_pruning(Mine(2, 2)).names == ("weight",)


def test_frozen_and_half_precision_weights_are_planned_too():
    model = nn.Linear(3, 3).to(torch.bfloat16).requires_grad_(False)
    assert plan_pruning(model).names == ("weight",)


# Tied weights


def test_tied_weights_are_planned_once():
    plan = plan_pruning(Twice())
    assert [(p.name, p.aliases) for p in plan.parameters] == [
        ("a.weight", ("b.weight",)),
        ("c.weight", ("again.weight",)),
    ]
    assert plan.total == 9 + 6


@pytest.mark.parametrize("key", ["a.weight", "b.weight", "b"])
def test_any_name_of_a_tied_weight_will_do(key):
    assert plan_pruning(Twice(), {key: 0.5, "*": 0.1}).rates["a.weight"] == Fraction(1, 2)
    assert plan_pruning(Twice(), exclude=[key]).names == ("c.weight",)


def test_tied_weights_have_one_rate():
    with pytest.raises(ValueError, match="a and b are one tied parameter but have two rates"):
        plan_pruning(Twice(), {"a": 0.1, "b": 0.2, "*": 0.3})
    assert plan_pruning(Twice(), {"a": 0.1, "b": "10 %", "*": 0.3}).rates["a.weight"] == Fraction(
        1, 10
    )


def test_what_is_tied_to_an_embedding_is_kept():
    assert reasons(Tied()) == {
        "embed.weight": "embedding",
        "mix.bias": "bias",
        "head.bias": "bias",
    }
    assert plan_pruning(Tied(), include=["head.weight"]).names == ("embed.weight", "mix.weight")


def test_it_says_what_it_is_tied_to_when_the_layer_comes_first():
    model = nn.ModuleDict({"head": nn.Linear(4, 7, bias=False), "mix": nn.Linear(2, 2, bias=False)})
    model["table"] = nn.Embedding(7, 4)
    model["table"].weight = model["head"].weight
    assert reasons(model) == {"head.weight": "tied to table.weight: embedding"}


# Keys


def test_names_beat_modules_beat_globs_and_the_first_glob_wins():
    model = nn.ModuleDict({"body": lenet(), "head": nn.Linear(10, 10)})
    rates = {
        "*": 0.1,
        "body.*": 0.2,
        "body.fc*": 0.3,
        "body.fc2": 0.4,
        "body": 0.5,
        "body.output.weight": 0.6,
    }
    assert {n: float(r) for n, r in plan_pruning(model, rates).rates.items()} == {
        "body.fc1.weight": 0.5,
        "body.fc2.weight": 0.4,
        "body.output.weight": 0.6,
        "head.weight": 0.1,
    }
    rates = {"body.fc*": 0.3, "body.*": 0.2, "*": 0.1}
    assert [float(r) for r in plan_pruning(model, rates).rates.values()] == [0.3, 0.3, 0.2, 0.1]
    rates = {"*": 0.1, "body.*": 0.2, "body.fc*": 0.3}
    assert [float(r) for r in plan_pruning(model, rates).rates.values()] == [0.2, 0.2, 0.2, 0.1]


def test_include_and_exclude_by_name_module_and_glob():
    assert plan_pruning(lenet(), exclude=["output"]).names == ("fc1.weight", "fc2.weight")
    assert plan_pruning(lenet(), exclude=["fc*"]).names == ("output.weight",)
    assert plan_pruning(lenet(), include=["*.bias"], exclude=["fc1", "fc2"]).names == (
        "output.weight",
        "output.bias",
    )
    assert plan_pruning(lenet(), include=["fc1"]).names[:2] == ("fc1.weight", "fc1.bias")
    excluded = plan_pruning(lenet(), exclude=["output"]).excluded
    assert Excluded("output.weight", "excluded by name") in excluded


def test_the_more_exact_of_include_and_exclude_wins():
    assert "fc1.bias" in plan_pruning(lenet(), include=["fc1.bias"], exclude=["fc1"]).names
    assert "fc1.bias" not in plan_pruning(lenet(), include=["*"], exclude=["fc1.bias"]).names
    with pytest.raises(ValueError, match=r"fc1.weight is in include \('fc1'\) and in exclude"):
        plan_pruning(lenet(), include=["fc1"], exclude=["fc1"])
    with pytest.raises(ValueError, match="name it in one of them"):
        plan_pruning(lenet(), include=["fc*"], exclude=["*.bias"])


@pytest.mark.parametrize("where", ["include", "exclude", "rates"])
def test_a_layer_that_is_not_there(where):
    keys = {"fc3": 0.1, "*": 0.2} if where == "rates" else ["fc3"]
    with pytest.raises(ValueError, match=f"{where}: there is nothing called 'fc3' in the model"):
        plan_pruning(lenet(), **{where: keys})
    with pytest.raises(ValueError, match=r"did you mean .*fc1"):
        plan_pruning(lenet(), **{where: keys})


def test_nothing_close_lists_what_there_is():
    with pytest.raises(ValueError, match=r"'encoder' in the model; it has fc1.weight, fc1.bias"):
        plan_pruning(lenet(), exclude=["encoder"])


def test_rates_must_reach_everything_and_name_what_is_pruned():
    with pytest.raises(ValueError, match=r"no rate for fc2.weight; .* the rest a rate under '\*'"):
        plan_pruning(lenet(), {"fc1": 0.1, "output": 0.2})
    with pytest.raises(ValueError, match=r"'fc1.bias' names nothing that is pruned; put it in inc"):
        plan_pruning(lenet(), {"fc1.bias": 0.1, "*": 0.2})
    everything = {"fc1": 0.1, "fc2": 0.1, "output": 0.1, "*": 0.2}
    assert set(plan_pruning(lenet(), everything).rates.values()) == {Fraction(1, 10)}


def test_bad_rates():
    with pytest.raises(ValueError, match="expected a rate from 0 to 1"):
        plan_pruning(lenet(), 1.2)
    with pytest.raises(ValueError, match="expected a rate from 0 to 1"):
        plan_pruning(lenet(), {"fc1": -0.2, "*": 0.2})


def test_a_string_is_no_list():
    with pytest.raises(TypeError, match=r"exclude: expected a list .* write \['output'\]"):
        plan_pruning(lenet(), exclude="output")
    with pytest.raises(TypeError, match="include: expected names, got 3"):
        plan_pruning(lenet(), include=[3])


# What cannot be pruned as it stands


def test_nothing_to_prune():
    with pytest.raises(ValueError, match=r"BatchNorm1d has nothing to prune:\n  weight: normal"):
        plan_pruning(nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match="ReLU has nothing to prune: it has no parameters"):
        plan_pruning(nn.ReLU())


def test_lazy_parameters():
    with pytest.raises(ValueError, match=r"0.weight is lazy and has no shape yet; run the model"):
        plan_pruning(nn.Sequential(nn.LazyLinear(3)))


def test_meta_parameters():
    with pytest.raises(ValueError, match=r"weight is on the meta device .*to_empty"):
        plan_pruning(nn.Linear(3, 3, device="meta"))


def test_integer_parameters():
    model = nn.Linear(3, 3)
    model.weight = nn.Parameter(torch.ones(3, 3, dtype=torch.int8), requires_grad=False)
    with pytest.raises(TypeError, match=r"weight holds torch.int8; .* prune before quantising"):
        plan_pruning(model)


@pytest.mark.filterwarnings("ignore:.*quantize.*deprecated")
def test_quantised_layers():
    from torch.ao.nn.quantized import dynamic

    model = nn.Sequential(nn.Linear(3, 3), dynamic.Linear(3, 3))
    with pytest.raises(ValueError, match="1 is quantised; prune before that"):
        plan_pruning(model)


@pytest.mark.parametrize(
    "parametrise", [parametrizations.weight_norm, parametrizations.spectral_norm]
)
def test_parametrised_weights(parametrise):
    model = nn.Sequential(parametrise(nn.Linear(3, 3, bias=False)), nn.Linear(3, 3, bias=False))
    assert plan_pruning(model).names == ("1.weight",)
    assert set(reasons(model).values()) == {"parametrised"}
    with pytest.raises(ValueError, match=r"zeros in it are no zeros in the weight; remove the"):
        plan_pruning(model, include=["0"])


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
@pytest.mark.parametrize("hook", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_weights_that_a_hook_computes(hook):
    model = nn.Sequential(hook(nn.Linear(3, 3, bias=False)), nn.Linear(3, 3, bias=False))
    assert set(reasons(model).values()) == {"parametrised by a hook of torch.nn.utils"}


def test_weights_that_torch_masks():
    model = nn.Sequential(nn.Linear(3, 3))
    prune.l1_unstructured(model[0], "weight", 2)
    with pytest.raises(ValueError, match=r"0.weight is masked by .*; remove_torch_prune\(model\)"):
        plan_pruning(model)


def test_empty_parameters():
    model = nn.Sequential(nn.Linear(3, 3, bias=False))
    model.register_parameter("none", nn.Parameter(torch.ones(0, 3)))
    assert reasons(model) == {"none": "no elements"}
    with pytest.raises(ValueError, match=r"none of shape \(0, 3\) has no elements"):
        plan_pruning(model, include=["none"])
