"""The original S4 and S4D as ours: the kernels, and the blocks around them.

    C = C̃ (I - Ā^L)⁻¹

The original S4 stores C̃, which makes kernels of L steps; C is solved for, once, in float64. The
original's A is -exp(A_real) - i A_imag, ours -exp(log_a_real) + i a_imag.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from ..s4 import S4, S4Kernel
from ..s4d import S4D, Discretization, S4DKernel
from .state_dict import check_shapes, made, select
from .transforms import Transform, log_of, value_of

_Layer = TypeVar("_Layer", S4, S4D)
_Transforms = tuple[Transform, Transform, Transform]

_DIAGONAL = ("A_real", "inv_dt", "A_imag", "B", "C")
_OUTPUT = "output_linear.0."
_BLOCK = ("layer.D", f"{_OUTPUT}weight", f"{_OUTPUT}bias")
_INSIDE = "layer.kernel."
_IS_REAL = "as with is_real=True, which is not offered here"


def from_s4(
    weights: Mapping[str, Tensor],
    *,
    prefix: str = "",
    dropout: float = 0.0,
    l_kernel: int | None = None,
    dt_transform: Transform = "exp",
    real_transform: Transform = "exp",
    imag_transform: Transform = "none",
    dtype: torch.dtype | None = None,
) -> S4:
    """Return an `S4` that computes what an original ``S4Block(mode="s4")`` does.

    Sizes are those of the tensors. The block must have the defaults ``final_act="glu"``,
    ``activation="gelu"``, ``mult_act=None`` and ``swap_channels=False``; the last three leave no
    trace in the weights. The original takes (batch, d_model, time) unless ``transposed=False``. It
    drops before GELU and again after it, ours only after it. Where the original cuts its kernel at
    ``l_max``, ours goes on. Example::

        weights = torch.load("s4.pt", weights_only=True)
        layer = from_s4(weights, prefix="layers.0.")

    Args:
        weights: names and tensors, as ``state_dict()`` of the original has them.
        prefix: the part of the names before ``layer.D``; other names are passed over.
        dropout: probability, after GELU.
        l_kernel: the L of C̃, for weights that do not hold it; 0 if they hold C.
        dt_transform: the original's option of that name.
        real_transform: the original's option of that name.
        imag_transform: the original's option of that name.
        dtype: of the parameters; by default that of C.

    Returns:
        The layer on the CPU. Its ``reset_parameters`` draws gonzo's initial values.

    Raises:
        TypeError: `weights` is not a mapping of names to tensors.
        ValueError: names are missing or unknown, sizes disagree, or the block has an option that
            is not read: gate, bottleneck, bidirectional, another final_act, dt_tie=False, is_real.
    """
    transforms = (dt_transform, real_transform, imag_transform)
    block = _select_block("from_s4", weights, prefix)
    kernel = _select_dplr("from_s4", weights, prefix + _INSIDE)
    state = _dplr_state("from_s4", kernel, transforms, l_kernel)
    arguments = _sizes(kernel) | {"init": _init(kernel), "dropout": dropout}
    return _layer("from_s4", S4, block, state, dtype or kernel["C"].dtype, arguments)


def from_s4d(
    weights: Mapping[str, Tensor],
    *,
    prefix: str = "",
    discretization: Discretization = "zoh",
    dropout: float = 0.0,
    dt_transform: Transform = "exp",
    real_transform: Transform = "exp",
    imag_transform: Transform = "none",
    dtype: torch.dtype | None = None,
) -> S4D:
    """Return an `S4D` that computes what an original ``S4Block(mode="s4d")`` does.

    What `from_s4` says of the block holds here too.

    Args:
        weights: names and tensors, as ``state_dict()`` of the original has them.
        prefix: the part of the names before ``layer.D``; other names are passed over.
        discretization: the original's ``disc``; ``"dss"`` is not offered.
        dropout: probability, after GELU.
        dt_transform: the original's option of that name.
        real_transform: the original's option of that name.
        imag_transform: the original's option of that name.
        dtype: of the parameters; by default that of C.

    Returns:
        The layer on the CPU. Its ``reset_parameters`` draws gonzo's initial values.

    Raises:
        TypeError: `weights` is not a mapping of names to tensors.
        ValueError: as `from_s4`.
    """
    transforms = (dt_transform, real_transform, imag_transform)
    block = _select_block("from_s4d", weights, prefix)
    kernel = _select_diagonal("from_s4d", weights, prefix + _INSIDE)
    state = _diagonal_state("from_s4d", kernel, transforms)
    arguments = _sizes(kernel) | {"discretization": discretization, "dropout": dropout}
    return _layer("from_s4d", S4D, block, state, dtype or kernel["C"].dtype, arguments)


def from_s4_kernel(
    weights: Mapping[str, Tensor],
    *,
    prefix: str = "",
    l_kernel: int | None = None,
    dt_transform: Transform = "exp",
    real_transform: Transform = "exp",
    imag_transform: Transform = "none",
    dtype: torch.dtype | None = None,
) -> S4Kernel:
    """Return an `S4Kernel` with the kernel of an original ``SSMKernelDPLR``.

    That of a block is under ``prefix="layer.kernel."``, whatever the block has around it.

    Args:
        weights: names and tensors, as ``state_dict()`` of the original has them.
        prefix: the part of the names before ``A_real``; other names are passed over.
        l_kernel: the L of C̃, for weights that do not hold it; 0 if they hold C.
        dt_transform: the original's option of that name.
        real_transform: the original's option of that name.
        imag_transform: the original's option of that name.
        dtype: of the parameters; by default that of C.

    Returns:
        The operator on the CPU; row m · d_model + h of its kernel is channel m of feature h.

    Raises:
        TypeError: `weights` is not a mapping of names to tensors.
        ValueError: names are missing or unknown, sizes disagree, or the kernel has an option that
            is not read: dt_tie=False, is_real.
    """
    own = _select_dplr("from_s4_kernel", weights, prefix)
    transforms = (dt_transform, real_transform, imag_transform)
    state = _dplr_state("from_s4_kernel", own, transforms, l_kernel)
    return made(S4Kernel, state, dtype or own["C"].dtype, **_sizes(own), init=_init(own))


def from_s4d_kernel(
    weights: Mapping[str, Tensor],
    *,
    prefix: str = "",
    discretization: Discretization = "zoh",
    dt_transform: Transform = "exp",
    real_transform: Transform = "exp",
    imag_transform: Transform = "none",
    dtype: torch.dtype | None = None,
) -> S4DKernel:
    """Return an `S4DKernel` with the kernel of an original ``SSMKernelDiag``.

    That of a block is under ``prefix="layer.kernel."``, whatever the block has around it.

    Args:
        weights: names and tensors, as ``state_dict()`` of the original has them.
        prefix: the part of the names before ``A_real``; other names are passed over.
        discretization: the original's ``disc``; ``"dss"`` is not offered.
        dt_transform: the original's option of that name.
        real_transform: the original's option of that name.
        imag_transform: the original's option of that name.
        dtype: of the parameters; by default that of C.

    Returns:
        The operator on the CPU; row m · d_model + h of its kernel is channel m of feature h.

    Raises:
        TypeError: `weights` is not a mapping of names to tensors.
        ValueError: as `from_s4_kernel`.
    """
    own = _select_diagonal("from_s4d_kernel", weights, prefix)
    transforms = (dt_transform, real_transform, imag_transform)
    state = _diagonal_state("from_s4d_kernel", own, transforms)
    dtype = dtype or own["C"].dtype
    return made(S4DKernel, state, dtype, **_sizes(own), discretization=discretization)


def _select_block(reader: str, weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What a block has around its kernel."""
    kernel_alone = f"{reader}_kernel and prefix={prefix + _INSIDE!r} read the kernel alone"
    return select(
        reader, weights, prefix, _BLOCK,
        elsewhere=_INSIDE,
        foreign={
            "input_gate.": f"the option gate is not read; {kernel_alone}",
            "output_gate.": f"the option gate is not read; {kernel_alone}",
            "input_linear.": f"the option bottleneck is not read; {kernel_alone}",
        },
        absent={f"{_OUTPUT}weight": f"as with final_act=None, not offered here; {kernel_alone}"},
    )  # fmt: skip


