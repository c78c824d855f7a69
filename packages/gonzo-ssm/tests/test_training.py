import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gonzo.core import param_groups
from gonzo.core.nn import ResidualStack
from gonzo.ssm import S4, S4D, Bidirectional

SLOW = {"log_dt", "log_a_real", "a_imag", "b"}


@pytest.mark.parametrize(
    ("make", "slow"),
    [
        (lambda: S4(4, 8), SLOW | {"p"}),
        (lambda: S4D(4, 8), SLOW),
        (lambda: ResidualStack([Bidirectional(S4(4, 8)), S4(4, 8)]), SLOW | {"p"}),
    ],
    ids=["S4", "S4D", "inside other modules"],
)
def test_the_state_space_is_trained_slowly_and_without_decay(make, slow):
    model = make()
    groups = param_groups(model, lr=0.01, weight_decay=0.1)
    settings = {
        id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]
    }
    for path, parameter in model.named_parameters():
        name = path.rpartition(".")[2]
        if name in slow:
            assert settings[id(parameter)] == (1e-3, 0.0), path
        else:
            decay = 0.1 if parameter.ndim >= 2 else 0.0
            assert settings[id(parameter)] == (0.01, decay), path
    (*_, smallest) = param_groups(model, lr=1e-4)
    assert smallest["lr"] == 1e-4


@pytest.mark.parametrize("kind", [S4, S4D])
def test_it_learns_to_repeat_what_it_heard_long_before(kind):
    """Echo noise after 40 steps: without a memory the error is the variance, 1."""
    delay, d_model = 40, 16
    model = nn.Sequential(
        nn.Linear(1, d_model), kind(d_model, 32, dt_min=5e-3), nn.Linear(d_model, 1)
    )
    optimizer = torch.optim.AdamW(param_groups(model, lr=1e-2))
    for _ in range(300):
        x = torch.randn(8, 120, 1)
        error = F.mse_loss(model(x)[:, delay:], x[:, :-delay])
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error < 0.5


@pytest.mark.parametrize("kind", [S4, S4D])
def test_dropout_has_one_mask_for_all_time_steps(kind):
    layer = kind(64, 4, dropout=0.5)
    nn.init.zeros_(layer.operator.c)
    nn.init.ones_(layer.d)
    x = torch.ones(2, 5, 64)
    y = layer(x)
    assert torch.allclose(y, y[:, :1].expand_as(y))
    assert not torch.allclose(y[0], y[1])
    assert not torch.equal(layer(x), y)
    layer.eval()
    assert torch.equal(layer(x), layer(x))
