"""Softmax attention of every step to the last few, in time and memory linear in the length.

Queries are taken in blocks of ``window`` steps; a block sees the 2 · window - 1 keys from its first
query's oldest to its last query's own.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

__all__ = ["sliding_window_attention"]


def sliding_window_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    window: int,
    *,
    padding: Tensor | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Attend to the ``window`` latest keys, the query's own included.

    Args:
        queries: (batch, n_head, time, d), the last steps of all.
        keys: (batch, n_head, total, d), total >= time.
        values: (batch, n_head, total, d).
        window: Keys that a query sees.
        padding: (batch, 1), keys at the beginning that nobody sees; (batch, 0) or None for none.
        dropout_p: Probability, on the weights.

    Returns:
        (batch, n_head, time, d)
    """
    batch, n_head, time, d = queries.shape
    blocks = -(-time // window)
    rest = blocks * window - time
    # In front of each block of queries lie window - 1 keys, or zeros where there are fewer.
    missing = window - 1 - (keys.shape[2] - time)
    keys, values = (_blocks(t, missing, rest, window) for t in (keys, values))
    queries = pad(queries, (0, 0, 0, rest)).unflatten(2, (blocks, window))

    query = torch.arange(window, device=queries.device)[:, None]
    key = torch.arange(2 * window - 1, device=queries.device)
    near = (key >= query) & (key < query + window)  # (window, 2 window - 1)
    place = torch.arange(blocks, device=queries.device)[:, None] * window + key - missing
    real = place >= 0  # (blocks, 2 window - 1)
    if padding is not None and padding.shape[1]:
        real = real & (place >= padding[:, :, None])  # (batch, blocks, 2 window - 1)
    # A query sees itself, also where it is only there to fill up the last block.
    mask = near & (real[..., None, :] | (key == query + window - 1))
    if mask.ndim == 4:
        mask = mask.repeat_interleave(n_head, 0)
    # Blocks stand where heads are expected, so that one mask serves all sequences and heads.
    y = scaled_dot_product_attention(
        *(t.flatten(0, 1) for t in (queries, keys, values)),
        attn_mask=mask,
        dropout_p=dropout_p,
    )
    return y.view(batch, n_head, blocks * window, d)[:, :, :time]


def _blocks(x: Tensor, missing: int, rest: int, window: int) -> Tensor:
    """Keys or values (batch, n_head, total, d) as (batch, n_head, blocks, 2 window - 1, d)."""
    # A negative number of missing keys cuts off those that are out of every query's sight.
    x = pad(x, (0, 0, missing, rest))
    return x.unfold(2, 2 * window - 1, window).transpose(-1, -2)
