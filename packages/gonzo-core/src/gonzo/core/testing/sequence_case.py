"""A layer under test, and the ways to run it that the laws compare."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gonzo.core.sequence import SequenceModule
from gonzo.core.testing.tolerance import Exceptions, assert_close

__all__ = ["SequenceCase"]


@dataclass(frozen=True)
class SequenceCase:
    """A layer under test and the sizes of its input.

    Attributes:
        make: Returns a new layer with random parameters.
        batch: Sequences, at least 2.
        time: Steps, at least 5; odd, so that nothing divides it.
        seed: Of parameters and inputs.
        device: Of parameters and inputs; drawn on the CPU, they are the same on every device.
        exceptions: Gradients (``"gradient of log_dt"``) whose conditioning forbids the table's
            tolerance, each with its own and the reason.
    """

    make: Callable[[], SequenceModule]
    batch: int = 3
    time: int = 11
    seed: int = 0
    device: torch.device | str = "cpu"
    exceptions: Exceptions = field(default_factory=dict)

    def layer(self, dtype: torch.dtype = torch.float64) -> SequenceModule:
        """Return the layer in evaluation mode; the same parameters every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self.make().to(self.device, dtype).eval()

    def input(self, *shape: int, dtype: torch.dtype = torch.float64, draw: int = 0) -> Tensor:
        """Return standard normal values; another ``draw`` gives others."""
        generator = torch.Generator().manual_seed(self.seed + 1000 + draw)
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(self.device, dtype)

    def sequence(
        self, layer: SequenceModule, *, dtype: torch.dtype = torch.float64, draw: int = 0
    ) -> Tensor:
        """Return an input (batch, time, d_model) for ``layer``."""
        return self.input(self.batch, self.time, layer.d_model, dtype=dtype, draw=draw)

    def lengths(self) -> Tensor:
        """Return lengths (batch,) with an empty, a full and partial sequences."""
        inner = torch.arange(self.batch) * 5 % self.time
        inner[-1] = self.time
        return inner.to(self.device)


def expect(condition: bool, message: str) -> None:
    """Raise AssertionError with ``message`` unless ``condition``."""
    if not condition:
        raise AssertionError(message)


@contextlib.contextmanager
def raises(kind: type[Exception], *parts: str) -> Generator[None]:
    """Raise AssertionError unless the block raises ``kind`` with all ``parts`` in its message."""
    try:
        yield
    except kind as error:
        for part in parts:
            expect(part in str(error), f"expected {part!r} in the message: {error}")
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise AssertionError(f"expected {kind.__name__} {parts}, got {got}") from error
    else:
        raise AssertionError(f"expected {kind.__name__} {parts}, got no error")


def tensors(state: Any) -> Iterator[Tensor]:
    """Iterate over the tensors of a state, those of nested states included."""
    for value in state:
        if isinstance(value, tuple):
            yield from tensors(value)
        else:
            yield value


def scan_chunks(layer: SequenceModule, x: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, Any]:
    """Scan ``x`` from the start in chunks of ``sizes``; return all outputs and the last state."""
    state, outputs = layer.init_state(x.shape[0]), []
    for chunk in x.split(sizes, dim=1):
        y, state = layer.scan(chunk, state)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


def step_all(layer: SequenceModule, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Step through ``x`` from ``state``; return all outputs and the last state."""
    outputs = []
    for x_t in x.unbind(1):
        y_t, state = layer.step(x_t, state)
        outputs.append(y_t)
    return torch.stack(outputs, dim=1), state


def same_future(
    case: SequenceCase,
    layer: SequenceModule,
    actual: Any,
    expected: Any,
    name: str,
    batch: int | None = None,
) -> None:
    """Two states are equal when what follows them is: how a cache is laid out is its own affair."""
    dtype = next(layer.parameters()).dtype
    x = case.input(batch or case.batch, 3, layer.d_model, dtype=dtype, draw=2)
    assert_close(step_all(layer, x, actual)[0], step_all(layer, x, expected)[0], name=name)


def gradients(layer: SequenceModule, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The gradients of one fixed weighted sum of y, by name; those of the input as ``x``."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y)
    named: dict[str, Tensor] = {n: p for n, p in layer.named_parameters() if p.requires_grad}
    if x.requires_grad:
        named["x"] = x
    found = torch.autograd.grad((y * weight).sum(), list(named.values()), allow_unused=True)
    missing = [name for name, gradient in zip(named, found, strict=True) if gradient is None]
    expect(not missing, f"no gradient reaches {', '.join(missing)}")
    return {f"gradient of {n}": g for n, g in zip(named, found, strict=True) if g is not None}


def close_gradient(
    case: SequenceCase, actual: Tensor, expected: Tensor, name: str, way: str = "compiled"
) -> None:
    """Hold a gradient to the table, or to the exception the case makes for it."""
    tolerance, because = case.exceptions.get(name, (None, None))
    assert_close(
        actual, expected, name=f"{name} through {way}", tolerance=tolerance, because=because
    )
