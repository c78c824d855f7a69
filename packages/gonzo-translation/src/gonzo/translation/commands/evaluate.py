"""Judge an alignment: by a dictionary, by retrieval of sentences, by people's similarities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gonzo.lab.terminal import print_table, remark
from gonzo.translation.commands.folder import Chosen, Opened, opened
from gonzo.translation.commands.precision import HEADER, NAMES, Score, judge, table
from gonzo.translation.commands.reading import read_pairs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Options(Chosen):
    """Options of gonzo-translation evaluate.

    Args:
        lexicon: True translations, a pair of words a line, either way round.
        method: How translations are retrieved.
        by_frequency: Split the precision at 1 by the frequency rank of the source word.
        without_identical: Leave out words that are their own translation.
        sentences: A file of a sentence and its translation a line, with a tab between.
        idf_sentences: Such a file whose sentences weigh the words; by default, the rest of the
            other.
        queries: So many lines of --sentences are searched for, and among, the first.
        similarity: Lines of two words and how similar people find them, of one language or both.
    """

    lexicon: Path | None = None
    method: Literal["all", "csls", "nn", "isf"] = "all"
    by_frequency: bool = False
    without_identical: bool = False
    sentences: Path | None = None
    idf_sentences: Path | None = None
    queries: int = 2_000
    similarity: Path | None = None


def command(options: Options) -> int:
    """Print a table for each file."""
    if options.lexicon is None and options.sentences is None and options.similarity is None:
        raise ValueError("expected something to judge by: --lexicon, --sentences or --similarity")
    if options.queries < 1:
        raise ValueError(f"expected --queries of at least 1, got {options.queries}")
    if options.lexicon is None and (options.by_frequency or options.without_identical):
        raise ValueError(
            "--by-frequency and --without-identical are about a dictionary; name it with --lexicon"
        )
    for path in (options.lexicon, options.sentences, options.idf_sentences, options.similarity):
        if path is not None:
            path.open("rb").close()  # before gigabytes are read
    found = opened(options)
    source, target = found.mapped()
    methods: list[Score] = list(NAMES) if options.method == "all" else [options.method]
    if options.lexicon is not None:
        _by_lexicon(options.lexicon, options, found, source, target, methods)
    if options.sentences is not None:
        from gonzo.translation.commands.sentences import by_sentences

        by_sentences(
            options.sentences,
            options.idf_sentences,
            found,
            (source, target),
            methods,
            queries=options.queries,
        )
    if options.similarity is not None:
        _by_similarity(options.similarity, found, source, target)
    return 0


def _by_lexicon(
    path: Path,
    options: Options,
    found: Opened,
    source: Tensor,
    target: Tensor,
    methods: list[Score],
) -> None:
    from gonzo.translation.frequency_bands import by_frequency, without_identical

    lexicon = read_pairs(path, found.source, found.target, lowercase=options.lowercase)
    rows = lexicon.rows(found.source, found.target)
    results = judge(source, target, rows, methods)
    judged = len(results[methods[0]])
    total = len(lexicon.translations)
    remark(
        f"judged {judged:,} of {total:,} source words; the others, or all their translations, "
        "have no vector"
    )
    if options.without_identical:
        words = found.source.words, found.target.words
        results = {name: without_identical(one, *words) for name, one in results.items()}
        left = len(results[methods[0]])
        remark(f"left out {judged - left:,} words that are their own translation")
        if not left:
            raise ValueError(f"{path}: all words are their own translations, so none is left")
    print_table(HEADER, table(results))
    if options.by_frequency:
        bands = {name: by_frequency(one) for name, one in results.items()}
        print()
        print_table(
            ("frequency rank", *(f"P@1 {NAMES[name]}" for name in bands), "words"),
            [
                (
                    str(same[0]),
                    *(f"{one.scores.precision[1]:.1%}" if len(one.scores) else "–" for one in same),
                    f"{len(same[0].scores):,}",
                )
                for same in zip(*bands.values(), strict=True)
            ],
        )


def _by_similarity(path: Path, found: Opened, source: Tensor, target: Tensor) -> None:
    from gonzo.translation.similarity_scores import read_judgements, word_similarity

    judgements = read_judgements(path)
    sides = {"source": (found.source.index, source), "target": (found.target.index, target)}
    results = {}
    problem = None
    for first in sides:
        for second in sides:
            try:
                results[first, second] = word_similarity(judgements, *sides[first], *sides[second])
            except ValueError as error:
                problem = problem or error
    if not results:
        raise ValueError(f"{path}: {problem}")
    # The file does not say which language its columns are of; the vocabularies do.
    languages = max(results, key=lambda pair: results[pair].pairs)
    result = results[languages]
    examples = f", such as {', '.join(result.examples[:4])}" if result.examples else ""
    print_table(
        ("similarity", "first words", "second words", "Spearman's rho", "pairs", "unknown"),
        [
            (
                path.name,
                *languages,
                f"{result.correlation:.3f}",
                f"{result.pairs:,}",
                f"{result.missing:,}{examples}",
            )
        ],
        left=3,
    )
