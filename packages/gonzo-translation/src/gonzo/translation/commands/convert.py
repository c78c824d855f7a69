"""Write word vectors in another format: .npz and .safetensors are read much faster than text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from gonzo.lab.terminal import remark
from gonzo.translation.commands.reading import keep_inputs, read_vectors

_TEXT = (".vec", ".txt", ".vec.gz", ".txt.gz")
_FORMATS = (*_TEXT, ".bin", ".npz", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of gonzo-translation convert.

    Args:
        read: The file to read, in any format.
        write: The file to write: .vec, .vec.gz, .txt, .bin (word2vec's), .npz or .safetensors.
        max_words: Keep the first so many words; 0 keeps all.
        lowercase: Lower-case the words.
        partial: Keep what an interrupted download has.
        digits: Digits after the point, in text; by default as many as it takes to read the same
            numbers back.
    """

    read: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IN")]
    write: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    max_words: int = 0
    lowercase: bool = False
    partial: bool = False
    digits: int | None = None


def command(options: Options) -> int:
    """Read and write."""
    from gonzo.translation.embeddings import write_embeddings

    check_output(options.write, options.digits)
    keep_inputs(options.write, [options.read])
    vectors = read_vectors(options.read, options.max_words, options.lowercase, options.partial)
    write_embeddings(vectors, options.write, digits=options.digits)
    remark(f"{len(vectors):,} words in {options.write}")
    return 0


def check_output(path: Path, digits: int | None) -> None:
    """Refuse a file that could not be written, before anything is read.

    Raises:
        ValueError: its name says no format, or digits are given for one that is not text.
    """
    name = path.name.lower()
    if not name.endswith(_FORMATS):
        raise ValueError(f"expected a name that ends in {', '.join(_FORMATS)}, got {path.name!r}")
    if digits is not None and (digits < 0 or not name.endswith(_TEXT)):
        raise ValueError(
            f"expected --digits of at least 0, for text alone, got {digits} for {path.name!r}"
        )
