"""Attention whose weights are inner products of features, so that the past is a state of one size.

    y_t = Σ_{s ≤ t} φ(q_t)·φ(k_s) v_s / (Σ_{s ≤ t} φ(q_t)·φ(k_s) + ε)
        = φ(q_t)·S_t / (φ(q_t)·z_t + ε),   S_t = Σ_{s ≤ t} φ(k_s) v_sᵀ,   z_t = Σ_{s ≤ t} φ(k_s)

`linear_scan` cannot serve: S has n_feature · d_value numbers at every step, of which only y is
wanted, and here they meet in matrix products over chunks.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from . import register  # noqa: F401  (registers the op)
from .features import n_feature

__all__ = ["FeatureMapName", "linear_attention", "n_feature"]

FeatureMapName = Literal["identity", "elu", "taylor", "quadratic", "softmax_pair"]


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: FeatureMapName = "identity",
    scale: float | None = None,
    causal: bool = True,
    normalize: bool = True,
    eps: float = 1e-6,
    state: Tensor | None = None,
    lengths: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Attend with weights φ(q)·φ(k), in linear time, from a given state.

    The maps that are fused, with s = scale · q·k and d = d_key:

    ================  =======================================  ==========================
    ``feature_map``   weight φ(q)·φ(k)                         features
    ================  =======================================  ==========================
    ``identity``      q·k, for features made beforehand        d
    ``elu``           φ(x) = elu(x) + 1                        d
    ``taylor``        1 + s + s²/2                             1 + d + d(d + 1)/2
    ``quadratic``     s²                                       d(d + 1)/2
    ``softmax_pair``  φ(x) = [softmax(x), softmax(-x)]         2 d
    ================  =======================================  ==========================

    Of the products x_i x_j each pair is kept once. Nothing of size (time, time) or
    (time, n_feature) is stored, forward or backward.

    Args:
        q: (batch, n_head, time, d_key) floating point. Half precisions are summed in float32.
        k: (batch, n_head, time, d_key) of the same dtype.
        v: (batch, n_head, time, d_value) of the same dtype.
        feature_map: one of the table's.
        scale: of s, for ``taylor`` and ``quadratic``; by default d_key ** -0.5.
        causal: whether a step sees only itself and what came before. Otherwise it sees the state
            and the whole chunk.
        normalize: divide by the sum of the weights and `eps`.
        eps: added to that sum.
        state: (batch, n_head, n_feature, d_value + 1), the sums over the past: S, and z as the last
            column, which is missing (d_value columns) where `normalize` is False. None is zero.
            float32, or float64 where q is.
        lengths: (batch,) valid steps of each sequence of a right-padded batch. Outputs past them
            are zero, and the state is the one after the last valid step.
        cu_seqlens: (n + 1,) integers 0 = c_0 ≤ c_1 ≤ … ≤ c_n = time: n sequences packed one after
            another along time, in a batch of one; the state then has a batch of n.
        backend: see `gonzo.core.backend`.

    Returns:
        y (batch, n_head, time, d_value) of v's dtype, and the state after the last step.

    Raises:
        ValueError: wrong shapes, values or combinations.
        TypeError: wrong dtypes.

    Source:
        Katharopoulos, Vyas, Pappas, Fleuret: Transformers are RNNs (2020),
        https://arxiv.org/abs/2006.16236. The maps: Arora et al. (2024) for ``taylor``, Aksenov et
        al. (2024) for ``quadratic``, Zhang et al. (2024) for ``softmax_pair``.
    """
    _check(q, k, v, feature_map, scale, eps, lengths, cu_seqlens)
    batch, n_head, _, d_key = q.shape
    if cu_seqlens is not None:
        batch = cu_seqlens.shape[0] - 1
    wide = torch.promote_types(q.dtype, torch.float32)
    shape = (batch, n_head, n_feature(feature_map, d_key), v.shape[-1] + normalize)
    if state is None:
        state = q.new_zeros(shape, dtype=wide)
    _check_state(state, shape, wide, q.device)
    scale = d_key**-0.5 if scale is None else float(scale)
    y, _, final = torch.ops.gonzo.linear_attention(
        *(q, k, v, state, lengths, cu_seqlens),
        *(feature_map, scale, causal, normalize, float(eps), backend or ""),
    )
    return y, final


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    feature_map: str,
    scale: float | None,
    eps: float,
    lengths: Tensor | None,
    cu_seqlens: Tensor | None,
) -> None:
    if q.ndim != 4 or not q.is_floating_point():
        raise ValueError(
            "linear_attention: expected floating-point q of shape (batch, n_head, time, d_key), "
            f"got {q.dtype} {tuple(q.shape)}"
        )
    if k.shape != q.shape:
        raise ValueError(
            f"linear_attention: expected k of q's shape {tuple(q.shape)}, got {tuple(k.shape)}"
        )
    if v.ndim != 4 or v.shape[:3] != q.shape[:3]:
        raise ValueError(
            f"linear_attention: expected v of shape {(*q.shape[:3], 'd_value')}, "
            f"got {tuple(v.shape)}".replace("'", "")
        )
    for name, tensor in {"k": k, "v": v}.items():
        if tensor.dtype != q.dtype or tensor.device != q.device:
            raise TypeError(
                f"linear_attention: q and {name} must share dtype and device, got {q.dtype} on "
                f"{q.device} and {tensor.dtype} on {tensor.device}"
            )
    if q.shape[2] < 1:
        raise ValueError("linear_attention: expected at least one time step, got time 0")
    if q.shape[3] < 1 or v.shape[3] < 1:
        raise ValueError(
            f"linear_attention: expected d_key and d_value of at least 1, "
            f"got {q.shape[3]} and {v.shape[3]}"
        )
    if feature_map not in get_args(FeatureMapName):
        raise ValueError(
            f"linear_attention: expected feature_map to be one of "
            f"{', '.join(get_args(FeatureMapName))}, got {feature_map!r}"
        )
    if scale is not None and feature_map not in ("taylor", "quadratic"):
        raise ValueError(
            f"linear_attention: scale belongs to 'taylor' and 'quadratic'; with {feature_map!r}, "
            "scale q and k yourself"
        )
    if (scale is not None and not scale > 0) or not eps >= 0:
        raise ValueError(
            f"linear_attention: expected scale > 0 and eps >= 0, got {scale} and {eps}"
        )
    if lengths is not None and cu_seqlens is not None:
        raise ValueError(
            "linear_attention: lengths are for padded batches and cu_seqlens for packed ones; "
            "give one of them"
        )
    if lengths is not None and lengths.shape != q.shape[:1]:
        raise ValueError(
            f"linear_attention: expected lengths of shape ({q.shape[0]},), "
            f"got {tuple(lengths.shape)}"
        )
    for name, integers in {"lengths": lengths, "cu_seqlens": cu_seqlens}.items():
        if integers is not None and integers.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"linear_attention: expected integer {name}, got {integers.dtype}")
    if cu_seqlens is not None:
        _check_packed(cu_seqlens, q)


