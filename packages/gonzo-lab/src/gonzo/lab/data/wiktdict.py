"""Bilingual word lists from the English Wiktionary: a free gold standard for word translation.

Cut from the wiktionary-dict project's lists: headwords and translations of a single word, in lower
case, without notes in brackets. Some senses are wrong. Licence: CC BY-SA 3.0 and GFDL.
"""

from pathlib import Path
from typing import Literal

from gonzo.lab.data.files import DataFile
from gonzo.lab.data.tables import pick, read_table

ORIGIN = (
    "The originals are src/*-enwiktionary.txt of the GitHub repository "
    "open-dsl-dict/wiktionary-dict at commit 74c2c11f3398 (CC BY-SA 3.0 and GFDL); of these, the "
    "pairs of a single-word headword and a single-word translation, in lower case."
)
FILES = {
    "fr-en": DataFile(
        "fr-en.tsv.xz",
        "1d8cd5b5f1fc95ba4bc0fa90ef7d18613aa68c83cec11bfe951e4c02a3b6fa71",
        924_981,
    ),
    "en-de": DataFile(
        "en-de.tsv.xz",
        "e75a21cd4c66f5f9d8bda7655a707c81c1032ff9f467fdfe00fdae2a0c237e3a",
        959_989,
    ),
    "en-es": DataFile(
        "en-es.tsv.xz",
        "7615f24240877ef7b42e5c2fb6c78686fb254060b970b801f2c6553751ade4a0",
        727_031,
    ),
    "es-en": DataFile(
        "es-en.tsv.xz",
        "768515f574c96cb3e872b00a25a500f389e7c8533d4b8df75fe66fa6a7862905",
        742_275,
    ),
}


def wiktdict(
    languages: Literal["fr-en", "en-de", "en-es", "es-en"], *, data_dir: Path | None = None
) -> list[tuple[str, str]]:
    """Load a word list.

    Args:
        languages: of the headwords and of their translations: `"fr-en"` (49,285 pairs of 32,997
            headwords), `"en-de"` (51,803 of 26,061), `"en-es"` (41,850 of 24,240) or `"es-en"`
            (42,377 of 26,788).
        data_dir: where to look first, usually `run.data_dir`; the file may lie in it or in its
            folder `wiktdict`, compressed or not.

    Returns:
        Pairs of a headword and a translation in file order, which is about alphabetical; a headword
        with several translations has several pairs, mostly one after the other.

    Raises:
        LabError: there is no copy of the file (the message says where to get it), it is damaged,
            or `data_dir` is not a folder.
        ValueError: there is no list of these languages.
    """
    file = pick("wiktdict", "languages", FILES, languages)
    rows = read_table("wiktdict", file, languages.split("-"), ORIGIN, data_dir)
    return [(headword, translation) for headword, translation in rows]
