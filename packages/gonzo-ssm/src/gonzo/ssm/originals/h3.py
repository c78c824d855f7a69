"""The original H3 as ours.

In the original, feature e of head h is number h · head_dim + e where the three projections are
read, as here, but number e · n_head + h where the heads are written: the columns of the last linear
map are put in order.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..h3 import H3
from ..s4d import Discretization
from .state_dict import check_shapes, made, select
from .transforms import Transform, log_of

_PROJECTIONS = ("q_proj", "k_proj", "v_proj")
_LINEAR = (*_PROJECTIONS, "output_linear")
_SHIFT, _DIAGONAL = "ssm_k_kernel.kernel.", "kernel.kernel."
_NAMES = (
    *(f"{name}.{part}" for name in _LINEAR for part in ("weight", "bias")),
    *(f"{_SHIFT}{name}" for name in ("B", "C")),
    *(f"{_DIAGONAL}{name}" for name in ("log_dt", "inv_A_real", "A_imag", "B", "C")),
    *("ssm_k_D", "D"),
)


def from_h3(
    weights: Mapping[str, Tensor],
    *,
    prefix: str = "",
    discretization: Discretization = "bilinear",
    real_transform: Transform = "exp",
    dtype: torch.dtype | None = None,
) -> H3:
    """Return an `H3` that computes what an original ``H3`` does.

    Sizes are those of the tensors: a head is as wide as d_model by the size of D. Heads that shared
    A and B (``n_ssm``) get copies of their own. Where the original cuts its kernels at ``l_max``,
    ours go on. Example::

        weights = torch.load("model.pt", weights_only=True)
        layer = from_h3(weights, prefix="backbone.layers.0.mixer.")

    Args:
        weights: names and tensors, as ``state_dict()`` of the original has them.
        prefix: the part of the names before ``q_proj``; other names are passed over.
        discretization: the original's ``disc``.
        real_transform: the original's ``real_type``.
        dtype: of the parameters; by default that of the diagonal model's C.

    Returns:
        The layer on the CPU. Its ``reset_parameters`` draws gonzo's initial values.

    Raises:
        TypeError: `weights` is not a mapping of names to tensors.
        ValueError: names are missing or unknown, as for ``mode="ema"``; sizes disagree.
    """
    reader = "from_h3"
    ema = 'it is of mode="ema", which H3 does not offer'
    own = select(reader, weights, prefix, _NAMES, foreign={f"{_DIAGONAL}delta": ema})
    n_head, n_ssm, d_model, d_state = _sizes(reader, own)
    head_dim, copies = d_model // n_head, n_head // n_ssm
    real = log_of(reader, "real_transform", own[f"{_DIAGONAL}inv_A_real"], real_transform)
    written = own["output_linear.weight"].unflatten(1, (head_dim, n_head))
    state = {
        "project_in.weight": torch.cat([own[f"{name}.weight"] for name in _PROJECTIONS]),
        "project_in.bias": torch.cat([own[f"{name}.bias"] for name in _PROJECTIONS]),
        "shift_b": own[f"{_SHIFT}B"],
        "shift_c": own[f"{_SHIFT}C"][0],
        "shift_d": own["ssm_k_D"],
        "diagonal.log_dt": own[f"{_DIAGONAL}log_dt"],
        "diagonal.log_a_real": real.repeat(copies, 1),
        "diagonal.a_imag": own[f"{_DIAGONAL}A_imag"].repeat(copies, 1),
        "diagonal.b": own[f"{_DIAGONAL}B"].repeat(copies, 1, 1),
        "diagonal.c": own[f"{_DIAGONAL}C"][0],
        "d": own["D"],
        "project_out.weight": written.transpose(1, 2).flatten(1),
        "project_out.bias": own["output_linear.bias"],
    }
    return made(
        H3, state, dtype or own[f"{_DIAGONAL}C"].dtype,
        d_model=d_model, d_state=d_state, head_dim=head_dim, discretization=discretization,
    )  # fmt: skip


def _sizes(reader: str, own: dict[str, Tensor]) -> tuple[int, int, int, int]:
    """n_head, n_ssm, d_model and d_state, of tensors that agree with each other."""
    d_model, d_state = len(own["q_proj.weight"]), own[f"{_SHIFT}B"].shape[-1]
    n_head, n_ssm, half = len(own["D"]), len(own[f"{_DIAGONAL}A_imag"]), d_state // 2
    if d_model % n_head or n_head % n_ssm:
        raise ValueError(
            f"{reader}: expected D to be as long as some divisor of d_model={d_model} that the "
            f"{n_ssm} models of A divide, got {n_head}"
        )
    expected: dict[str, tuple[int, ...]] = {
        f"{_SHIFT}B": (d_model, d_state),
        f"{_SHIFT}C": (1, d_model, d_state),
        "ssm_k_D": (d_model,),
        f"{_DIAGONAL}log_dt": (n_head,),
        f"{_DIAGONAL}inv_A_real": (n_ssm, half),
        f"{_DIAGONAL}A_imag": (n_ssm, half),
        f"{_DIAGONAL}B": (n_ssm, half, 2),
        f"{_DIAGONAL}C": (1, n_head, half, 2),
        "D": (n_head,),
    }
    for name in _LINEAR:
        expected |= {f"{name}.weight": (d_model, d_model), f"{name}.bias": (d_model,)}
    check_shapes(reader, own, expected)
    return n_head, n_ssm, d_model, d_state
