"""A model lent out for a measurement: afterwards it is what it was, to the last bit."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module, *, seed: int = 0) -> Generator[None]:
    """Let a block run `model`, in any mode and with other weights, and put everything back.

    Put back are the storage behind every parameter and its `.grad`, values and identity of
    buffers (running statistics), the modes of all modules and torch's random generators of the
    CPU and of the model's devices. Inside, gradients are None at first.

    Args:
        model: the model. Give a parameter other values inside by `parameter.data = values`, never
            by writing into it.
        seed: of the random numbers inside, so that a measurement does not depend on the outside.
    """
    weights = [(weight, weight.data, weight.grad) for weight in model.parameters()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    modes = [(module, module.training) for module in model.modules()]
    tensors = [*(data for _, data, _ in weights), *(buffer for _, _, buffer, _ in buffers)]
    devices = sorted({tensor.device.index for tensor in tensors if tensor.device.type == "cuda"})
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        try:
            for weight, _, _ in weights:
                weight.grad = None
            yield
        finally:
            for weight, data, gradient in weights:
                weight.data = data
                weight.grad = gradient
            for module, name, buffer, values in buffers:
                with torch.no_grad():
                    buffer.copy_(values)
                setattr(module, name, buffer)
            for module, training in modes:
                module.training = training
