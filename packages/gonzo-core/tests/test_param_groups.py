import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from gonzo.core.param_groups import TrainRule, param_groups


class Slow(nn.Module):
    train_rules = {  # noqa: RUF012 - a layer may write it as plainly as this
        "log_dt": TrainRule(max_lr=1e-3, weight_decay=0.0),
        "A": TrainRule(max_lr=1e-3, weight_decay=0.0),
    }

    def __init__(self):
        super().__init__()
        self.log_dt = nn.Parameter(torch.zeros(4))
        self.A = nn.Parameter(torch.zeros(4, 2))
        self.C = nn.Parameter(torch.zeros(4, 2))
        self.D = nn.Parameter(torch.zeros(4))


def setting_of(model, name, **settings):
    """The (lr, weight decay) of one parameter, which must be in exactly one group."""
    wanted = model.get_parameter(name)
    found = [g for g in param_groups(model, **settings) for p in g["params"] if p is wanted]
    assert len(found) == 1
    return found[0]["lr"], found[0]["weight_decay"]


def model():
    return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), Slow(), nn.Sequential(Slow()))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0.weight", (1e-2, 0.1)),
        ("0.bias", (1e-2, 0.0)),
        ("1.weight", (1e-2, 0.0)),
        ("2.log_dt", (1e-3, 0.0)),
        ("2.A", (1e-3, 0.0)),
        ("2.C", (1e-2, 0.1)),
        ("2.D", (1e-2, 0.0)),
        ("3.0.A", (1e-3, 0.0)),
    ],
)
@pytest.mark.parametrize("change", [lambda m: m, copy.deepcopy, lambda m: m.double()])
def test_each_parameter_has_its_setting(name, expected, change):
    assert setting_of(change(model()), name, lr=1e-2, weight_decay=0.1) == expected


def test_a_rule_is_a_maximum():
    assert setting_of(Slow(), "A", lr=1e-4) == (1e-4, 0.0)


def test_a_rule_may_set_one_thing_alone():
    layer = Slow()
    layer.train_rules = {"D": TrainRule(weight_decay=0.5), "C": TrainRule(max_lr=1e-5)}
    assert setting_of(layer, "D", lr=1e-2, weight_decay=0.1) == (1e-2, 0.5)
    assert setting_of(layer, "C", lr=1e-2, weight_decay=0.1) == (1e-5, 0.1)


def test_every_parameter_is_there_once():
    m = model()
    groups = param_groups(m, lr=1e-2, weight_decay=0.1)
    collected = [id(p) for g in groups for p in g["params"]]
    assert len(collected) == len(set(collected))
    assert set(collected) == {id(p) for p in m.parameters()}
    assert [g["name"] for g in groups] == [
        "lr 0.01, weight decay 0.1",
        "lr 0.01, weight decay 0",
        "lr 0.001, weight decay 0",
    ]


def test_an_optimizer_and_a_scheduler_take_them():
    optimizer = torch.optim.AdamW(param_groups(model(), lr=1e-2, weight_decay=0.1))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    assert [g["lr"] for g in optimizer.param_groups] == [5e-3, 5e-3, 5e-4]
    optimizer.step()
    scheduler.step()


def test_loading_a_state_keeps_the_rules():
    layer = Slow()
    layer.load_state_dict(Slow().state_dict(), assign=True)
    assert setting_of(layer, "A", lr=1e-2) == (1e-3, 0.0)


def test_tied_parameters_are_there_once_with_the_stricter_rule():
    first, second = nn.Linear(2, 4, bias=False), Slow()
    second.A = first.weight
    m = nn.Sequential(first, second)
    assert setting_of(m, "0.weight", lr=1e-2, weight_decay=0.1) == (1e-3, 0.0)


def test_a_shared_module_is_there_once():
    layer = Slow()
    groups = param_groups(nn.Sequential(layer, layer), lr=1e-2)
    assert sum(len(g["params"]) for g in groups) == 4


def test_frozen_parameters_are_left_out():
    layer = Slow()
    layer.A.requires_grad_(False)
    assert all(p is not layer.A for g in param_groups(layer, lr=1e-2) for p in g["params"])
    layer.requires_grad_(False)
    with pytest.raises(ValueError, match="Slow has no parameter that requires a gradient"):
        param_groups(layer, lr=1e-2)


def test_a_parametrised_parameter_keeps_its_rule():
    layer = parametrizations.weight_norm(Slow(), "A")
    for name in ("original0", "original1"):
        assert setting_of(layer, f"parametrizations.A.{name}", lr=1e-2, weight_decay=0.1) == (
            1e-3,
            0.0,
        )


def test_an_absent_optional_parameter_needs_no_rule_of_its_own():
    layer = Slow()
    layer.A = None
    assert setting_of(layer, "log_dt", lr=1e-2) == (1e-3, 0.0)


def test_a_rule_for_nothing_is_reported():
    layer = Slow()
    layer.train_rules = {"log_td": TrainRule(max_lr=1e-3)}
    message = "Slow.train_rules names 'log_td', which is not a parameter of 1"
    with pytest.raises(ValueError, match=message):
        param_groups(nn.Sequential(nn.Linear(1, 1), layer), lr=1e-2)
