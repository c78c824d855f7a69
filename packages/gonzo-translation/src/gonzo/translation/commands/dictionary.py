"""Write a dictionary: the most frequent source words with their translations, best first."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gonzo.lab.terminal import remark
from gonzo.translation.commands.folder import Chosen, Opened, opened
from gonzo.translation.commands.reading import keep_inputs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Options(Chosen):
    """Options of gonzo-translation dictionary.

    Args:
        out: The file: a line of source word, target word and CSLS score for each translation, with
            tabs. By default they are printed.
        top: Translations of each word.
        words: The most frequent so many words; 0 takes all.
        mutual: Only translations whose own best translation, the other way, is the word.
        min_margin: Only words whose best translation is ahead of the second by so much CSLS.
    """

    out: Path | None = None
    top: int = 5
    words: int = 10_000
    mutual: bool = False
    min_margin: float = 0.0


def command(options: Options) -> int:
    """Write the lines; 1 if the conditions leave none."""
    if options.top < 1 or options.words < 0:
        raise ValueError(
            "expected --top of at least 1 and --words of at least 0, got "
            f"{options.top} and {options.words}"
        )
    if options.min_margin < 0:
        raise ValueError(f"expected --min-margin of at least 0, got {options.min_margin}")
    found = opened(options)
    if options.out is not None:
        keep_inputs(options.out, found.files)
    words = lines = 0
    seen = ""

    def counted() -> Iterator[str]:
        nonlocal words, lines, seen
        for source, target, score in _entries(found, options):
            words += source != seen
            lines, seen = lines + 1, source
            yield f"{source}\t{target}\t{score:.4f}\n"

    if options.out is None:
        sys.stdout.writelines(counted())
        sys.stdout.flush()
    else:
        from gonzo.translation.atomic_file import replacing

        with replacing(options.out) as file:
            file.writelines(line.encode() for line in counted())
    where = f" in {options.out}" if options.out else ""
    remark(f"{lines:,} translations of {words:,} words{where}")
    return 0 if lines else 1


def _entries(found: Opened, options: Options) -> Iterator[tuple[str, str, float]]:
    import torch

    source, target = found.mapped()
    asked = torch.arange(min(options.words or len(source), len(source)))
    scores, rows, best_back = _retrieved(source, target, asked, max(2, options.top), options.mutual)
    for i in range(len(asked)):
        ranked = scores[i].tolist()
        if len(ranked) > 1 and ranked[0] - ranked[1] < options.min_margin:
            continue
        for j, score in zip(rows[i, : options.top].tolist(), ranked, strict=False):
            if best_back is None or int(best_back[j]) == i:
                yield found.source.words[i], found.target.words[j], score


def _retrieved(
    source: Tensor, target: Tensor, asked: Tensor, k: int, mutual: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    from gonzo.core.ops.csls_topk import csls_topk, csls_topk_both

    if not mutual:
        there = csls_topk(source, target, min(k, len(target)), rows=asked)
        return there.scores, there.indices, None
    k = min(k, len(target), len(source))
    there, back = csls_topk_both(source, target, k, source_rows=asked)
    return there.scores, there.indices, back.indices[:, 0]
