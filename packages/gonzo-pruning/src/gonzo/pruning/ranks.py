"""What processes of torch.distributed agree on: rank 0 reads and decides, all get the same.

Without a process group these functions just call what they are given.
"""

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["from_first", "gather", "is_first", "rank", "state_from_first", "tensors_from_first"]


def rank() -> int:
    """Return this process's rank, 0 when it is alone."""
    return dist.get_rank() if _many() else 0


def is_first() -> bool:
    """Return whether this process is the one that writes."""
    return rank() == 0


def from_first(make: Callable[[], Any]) -> Any:
    """Return what ``make()`` returns in rank 0, in every process; an error is raised in every one.

    Args:
        make: Called in rank 0 alone. Its result is something that JSON can say.

    Raises:
        RuntimeError: In the other processes, what rank 0 raised.
    """
    if not _many():
        return make()
    if is_first():
        try:
            value = make()
        except Exception as error:
            # The others wait: they must hear of it, or they wait for ever.
            _send({"error": f"{type(error).__name__}: {error}"})
            raise
        _send({"value": value})
        return value
    message = _receive()
    if "error" in message:
        raise RuntimeError(f"in the process of rank 0: {message['error']}")
    return message["value"]


def tensors_from_first(make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors that ``make()`` returns in rank 0, in every process, on the CPU.

    Args:
        make: Called in rank 0 alone.

    Raises:
        RuntimeError: In the other processes, what rank 0 raised.
    """
    if not _many():
        return dict(make())
    kept: dict[str, Tensor] = {}

    def describe() -> list[Any]:
        kept.update(make())
        return [[n, str(t.dtype).removeprefix("torch."), list(t.shape)] for n, t in kept.items()]

    tensors = {}
    for name, dtype, shape in from_first(describe):
        if is_first():
            data = kept[name].detach().to(_device()).contiguous()
        else:
            data = torch.empty(shape, dtype=getattr(torch, dtype), device=_device())
        # As bytes, since not every backend sends every type.
        dist.broadcast(data.reshape(-1).view(torch.uint8), 0)
        tensors[name] = data.cpu()
    return tensors


def state_from_first(read: Callable[[], bytes | None]) -> Any:
    """Return the state that ``torch.save`` wrote as the bytes that rank 0 reads, in every process.

    Args:
        read: Called in rank 0 alone; None where there is none.

    Raises:
        RuntimeError: In the other processes, what rank 0 raised.
    """

    def as_tensor() -> dict[str, Tensor]:
        content = read()
        if content is None:
            return {}
        return {"state": torch.frombuffer(bytearray(content), dtype=torch.uint8)}

    sent = tensors_from_first(as_tensor)
    if not sent:
        return None
    content = io.BytesIO(sent["state"].numpy().tobytes())
    return torch.load(content, map_location="cpu", weights_only=True)


def gather(tensor: Tensor) -> list[Tensor]:
    """Return the tensor of every rank, in order, in every process: all uint8 of one shape."""
    if not _many():
        return [tensor]
    mine = tensor.to(_device())
    all_of_them = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(all_of_them, mine)
    return [each.cpu() for each in all_of_them]


def _many() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _device() -> str:
    return "cuda" if "nccl" in str(dist.get_backend()) else "cpu"


def _send(message: dict[str, Any]) -> None:
    data = torch.frombuffer(bytearray(json.dumps(message).encode()), dtype=torch.uint8)
    data = data.to(_device())
    dist.broadcast(torch.tensor([data.numel()], device=_device()), 0)
    dist.broadcast(data, 0)


def _receive() -> dict[str, Any]:
    length = torch.zeros(1, dtype=torch.int64, device=_device())
    dist.broadcast(length, 0)
    data = torch.empty(int(length), dtype=torch.uint8, device=_device())
    dist.broadcast(data, 0)
    return json.loads(bytes(data.cpu().tolist()))
