"""Embeddings of English, French and German trained here, on text in which nothing is aligned.

For each language: its half of Tatoeba's sentences, cut so that no sentence is in two languages, and
the documentation that Debian's packages carry. That documentation exists in all three languages, so
the texts are comparable: the same subjects in about the same proportions, which is the kind of
material unsupervised alignment is known to need.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from gonzo.lab.data.debian_docs import debian_docs
from gonzo.lab.data.files import cache_dir
from gonzo.lab.data.tatoeba import tatoeba
from gonzo.translation.embeddings import Embeddings, read_embeddings, write_embeddings
from gonzo.translation.text_training import train_embeddings

__all__ = ["Language", "real_text", "real_vectors"]

Language = Literal["en", "fr", "de"]


def real_text(language: Language, data_dir: Path | None) -> list[str]:
    """Return the lines that embeddings of `language` are trained on.

    English takes the sentences of half "a" of both pair files, less those whose French or German
    is in half "b", which French and German take.
    """
    pairs = {
        "fr": tatoeba("en-fr", "train", data_dir=data_dir),
        "de": tatoeba("en-de", "train", data_dir=data_dir),
    }
    if language == "en":
        taken = {pair.english for rows in pairs.values() for pair in rows if pair.half == "b"}
        own = [pair.english for rows in pairs.values() for pair in rows if pair.half == "a"]
        sentences = [sentence for sentence in own if sentence not in taken]
    else:
        sentences = [pair.other for pair in pairs[language] if pair.half == "b"]
    return list(dict.fromkeys(sentences)) + debian_docs(language, data_dir=data_dir)


def real_vectors(
    language: Language,
    dim: int,
    epochs: int,
    data_dir: Path | None,
    on_epoch: Callable[[int, int], None] | None = None,
) -> Embeddings:
    """Train embeddings of a language, or read those that the same text gave before."""
    lines = real_text(language, data_dir)
    key = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    kept = cache_dir() / "translation_vectors" / f"{language}-{dim}-{epochs}-{key}.npz"
    if kept.is_file():
        return read_embeddings(kept)
    # Sentences of one kind in a row would let the last kind count most.
    order = sorted(range(len(lines)), key=lambda i: hashlib.sha256(lines[i].encode()).digest())
    embeddings = train_embeddings(
        [lines[i] for i in order], dim=dim, epochs=epochs, on_epoch=on_epoch
    )
    write_embeddings(embeddings, kept)
    return embeddings
