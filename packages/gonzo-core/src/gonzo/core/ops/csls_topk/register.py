"""Schemas, shapes and dispatch of `csls_topk` and its siblings; none of them has a gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from gonzo.core.backends import implementation
from gonzo.core.ops.library import LIBRARY, implement

from .arguments import check_range, check_values

_VECTORS = "Tensor source, Tensor target"
LIBRARY.define(f"cosine_topk({_VECTORS}, SymInt k, Tensor? rows, str backend) -> (Tensor, Tensor)")
LIBRARY.define(
    f"csls_topk({_VECTORS}, SymInt k, SymInt neighbours, Tensor? rows, str backend)"
    " -> (Tensor, Tensor)"
)
LIBRARY.define(
    f"csls_topk_both({_VECTORS}, SymInt k, SymInt neighbours, Tensor? source_rows, "
    "Tensor? target_rows, str backend) -> (Tensor, Tensor, Tensor, Tensor)"
)
LIBRARY.define(
    f"inverted_softmax_topk({_VECTORS}, SymInt k, float temperature, Tensor? rows, str backend)"
    " -> (Tensor, Tensor)"
)
LIBRARY.define(
    f"neighbourhood_means({_VECTORS}, SymInt neighbours, str backend) -> (Tensor, Tensor)"
)


def _cosine_topk(
    source: Tensor, target: Tensor, k: int, rows: Tensor | None, backend: str
) -> tuple[Tensor, Tensor]:
    check_values("cosine_topk", source=source, target=target)
    check_range("cosine_topk", "rows", rows, len(source))
    module = implementation("csls_topk", backend, source.device)
    return module.cosine_topk(source, target, k, rows)


def _csls_topk(
    source: Tensor, target: Tensor, k: int, neighbours: int, rows: Tensor | None, backend: str
) -> tuple[Tensor, Tensor]:
    check_values("csls_topk", source=source, target=target)
    check_range("csls_topk", "rows", rows, len(source))
    module = implementation("csls_topk", backend, source.device)
    return module.csls_topk(source, target, k, neighbours, rows)


def _csls_topk_both(
    source: Tensor,
    target: Tensor,
    k: int,
    neighbours: int,
    source_rows: Tensor | None,
    target_rows: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_values("csls_topk_both", source=source, target=target)
    check_range("csls_topk_both", "source_rows", source_rows, len(source))
    check_range("csls_topk_both", "target_rows", target_rows, len(target))
    module = implementation("csls_topk", backend, source.device)
    return module.csls_topk_both(source, target, k, neighbours, source_rows, target_rows)


def _inverted_softmax_topk(
    source: Tensor, target: Tensor, k: int, temperature: float, rows: Tensor | None, backend: str
) -> tuple[Tensor, Tensor]:
    check_values("inverted_softmax_topk", source=source, target=target)
    check_range("inverted_softmax_topk", "rows", rows, len(source))
    module = implementation("csls_topk", backend, source.device)
    return module.inverted_softmax_topk(source, target, k, temperature, rows)


def _neighbourhood_means(
    source: Tensor, target: Tensor, neighbours: int, backend: str
) -> tuple[Tensor, Tensor]:
    check_values("neighbourhood_means", source=source, target=target)
    module = implementation("csls_topk", backend, source.device)
    return module.neighbourhood_means(source, target, neighbours)


implement("cosine_topk", _cosine_topk)
implement("csls_topk", _csls_topk)
implement("csls_topk_both", _csls_topk_both)
implement("inverted_softmax_topk", _inverted_softmax_topk)
implement("neighbourhood_means", _neighbourhood_means)


def _retrieved(vectors: Tensor, k: int, rows: Tensor | None) -> tuple[Tensor, Tensor]:
    size = (vectors.shape[0] if rows is None else rows.shape[0], k)
    return vectors.new_empty(size), vectors.new_empty(size, dtype=torch.int64)


@torch.library.register_fake("gonzo::cosine_topk", lib=LIBRARY)
def _(
    source: Tensor, target: Tensor, k: int, rows: Tensor | None, backend: str
) -> tuple[Tensor, Tensor]:
    return _retrieved(source, k, rows)


@torch.library.register_fake("gonzo::inverted_softmax_topk", lib=LIBRARY)
@torch.library.register_fake("gonzo::csls_topk", lib=LIBRARY)
def _(
    source: Tensor, target: Tensor, k: int, option: float, rows: Tensor | None, backend: str
) -> tuple[Tensor, Tensor]:
    return _retrieved(source, k, rows)


@torch.library.register_fake("gonzo::csls_topk_both", lib=LIBRARY)
def _(
    source: Tensor,
    target: Tensor,
    k: int,
    neighbours: int,
    source_rows: Tensor | None,
    target_rows: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return *_retrieved(source, k, source_rows), *_retrieved(target, k, target_rows)


@torch.library.register_fake("gonzo::neighbourhood_means", lib=LIBRARY)
def _(source: Tensor, target: Tensor, neighbours: int, backend: str) -> tuple[Tensor, Tensor]:
    return source.new_empty(source.shape[0]), target.new_empty(target.shape[0])