def _select_dplr(reader: str, weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    diagonal = reader.replace("s4", "s4d")
    own = select(
        reader, weights, prefix, (*_DIAGONAL, "P"),
        optional=["l_kernel"],
        absent={"A_imag": _IS_REAL, "P": f"the kernel is that of an S4D, use {diagonal}"},
    )  # fmt: skip
    _check(reader, own)
    rank = len(own["P"])
    check_shapes(reader, own, {"P": (rank, *own["A_real"].shape, 2)})
    if rank > 2:
        raise ValueError(f"{reader}: expected P of rank 1 or 2, got {rank}")
    return own


def _select_diagonal(reader: str, weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    low_rank = f"the kernel is that of an S4, use {reader.replace('s4d', 's4')}"
    absent = {"A_imag": _IS_REAL}
    own = select(reader, weights, prefix, _DIAGONAL, foreign={"P": low_rank}, absent=absent)
    _check(reader, own)
    return own


def _check(reader: str, own: dict[str, Tensor]) -> None:
    """Raise unless the tensors of a kernel agree in their sizes."""
    if own["C"].ndim != 4:
        shape = tuple(own["C"].shape)
        raise ValueError(f"{reader}: expected C (channels, d_model, d_state/2, 2), got {shape}")
    d_model, half = own["C"].shape[1:3]
    if own["inv_dt"].shape == (d_model, half) and half > 1:
        raise ValueError(
            f"{reader}: found a step for each state dimension, inv_dt ({d_model}, {half}), as with "
            "dt_tie=False, which is not offered here"
        )
    n_ssm = len(own["A_real"])
    if d_model % n_ssm:
        raise ValueError(
            f"{reader}: expected the {n_ssm} models of A_real to divide the {d_model} of C"
        )
    check_shapes(
        reader, own,
        {
            "C": (len(own["C"]), d_model, half, 2),
            "inv_dt": (d_model, 1),
            "A_real": (n_ssm, half),
            "A_imag": (n_ssm, half),
            "B": (1, n_ssm, half, 2),
        },
    )  # fmt: skip


def _sizes(own: dict[str, Tensor]) -> dict[str, Any]:
    channels, d_model, half, _ = own["C"].shape
    n_ssm = len(own["A_real"])
    return {"d_model": d_model, "d_state": 2 * half, "channels": channels, "n_ssm": n_ssm}


def _init(own: dict[str, Tensor]) -> Literal["legs", "legt"]:
    """An initialisation whose P has as many rows."""
    return "legs" if len(own["P"]) == 1 else "legt"


def _diagonal_state(
    reader: str, own: dict[str, Tensor], transforms: _Transforms
) -> dict[str, Tensor]:
    dt, real, imag = transforms
    return {
        "log_dt": log_of(reader, "dt_transform", own["inv_dt"], dt)[:, 0],
        "log_a_real": log_of(reader, "real_transform", own["A_real"], real),
        "a_imag": -value_of(reader, "imag_transform", own["A_imag"], imag),
        "b": own["B"][0],
        "c": own["C"].flatten(0, 1),
    }


def _dplr_state(
    reader: str, own: dict[str, Tensor], transforms: _Transforms, l_kernel: int | None
) -> dict[str, Tensor]:
    state = _diagonal_state(reader, own, transforms) | {"p": own["P"]}
    if "l_kernel" in own:
        length = int(own["l_kernel"])
        if l_kernel not in (None, length):
            raise ValueError(f"{reader}: got l_kernel={l_kernel}, and {length} in the weights")
    elif l_kernel is None:
        raise ValueError(
            f"{reader}: found no l_kernel, the L of C̃; pass l_kernel=…, or 0 if the kernel was "
            "never computed"
        )
    else:
        length = l_kernel
    if length < 0:
        raise ValueError(f"{reader}: expected l_kernel of at least 0, got {length}")
    return state | {"c": _solved_c(state, length)} if length else state


def _solved_c(state: dict[str, Tensor], length: int) -> Tensor:
    """C from the C̃ = C (I - Ā^L) of a state: (channels · d_model, d_state/2, 2) in float64."""
    wide = {name: tensor.double() for name, tensor in state.items()}
    dt = wide["log_dt"].exp()[:, None, None]
    p = _both(torch.view_as_complex(wide["p"].contiguous()))
    a = torch.diag_embed(_both(torch.complex(-wide["log_a_real"].exp(), wide["a_imag"])))
    a = a - torch.einsum("rsi,rsj->sij", p, p.conj())
    half = dt / 2 * a.repeat(len(dt) // len(a), 1, 1)  # (d_model, d_state, d_state)
    eye = torch.eye(a.shape[-1], dtype=a.dtype)
    lost = _one_minus_power(torch.linalg.solve(eye - half, -2 * half), length)  # I - Ā^L
    rows = _both(torch.view_as_complex(wide["c"].contiguous())).unflatten(0, (-1, len(dt)))
    c = torch.linalg.solve(lost, rows.transpose(0, 1), left=False).transpose(0, 1)
    return torch.view_as_real(c.flatten(0, 1)[:, : a.shape[-1] // 2].resolve_conj())


def _one_minus_power(e: Tensor, power: int) -> Tensor:
    """1 - (1 - e)^power; a slow mode has an e of 1e-7, of which Ā itself keeps few digits."""
    total = torch.zeros_like(e)
    while power:
        if power % 2:
            total = total + e - total @ e
        e, power = 2 * e - e @ e, power // 2
    return total


def _both(x: Tensor) -> Tensor:
    """One of each conjugate pair to all of them, along the last dimension."""
    return torch.cat([x, x.conj()], -1)


def _layer(
    reader: str,
    kind: type[_Layer],
    block: dict[str, Tensor],
    operator: dict[str, Tensor],
    dtype: torch.dtype,
    arguments: dict[str, Any],
) -> _Layer:
    d_model, width = arguments["d_model"], arguments["channels"] * arguments["d_model"]
    if block["layer.D"].numel() * 2 == width:
        raise ValueError(
            f"{reader}: C has twice the channels of D, as with bidirectional=True; gonzo's "
            "Bidirectional is another function"
        )
    rows, columns = block[f"{_OUTPUT}weight"].shape
    if 2 * columns == width:
        raise ValueError(
            f'{reader}: the output reads half the channels of C, as with activation="glu", which '
            "is not offered here"
        )
    if rows == d_model:
        raise ValueError(
            f"{reader}: the output has d_model={d_model} features and not twice as many, as with "
            f'a final_act other than "glu"; {reader}_kernel reads the kernel alone'
        )
    expected = {_BLOCK[0]: (width // d_model, d_model), _BLOCK[1]: (2 * d_model, width)}
    check_shapes(reader, block, expected | {_BLOCK[2]: (2 * d_model,)})
    state = {f"operator.{name}": tensor for name, tensor in operator.items()} | {
        "d": block["layer.D"].flatten(),
        "output.weight": block[f"{_OUTPUT}weight"],
        "output.bias": block[f"{_OUTPUT}bias"],
    }
    return made(kind, state, dtype, **arguments)
