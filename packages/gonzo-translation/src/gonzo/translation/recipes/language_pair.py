"""English beside another language: vectors, and a word list to learn from and to judge by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gonzo.lab.data.wiktdict import wiktdict
from gonzo.translation.embeddings import Embeddings, read_embeddings
from gonzo.translation.lexicon import Lexicon, read_lexicon
from gonzo.translation.recipes.real_vectors import real_vectors

__all__ = ["LanguagePair", "shipped_pair", "trained_pair"]

SHIPPED = Path(__file__).parent / "shipped"
FREQUENT = 3000
"""Test words are a quarter of so many frequent English words that the word list translates."""


@dataclass(frozen=True, eq=False)
class LanguagePair:
    """What an experiment on two languages needs.

    Args:
        english: embeddings.
        other: embeddings.
        lexicon: all known pairs of an English word and its translation.
    """

    english: Embeddings
    other: Embeddings
    lexicon: Lexicon

    def split(self) -> tuple[Lexicon, Tensor]:
        """Return the pairs to learn from, and (p, 2) int64 rows of the pairs to judge by.

        No English word is in both. The cut is the same for every seed of a run.
        """
        rows = self.lexicon.rows(self.english, self.other).pairs
        covered = rows[:, 0].unique()[:FREQUENT]
        order = torch.randperm(len(covered), generator=torch.Generator().manual_seed(0))
        chosen = covered[order[: len(covered) // 4]]
        test = rows[torch.isin(rows[:, 0], chosen)]
        words = {self.english.words[row] for row in chosen.tolist()}
        train = Lexicon(tuple(pair for pair in self.lexicon.pairs if pair[0] not in words))
        return train, test


def trained_pair(language: str, dim: int, epochs: int, data_dir: Path | None) -> LanguagePair:
    """Train embeddings of English and `language` ("fr" or "de"), or find those trained before."""
    if language == "fr":
        pairs = [(english, french) for french, english in wiktdict("fr-en", data_dir=data_dir)]
    elif language == "de":
        pairs = wiktdict("en-de", data_dir=data_dir)
    else:
        raise ValueError(f"expected languages 'fr' or 'de' beside English, got {language!r}")
    return LanguagePair(
        real_vectors("en", dim, epochs, data_dir),
        real_vectors(language, dim, epochs, data_dir),
        Lexicon.of(pairs),
    )


def shipped_pair() -> LanguagePair:
    """Read the frequent words of English and French that the package ships."""
    return LanguagePair(
        read_embeddings(SHIPPED / "en.npz"),
        read_embeddings(SHIPPED / "fr.npz"),
        read_lexicon(SHIPPED / "en-fr.tsv"),
    )
