"""Check that a change to a package says in its `changes/` what users will notice.

A change is what differs between the working tree and the merge base with BASE; BASE is the main
branch (origin's, else the local one) unless it is given. So a pull request is judged as a whole,
and on the main branch itself what is not yet pushed, or not yet committed where there is no origin.
Beyond that, what changed since a package's last release must have left some fragment.

What needs a fragment is what is published: `src/` and `pyproject.toml`. Tests, benchmarks, results
and READMEs do not. Adding or editing one fragment is enough for a package, as is an edited
CHANGELOG.md, which is how a release takes its fragments away. `towncrier check` is not used: it
looks at commits alone, and takes a change to one package for a change to each.

    python tools/check_changes.py [BASE]
"""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from changed_files import (
    UnknownBaseError,
    changed_files,
    given_base,
    is_checkout,
    last_tag,
    main_branch,
    start_of_changes,
)

ROOT = Path(__file__).resolve().parents[1]

_NEEDS_FRAGMENT = ("src/", "pyproject.toml")


class Comparison(NamedTuple):
    """The working tree beside an earlier state of it."""

    since: str
    changed: list[str]


def compared(root: Path, base: str | None) -> Comparison:
    """Compare with where the present work began.

    Raises:
        UnknownBaseError: if a base is given and this clone does not reach it.
    """
    if not is_checkout(root):
        return Comparison("nothing, for this is not a git checkout", [])
    given = given_base(base)
    wanted = given or main_branch(root)
    try:
        start = start_of_changes(root, wanted)
    except UnknownBaseError:
        if given:
            raise
        since = f"the last commit, for this clone ends before {wanted}"
        return Comparison(since, changed_files(root, "HEAD"))
    return Comparison(f"{start[:10]} ({wanted})", changed_files(root, start))


def compared_with_release(root: Path, package: str) -> Comparison:
    """Compare with the last release of a package, or with nothing where there is none."""
    tag = last_tag(root, f"{package}-v*") if is_checkout(root) else None
    return Comparison(tag or "nothing", changed_files(root, tag) if tag else [])


def problems(root: Path, now: Comparison) -> Iterator[str]:
    """Yield what is wrong with the fragments of the packages under `root`, in words."""
    for folder in sorted(path.parent for path in root.glob("packages/*/towncrier.toml")):
        where = folder.relative_to(root).as_posix()
        config = tomllib.loads((folder / "towncrier.toml").read_text(encoding="utf-8"))
        kinds = [kind["directory"] for kind in config["tool"]["towncrier"]["type"]]
        form = f"{where}/changes/+<what>.<{'|'.join(kinds)}>.md"
        told = {f"{where}/CHANGELOG.md"}
        for path in sorted(folder.glob("changes/[!.]*")):
            name = path.relative_to(root).as_posix()
            told.add(name)
            if path.suffix != ".md" or Path(path.stem).suffix.removeprefix(".") not in kinds:
                yield f"{name} would not reach the changelog: name it {form}"
            elif not path.read_text(encoding="utf-8").strip():
                yield f"{name} is empty: say in a sentence what changed"
        for since, changed in (now, compared_with_release(root, folder.name)):
            published = tuple(f"{where}/{part}" for part in _NEEDS_FRAGMENT)
            touched = [name for name in changed if name.startswith(published)]
            if touched and told.isdisjoint(changed):
                more = f" and {len(touched) - 1} more" if len(touched) > 1 else ""
                yield (
                    f"{touched[0]}{more} changed since {since}, and no fragment did: say in a "
                    f"sentence what users will notice, in {form}"
                )
                break


def main(root: Path, base: str | None) -> int:
    """Print what is wrong and return the exit code."""
    try:
        now = compared(root, base)
    except UnknownBaseError as problem:
        print(problem)
        return 1
    found = list(problems(root, now))
    print("\n".join(found) or f"every change has its fragment (compared with {now.since})")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(ROOT, sys.argv[1] if len(sys.argv) > 1 else None))
