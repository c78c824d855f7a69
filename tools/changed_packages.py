"""Print, as JSON for a job matrix, the packages whose tests a change can affect.

A package is affected when a file of its folder changed, or of a package that it requires: all are
when gonzo-core changed. What lies outside `packages/` is taken to affect every package, but for
prose, the site and the tests between packages, which other jobs build and run in any case. Extras
are not followed: what they bring runs in `nox -s together`, on every change.

Without BASE, or where this clone does not reach it, every package is printed.

    python tools/changed_packages.py [BASE]
"""

import json
import re
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

from changed_files import UnknownBaseError, changed_files, given_base, start_of_changes

ROOT = Path(__file__).resolve().parents[1]

_AFFECTS_NO_PACKAGE = ("*.md", "CITATION.cff", "docs/*", "integration_tests/*", "mkdocs.yml")


def affected(root: Path, changed: list[str]) -> list[str]:
    """The packages affected by changes to these paths, in alphabetical order."""
    required = {
        path.parent.name: _required(path) for path in sorted(root.glob("packages/*/pyproject.toml"))
    }
    touched = set()
    for name in changed:
        first, _, rest = name.partition("/")
        if first == "packages":
            touched.add(rest.partition("/")[0])
        elif not any(fnmatch(name, pattern) for pattern in _AFFECTS_NO_PACKAGE):
            return sorted(required)
    grown = True
    while grown:
        new = {package for package in required if required[package] & touched} - touched
        touched |= new
        grown = bool(new)
    return sorted(touched & set(required))


def _required(pyproject: Path) -> set[str]:
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    names = (re.match(r"[\w.-]+", text) for text in project.get("dependencies", []))
    return {name[0] for name in names if name}


def main(base: str | None) -> str:
    """The JSON list, with the reason for an incomplete comparison on standard error."""
    everything = json.dumps(sorted(p.parent.name for p in ROOT.glob("packages/*/pyproject.toml")))
    if given_base(base) is None:
        return everything
    try:
        changed = changed_files(ROOT, start_of_changes(ROOT, str(base)))
    except UnknownBaseError as problem:
        print(f"every package: {problem}", file=sys.stderr)
        return everything
    return json.dumps(affected(ROOT, changed))


if __name__ == "__main__":
    print(main(sys.argv[1] if len(sys.argv) > 1 else None))
