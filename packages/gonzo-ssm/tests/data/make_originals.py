"""Run the original S4 and H3 on small random weights, and write what they answer beside this file.

python make_originals.py S4_CHECKOUT H3_CHECKOUT

The checkouts are those that SOURCE.md names; einops and opt_einsum must be importable. Every weight
is moved off its initial value after the kernels have grown to their length, as training does, and
everything is computed in float64.
"""

import importlib
import json
import logging
import sys
import types
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

FOLDER = Path(__file__).parent
BATCH, TIME = 2, 40


def main(s4_checkout: str, h3_checkout: str) -> None:
    """Write all files."""
    logging.disable(logging.CRITICAL)
    _stand_in_for_lightning()
    sys.path += [str(Path(s4_checkout, "models", "s4")), str(Path(h3_checkout))]
    s4, h3 = importlib.import_module("s4"), importlib.import_module("src.models.ssm.h3")

    dplr = {
        "legs": {"d_model": 4, "d_state": 8, "l_max": 24},
        "legs-64": {"d_model": 3, "d_state": 64, "l_max": 24},
        "legt": {"d_model": 3, "d_state": 8, "l_max": 25, "init": "legt", "rank": 2},
        "fout": {"d_model": 4, "d_state": 8, "l_max": 25, "init": "fout"},
        "shared": {"d_model": 4, "d_state": 8, "l_max": 24, "n_ssm": 1},
        "two-shared-channels": {
            "d_model": 4, "d_state": 8, "l_max": 24, "n_ssm": 2, "channels": 2, "init": "hippo",
        },
        "transforms": {
            "d_model": 3, "d_state": 8, "l_max": 24, "dt_transform": "softplus",
            "real_transform": "softplus", "imag_transform": "exp",
        },
    }  # fmt: skip
    for name, options in dplr.items():
        dplr_kernel(s4.SSMKernelDPLR, f"s4-kernel-{name}", options)

    diagonal = {
        "lin": {"d_model": 4, "d_state": 8, "init": "diag-lin"},
        "legs": {"d_model": 4, "d_state": 8, "init": "diag-legs"},
        "bilinear": {"d_model": 4, "d_state": 8, "init": "diag-inv", "disc": "bilinear"},
        "two-shared-channels": {
            "d_model": 4, "d_state": 8, "init": "diag", "n_ssm": 2, "channels": 2,
        },
        "sigmoid": {"d_model": 3, "d_state": 8, "init": "diag-lin", "real_transform": "sigmoid"},
        "relu": {"d_model": 3, "d_state": 8, "init": "diag-lin", "real_transform": "relu"},
        "none": {"d_model": 3, "d_state": 8, "init": "diag-lin", "real_transform": "none"},
        "softplus": {
            "d_model": 3, "d_state": 8, "init": "diag-lin", "real_transform": "softplus",
            "imag_transform": "softplus", "dt_transform": "softplus",
        },
    }  # fmt: skip
    for name, options in diagonal.items():
        diagonal_kernel(s4.SSMKernelDiag, f"s4d-kernel-{name}", options)

    blocks = {
        "s4-block": {"d_model": 4, "d_state": 8, "dropout": 0.2},
        "s4-block-channels": {"d_model": 4, "d_state": 8, "channels": 2, "n_ssm": 2, "l_max": 50},
        "s4-block-no-output": {"d_model": 4, "d_state": 8, "final_act": None},
        "s4d-block": {"d_model": 4, "d_state": 8, "mode": "s4d", "init": "diag-lin"},
        "s4d-block-channels": {
            "d_model": 4, "d_state": 8, "mode": "s4d", "init": "diag-inv", "channels": 2,
            "disc": "bilinear",
        },
    }  # fmt: skip
    for name, options in blocks.items():
        block(s4.S4Block, name, options)

    several = {
        "h3": {"d_model": 4, "d_state": 8},
        "h3-heads": {"d_model": 16, "d_state": 8, "head_dim": 4, "n_ssm": 2},
        "h3-zoh": {"d_model": 4, "d_state": 8, "n_ssm": 1, "disc": "zoh", "measure": "diag-inv"},
    }
    for name, options in several.items():
        h3_layer(h3.H3, name, options)


