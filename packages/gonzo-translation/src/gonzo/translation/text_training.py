"""Embeddings trained from raw text: skip-gram with negative sampling and character n-grams.

Bojanowski, Grave, Joulin and Mikolov, "Enriching Word Vectors with Subword Information" (2017):
a word's vector is the mean of its own and of its n-grams' vectors, equations 1 to 3 with the
objective of Mikolov et al. (2013). The training itself is gensim's or fastText's.
"""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gonzo.core.require import require
from gonzo.translation.embeddings import Embeddings
from gonzo.translation.fasttext_training import train_fasttext
from gonzo.translation.text_corpus import Corpus, Text, write_corpus
from gonzo.translation.tokenizing import Tokenizer

__all__ = ["train_embeddings"]

# fastText's own defaults for skip-gram, given to both engines.
_LEARNING_RATE = 0.05
_NEGATIVES = 5
_SUBSAMPLING = 1e-4


@dataclass(frozen=True)
class _Settings:
    dim: int
    epochs: int
    min_count: int
    window: int
    subwords: tuple[int, int] | None
    buckets: int
    seed: int
    threads: int


def train_embeddings(
    text: Text,
    *,
    dim: int = 100,
    epochs: int = 10,
    min_count: int = 5,
    window: int = 5,
    subwords: tuple[int, int] | None = (3, 6),
    buckets: int = 200_000,
    seed: int = 0,
    threads: int = 1,
    engine: str = "gensim",
    tokenizer: Tokenizer | None = None,
    on_epoch: Callable[[int, int], None] | None = None,
) -> Embeddings:
    """Learn a vector for each word of a text.

    The text is read once and written, tokenized, to a temporary file (of about its size; the
    environment variable TMPDIR says where), from which the engine trains: memory holds the words
    and their n-grams, not the text. On one thread the same text, settings and seed give the same
    vectors, whatever PYTHONHASHSEED is; on several they do not.

    Args:
        text: the path of a file; or paths, as `pathlib.Path`; or lines of text, as strings. Files
            are UTF-8, and may be compressed with gzip, xz or bzip2. Words that are near each
            other on a line are learnt from.
        dim: numbers per vector.
        epochs: passes over the text.
        min_count: words that occur less often get no vector.
        window: the largest distance between two words that are learnt from.
        subwords: the shortest and the longest character n-grams; None for words alone (with
            fastText in ten times the memory that their vectors take).
        buckets: how many vectors the n-grams share, each 4 · dim bytes of memory.
        seed: of the initial vectors and of what is sampled.
        threads: how many to train on.
        engine: `"gensim"` (extra train) or `"fasttext"` (extra fasttext).
        tokenizer: what a word is; None is `Tokenizer()`.
        on_epoch: called with the number of finished passes and of all. fastText says nothing
            before it has finished, so that it is called once, at the end.

    Returns:
        The words that occur `min_count` times or more, most frequent first (equally frequent ones
        by their spelling), and their vectors, (words, dim) float32.

    Raises:
        MissingExtraError: The engine is not installed.
        OSError: A file cannot be read.
        TypeError: `text` is neither a path, nor paths, nor lines.
        ValueError: A setting is out of its range, a file is not UTF-8 or damaged, or the text has
            no words, or none that is frequent enough.

    Source:
        Bojanowski et al., TACL 2017. Learning rate 0.05, 5 negative samples and the subsampling
        threshold 1e-4 are those of the authors' program.
    """
    settings = _Settings(dim, epochs, min_count, window, subwords, buckets, seed, threads)
    _check(settings)
    if engine not in _ENGINES:
        close = difflib.get_close_matches(str(engine), _ENGINES, n=1)
        raise ValueError(
            f"train_embeddings: expected the engine 'gensim' or 'fasttext', got {engine!r}."
            + (f" Did you mean {close[0]!r}?" if close else "")
        )
    train, module, extra = _ENGINES[engine]
    require(module, extra=extra)  # before the text is read, which may take minutes
    with tempfile.TemporaryDirectory(prefix="gonzo-text-") as folder:
        corpus = write_corpus(text, Path(folder, "corpus.txt"), tokenizer or Tokenizer())
        words = _frequent(corpus, min_count)
        vectors = train(corpus.path, words, settings, on_epoch or _silent)
    return Embeddings(tuple(words), torch.from_numpy(vectors))


