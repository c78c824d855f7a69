"""Tatoeba: short everyday sentences in English with their French or German translations.

Cut from the packs that manythings.org makes of Tatoeba (CC BY 2.0, www.manythings.org/anki and
tatoeba.org). No English sentence is in two splits. The training pairs lie in two halves, a and b:
the English of one and the other language of the other are text without parallel sentences.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from gonzo.lab.data.files import DataFile
from gonzo.lab.data.tables import pick, read_table

ORIGIN = (
    "The originals are packs of Tatoeba by www.manythings.org/anki (CC BY 2.0): fra-eng.zip in "
    "the GitHub repository modelexlab/data at commit adddaf33ac35, deu-eng.zip in "
    "rioyshky/translation at de48b7027f73; duplicates dropped, split by English sentence."
)
FILES = {
    "en-fr": {
        "train": DataFile(
            "en-fr.train.tsv.xz",
            "53a09721b0eb8b07208ededca7743a381d8c345564699f2c352171605f35c0aa",
            11_574_363,
        ),
        "valid": DataFile(
            "en-fr.valid.tsv.xz",
            "11676060d6512ddd0453c6b5e8d2b9deb25cd17e9e902d1da8643b7d074ff2e0",
            195_701,
        ),
        "test": DataFile(
            "en-fr.test.tsv.xz",
            "6572d220b844b2bb2118dcd3eee4f48941fc5d0cc521cda334e55781af061b72",
            205_276,
        ),
    },
    "en-de": {
        "train": DataFile(
            "en-de.train.tsv.xz",
            "b9215bc6f6fbcf273b9509a15d0c691b086eaddf8c42a114e1afc1e0fa010e1f",
            12_286_239,
        ),
        "valid": DataFile(
            "en-de.valid.tsv.xz",
            "b8099d035263d0de7845b139c1cbd1a40029186a276c438b7aeb405987f2873f",
            179_277,
        ),
        "test": DataFile(
            "en-de.test.tsv.xz",
            "5989194ba254eb8418ca8a3f8b32ce9a6a54c78a841492398a59503af32313a5",
            179_874,
        ),
    },
}


class SentencePair(NamedTuple):
    """A sentence and its translation.

    Attributes:
        english: the English sentence.
        other: the same in French or German.
        half: `"a"` or `"b"` in the training split, `""` in the others.
    """

    english: str
    other: str
    half: str


def tatoeba(
    languages: Literal["en-fr", "en-de"],
    split: Literal["train", "valid", "test"],
    *,
    data_dir: Path | None = None,
) -> list[SentencePair]:
    """Load sentence pairs.

    Args:
        languages: `"en-fr"` or `"en-de"`.
        split: `"train"` (161,360 pairs with French, 164,809 with German), `"valid"` (2,845;
            2,508) or `"test"` (2,925; 2,496).
        data_dir: where to look first, usually `run.data_dir`; the file may lie in it or in its
            folder `tatoeba`, compressed or not.

    Returns:
        The pairs in file order.

    Raises:
        LabError: there is no copy of the file (the message says where to get it), it is damaged,
            or `data_dir` is not a folder.
        ValueError: there are no such languages or no such split.
    """
    file = pick("tatoeba", "split", pick("tatoeba", "languages", FILES, languages), split)
    columns = languages.split("-")
    if split == "train":
        rows = read_table("tatoeba", file, ["half (a or b)", *columns], ORIGIN, data_dir)
        return [SentencePair(english, other, half) for half, english, other in rows]
    rows = read_table("tatoeba", file, columns, ORIGIN, data_dir)
    return [SentencePair(english, other, "") for english, other in rows]
