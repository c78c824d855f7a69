"""The blocks of a page that are written by a program, between two comments.

    <!-- generated: results S4 -->
    …
    <!-- end -->

The first word says what is written, the others narrow it down.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))

_MARKED = re.compile(r"(<!-- generated: (\w+)((?: [\w.-]+)*) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """Where a block stands, which decides what it says and how it links."""

    page: Path
    packages: list[Path]
    """The packages that the page is about."""
    names: list[str]
    """The words after the block's kind."""

    @property
    def in_docs(self) -> bool:
        """Whether the page belongs to the documentation's site."""
        return ROOT / "docs" in self.page.parents


Writer = Callable[[Place], str]


def pages() -> list[Path]:
    """Return every page that may have generated blocks."""
    readmes = [ROOT / "README.md", *(package / "README.md" for package in PACKAGES)]
    return [*readmes, *sorted(ROOT.glob("docs/**/*.md"))]


def blocks(page: Path, kind: str) -> list[list[str]]:
    """Return the words after `kind` of every block of that kind on a page."""
    found = _MARKED.findall(page.read_text(encoding="utf-8"))
    return [names.split() for _, found_kind, names, _ in found if found_kind == kind]


def filled(page: Path, text: str, writers: Mapping[str, Writer]) -> str:
    """Return the text of a page with all its blocks written anew.

    Raises:
        ValueError: a block is of a kind that nobody writes.
    """
    packages = [page.parent] if page.parent in PACKAGES else PACKAGES

    def block(found: re.Match[str]) -> str:
        start, kind, names, end = found.groups()
        if kind not in writers:
            raise ValueError(f"{page}: expected one of {', '.join(writers)}, got {kind!r}")
        return start + writers[kind](Place(page, packages, names.split())) + end

    return _MARKED.sub(block, text)
