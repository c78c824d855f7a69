"""Files that commands are given: word vectors and lexica, with a line on what was in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gonzo.lab.terminal import remark

if TYPE_CHECKING:
    from gonzo.translation.embeddings import Embeddings
    from gonzo.translation.lexicon import Lexicon

_END = 1 << 16


def fingerprint(path: Path) -> dict[str, Any]:
    """Tell a file from others, without reading all of one that may have gigabytes.

    Returns:
        Its name, its size, and a digest of its first and last 64 KiB.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        content = hashlib.sha256(file.read(_END))
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _END))
        content.update(file.read(_END))
    return {"file": path.name, "bytes": size, "digest": content.hexdigest()[:16]}


def keep_inputs(written: Path, read: Iterable[Path]) -> None:
    """Refuse to write over a file that is read.

    Raises:
        ValueError: it is one of them, perhaps by another name.
    """
    for path in read:
        if written.resolve() == path.resolve() or (
            written.exists() and path.exists() and written.samefile(path)
        ):
            raise ValueError(f"{written} is read here, and would be lost: write to another file")


def read_vectors(
    path: Path, max_words: int, lowercase: bool, partial: bool = False, *, known: bool = False
) -> Embeddings:
    """Read word vectors and say what was read and what was left out.

    Args:
        path: the file.
        max_words: keep the first so many; 0 keeps all.
        lowercase: lower-case the words.
        partial: keep what an interrupted download has.
        known: the same was read before, and said then.

    Raises:
        ValueError: max_words below 0, or the file is not what it should be.
        OSError: it cannot be read.
    """
    from gonzo.translation.embeddings import read_embeddings_with_report

    if max_words < 0:
        raise ValueError(f"expected --max-words of at least 0, which keeps all, got {max_words}")
    try:
        embeddings, report = read_embeddings_with_report(
            path, max_words=max_words or None, lowercase=lowercase, allow_truncated=partial
        )
    except ValueError as error:
        raise ValueError(_as_options(str(error))) from error
    if known:
        return embeddings
    kept, *notes = str(report).split("; ")
    if report.words == report.entries:
        kept = f"{report.words:,} words"
        if report.claimed is not None and report.claimed > report.entries and not report.truncated:
            kept = f"the first {report.words:,} of {report.claimed:,} words"
    said = "; ".join([f"{kept}, {embeddings.dim} numbers each", *notes])
    remark(f"{path}: {said}")
    return embeddings


def read_pairs(
    path: Path, source: Embeddings, target: Embeddings, *, lowercase: bool = False
) -> Lexicon:
    """Read a lexicon, turned round if that is how its columns fit the vocabularies.

    Raises:
        ValueError: it is no lexicon, or none of its pairs lies in both vocabularies.
        OSError: it cannot be read.
    """
    from gonzo.translation.lexicon import read_lexicon_with_report

    lexicon, report = read_lexicon_with_report(path, lowercase=lowercase)
    left_out = f" ({report})" if report.pairs < report.entries else ""
    straight, swapped = lexicon.rows(source, target), lexicon.swapped().rows(source, target)
    # A few pairs fit either way: names, loans.
    turned = swapped.found > 2 * straight.found
    rows = swapped if turned else straight
    way = ", taken the other way round, as its first column is the target's" if turned else ""
    remark(f"{path}{left_out}{way}: {rows}")
    if not rows.found:
        raise ValueError(
            f"{path}: no pair lies in both vocabularies, either way round; expected lines of a "
            f"source word, such as {source.words[0]!r}, and a target word, such as "
            f"{target.words[0]!r}. Is it of these languages, and are the words in the same case "
            "(--lowercase)?"
        )
    return lexicon.swapped() if turned else lexicon


def _as_options(text: str) -> str:
    # The library's way out is an argument; here people type options.
    for argument, option in (
        ("allow_truncated=True", "--partial"),
        ("max_words=,", "--max-words,"),
        ("max_words=", "--max-words "),
        ("with max_bytes=", "from Python, read_embeddings(..., max_bytes=...)"),
    ):
        text = text.replace(argument, option)
    return text
