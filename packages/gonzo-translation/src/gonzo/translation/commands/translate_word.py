"""Translate words: the best translations of each, with their scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from gonzo.lab.terminal import print_table, remark
from gonzo.translation.commands.folder import Chosen, opened
from gonzo.translation.commands.precision import NAMES, Score

if TYPE_CHECKING:
    from torch import Tensor

_FEW = 20
"""Words for which looking at each of them is faster than comparing all words with all."""


@dataclass(frozen=True, kw_only=True)
class Options(Chosen):
    """Options of gonzo-translation translate-word.

    Args:
        words: What to translate.
        top: Translations of each word.
        method: CSLS, nearest neighbour, or inverted softmax, whose score is a logarithm.
        reverse: From the target language to the source language.
    """

    words: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="WORD…")] = ()
    top: int = 5
    method: Score = "csls"
    reverse: bool = False


def command(options: Options) -> int:
    """Print a table; 2 if a word is unknown, after the others were translated."""
    if options.top < 1:
        raise ValueError(f"expected --top of at least 1, got {options.top}")
    if not options.words:
        raise ValueError("expected words to translate after the folder, got none")
    found = opened(options)
    sides, vectors = [found.source, found.target], list(found.mapped())
    if options.reverse:
        sides.reverse()
        vectors.reverse()
    known, unknown = [], []
    for word in dict.fromkeys(options.words):
        try:
            known.append(sides[0].row(word.lower() if options.lowercase else word))
        except ValueError as error:
            unknown.append(str(error))
    if known:
        k = min(options.top, len(sides[1]))
        scores, indices = _best(vectors[0], vectors[1], known, k, options.method)
        rows = [
            (
                sides[0].words[row] if rank == 0 else "",
                sides[1].words[j],
                f"{score:.3f}",
                f"{j + 1:,}",
            )
            for row, ranked, answers in zip(known, scores.tolist(), indices.tolist(), strict=True)
            for rank, (score, j) in enumerate(zip(ranked, answers, strict=True))
        ]
        header = ("word", "translation", NAMES[options.method], "frequency rank")
        print_table(header, rows, left=2)
    for sentence in unknown:
        remark(f"gonzo-translation: {sentence}")
    return 2 if unknown else 0


def _best(
    source: Tensor, target: Tensor, rows: list[int], k: int, method: Score
) -> tuple[Tensor, Tensor]:
    if method == "csls" and len(rows) <= _FEW:
        from gonzo.translation.commands.few_words import csls_of_few

        return csls_of_few(source, target, rows, k)
    import torch

    from gonzo.translation.retrieval import retrieve

    return retrieve(source, target, k, method=method, rows=torch.tensor(rows))
