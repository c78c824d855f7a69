"""Run the two public ReBased layers and keep their numbers; SOURCE.md says from where."""

import importlib.util
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

HERE = Path(__file__).parent
D_MODEL, HEADS, D_KEY, TIME = 12, 3, 4, 20


def module(name, **names):
    made = types.ModuleType(name)
    made.__dict__.update(names)
    sys.modules[name] = made
    return made


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


def quadratic_attention(naive):
    def parallel_rebased(q, k, v, eps, use_scale, use_normalize):
        assert use_scale
        assert use_normalize
        sums = naive(q, k, torch.cat([v, torch.ones_like(v[..., :1])], -1), use_norm=False)
        return sums[..., :-1] / (sums[..., -1:] + eps)

    return parallel_rebased


def authors(path, naive):
    """`ReBased` of the authors; its Triton kernel is replaced by the formula of the other's."""
    for package in ("fla", "fla.ops", "fla.ops.triton"):
        module(package)
    module("fla.ops.triton.rebased_fast", parallel_rebased=quadratic_attention(naive))
    return load("rebased", path / "src/mixers/rebased.py").ReBased(
        D_MODEL, feature_dim=D_KEY, num_heads=HEADS, num_key_value_heads=HEADS
    )


def flash_linear_attention(path):
    """`ReBasedLinearAttention`; its layer norm, a Triton kernel, is torch's."""

    def layer_norm(x, weight, bias):
        return F.layer_norm(x, x.shape[-1:], weight, bias, 1e-5)

    for package in ("fla", "fla.modules", "fla.ops"):
        module(package)
    nothing = dict.fromkeys(("fast_gelu_impl", "sigmoid", "sqrelu", "swish"))
    module("fla.modules.activations", **nothing)
    module("fla.modules.layernorm", layer_norm=layer_norm)
    module("fla.utils", checkpoint=lambda function: function)
    nothing = dict.fromkeys(("chunk_linear_attn", "fused_chunk_linear_attn"))
    module("fla.ops.linear_attn", **nothing)
    module("fla.ops.rebased", parallel_rebased=None)
    load("fla.modules.feature_map", path / "fla/modules/feature_map.py")
    layer = load("rebased_layer", path / "fla/layers/rebased.py").ReBasedLinearAttention(
        D_MODEL, feature_dim=D_KEY, num_heads=HEADS, num_key_value_heads=HEADS
    )
    layer.forward = layer.forward_reference
    return layer


def record(name, layer):
    torch.manual_seed(0)
    layer = layer.double()
    for parameter in layer.parameters():
        noise = 0.3 * torch.randn_like(parameter)
        parameter.data = (parameter.data + noise).float().double()
    x = torch.randn(2, TIME, D_MODEL, dtype=torch.float64).float().double().requires_grad_()
    y = layer(x)
    grad = torch.randn_like(y).float().double()
    names, parameters = zip(*layer.named_parameters(), strict=True)
    d_x, *grads = torch.autograd.grad(y, (x, *parameters), grad)
    tensors = {f"weights/{n}": p.detach() for n, p in layer.named_parameters()}
    tensors |= {f"gradients/{n}": g for n, g in zip(names, grads, strict=True)}
    tensors |= {"x": x.detach(), "y": y.detach(), "grad": grad, "gradients/x": d_x}
    save_file({key: t.contiguous() for key, t in tensors.items()}, HERE / f"{name}.safetensors")


def main(authors_path, fla_path):
    naive = load("naive", Path(fla_path) / "fla/ops/rebased/naive.py").naive_parallel_rebased
    record("rebased-joint", authors(Path(authors_path), naive))
    record("rebased-per-head", flash_linear_attention(Path(fla_path)))


if __name__ == "__main__":
    main(*sys.argv[1:])
