"""Every backend of an op against the reference: outputs and all gradients, judged in float64."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gonzo.core.testing.poison import poisoned_allocations
from gonzo.core.testing.tolerance import Exceptions, assert_close

__all__ = ["compare_backends"]


def compare_backends(
    op: Callable[..., Any],
    inputs: Mapping[str, Any],
    *,
    backends: Sequence[str | None],
    exceptions: Exceptions | None = None,
    seed: int = 0,
) -> None:
    """Raise AssertionError unless all backends agree with the reference.

    The judge is ``op(**inputs, backend="reference")`` on the same inputs cast up to float64. Each
    backend runs on the inputs as they are, in memory poisoned with NaN, and every output and the
    gradient of every floating-point input, for one random cotangent, is held to
    `gonzo.core.testing.TOLERANCE`.

    Args:
        op: The public function; returns a tensor or a tuple of tensors.
        inputs: Its arguments by name. Those that are not tensors are passed as they are.
        backends: Names for its ``backend`` argument; None is its default choice.
        exceptions: Results (``"output 0"``, ``"gradient of dt"``) whose conditioning forbids the
            table's tolerance, each with its own tolerance and the reason.
        seed: Of the cotangents.
    """
    judged = {name: _cast_up(value) for name, value in inputs.items()}
    cotangents: list[Tensor] = []
    expected = _results(op, judged, "reference", cotangents, seed)
    for backend in backends:
        with poisoned_allocations():
            actual = _results(op, inputs, backend, cotangents, seed)
        if actual.keys() != expected.keys():
            raise AssertionError(
                f"{backend}: expected {', '.join(expected)}; got {', '.join(actual)}"
            )
        for name, value in actual.items():
            tolerance, because = (exceptions or {}).get(name, (None, None))
            assert_close(
                value,
                expected[name],
                name=f"{backend}: {name}",
                tolerance=tolerance,
                because=because,
            )


def _cast_up(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    if value.is_complex():
        return value.detach().to(torch.complex128)
    return value.detach().to(torch.float64) if value.is_floating_point() else value


def _results(
    op: Callable[..., Any],
    inputs: Mapping[str, Any],
    backend: str | None,
    cotangents: list[Tensor],
    seed: int,
) -> dict[str, Tensor]:
    # detach keeps strides, so an input that is not contiguous stays so.
    arguments = {
        name: value.detach().requires_grad_(value.is_floating_point() or value.is_complex())
        if isinstance(value, Tensor)
        else value
        for name, value in inputs.items()
    }
    outputs = op(**arguments, backend=backend)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    results = {f"output {index}": output.detach() for index, output in enumerate(outputs)}
    if not cotangents:
        generator = torch.Generator().manual_seed(seed)
        # float32, so that each backend is asked for the gradient of exactly the same sum.
        cotangents += [torch.randn(o.shape, generator=generator) for o in outputs]
    wanted = {n: v for n, v in arguments.items() if isinstance(v, Tensor) and v.requires_grad}
    reached = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
    if reached and wanted:
        gradients = torch.autograd.grad(
            [output for output, _ in reached],
            list(wanted.values()),
            [cotangent.to(output) for output, cotangent in reached],
            allow_unused=True,
        )
        results |= {
            f"gradient of {name}": gradient
            for name, gradient in zip(wanted, gradients, strict=True)
            if gradient is not None
        }
    return results
