"""Learn word vectors from text: skip-gram with negative sampling and character n-grams.

Two languages are trained with two commands, of as many numbers each. An interrupted training starts
from the beginning.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gonzo.lab.terminal import progress, remark
from gonzo.translation.commands.convert import check_output
from gonzo.translation.commands.reading import keep_inputs


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of gonzo-translation train.

    Args:
        text: Files of text in UTF-8, plain or compressed (gzip, xz, bzip2).
        out: The vectors: .vec, .vec.gz, .txt, .bin (word2vec's), .npz or .safetensors.
        dim: Numbers of each vector.
        epochs: Passes over the text.
        min_count: Words that occur less often get no vector.
        window: The largest distance between two words that are learnt from.
        subwords: The shortest and the longest character n-grams; 0 0 for words alone.
        buckets: How many vectors the n-grams share.
        keep_case: Do not lower-case the words.
        apostrophes: Between two letters an apostrophe splits words, stays with the left one (l'
            eau), or is kept inside (don't).
        hyphens: Between two letters a hyphen splits words or is kept inside.
        engine: What trains: gensim, with the extra [train], or fasttext, with the extra [fasttext].
        seed: Of what is random. The same vectors come again on one thread only.
        threads: To train on.
    """

    text: tuple[Path, ...]
    out: Path
    dim: int = 100
    epochs: int = 10
    min_count: int = 5
    window: int = 5
    subwords: tuple[int, int] = (3, 6)
    buckets: int = 200_000
    keep_case: bool = False
    apostrophes: Literal["split", "left", "keep"] = "split"
    hyphens: Literal["split", "keep"] = "split"
    engine: Literal["gensim", "fasttext"] = "gensim"
    seed: int = 0
    threads: int = 1


def command(options: Options) -> int:
    """Train and write."""
    if not options.text:
        raise ValueError("expected --text with at least one file")
    check_output(options.out, None)
    keep_inputs(options.out, options.text)
    for path in options.text:
        path.open("rb").close()

    from gonzo.translation.embeddings import write_embeddings
    from gonzo.translation.text_training import train_embeddings
    from gonzo.translation.tokenizing import Tokenizer

    remark("reading text")
    with progress("epochs") as shown:
        vectors = train_embeddings(
            options.text,
            dim=options.dim,
            epochs=options.epochs,
            min_count=options.min_count,
            window=options.window,
            subwords=None if options.subwords == (0, 0) else options.subwords,
            buckets=options.buckets,
            seed=options.seed,
            threads=options.threads,
            engine=options.engine,
            tokenizer=Tokenizer(not options.keep_case, options.apostrophes, options.hyphens),
            on_epoch=shown,
        )
    write_embeddings(vectors, options.out)
    most = ", ".join(vectors.words[:5])
    remark(f"{len(vectors):,} words in {options.out}, the most frequent: {most}")
    return 0
