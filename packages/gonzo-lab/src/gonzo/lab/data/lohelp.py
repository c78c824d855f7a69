"""The help of LibreOffice 7.4, paragraph by paragraph in English, French and German.

Cut from three Debian packages that hold the same pages in each language, so that paragraphs are
aligned by their numbers; technical language. Licence: MPL 2.0, parts Apache 2.0.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from gonzo.lab.data.files import DataFile
from gonzo.lab.data.tables import pick, read_table

ORIGIN = (
    "The originals are the Debian packages libreoffice-help-en-us, libreoffice-help-fr and "
    "libreoffice-help-de, version 4:7.4.7-1+deb12u14 (MPL 2.0, parts Apache 2.0); paragraphs of "
    "three or more English words, aligned by file and number, split by page."
)
FILES = {
    "train": DataFile(
        "help.train.en-fr-de.tsv.xz",
        "eeff505fa5c356a6ff2deb7ce78dda071b723b1742401e67efe5d84ef09649b4",
        8_061_910,
    ),
    "valid": DataFile(
        "help.valid.en-fr-de.tsv.xz",
        "0575c9e5f2b54094300e0f82267ea4b3e3be0938d045755a2c7826e83262cefa",
        367_262,
    ),
    "test": DataFile(
        "help.test.en-fr-de.tsv.xz",
        "8007f6828ddea950e540f54cc1397440b5feeff64ccc563b5b6ae6bae38297de",
        424_752,
    ),
}


class HelpParagraph(NamedTuple):
    """One paragraph in three languages.

    Attributes:
        en: in English.
        fr: in French.
        de: in German.
    """

    en: str
    fr: str
    de: str


def lohelp(
    split: Literal["train", "valid", "test"], *, data_dir: Path | None = None
) -> list[HelpParagraph]:
    """Load aligned paragraphs of the help.

    Args:
        split: `"train"` (25,315 paragraphs), `"valid"` (1,271) or `"test"` (1,426); no page of
            the help is in two of them.
        data_dir: where to look first, usually `run.data_dir`; the file may lie in it or in its
            folder `lohelp`, compressed or not.

    Returns:
        The paragraphs in file order.

    Raises:
        LabError: there is no copy of the file (the message says where to get it), it is damaged,
            or `data_dir` is not a folder.
        ValueError: there is no such split.
    """
    file = pick("lohelp", "split", FILES, split)
    rows = read_table("lohelp", file, ("en", "fr", "de"), ORIGIN, data_dir)
    return [HelpParagraph(*row) for row in rows]
