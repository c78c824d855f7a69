"""Documentation that Debian packages carry, in English, French or German: text to learn words from.

About two million words a language: manuals, handbooks and manual pages. They are largely
translations of the same pages, each language to its own degree: comparable text, kinder to methods
that use no parallel sentences than text of unrelated origin would be, which a result should say.
The packages are under free licences of their own (GPL, GFDL, MPL 2.0, CC BY-SA 3.0 and others; the
file `copyright` in each says which).
"""

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from gonzo.lab import console
from gonzo.lab.atomic import read_json, write_bytes
from gonzo.lab.data.deb_archive import read_deb
from gonzo.lab.data.debian_packages import DebianPackage, fetch_packages, find_packages
from gonzo.lab.data.files import search_path
from gonzo.lab.data.html_paragraphs import html_paragraphs
from gonzo.lab.data.man_paragraphs import man_paragraphs
from gonzo.lab.data.tables import pick
from gonzo.lab.errors import LabError

# The packages of a language, and which of their files are pages of it.
PAGES: dict[str, dict[str, str]] = {
    "en": {
        "libreoffice-help-en-us": r".*/en-US/.*\.html",
        "gimp-help-en": r".*/en/.*\.html",
        "debian-handbook": r".*/en-US/.*\.html",
        "debian-reference-en": r".*\.en\.html",
        "developers-reference": r"usr/share/developers-reference/[^/]*\.html",
        "aptitude-doc-en": r".*/en/.*\.html",
        "installation-guide-amd64": r".*/en/.*\.html",
        "gnome-user-docs": r"usr/share/help/C/.*\.page",
        "manpages": r"usr/share/man/man\d/.*\.gz",
        "manpages-dev": r"usr/share/man/man\d/.*\.gz",
    },
    "fr": {
        "libreoffice-help-fr": r".*/fr/.*\.html",
        "gimp-help-fr": r".*/fr/.*\.html",
        "debian-handbook": r".*/fr-FR/.*\.html",
        "debian-reference-fr": r".*\.fr\.html",
        "developers-reference-fr": r".*/fr/.*\.html",
        "aptitude-doc-fr": r".*/fr/.*\.html",
        "installation-guide-amd64": r".*/fr/.*\.html",
        "gnome-user-docs": r"usr/share/help/fr/.*\.page",
        "manpages-fr": r"usr/share/man/fr/man\d/.*\.gz",
        "manpages-fr-dev": r"usr/share/man/fr/man\d/.*\.gz",
    },
    "de": {
        "libreoffice-help-de": r".*/de/.*\.html",
        "gimp-help-de": r".*/de/.*\.html",
        "debian-handbook": r".*/de-DE/.*\.html",
        "debian-reference-de": r".*\.de\.html",
        "developers-reference-de": r".*/de/.*\.html",
        "installation-guide-amd64": r".*/de/.*\.html",
        "gnome-user-docs": r"usr/share/help/de/.*\.page",
        "manpages-de": r"usr/share/man/de/man\d/.*\.gz",
        "manpages-de-dev": r"usr/share/man/de/man\d/.*\.gz",
    },
}

# Frequent words of one of the languages alone, by which a paragraph left in another is told.
FUNCTION_WORDS = {
    "en": "the of and to is that for with are this be it from which by not have you if or when can",
    "fr": "le la les et est une que pour dans qui sur par avec ce ou pas au cette sont vous il",
    "de": "der die das und ist nicht mit für von den dem ein eine zu auf wird sie oder im als auch",
}