def dplr_kernel(make: Callable[..., nn.Module], name: str, options: dict) -> None:
    """A kernel tuned to one length, asked for its taps there, then tuned to a longer one."""
    module = _float64(make, name, options)
    length = options["l_max"]
    module(L=length)  # C becomes what is stored from here on
    _perturb(module)
    short = module(L=length)[0]
    x = torch.randn(BATCH, TIME, options["d_model"], dtype=torch.float64)
    weights = _weights(module)
    module(L=TIME)
    assert module.l_kernel > length
    numbers = {"x": x, "kernel": module(L=TIME)[0], "steps": _kernel_steps(module, x)}
    _write(name, options, numbers | weights | _weights(module, "longer") | {"short": short})


def diagonal_kernel(make: Callable[..., nn.Module], name: str, options: dict) -> None:
    """A kernel and its recurrence."""
    module = _perturb(_float64(make, name, options | {"backend": "naive"}))
    x = torch.randn(BATCH, TIME, options["d_model"], dtype=torch.float64)
    numbers = {"x": x, "kernel": module(L=TIME)[0], "steps": _kernel_steps(module, x)}
    _write(name, options, numbers | _weights(module))


def block(make: Callable[..., nn.Module], name: str, options: dict) -> None:
    """A whole block in eval mode, as a convolution and as a recurrence."""
    module = _float64(make, name, options | {"transposed": False}).eval()
    x = torch.randn(BATCH, TIME, options["d_model"], dtype=torch.float64)
    module(x)
    _perturb(module)
    y, weights = module(x)[0], _weights(module)
    module.setup_step()
    state, steps = module.default_state(BATCH), []
    for x_t in x.unbind(1):
        y_t, state = module.step(x_t, state)
        steps.append(y_t)
    _write(name, options, {"x": x, "y": y, "steps": torch.stack(steps, 1)} | weights)


def h3_layer(make: Callable[..., nn.Module], name: str, options: dict) -> None:
    """An H3 layer as a convolution, and as a recurrence, which fails if head_dim is above 1.

    It rounds its short kernel to float32, and goes on in that. So that kernel is made of binary
    fractions that float32 holds exactly, and made float64 again.
    """
    module = _perturb(_float64(make, name, options)).eval()
    shift = module.ssm_k_kernel.kernel
    for tensor in (shift.B, shift.C):
        tensor.copy_((tensor * 64).round() / 64)
    shift.register_forward_hook(lambda _module, _arguments, kernel: (kernel[0].double(), None))
    x = torch.randn(BATCH, TIME, options["d_model"], dtype=torch.float64)
    numbers = {"x": x, "y": module(x)}
    if module.head_dim == 1:
        module.kernel._setup_step()
        states = [part.default_state(BATCH) for part in (module.ssm_k_kernel, module.kernel)]
        outputs = []
        for x_t in x.split(1, dim=1):
            y_t, *states = module.step(x_t, *states)
            outputs.append(y_t)
        numbers["steps"] = torch.cat(outputs, 1)
    _write(name, options, numbers | _weights(module))


def _float64(make: Callable[..., nn.Module], name: str, options: dict) -> nn.Module:
    torch.manual_seed(sum(name.encode()))
    return make(**options).double()


def _perturb(module: nn.Module) -> nn.Module:
    """Noise on every parameter, rounded so that its float32 copy is the same number."""
    for parameter in module.parameters():
        noise = 0.2 * torch.randn_like(parameter)
        parameter.add_(noise).copy_(parameter.float())
    return module


def _kernel_steps(module: nn.Module, x: Tensor) -> Tensor:
    """The recurrence that the original derives from a kernel, (batch, time, channels, d_model)."""
    module._setup_step()
    state, outputs = module.default_state(len(x)), []
    for x_t in x.unbind(1):
        y, state = module.step(x_t, state)
        outputs.append(y)
    return torch.stack(outputs, 1)


def _weights(module: nn.Module, name: str = "weights") -> dict[str, Tensor]:
    return {f"{name}/{key}": tensor.clone() for key, tensor in module.state_dict().items()}


def _write(name: str, options: dict, tensors: dict[str, Tensor]) -> None:
    contiguous = {key: tensor.contiguous() for key, tensor in tensors.items()}
    path = FOLDER / f"{name}.safetensors"
    save_file(contiguous, path, {"options": json.dumps(options)})
    print(f"{path.name}: {path.stat().st_size} bytes")


def _stand_in_for_lightning() -> None:
    """Both originals import one decorator of PyTorch Lightning, for their log alone."""
    lightning, inside = types.ModuleType("pytorch_lightning"), types.ModuleType("utilities")
    inside.rank_zero_only = lambda function: function
    lightning.utilities = inside
    sys.modules |= {"pytorch_lightning": lightning, "pytorch_lightning.utilities": inside}


if __name__ == "__main__":
    with torch.no_grad():
        main(*sys.argv[1:])
