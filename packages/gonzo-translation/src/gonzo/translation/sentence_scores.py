"""Sentence retrieval: find a sentence's translation among many, as bags of words weighted by idf.

A sentence's vector is the sum over its distinct words of idf(w) · x_w, with

    idf(w) = max(1, log10(N / sentences with w)),  counted on N other sentences of the language

The length of the vector does not matter, as sentences are compared by cosine or CSLS.

Source: Conneau, Lample, Ranzato, Denoyer and Jégou: Word Translation Without Parallel Data (2018),
section 3.3, table 3; the lower limit of 1 and the counting of distinct words are MUSE's.

Deviation: MUSE gives a sentence without any known word the vector of the vocabulary's first word.
Here its vector is zero, it is counted, and its translation counts as not found.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gonzo.translation.hit_ranks import Interval, check_ks, hit_ranks, wilson_interval
from gonzo.translation.retrieval import Method, retrieve

__all__ = [
    "SentenceRetrieval",
    "SentenceVectors",
    "idf_weights",
    "sentence_retrieval",
    "sentence_vectors",
]


@dataclass(frozen=True, eq=False)
class SentenceVectors:
    """Vectors of sentences, and how much of each sentence they know.

    Args:
        vectors: (s, d); zero for a sentence without a known word.
        known: (s,) int64, distinct words that are in the vector.
        unknown: (s,) int64, distinct words that have no vector or no idf.
    """

    vectors: Tensor
    known: Tensor
    unknown: Tensor

    def __len__(self) -> int:
        """Sentences."""
        return len(self.vectors)

    @property
    def empty(self) -> Tensor:
        """(s,) bool, the sentences without a known word."""
        return self.known == 0


@dataclass(frozen=True, eq=False)
class SentenceRetrieval:
    """Which translations were found.

    Args:
        ks: ascending.
        found: (q, largest k) int64 keys, the best first.
        ranks: (q,) int64, where the right key stands in `found`, from 0; the width of `found` where
            it is not there, or where the query or its translation has no known word.
        unknown_words: share of the words, distinct within a sentence, that queries and keys lack.
        empty_queries: queries without a known word.
        empty_keys: keys without a known word.
    """

    ks: tuple[int, ...]
    found: Tensor
    ranks: Tensor
    unknown_words: float
    empty_queries: int
    empty_keys: int

    def __len__(self) -> int:
        """Queries."""
        return len(self.ranks)

    @property
    def precision(self) -> dict[int, float]:
        """Share of the queries whose translation is among the first k, by k."""
        return {k: self._hits(k) / len(self) for k in self.ks}

    def interval(self, k: int = 1, *, confidence: float = 0.95) -> Interval:
        """Give Wilson's interval of the precision at k, one of `ks`."""
        if k not in self.ks:
            raise ValueError(f"expected k of {self.ks}, what was searched for, got {k}")
        return wilson_interval(self._hits(k), len(self), confidence=confidence)

    def _hits(self, k: int) -> int:
        return int((self.ranks < min(k, self.found.shape[1])).sum())


def idf_weights(sentences: Iterable[Iterable[str]]) -> dict[str, float]:
    """Weigh each word by how few sentences have it: max(1, log10(N / sentences with it)).

    Args:
        sentences: of one language, tokenized and cased as the vocabulary is; at best not those that
            are searched.

    Raises:
        TypeError: a sentence is a string instead of its words.
        ValueError: no sentence.
    """
    having: Counter[str] = Counter()
    total = 0
    for sentence in sentences:
        having.update(_distinct(sentence))
        total += 1
    if not total:
        raise ValueError("idf_weights: expected at least one sentence, got none")
    return {word: max(1.0, math.log10(total / count)) for word, count in having.items()}


