"""Sentence retrieval on a file of aligned sentences, for the command that judges."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gonzo.lab.terminal import print_table, remark
from gonzo.translation.commands.folder import Opened
from gonzo.translation.commands.precision import NAMES, Score

if TYPE_CHECKING:
    from torch import Tensor

    from gonzo.translation.sentence_scores import SentenceRetrieval


def by_sentences(
    path: Path,
    idf_path: Path | None,
    found: Opened,
    mapped: tuple[Tensor, Tensor],
    methods: list[Score],
    *,
    queries: int,
) -> None:
    """Look for the translation of each sentence among all of them, and print how often it is found.

    Args:
        path: lines of a sentence, a tab and its translation.
        idf_path: such a file to weigh words by; without, the lines of `path` that are not searched.
        found: the vocabularies.
        mapped: (n, d) and (m, d) vectors in the shared space.
        methods: of retrieval.
        queries: the first so many lines are searched.

    Raises:
        ValueError: a line is no pair, or none is left to weigh words by.
    """
    from gonzo.translation.sentence_scores import idf_weights, sentence_retrieval, sentence_vectors

    pairs = _read(path)
    if idf_path is not None:
        searched, rest = pairs[:queries], _read(idf_path)
    else:
        if len(pairs) < 2:
            raise ValueError(
                f"{path}: expected at least 2 lines, some to search and others to weigh words by; "
                "give the latter with --idf-sentences"
            )
        count = min(queries, len(pairs) // 2)
        searched, rest = pairs[:count], pairs[count:]
    remark(f"{path}: {len(searched):,} pairs are searched; {len(rest):,} others weigh the words")
    vectors = [
        sentence_vectors(
            [pair[side] for pair in searched],
            vocabulary.index,
            mapped[side],
            idf_weights(pair[side] for pair in rest),
        )
        for side, vocabulary in enumerate((found.source, found.target))
    ]
    results = {m: sentence_retrieval(vectors[0], vectors[1], method=m) for m in methods}
    print_table(
        ("sentences", "P@1", "95 % interval", "P@5", "P@10", "sentences", "unknown words"),
        [_row(NAMES[method], result) for method, result in results.items()],
    )
    empty = results[methods[0]].empty_queries + results[methods[0]].empty_keys
    if empty:
        remark(f"{empty:,} sentences have no known word, and count as not found")


def _row(name: str, result: SentenceRetrieval) -> tuple[str, ...]:
    low, high = result.interval(1)
    first, *others = (f"{result.precision[k]:.1%}" for k in (1, 5, 10))
    interval = f"{low:.1%} to {high:.1%}"
    return (name, first, interval, *others, f"{len(result):,}", f"{result.unknown_words:.1%}")


def _read(path: Path) -> list[tuple[list[str], list[str]]]:
    from gonzo.translation.compressed import read_utf8
    from gonzo.translation.tokenizing import Tokenizer

    words = Tokenizer()
    pairs = []
    for number, line in enumerate(read_utf8(path).split("\n"), 1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) < 2:
            raise ValueError(
                f"{path}, line {number:,}: expected a sentence, a tab and its translation, got "
                f"{line[:60]!r}"
            )
        pairs.append((words(fields[0]), words(fields[1])))
    if not pairs:
        raise ValueError(f"{path}: expected lines of a sentence, a tab and its translation")
    return pairs