def _frequent(corpus: Corpus, min_count: int) -> list[str]:
    if not corpus.counts:
        raise ValueError(
            f"train_embeddings: no text: there is no word in the {corpus.lines:,} lines read"
        )
    words = corpus.words(min_count)
    if len(words) < 2:  # there is nothing to sample against a single word
        most, count = min(corpus.counts.items(), key=lambda item: (-item[1], item[0]))
        raise ValueError(
            f"train_embeddings: expected at least two words that occur {min_count} times or more, "
            f"got {len(words)}; of the {corpus.counts.total():,} words read the most frequent, "
            f"{most!r}, occurs {count:,} times. Give more text or a smaller min_count"
        )
    return words


def _gensim(
    path: Path, words: list[str], settings: _Settings, on_epoch: Callable[[int, int], None]
) -> np.ndarray:
    models = require("gensim.models", extra="gonzo-translation[train]")
    callbacks = require("gensim.models.callbacks", extra="gonzo-translation[train]")

    class Progress(callbacks.CallbackAny2Vec):
        finished = 0

        def on_epoch_end(self, model: object) -> None:
            del model
            self.finished += 1
            on_epoch(self.finished, settings.epochs)

    choices = {
        "vector_size": settings.dim,
        "window": settings.window,
        "min_count": settings.min_count,
        "sg": 1,
        "negative": _NEGATIVES,
        "sample": _SUBSAMPLING,
        "alpha": _LEARNING_RATE,
        "seed": settings.seed,
        "workers": settings.threads,
    }
    if settings.subwords is None:
        model = models.Word2Vec(**choices)
    else:
        shortest, longest = settings.subwords
        model = models.FastText(**choices, min_n=shortest, max_n=longest, bucket=settings.buckets)
    model.build_vocab(corpus_file=str(path))
    model.train(
        corpus_file=str(path),
        total_examples=model.corpus_count,
        total_words=model.corpus_total_words,
        epochs=settings.epochs,
        callbacks=[Progress()],
    )
    return np.stack([model.wv[word] for word in words]).astype(np.float32)


def _fasttext(
    path: Path, words: list[str], settings: _Settings, on_epoch: Callable[[int, int], None]
) -> np.ndarray:
    shortest, longest = settings.subwords or (0, 0)
    arguments = {
        "dim": settings.dim,
        "epoch": settings.epochs,
        "minCount": settings.min_count,
        "ws": settings.window,
        "minn": shortest,
        "maxn": longest,
        "bucket": settings.buckets,
        "neg": _NEGATIVES,
        "t": _SUBSAMPLING,
        "lr": _LEARNING_RATE,
        "seed": settings.seed + 1,  # its generators take 0 for 1
        "thread": settings.threads,
    }
    vectors = train_fasttext(path, words, arguments, path.parent)
    on_epoch(settings.epochs, settings.epochs)
    return vectors


_ENGINES = {
    "gensim": (_gensim, "gensim", "gonzo-translation[train]"),
    "fasttext": (_fasttext, "fasttext_pybind", "gonzo-translation[fasttext]"),
}


def _silent(finished: int, epochs: int) -> None:
    del finished, epochs


def _check(settings: _Settings) -> None:
    for name in ("dim", "epochs", "min_count", "window", "buckets", "threads", "seed"):
        value, least = getattr(settings, name), 0 if name == "seed" else 1
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(
                f"train_embeddings: expected {name} to be a whole number of at least {least}, "
                f"got {value!r}"
            )
    if settings.seed >= 2**31 - 1:
        raise ValueError(f"train_embeddings: expected seed below 2**31 - 1, got {settings.seed}")
    bounds = settings.subwords
    if bounds is not None and not (
        isinstance(bounds, tuple)
        and len(bounds) == 2
        and all(isinstance(bound, int) for bound in bounds)
        and 1 <= bounds[0] <= bounds[1]
    ):
        raise ValueError(
            "train_embeddings: expected subwords to be the shortest and the longest n-gram, such "
            f"as (3, 6), or None, got {bounds!r}"
        )
