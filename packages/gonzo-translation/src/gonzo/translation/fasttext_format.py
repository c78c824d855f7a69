"""Embeddings out of a fastText model, ``.bin`` or quantised ``.ftz``, through the library fasttext.

A model holds a matrix of words and of their character n-grams; a word's vector is the mean of
both, as in the ``.vec`` file that training writes beside the model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gonzo.core.require import require
from gonzo.translation.word_table import RawEmbeddings, ReadRules, WordTable

__all__ = ["FASTTEXT_MAGIC", "read_fasttext"]

FASTTEXT_MAGIC = 793712314
_BLOCK = 4096


def read_fasttext(path: Path, rules: ReadRules) -> RawEmbeddings:
    """Read the words of a fastText model, most frequent first.

    The library loads the whole model, n-grams included, so ``max_bytes`` holds for the file too.

    Raises:
        ValueError: The model is larger than ``max_bytes``, or the library cannot load it.
        MissingExtraError: The library is not installed.
    """
    size = path.stat().st_size
    if size > rules.max_bytes:
        raise ValueError(
            f"{path}: fastText loads a model whole, and this one has {size / 2**20:,.0f} MiB, more "
            f"than max_bytes = {rules.max_bytes / 2**20:,.0f} MiB; allow more with max_bytes=, or "
            "read the .vec file of the same model"
        )
    fasttext = require("fasttext", extra="gonzo-translation[fasttext]")
    try:
        model = fasttext.load_model(str(path))
    except (ValueError, RuntimeError, MemoryError) as error:
        raise ValueError(
            f"{path}: fastText cannot load this model ({error}): an interrupted download? Fetch it "
            "again, or read the .vec file of the same model"
        ) from error
    # Words that are not UTF-8 keep a surrogate, which encodes back to their bytes.
    words = model.get_words(on_unicode_error="surrogateescape")
    dimension = model.get_dimension()
    table = WordTable(path, "fasttext", dimension, len(words), rules)
    for start in range(0, len(words), _BLOCK):
        part = words[start : start + _BLOCK]
        vectors = np.zeros((len(part), dimension), np.float32)
        names = [word.encode("utf-8", "surrogateescape") for word in part]
        for row, (word, name) in enumerate(zip(part, names, strict=True)):
            if name.decode("utf-8", "replace") == word:
                vectors[row] = model.get_word_vector(word)
        table.add(names, vectors, place="entry", numbers=range(start + 1, start + len(part) + 1))
        if table.full:
            break
    return table.finish()