RULES = 1  # to be raised when the rules below or the parsers change, so that nobody keeps old text
_FEWEST_WORDS = 3
_FUNCTION_WORDS = {name: frozenset(words.split()) for name, words in FUNCTION_WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+")
_WAY_OUT = "Remove it; it is made again."


def debian_docs(language: Literal["en", "fr", "de"], *, data_dir: Path | None = None) -> list[str]:
    """Load the documentation, one paragraph a line, as written (case and punctuation).

    The first time, packages are read from `*.deb` files where there are any, the others fetched
    with `apt-get download` into the cache; that takes minutes. Nothing is installed or executed.
    The text is kept in the cache, and is made again when the packages in `data_dir` are others.
    Paragraphs of fewer than three words are dropped, as are those with the same words as an
    earlier one, and those that were left untranslated, told by their function words.

    Args:
        language: `"en"`, `"fr"` or `"de"`.
        data_dir: where to look for packages first, usually `run.data_dir`; they may lie in it or
            in its folder `debian_docs`.

    Returns:
        The paragraphs, package after package. They depend on the versions of the packages, which
        `debian_docs_versions` tells.

    Raises:
        LabError: a package is neither here nor could be fetched, is damaged, or `data_dir` is not
            a folder; the message says the way out.
        ValueError: there is no such language.
    """
    return _text(language, data_dir)[0]


def debian_docs_versions(
    language: Literal["en", "fr", "de"], *, data_dir: Path | None = None
) -> dict[str, str]:
    """Return the version of each package that `debian_docs` reads, to be recorded with results.

    Takes and raises the same, and makes the text where there is none yet.
    """
    return _text(language, data_dir)[1]


def _text(language: str, data_dir: Path | None) -> tuple[list[str], dict[str, str]]:
    pages = pick("debian_docs", "language", PAGES, language)
    *named, cache = search_path("debian_docs", data_dir)
    text_path, note_path = cache / f"{language}.txt", cache / f"{language}.json"
    found: dict[str, DebianPackage] = {}
    for folder in named:
        found = {**find_packages(list(pages), folder), **found}
    if text_path.is_file() and note_path.is_file():
        note = read_json(note_path, way_out=_WAY_OUT)
        versions = note.get("packages", {})
        other = [
            package for package in found.values() if versions.get(package.name) != package.version
        ]
        if note.get("rules") == RULES and not other:
            content = text_path.read_bytes()
            if hashlib.sha256(content).hexdigest() != note.get("sha256"):
                raise LabError(f"{text_path} is damaged (its SHA-256 is another). {_WAY_OUT}")
            return content.decode("utf-8").split("\n")[:-1], versions
    found = {**find_packages(list(pages), cache), **found}
    missing = [name for name in pages if name not in found]
    if missing:
        found |= fetch_packages(missing, cache)
    lines = _unique(language, (found[name] for name in pages))
    content = "".join(f"{line}\n" for line in lines).encode()
    versions = {name: found[name].version for name in pages}
    note = {"packages": versions, "rules": RULES, "sha256": hashlib.sha256(content).hexdigest()}
    note_path.unlink(missing_ok=True)  # so that it never stands beside another text
    write_bytes(text_path, content)
    write_bytes(note_path, json.dumps(note, indent=2).encode())
    return lines, versions


def _unique(language: str, packages: Iterator[DebianPackage]) -> list[str]:
    seen: set[str] = set()
    lines = []
    for package in packages:
        console.remarks().print(f"Reading {package.path.name}")
        for paragraph in _paragraphs(package, PAGES[language][package.name]):
            words = _WORD.findall(paragraph.lower())
            key = " ".join(words)
            if len(words) >= _FEWEST_WORDS and key not in seen and _is_in(language, words):
                seen.add(key)
                lines.append(paragraph)
    return lines


def _paragraphs(package: DebianPackage, pattern: str) -> Iterator[str]:
    for name, content in read_deb(package.path, lambda name: bool(re.fullmatch(pattern, name))):
        if name.endswith(".gz"):
            try:
                content = gzip.decompress(content)
            except (EOFError, OSError, zlib.error) as error:
                raise LabError(
                    f"{package.path}: {name} is damaged ({error}). Put a good copy there."
                ) from error
        text = content.decode("utf-8", "replace")
        yield from man_paragraphs(text) if name.endswith(".gz") else html_paragraphs(text)


def _is_in(language: str, words: list[str]) -> bool:
    counts = {
        name: sum(word in listed for word in words) for name, listed in _FUNCTION_WORDS.items()
    }
    return counts[language] == max(counts.values())
