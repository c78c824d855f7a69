"""Name the files that differ between the working tree and an earlier commit.

The earlier commit is the merge base with BASE, so that what others did to BASE meanwhile does not
count. Uncommitted changes and new files count, ignored files do not.
"""

import subprocess
from pathlib import Path

_NO_COMMIT = "0" * 40  # what a forge calls the state before a branch's first push


class UnknownBaseError(Exception):
    """The history at hand does not reach the commit to compare with."""


def is_checkout(root: Path) -> bool:
    """Tell whether `root` is the top of a git checkout with at least one commit."""
    done = _git(root, "rev-parse", "--show-toplevel", "HEAD")
    return done.returncode == 0 and Path(done.stdout.splitlines()[0]).resolve() == root.resolve()


def main_branch(root: Path) -> str:
    """The branch that changes are meant for: origin's main branch, the local one, or HEAD."""
    for name in ("origin/HEAD", "origin/main", "main"):
        if _git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").returncode == 0:
            return name
    return "HEAD"


def last_tag(root: Path, pattern: str) -> str | None:
    """The nearest tag of that form at or before HEAD."""
    done = _git(root, "describe", "--tags", "--abbrev=0", "--match", pattern, "HEAD")
    return done.stdout.strip() if done.returncode == 0 else None


def start_of_changes(root: Path, base: str) -> str:
    """The merge base of BASE and HEAD.

    Raises:
        UnknownBaseError: if this clone does not hold it.
    """
    done = _git(root, "merge-base", base, "HEAD")
    if done.returncode:
        raise UnknownBaseError(
            f"no common history with {base} in this clone: fetch it (git fetch --unshallow, or "
            "fetch-depth: 0 of actions/checkout), or name a commit that is here"
        )
    return done.stdout.strip()


def changed_files(root: Path, start: str) -> list[str]:
    """The paths that differ between a commit and the working tree, relative to `root`."""
    listed = [
        _git(root, "diff", "--name-only", "--no-renames", "-z", start),
        _git(root, "ls-files", "--others", "--exclude-standard", "-z"),
    ]
    for done in listed:
        done.check_returncode()
    return sorted({name for done in listed for name in done.stdout.split("\0") if name})


def given_base(base: str | None) -> str | None:
    """The base, or None where none is given or it stands for no commit."""
    return None if base in (None, "", _NO_COMMIT) else base


def _git(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