def sentence_vectors(
    sentences: Iterable[Iterable[str]],
    index: Mapping[str, int],
    vectors: Tensor,
    idf: Mapping[str, float],
) -> SentenceVectors:
    """Add up the vectors of each sentence's distinct words, weighted.

    Args:
        sentences: of words, tokenized and cased as the vocabulary is.
        index: row of each word, `Embeddings.index`.
        vectors: (n, d) float, mapped if they are the source's. They are used as they are: give
            vectors of length 1 if frequent words are not to count for more, or less, than their
            idf.
        idf: of `idf_weights`; a word without one is left out and counted as unknown.

    Raises:
        TypeError: a sentence is a string instead of its words.
        ValueError: no sentence.
    """
    rows: list[int] = []
    weights: list[float] = []
    known: list[int] = []
    unknown: list[int] = []
    for sentence in sentences:
        distinct = sorted(_distinct(sentence))  # one order of the sum, and so one last digit
        usable = [word for word in distinct if word in index and word in idf]
        rows += [index[word] for word in usable]
        weights += [idf[word] for word in usable]
        known.append(len(usable))
        unknown.append(len(distinct) - len(usable))
    if not known:
        raise ValueError("sentence_vectors: expected at least one sentence, got none")
    counts = torch.tensor(known)
    belongs = torch.repeat_interleave(torch.arange(len(known)), counts).to(vectors.device)
    weighted = vectors[torch.tensor(rows, dtype=torch.int64, device=vectors.device)]
    weighted = weighted * vectors.new_tensor(weights)[:, None]
    sums = vectors.new_zeros(len(known), vectors.shape[1]).index_add_(0, belongs, weighted)
    return SentenceVectors(sums, counts, torch.tensor(unknown))


def sentence_retrieval(
    queries: SentenceVectors,
    keys: SentenceVectors,
    *,
    gold: Sequence[int] | Tensor | None = None,
    method: Method = "csls",
    ks: Iterable[int] = (1, 5, 10),
    neighbours: int = 10,
    temperature: float = 30.0,
) -> SentenceRetrieval:
    """Look for the translation of each query among the keys.

    Args:
        queries: q sentences of one language, by `sentence_vectors`.
        keys: s sentences of the other, each once: a copy of the right one counts as another.
        gold: (q,) the key that translates each query; without it query i is translated by key i.
        method: "csls", "nn" (cosine) or "isf". CSLS takes its means over these queries and keys.
        ks: at which precision is told. One beyond the number of keys means all of them.
        neighbours: of CSLS.
        temperature: of the inverted softmax.

    Raises:
        ValueError: no query; no, or not one, key for a query; wrong shapes.
    """
    numbers = check_ks(ks)
    if not len(queries):
        raise ValueError("sentence_retrieval: expected at least one query, got none")
    right = torch.arange(len(queries)) if gold is None else torch.as_tensor(gold).cpu()
    if right.shape != (len(queries),):
        raise ValueError(
            f"sentence_retrieval: expected gold of shape ({len(queries)},), a key for each query, "
            f"got {tuple(right.shape)}"
        )
    if int(right.min()) < 0 or int(right.max()) >= len(keys):
        raise ValueError(
            f"sentence_retrieval: expected gold keys in 0 … {len(keys) - 1}, got {int(right.min())}"
            f" … {int(right.max())}; query i is translated by key i unless gold says otherwise"
        )
    found = retrieve(
        queries.vectors,
        keys.vectors,
        min(numbers[-1], len(keys)),
        method=method,
        neighbours=neighbours,
        temperature=temperature,
    ).indices.cpu()
    rows = torch.arange(len(queries))
    ranks = hit_ranks(rows, found, torch.stack([rows, right], 1))
    # A zero vector is as near to every key: where its translation stands is an accident.
    ranks[queries.empty | keys.empty[right]] = found.shape[1]
    unknown = int(queries.unknown.sum() + keys.unknown.sum())
    words = unknown + int(queries.known.sum() + keys.known.sum())
    return SentenceRetrieval(
        numbers,
        found,
        ranks,
        unknown / words if words else 0.0,
        int(queries.empty.sum()),
        int(keys.empty.sum()),
    )


def _distinct(sentence: Iterable[str]) -> set[str]:
    if isinstance(sentence, str):
        raise TypeError(
            f"expected a sentence as its words, got the text {sentence[:40]!r}; tokenize it first"
        )
    return set(sentence)
