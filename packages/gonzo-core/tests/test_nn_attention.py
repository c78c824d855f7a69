import pytest
import torch
from torch import nn

from gonzo.core.nn import CausalAttention
from gonzo.core.testing import assert_close


def by_definition(layer, x, *, window=None):
    """The sum over the past written out, with rotations as complex numbers."""
    batch, time, d_model = x.shape
    d_head = d_model // layer.n_head
    heads = layer.project_in(x).reshape(batch, time, 3, layer.n_head, d_head)
    q, k, v = heads.unbind(2)
    if layer.rotary:
        half = d_head // 2
        angle = torch.arange(time)[:, None].double() * 10_000.0 ** (-torch.arange(half) / half)
        turn = torch.polar(torch.ones_like(angle), angle)[:, None]

        def turned(z):
            w = torch.complex(z[..., :half], z[..., half:]) * turn
            return torch.cat([w.real, w.imag], dim=-1)

        q, k = turned(q), turned(k)
    y = torch.zeros_like(v)
    for t in range(time):
        first = 0 if window is None else max(0, t - window + 1)
        scores = torch.einsum("bhd,bshd->bhs", q[:, t], k[:, first : t + 1]) / d_head**0.5
        y[:, t] = torch.einsum("bhs,bshd->bhd", scores.softmax(-1), v[:, first : t + 1])
    return layer.project_out(y.flatten(2))


@pytest.mark.parametrize("rotary", [True, False])
@pytest.mark.parametrize("window", [None, 1, 3, 100])
def test_equals_its_definition(rotary, window):
    layer = CausalAttention(8, 2, rotary=rotary, window=window).double()
    x = torch.randn(2, 7, 8, dtype=torch.float64)
    assert_close(layer(x), by_definition(layer, x, window=window))


def test_rotary_scores_depend_on_distance_alone():
    layer = CausalAttention(8, 2, window=3).double()
    x = torch.randn(1, 3, 8, dtype=torch.float64)
    later = torch.cat([torch.randn(1, 50, 8, dtype=torch.float64), x], dim=1)
    assert_close(layer(later)[:, -1], layer(x)[:, -1])


def test_order_matters_with_rotary_alone():
    x = torch.randn(1, 5, 8, dtype=torch.float64)
    swapped = x[:, [1, 0, 3, 2, 4]]
    plain, rotary = CausalAttention(8, 2, rotary=False).double(), CausalAttention(8, 2).double()
    assert_close(plain(swapped)[:, -1], plain(x)[:, -1])
    assert not torch.allclose(rotary(swapped)[:, -1], rotary(x)[:, -1])


def test_a_windowed_cache_stays_as_long_as_the_window():
    layer = CausalAttention(8, 2, window=4)
    state = layer.init_state(2)
    for _ in range(3):
        _, state = layer.scan(torch.randn(2, 5, 8), state, torch.tensor([5, 1]))
        assert cached(state) == 3
        assert state.keys.untyped_storage().nbytes() == state.keys.numel() * 4
    assert state.seen.tolist() == [15, 3]
    for _ in range(3):
        _, state = layer.step(torch.randn(2, 8), state)
        assert cached(state) <= 4
    assert state.padding.tolist() == [[0], [0]]


def cached(state):
    assert state.values.shape[2] == state.keys.shape[3]
    assert state.recent_values.shape[2] == state.recent_keys.shape[3]
    return state.keys.shape[3] + state.recent_keys.shape[3]


@pytest.mark.parametrize("window", [None, 3, 200])
@pytest.mark.parametrize("lengths", [None, [9, 0, 4]])
def test_steps_for_longer_than_the_recent_part_of_the_cache(window, lengths):
    layer = CausalAttention(8, 2, window=window).double().eval()
    x, start = torch.randn(3, 300, 8, dtype=torch.float64), layer.init_state(3)
    with torch.inference_mode():
        _, state = layer.scan(x[:, :9], start, None if lengths is None else torch.tensor(lengths))
        assert state.padding.shape[1] == (0 if lengths is None else 1)
        y = []
        for x_t in x[:, 9:].unbind(1):
            y_t, state = layer.step(x_t, state)
            y.append(y_t)
        for row, length in enumerate(lengths or [9] * 3):
            whole = torch.cat([x[row, :length], x[row, 9:]])[None]
            assert_close(torch.stack(y, 1)[row], layer(whole)[0, length:])


def test_a_step_copies_the_recent_part_of_the_cache_alone():
    layer = CausalAttention(8, 2)
    with torch.no_grad():
        _, state = layer.scan(torch.randn(1, 500, 8), layer.init_state(1))
        moved = 0
        for _ in range(300):
            _, after = layer.step(torch.randn(1, 8), state)
            assert after.recent_keys.shape[3] < 128
            moved += after.keys.data_ptr() != state.keys.data_ptr()
            state = after
    assert moved == 2
    assert cached(state) == 800


def test_dropout_acts_while_training_alone():
    layer = CausalAttention(8, 2, dropout=0.5)
    x = torch.randn(2, 5, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_the_state_takes_a_dtype_and_a_device():
    layer = CausalAttention(8, 2)
    state = layer.init_state(3, dtype=torch.bfloat16, device="meta")
    assert state.keys.dtype == state.recent_values.dtype == torch.bfloat16
    assert all(tensor.device.type == "meta" for tensor in state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_cache_may_have_a_precision_of_its_own(dtype):
    layer, x = CausalAttention(8, 2), torch.randn(2, 9, 8)
    state = layer.init_state(2, dtype=dtype)
    _, state = layer.scan(x[:, :4], state)
    y, state = layer.scan(x[:, 4:8], state)
    y_t, state = layer.step(x[:, 8], state)
    assert {t.dtype for t in state[:4]} == {dtype}
    assert_close(
        torch.cat([y, y_t[:, None]], 1), layer(x)[:, 4:], tolerance=2e-2, because="bfloat16 cache"
    )


def test_copies_the_last_token_but_one():
    """Attention learns to recall by position, which no pointwise layer can."""
    torch.manual_seed(0)
    d_model, generator = 16, torch.Generator().manual_seed(0)
    embed, layer, head = nn.Embedding(8, d_model), CausalAttention(d_model, 2), nn.Linear(16, 8)
    parameters = [*embed.parameters(), *layer.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    for _ in range(200):
        tokens = torch.randint(8, (16, 12), generator=generator)
        logits = head(layer(embed(tokens)))[:, 1:]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, :-1].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (logits.argmax(-1) == tokens[:, :-1]).float().mean() > 0.95


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d_model": 8, "n_head": 3}, "expected d_model to be a multiple of n_head, got d_model=8"),
        ({"d_model": 8, "n_head": 0}, "expected d_model to be a multiple of n_head"),
        ({"d_model": 6, "n_head": 2}, "must be even, got 3; use rotary=False or another n_head"),
        ({"d_model": 8, "n_head": 2, "window": 0}, "expected window >= 1, got 0"),
    ],
)
def test_wrong_sizes(arguments, message):
    with pytest.raises(ValueError, match=f"^CausalAttention: .*{message}"):
        CausalAttention(**arguments)


def test_repr():
    assert "8, n_head=2, window=None, rotary=True, dropout=0.0" in repr(CausalAttention(8, 2))
