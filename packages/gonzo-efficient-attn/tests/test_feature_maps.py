"""What each map is, where it is positive, and that all of it learns."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from gonzo.core.ops.linear_attention import linear_attention
from gonzo.core.testing import assert_close
from gonzo.efficient_attn import (
    EluPlusOne,
    HedgehogMap,
    LinearAttention,
    Performer,
    ReBasedMap,
    ReLU,
    Taylor,
)

DATA = Path(__file__).parent / "data"
F64 = torch.float64
HEADS, D_KEY = 3, 4
MAPS = {
    "elu": lambda: EluPlusOne(HEADS, D_KEY),
    "relu": lambda: ReLU(HEADS, D_KEY),
    "performer": lambda: Performer(HEADS, D_KEY, n_random=7),
    "taylor": lambda: Taylor(HEADS, D_KEY),
    "rebased": lambda: ReBasedMap(HEADS, D_KEY),
    "rebased joint": lambda: ReBasedMap(HEADS, D_KEY, convention="joint"),
    "hedgehog": lambda: HedgehogMap(HEADS, D_KEY),
    "hedgehog clamped": lambda: HedgehogMap(HEADS, D_KEY, activation="clamped", bias=True),
    "hedgehog exp": lambda: HedgehogMap(HEADS, D_KEY, activation="exp", bias=True),
}
every_map = pytest.mark.parametrize("make", MAPS.values(), ids=MAPS)


def heads(*, time=9, batch=2, d=D_KEY):
    return torch.randn(batch, HEADS, time, d, dtype=F64)


def moved(feature_map):
    """The map in float64, its parameters off the values they begin with."""
    for parameter in feature_map.double().parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return feature_map


@every_map
def test_features_written_out_are_what_the_op_fuses(make):
    feature_map, q, k, v = moved(make()), heads(), heads(), heads(d=5)
    y, _ = linear_attention(*feature_map(q, k), v, feature_map=feature_map.fused, eps=1e-6)
    phi_q, phi_k = feature_map.features(q, k)
    assert phi_q.shape[-1] == feature_map.n_feature
    weights = (phi_q @ phi_k.mT).tril()
    assert_close(y, weights @ v / (weights.sum(-1, keepdim=True) + 1e-6))


@every_map
def test_a_step_is_mapped_without_a_look_at_the_others(make):
    feature_map, q, k = moved(make()), heads(), heads()
    together = feature_map(q, k)
    alone = [feature_map(q[:, :, t : t + 1], k[:, :, t : t + 1]) for t in range(q.shape[2])]
    for both, parts in zip(together, zip(*alone, strict=True), strict=True):
        assert_close(both, torch.cat(parts, 2))


@every_map
def test_all_of_it_learns(make):
    feature_map, q, k, v = moved(make()), heads(), heads(), heads()
    parameters = list(feature_map.parameters())

    def run(*_):
        return linear_attention(*feature_map(q, k), v, feature_map=feature_map.fused)[0]

    if parameters:
        assert torch.autograd.gradcheck(run, parameters)
        assert all(g.abs().sum() > 0 for g in torch.autograd.grad(run().square().sum(), parameters))


@every_map
def test_it_comes_back_from_disk(make, tmp_path):
    layer = LinearAttention(12, HEADS, feature_map=make())
    layer.save_pretrained(tmp_path)
    x = torch.randn(2, 5, 12)
    assert torch.equal(LinearAttention.from_pretrained(tmp_path)(x), layer(x))


def test_elu_and_relu():
    q, k = heads(), heads()
    for feature_map, function in ((EluPlusOne, lambda x: F.elu(x) + 1), (ReLU, F.relu)):
        for actual, x in zip(feature_map(HEADS, D_KEY).features(q, k), (q, k), strict=True):
            assert_close(actual, function(x))


def test_taylor_weighs_every_key_by_one_half_at_least():
    phi_q, phi_k = Taylor(HEADS, D_KEY).features(10 * heads(), 10 * heads())
    weights = phi_q @ phi_k.mT
    assert weights.min() >= 0.5 - 1e-9
    opposite = torch.linspace(-3, 0, 31, dtype=F64).view(1, 1, -1, 1)
    phi_q, phi_k = Taylor(1, 1).features(torch.ones_like(opposite), opposite)
    weights = (phi_q * phi_k).sum(-1).flatten()
    assert_close(weights, (1 + opposite + opposite**2 / 2).flatten())
    assert opposite.flatten()[weights.argmin()] == -1  # where it turns, and exp does not


def test_rebased_gives_orthogonal_keys_nothing():
    feature_map = ReBasedMap(1, 4).double()
    # Of zero mean and unit variance, so that the norm leaves them as they are.
    q = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=F64).view(1, 1, 1, 4)
    k = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=F64).view(1, 1, 1, 4)
    phi_q, phi_k = feature_map.features(q, torch.cat([k, q, -q], 2))
    orthogonal, same, negative = (phi_q @ phi_k.mT).flatten().tolist()
    assert orthogonal == pytest.approx(0, abs=1e-12)
    assert same == pytest.approx(negative) == pytest.approx(16 / 4, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(
    ("convention", "file", "names"),
    [
        ("joint", "rebased-joint", ("proj_q", "proj_k", "proj_v", "proj_o")),
        ("per_head", "rebased-per-head", ("q_proj", "k_proj", "v_proj", "o_proj")),
    ],
)
def test_both_conventions_are_those_of_the_public_codes(convention, file, names, dtype):
    data = {name: t.to(dtype) for name, t in load_file(DATA / f"{file}.safetensors").items()}

    def of_layer(group):
        """What the layer's parameters are, or their gradients, in the public code's names."""
        *projections, out = (data[f"{group}/{name}.weight"] for name in names)
        if convention == "joint":
            norms = [
                torch.stack([data[f"{group}/ln_{which}.{kind}"] for which in "qk"])
                for kind in ("weight", "bias")
            ]
        else:
            norms = [data[f"{group}/feature_map.{kind}"] for kind in ("gamma", "beta")]
        return {
            "project_in.weight": torch.cat(projections),
            "project_out.weight": out,
            "feature_map.gamma": norms[0],
            "feature_map.beta": norms[1],
        }

    layer = LinearAttention(12, HEADS, feature_map=ReBasedMap(HEADS, 4, convention=convention))
    layer = layer.to(dtype)
    layer.load_state_dict(of_layer("weights"))
    x = data["x"].requires_grad_()
    y = layer(x)
    assert_close(y, data["y"])
    learned = {"x": x, **dict(layer.named_parameters())}
    expected = {"x": data["gradients/x"], **of_layer("gradients")}
    grads = torch.autograd.grad(y, list(learned.values()), data["grad"])
    for name, grad in zip(learned, grads, strict=True):
        # A nearly orthogonal pair has next to no weight, and 1 / Σ magnifies what float32 rounds.
        loose = dtype == torch.float32
        why = {"tolerance": 1e-4, "because": "divided by sums near zero"} if loose else {}
        assert_close(grad, expected[name], name=f"gradient of {name}", **why)


def test_hedgehog_has_heads_of_its_own():
    feature_map = moved(HedgehogMap(HEADS, D_KEY))
    q, k = heads(), heads()
    phi_q, phi_k = feature_map.features(q, k)
    for which, (phi, x) in enumerate(((phi_q, q), (phi_k, k))):
        for h in range(HEADS):
            projected = x[:, h] @ feature_map.weight[which, h].mT
            pair = torch.cat([projected.softmax(-1), (-projected).softmax(-1)], -1)
            assert_close(phi[:, h], pair)
    assert_close(phi_q.sum(-1), torch.full((2, HEADS, 9), 2.0, dtype=F64))


def test_hedgehogs_exponentials_do_not_overflow_in_queries():
    feature_map = HedgehogMap(1, 2, activation="exp")
    q, k = torch.tensor([[500.0, 0.0]]).view(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
    phi_q, phi_k = feature_map.features(q, k)
    assert torch.equal(phi_q.flatten(), torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert torch.equal(phi_k, torch.ones(1, 1, 1, 4))


def test_hedgehogs_features_are_clamped():
    phi, _ = HedgehogMap(1, 2, activation="clamped").features(
        torch.tensor([[99.0, -99.0]]).view(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
    )
    assert phi.min().item() == pytest.approx(1e-12)


@pytest.mark.parametrize("orthogonal", [True, False])
def test_performer_is_softmaxs_kernel_on_average(orthogonal):
    q, k = 0.7 * torch.randn(5, 8, dtype=F64), 0.7 * torch.randn(5, 8, dtype=F64)
    expected = (q @ k.mT / 8**0.5).exp()
    feature_map = Performer(1, 8, n_random=200_000, orthogonal=orthogonal).double()
    phi_q, phi_k = (x[0, 0] for x in feature_map.features(q[None, None], k[None, None]))
    actual = phi_q @ phi_k.mT
    # A factor of each query's own divides out of attention.
    ratio = actual / expected
    assert (ratio / ratio.mean(1, keepdim=True) - 1).abs().max() < 0.05


def test_performers_directions_are_orthogonal_and_as_long_as_normal_ones():
    directions = Performer(1, 16, n_random=1600).double().projection
    block = directions[:16]
    gram = block @ block.mT
    assert (gram - gram.diag().diag()).abs().max() < 1e-5
    assert directions.square().sum(1).mean().item() == pytest.approx(16, rel=0.05)
    assert directions.norm(dim=1).std().item() == pytest.approx(math.sqrt(0.5), rel=0.15)


def test_performer_draws_again_on_demand():
    feature_map = Performer(1, 4)
    before = feature_map.projection.clone()
    feature_map.reset_parameters()
    assert not torch.equal(feature_map.projection, before)
