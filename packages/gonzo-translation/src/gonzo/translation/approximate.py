"""CSLS through faiss: searches that look at a part of the vocabulary, for very large ones.

CSLS of a query x is an inner product, so any index of inner products finds its best targets:

    2 cos(x, y) - r(y) - r(x) = <(x, 1), (2y, -r(y))> - r(x)      x, y of length 1

Three searches make one of CSLS: targets among the sources for r(y), queries among the targets for
r(x), and queries among the lengthened targets. What each of them misses makes the result
approximate; `recall` measures by how much.

Try the exact op first. On one thread it was the quicker one at 20,000 words a side (2.4 s; "ivf"
3.6 s with a recall of 0.86, "hnsw" 14 s with 0.99) and at 60,000 (11 s; "ivf" 22 s with 0.79), of
100 dimensions each: a search through cells pays where most of the vocabulary is not looked at.

Sources:
    Conneau, Lample, Ranzato, Denoyer and Jégou: Word Translation Without Parallel Data (2018),
    section 2.3: CSLS.
    Jégou, Douze and Schmid: Product Quantization for Nearest Neighbor Search (2011): cells.
    Malkov and Yashunin: Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical
    Navigable Small World Graphs (2018).
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from gonzo.core import require
from gonzo.core.ops.csls_topk import Retrieved

__all__ = ["ApproximateIndex", "IndexSettings", "approximate_csls_topk", "recall"]

Kind = Literal["flat", "ivf", "hnsw"]
_PER_CELL = 39  # vectors for each cell, below which faiss warns that its k-means has too few


@dataclass(frozen=True)
class IndexSettings:
    """Which index, and how much of it is looked at.

    Args:
        kind: "flat" looks at everything and is exact; "ivf" at the cells nearest to the query; and
            "hnsw" at a graph's neighbours, which is slow to build and quick to search.
        cells: of "ivf"; None is 4 √n, or fewer where a cell would have too few vectors.
        probes: cells that "ivf" looks at.
        links: of each vector in "hnsw".
        breadth: candidates that "hnsw" keeps, while it is built and searched.
        seed: of the k-means that makes the cells.
        threads: of faiss. With one, the same call gives the same result.

    Raises:
        ValueError: another kind, or a number below 1 (seed: below 0).
    """

    kind: Kind = "ivf"
    cells: int | None = None
    probes: int = 32
    links: int = 32
    breadth: int = 128
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"expected an index of {', '.join(get_args(Kind))}, got {self.kind!r}")
        for name in ("cells", "probes", "links", "breadth", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"expected {name} of at least 1, got {value}")
        if self.seed < 0:
            raise ValueError(f"expected a seed of at least 0, got {self.seed}")


class ApproximateIndex:
    """Vectors that can be searched for the largest inner products.

    Args:
        vectors: (m, d) float, m at least 1; kept as float32 on the CPU. For cosines give vectors of
            length 1.
        settings: of the index.

    Raises:
        ValueError: another shape, or more cells than vectors.
        MissingExtraError: faiss is not installed.
    """

    def __init__(self, vectors: Tensor, settings: IndexSettings | None = None) -> None:
        self._faiss: Any = require("faiss", extra="gonzo-translation[faiss]")
        self._settings = settings or IndexSettings()
        self._vectors = _array(vectors)
        with _threads(self._faiss, self._settings.threads):
            self._index = self._build()

    def __len__(self) -> int:
        """Vectors."""
        return len(self._vectors)

    def search(self, queries: Tensor, k: int) -> Retrieved:
        """Find k vectors whose inner product with each query is large.

        A query for which the index comes upon fewer than k is searched exactly.

        Args:
            queries: (q, d)
            k: 1 … m.

        Returns:
            Inner products and rows, (q, k) each on the device of `queries`, the best first; of
            equal ones among the k the lower row first.

        Raises:
            ValueError: another shape, or k out of range.
        """
        if not 1 <= k <= len(self):
            raise ValueError(f"expected k in 1 … {len(self)}, the vectors of the index, got {k}")
        asked = _array(queries)
        if asked.shape[1] != self._vectors.shape[1]:
            raise ValueError(
                f"expected queries of width {self._vectors.shape[1]}, got {asked.shape[1]}"
            )
        with _threads(self._faiss, self._settings.threads):
            products, rows = self._index.search(asked, k)
        short = np.flatnonzero(rows[:, -1] < 0)
        if len(short):
            exact = torch.from_numpy(asked[short] @ self._vectors.T).topk(k)
            products[short], rows[short] = exact.values.numpy(), exact.indices.numpy()
        order = np.lexsort((rows, -products), axis=1)
        return Retrieved(
            torch.from_numpy(np.take_along_axis(products, order, 1)).to(queries.device),
            torch.from_numpy(np.take_along_axis(rows, order, 1)).to(queries.device),
        )

    def _build(self) -> Any:
        faiss, settings = self._faiss, self._settings
        count, width = self._vectors.shape
        if settings.kind == "flat":
            index = faiss.IndexFlatIP(width)
        elif settings.kind == "hnsw":
            index = faiss.IndexHNSWFlat(width, settings.links, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = index.hnsw.efSearch = settings.breadth
        else:
            cells = settings.cells or max(1, min(round(4 * math.sqrt(count)), count // _PER_CELL))
            if cells > count:
                raise ValueError(f"expected at most {count} cells, the vectors, got {cells}")
            index = faiss.IndexIVFFlat(
                faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT
            )
            index.cp.seed = settings.seed
            index.cp.min_points_per_centroid = 1
            index.nprobe = min(settings.probes, cells)
            index.train(self._vectors)
        index.add(self._vectors)
        return index


def approximate_csls_topk(
    source: Tensor,
    target: Tensor,
    k: int,
    *,
    neighbours: int = 10,
    rows: Tensor | None = None,
    settings: IndexSettings | None = None,
) -> Retrieved:
    """Find about the k best targets by CSLS; `gonzo.core.ops.csls_topk.csls_topk` is exact.

    Args:
        source: (n, d) mapped vectors of any length; float32 is computed with.
        target: (m, d)
        k: 1 … m.
        neighbours: whose mean cosine is r; cut to the size of the vocabulary.
        rows: (q,) int64 source rows that ask; None is all of them.
        settings: of the three indexes.

    Returns:
        CSLS scores and target rows, (q, k) each, the best first.

    Raises:
        ValueError: wrong shapes, or k or neighbours out of range.
        MissingExtraError: faiss is not installed.
    """
    if source.ndim != 2 or target.ndim != 2 or source.shape[1] != target.shape[1]:
        raise ValueError(
            "approximate_csls_topk: expected source (n, d) and target (m, d), got "
            f"{tuple(source.shape)} and {tuple(target.shape)}"
        )
    if neighbours < 1:
        raise ValueError(f"approximate_csls_topk: expected at least 1 neighbour, got {neighbours}")
    x, y = normalize(source.float()), normalize(target.float())
    asking = x if rows is None else x[rows]
    near_source = ApproximateIndex(x, settings).search(y, min(neighbours, len(x))).scores
    near_target = ApproximateIndex(y, settings).search(asking, min(neighbours, len(y))).scores
    longer = torch.cat([2 * y, -near_source.mean(1, keepdim=True)], 1)
    ones = asking.new_ones(len(asking), 1)
    found = ApproximateIndex(longer, settings).search(torch.cat([asking, ones], 1), k)
    return Retrieved(found.scores - near_target.mean(1, keepdim=True), found.indices)


def recall(approximate: Retrieved, exact: Retrieved) -> float:
    """Give the share of the exact result that an approximate one found, whatever the order.

    Raises:
        ValueError: their shapes differ, or they are empty.
    """
    found, wanted = approximate.indices, exact.indices
    if found.shape != wanted.shape or not wanted.numel():
        raise ValueError(
            "recall: expected results for the same queries and the same k, at least one, got "
            f"indices of shapes {tuple(found.shape)} and {tuple(wanted.shape)}"
        )
    return float((wanted[:, :, None] == found[:, None]).any(2).double().mean())


def _array(vectors: Tensor) -> np.ndarray:
    if vectors.ndim != 2 or not vectors.numel():
        raise ValueError(f"expected at least one vector, (m, d), got shape {tuple(vectors.shape)}")
    return np.ascontiguousarray(vectors.detach().to("cpu", torch.float32).numpy())


@contextmanager
def _threads(faiss: Any, threads: int) -> Generator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
