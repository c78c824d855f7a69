import pytest
import torch
from torch import nn

from gonzo.core.nn import CausalAttention, Forecaster, ResidualStack
from gonzo.core.testing import assert_close


def forecaster(**settings):
    torch.manual_seed(0)
    stack = ResidualStack([CausalAttention(8, 2), CausalAttention(8, 2, window=3)])
    return Forecaster(3, 4, stack, **settings).double().eval()


def series(batch=2, time=9):
    return torch.randn(batch, time, 3, dtype=torch.float64)


def test_equals_its_parts():
    model, x = forecaster(d_output=2), series()
    last = model.stack(model.encoder(x))[:, -1]
    assert_close(model(x), model.decoder(last).reshape(2, 4, 2))
    assert forecaster()(x).shape == (2, 4, 3)


def test_streams():
    model, x = forecaster(), series()
    for cut in range(1, 9):
        _, state = model.scan(x[:, :cut], model.init_state(2))
        assert_close(model.scan(x[:, cut:], state)[0], model(x))
    state = model.init_state(2)
    for t in range(9):
        forecast, state = model.step(x[:, t], state)
        assert_close(forecast, model(x[:, : t + 1]))


def test_padding_does_not_matter():
    model, x, lengths = forecaster(), series(4), torch.tensor([9, 1, 0, 5])
    forecast, state = model.scan(x, model.init_state(4), lengths)
    assert_close(model(x, lengths), forecast)
    next_forecast, _ = model.step(x[:, 0], state)
    for row, length in enumerate(lengths.tolist()):
        alone = model(x[row : row + 1, :length])[0] if length else model.decoder.bias.view(4, 3)
        assert_close(forecast[row], alone)
        continued = torch.cat([x[row, :length], x[row, :1]])[None]
        assert_close(next_forecast[row], model(continued)[0])


def test_returns_from_disk(tmp_path):
    model, x = forecaster(d_output=2), series()
    model.save_pretrained(tmp_path)
    loaded = Forecaster.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(x), model(x))
    assert repr(loaded) == repr(model)


def test_reset_draws_every_parameter_anew():
    model = forecaster()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    model.reset_parameters()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_dropout_acts_while_training_alone():
    model, x = forecaster(dropout=0.5), series()
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


@pytest.mark.compile
def test_compiles_as_one_graph():
    model, x = forecaster(), series()
    torch.compiler.reset()
    assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), model(x))
    torch.compiler.reset()


def test_is_finite_under_autocast():
    model, x = forecaster().float(), series().float()
    with torch.autocast("cpu", torch.bfloat16):
        assert model(x).isfinite().all()


def test_learns_to_continue_a_wave():
    """Of unknown phase: the mean of all waves, which is 0, has an error of 1/2."""
    torch.manual_seed(0)
    stack = ResidualStack([CausalAttention(16, 2)], feed_forward=32)
    model = Forecaster(1, 5, stack)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        phase = 6.3 * torch.rand(64, 1)
        wave = torch.sin(phase + 0.5 * torch.arange(17))[..., None]
        loss = nn.functional.mse_loss(model(wave[:, :12]), wave[:, 12:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m(torch.zeros(2, 5, 4)), ValueError, r"expected x of shape \(batch, time, 3\)"),
        (lambda m: m(torch.zeros(2, 0, 3)), ValueError, "expected at least one time step"),
        (
            lambda m: m(torch.zeros(2, 5, 3), torch.tensor([6, 1])),
            ValueError,
            "expected lengths between 0 and 5, got 6",
        ),
        (
            lambda m: m.step(torch.zeros(2, 1, 3), m.init_state(2)),
            ValueError,
            r"expected x_t of shape \(batch, 3\), got \(2, 1, 3\)",
        ),
        (lambda m: Forecaster(3, 0, m.stack), ValueError, "expected horizon >= 1, got 0"),
        (lambda m: Forecaster(0, 1, m.stack), ValueError, "expected d_input >= 1, got 0"),
        (
            lambda m: Forecaster(3, 1, m.stack, d_output=0),
            ValueError,
            "expected d_output >= 1, got 0",
        ),
    ],
)
def test_wrong_inputs(call, error, message):
    with pytest.raises(error, match=f"^Forecaster: .*{message}"):
        call(forecaster())
