"""Lexicons in TEI, the XML in which FreeDict keeps its dictionaries.

An entry is ``<entry><form><orth>chien</orth></form>…``, and a translation is
``<cit type="trans"><quote>dog</quote></cit>`` (TEI P5), ``<tr>dog</tr>`` (TEI P4), or, in entries
that have neither, a part of ``<def>dog; hound</def>``. The file is read as a stream by Python's
own expat, and a document with entities of its own is refused: a few nested ones could fill
the memory, and external ones could name other files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from gonzo.translation.compressed import opened

__all__ = ["read_tei"]

_BLOCK = 1 << 20


def read_tei(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the pairs of headword and translation, in the order of the entries.

    Raises:
        ValueError: The file is not well-formed XML, declares entities, is cut off, or has no
            entry.
    """
    entries = _Entries(path)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = entries.start
    parser.EndElementHandler = entries.end
    parser.CharacterDataHandler = entries.text
    parser.EntityDeclHandler = entries.refuse
    parser.SkippedEntityHandler = entries.refuse
    with opened(path) as reader:
        more = True
        while more:
            piece = reader.read(_BLOCK)
            more = bool(piece)
            try:
                parser.Parse(piece, not more)
            except expat.ExpatError as error:
                cut = " It seems cut off: an interrupted download?" if not more else ""
                raise ValueError(
                    f"{path}, line {error.lineno:,}: not well-formed XML "
                    f"({expat.ErrorString(error.code)}).{cut} Fetch it again"
                ) from error
            yield from entries.pairs
            entries.pairs.clear()
    if not entries.count:
        raise ValueError(
            f"{path}: expected a TEI dictionary with <entry> elements, found none; is it another "
            "kind of XML?"
        )


class _Entries:
    """Collects the pairs of every entry while the parser walks through it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: list[tuple[str, str]] = []  # elements from the root, with their type=
        self._text: list[str] | None = None
        self._headwords: list[str] = []
        self._translations: list[str] = []
        self._definitions: list[str] = []
        self.pairs: list[tuple[str, str]] = []
        self.count = 0

    def refuse(self, name: str, *_: object) -> None:
        raise ValueError(
            f"{self._path}: the document has the entity {name!r}, which is refused because "
            "entities can fill the memory or name other files; if you trust the file, expand them "
            "with: xmllint --noent --loaddtd --dropdtd"
        )

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(" ")[2]
        self._open.append((name, attributes.get("type", "")))
        if name == "entry":
            self.count += 1
            self._headwords, self._translations, self._definitions = [], [], []
        elif name in ("orth", "quote", "tr", "def"):
            self._text = []

    def text(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)

    def end(self, name: str) -> None:
        name = name.rpartition(" ")[2]
        self._open.pop()
        if name == "entry":
            self._finish()
        if name not in ("orth", "quote", "tr", "def") or self._text is None:
            return
        text, self._text = " ".join("".join(self._text).split()), None
        if not text:
            return
        if name == "orth":
            if not any(
                kind.startswith("infl") for element, kind in self._open if element == "form"
            ):
                self._headwords.append(text)
        elif name == "tr":
            self._translations.append(text)
        elif name == "def":
            self._definitions.extend(part.strip() for part in text.split(";"))
        else:
            cited = [kind for element, kind in self._open if element == "cit"]
            if cited and all(kind in ("trans", "translation") for kind in cited):
                self._translations.append(text)

    def _finish(self) -> None:
        for translation in self._translations or self._definitions:
            self.pairs.extend((word, translation) for word in self._headwords if translation)
