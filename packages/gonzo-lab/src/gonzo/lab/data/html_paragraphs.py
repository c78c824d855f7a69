"""The prose of a page of HTML or Mallard XML, as paragraphs.

Each heading, paragraph, list item and table cell is one. Programs, listings and what surrounds a
page to move between pages are left out.
"""

import re
from html.parser import HTMLParser

_BLOCKS = frozenset([
    "address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "desc", "div", "dl",
    "dt", "fieldset", "figcaption", "figure", "form", "h1", "h2", "h3", "h4", "h5", "h6", "hr",
    "info", "item", "legend", "li", "listing", "main", "media", "note", "ol", "option", "p", "page",
    "screen", "section", "steps", "summary", "synopsis", "table", "td", "terms", "th", "title",
    "tr", "ul",
])  # fmt: skip
_SKIPPED = frozenset([
    "aside", "button", "cmd", "code", "credit", "footer", "head", "header", "nav", "noscript",
    "output", "pre", "screen", "script", "style", "template",
])  # fmt: skip
_TITLE = re.compile(r"<(/?)title\b")
_SPACE = re.compile(r"\s+")


class _Paragraphs(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.paragraphs: list[str] = []
        self._pieces: list[str] = []
        self._skipped: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        tag = _local(tag)
        if tag == "body":
            self._skipped.clear()  # </head> may be left out
        if tag in _BLOCKS:
            self.end_paragraph()
        if tag in _SKIPPED:
            self._skipped.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if _local(tag) in _BLOCKS:
            self.end_paragraph()

    def handle_endtag(self, tag: str) -> None:
        tag = _local(tag)
        if tag in self._skipped:
            while self._skipped.pop() != tag:
                pass
        if tag in _BLOCKS:
            self.end_paragraph()

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self._pieces.append(data)

    def end_paragraph(self) -> None:
        text = _SPACE.sub(" ", "".join(self._pieces)).strip()
        self._pieces.clear()
        if text:
            self.paragraphs.append(text)


def _local(tag: str) -> str:
    return tag.rpartition(":")[2]  # mal:credit


def html_paragraphs(page: str) -> list[str]:
    """Return the paragraphs of a page in order, their white space collapsed.

    Args:
        page: HTML, XHTML or Mallard XML; damaged mark-up is read as a browser would, more or less.
    """
    parser = _Paragraphs()
    # In HTML a title holds no elements, and the parser reads it so; in Mallard it does.
    parser.feed(_TITLE.sub(r"<\1h1", page))
    parser.close()
    parser.end_paragraph()
    return parser.paragraphs
