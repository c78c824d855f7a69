"""Hybrid attention: the laws, its equation written out, and what each side alone computes."""

import functools

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from gonzo.core.nn import CausalAttention
from gonzo.core.testing import LAWS, SequenceCase, assert_close
from gonzo.efficient_attn import HedgehogMap, LinearAttention
from gonzo.efficient_attn.hybrid import HybridAttention

D_MODEL, N_HEAD = 8, 2
hybrid = functools.partial(HybridAttention, D_MODEL, N_HEAD)

LAYERS = {
    "window of 4": lambda: hybrid(window=4),
    "window of 1": lambda: hybrid(window=1),
    "no positions": lambda: hybrid(window=3, rotary=False),
    "longer than the sequence": lambda: hybrid(window=30),
    **{kind: functools.partial(hybrid, window=2, feature_map=kind) for kind in ("relu", "taylor")},
    "hedgehog, exp": lambda: hybrid(window=3, feature_map=HedgehogMap(N_HEAD, 4, activation="exp")),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_it_keeps(law, make):
    law(SequenceCase(make))


def test_the_laws_hold_where_blocks_of_queries_meet():
    case = SequenceCase(lambda: hybrid(window=5), time=47)
    for law in LAWS:
        if law.__name__ in ("scan_is_a_loop_of_step", "padding_does_not_matter",
                            "states_stop_at_the_length", "gradients_agree"):  # fmt: skip
            law(case)


def made(window, time=41, **options):
    layer = hybrid(window=window, **options).double()
    with torch.no_grad():
        layer.balance.normal_()
        layer.feature_map.weight.normal_()
    return layer, torch.randn(2, time, D_MODEL, dtype=torch.float64)


def written_out(layer, x, near=1.0, far=1.0):
    """The equation of the module, with every weight in memory."""
    q, k, v = layer.project(x)
    scores = q @ k.mT / layer.d_head**0.5
    t = torch.arange(x.shape[1])
    distance = t[:, None] - t
    is_near = (distance >= 0) & (distance < layer.window)
    scores = scores.masked_fill(~is_near, -torch.inf)
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
    fq, fk = layer.feature_map.features(q, k)
    behind = (fq @ fk.mT) * (distance >= layer.window) * layer.balance.exp()[:, None, None]
    weights = near * exponentials + far * behind
    divisor = weights.sum(-1, keepdim=True)
    weights = torch.where(divisor > 0, weights / divisor, 0.0)
    return layer.project_out((weights @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("window", [1, 2, 5, 16, 17, 40, 41, 64])
def test_it_is_the_equation(window):
    layer, x = made(window)
    assert_close(layer(x), written_out(layer, x))


def test_each_side_alone():
    layer, x = made(6)
    expected = {"both": (1, 1), "linear": (0, 1), "window": (1, 0), "none": (0, 0)}
    for branches, sides in expected.items():
        layer.branches = branches
        assert_close(layer(x), written_out(layer, x, *sides), name=branches)
    layer.branches = "linear"
    assert not layer(x)[:, :6].any(), "the first steps have nothing behind their window"


def test_the_state_goes_on_alike_whatever_takes_part():
    layer, x = made(4)
    _, expected = layer.scan(x, layer.init_state(2))
    for branches in ("linear", "window", "none"):
        layer.branches = branches
        _, state = layer.scan(x, layer.init_state(2))
        assert all(map(torch.equal, state, expected))


def test_with_a_window_over_everything_it_is_softmax_attention():
    layer, x = made(64)
    softmax = CausalAttention(D_MODEL, N_HEAD).double()
    softmax.load_state_dict(
        {name: value for name, value in layer.state_dict().items() if "project" in name}
    )
    assert_close(layer(x), softmax(x))


def test_behind_the_window_it_is_linear_attention():
    """Far apart, and the near side switched off: linear attention, delayed by the window."""
    layer, x = made(5, rotary=False)
    layer.branches = "linear"
    linear = LinearAttention(D_MODEL, N_HEAD, rotary=False).double()
    linear.feature_map.eps = 0.0
    state = layer.state_dict()
    linear.load_state_dict({name: value for name, value in state.items() if name != "balance"})
    q, k, v = linear.project(x)
    delayed = [F.pad(t, (0, 0, 5, 0))[:, :, : x.shape[1]] for t in (k, v)]
    fq, fk = linear.feature_map.features(q, delayed[0])
    weights = (fq @ fk.mT).tril()
    weights[..., :5] = 0  # the padding
    expected = weights[:, :, 5:] @ delayed[1] / weights[:, :, 5:].sum(-1, keepdim=True)
    expected = linear.project_out(expected.transpose(1, 2).flatten(2))
    assert_close(layer(x)[:, 5:], expected)


def test_the_state_has_one_size():
    layer, x = made(8, time=100)
    sizes = set()
    state = layer.init_state(2)
    for chunk in x.split([1, 7, 30, 62], 1):
        sizes.add(tuple(t.shape for t in state))
        _, state = layer.scan(chunk, state)
    sizes.add(tuple(t.shape for t in state))
    assert len(sizes) == 1


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation returns."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **options or {})
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


def test_nothing_grows_with_the_square_of_the_length():
    layer = hybrid(window=4)
    sizes = []
    for time in (512, 1024):
        x = torch.randn(1, time, D_MODEL, requires_grad=True)
        with Largest() as largest:
            layer(x).square().sum().backward()
        sizes.append(largest.numel)
    assert sizes[1] == 2 * sizes[0]
    assert sizes[0] < 512**2 / 4


def test_large_scores_stay_finite():
    layer, x = made(8)
    layer = layer.float()
    with torch.no_grad():
        layer.project_in.weight.mul_(100)
    x = x.float().requires_grad_()
    y = layer(x)
    y.square().sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: HybridAttention(10, 3), "d_model to be a multiple of n_head, got d_model=10"),
        (lambda: hybrid(window=0), "window of at least 1, got 0"),
        (lambda: HybridAttention(6, 2), "must be even, got 3; use rotary=False"),
        (lambda: hybrid(feature_map="softmax"), "feature_map to be a FeatureMap or one of"),
        (lambda: hybrid(feature_map=HedgehogMap(2, 3)), "d_key=3, and the layer needs n_head=2"),
    ],
)
def test_bad_settings_say_what_was_expected(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()