def _check_packed(cu_seqlens: Tensor, q: Tensor) -> None:
    if q.shape[0] != 1 or cu_seqlens.ndim != 1 or cu_seqlens.shape[0] < 2:
        raise ValueError(
            "linear_attention: packed sequences need a batch of 1 and cu_seqlens of shape (n + 1,),"
            f" got a batch of {q.shape[0]} and {tuple(cu_seqlens.shape)}"
        )
    # On a GPU, reading the values would wait for the device.
    if cu_seqlens.device.type == "cpu" and not torch.compiler.is_compiling():
        edges = cu_seqlens.tolist()
        if edges[0] != 0 or edges[-1] != q.shape[2] or sorted(edges) != edges:
            raise ValueError(
                f"linear_attention: expected cu_seqlens that rise from 0 to {q.shape[2]}, "
                f"got {edges if len(edges) < 9 else [*edges[:4], '…', *edges[-4:]]}"
            )


def _check_state(
    state: Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    if tuple(state.shape) != shape:
        raise ValueError(
            f"linear_attention: expected a state of shape {shape} (batch, n_head, n_feature, "
            f"columns), got {tuple(state.shape)}"
        )
    if state.dtype != dtype or state.device != device:
        raise TypeError(
            f"linear_attention: expected a state in {dtype} on {device}, "
            f"got {state.dtype} on {state.device}"
        )
