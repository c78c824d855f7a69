"""Check that a tag, the version and the changelog agree, and print that version's changelog.

A tag `gonzo-ssm-v0.1.0` may be published when the package's pyproject.toml has that version, its
CHANGELOG.md has a dated section of it, no fragment is left in `changes/`, and every package of ours
that it requires, extras included, has an upper bound and a floor that is itself released.

The tag must be on the commit that is checked out. Before it exists, this is a rehearsal.

    python tools/release_tag.py gonzo-ssm-v0.1.0 [--notes FILE]
"""

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]

_TAG = re.compile(r"(?P<package>gonzo-[a-z0-9-]+)-v(?P<version>\d.*)")


def package_and_version(tag: str) -> tuple[str, str]:
    """Split a tag.

    Raises:
        ValueError: if it is not of the form `gonzo-ssm-v0.1.0`.
    """
    found = _TAG.fullmatch(tag)
    try:
        if found and str(Version(found["version"])) == found["version"]:
            return found["package"], found["version"]
    except InvalidVersion:
        pass
    raise ValueError(f"{tag!r} is no tag of a release: expected the form gonzo-ssm-v0.1.0")


def released(root: Path, package: str) -> dict[Version, str]:
    """The tag of every version of a package that was released, oldest first."""
    done = _git(root, "tag", "--list", f"{package}-v*")
    found = {}
    for tag in done.stdout.split():
        try:
            name, version = package_and_version(tag)
        except ValueError:
            continue
        if name == package:
            found[Version(version)] = tag
    return dict(sorted(found.items()))


def ours(project: dict[str, Any], *, extras: bool) -> list[Requirement]:
    """What a package requires of the other packages of this repository."""
    texts = list(project.get("dependencies", []))
    if extras:
        texts += [
            text for extra in project.get("optional-dependencies", {}).values() for text in extra
        ]
    found = [Requirement(text) for text in texts]
    return [r for r in found if r.name.startswith("gonzo-") and r.name != project["name"]]


def floor(requirement: Requirement) -> Version | None:
    """The lower bound of a requirement."""
    bounds = [s.version for s in requirement.specifier if s.operator in (">=", "~=", "==")]
    return max(map(Version, bounds), default=None)


def section(changelog: str, version: str) -> tuple[str, str] | None:
    """The date and the text of a version's section, as towncrier writes it."""
    heading = re.compile(rf"^## {re.escape(version)} \((.*)\)\n", re.MULTILINE)
    found = heading.search(changelog)
    if found is None:
        return None
    text = re.split(r"^## ", changelog[found.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    return found[1], text.strip()


def problems(root: Path, tag: str) -> Iterator[str]:
    """Yield what speaks against publishing a tag, in words."""
    try:
        package, version = package_and_version(tag)
    except ValueError as problem:
        yield str(problem)
        return
    folder = root / "packages" / package
    if not (folder / "pyproject.toml").exists():
        there = ", ".join(sorted(p.parent.name for p in root.glob("packages/*/pyproject.toml")))
        yield f"there is no package {package}: there are {there}"
        return
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if project["version"] != version:
        yield (
            f"the tag says {version}, packages/{package}/pyproject.toml says {project['version']}: "
            f"uv version --package {package} --frozen {version}, or another tag"
        )
    yield from _changelog(root, package, version)
    for requirement in ours(project, extras=True):
        yield from _bounds(root, package, requirement)
    yield from _commit(root, tag)


def _changelog(root: Path, package: str, version: str) -> Iterator[str]:
    folder = root / "packages" / package
    build = f"towncrier build --config packages/{package}/towncrier.toml --version {version}"
    found = section((folder / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    if found is None:
        yield f"packages/{package}/CHANGELOG.md has no section {version}: {build}"
    else:
        written, text = found
        try:
            date.fromisoformat(written)
        except ValueError:
            yield f"{package}: expected a date such as 2026-01-31 beside {version}, got {written!r}"
        if not text:
            yield f"packages/{package}/CHANGELOG.md says nothing about {version}"
    left = sorted(p.name for p in folder.glob("changes/*") if not p.name.startswith("."))
    if left:
        yield f"{package}: not yet in the changelog are changes/{', changes/'.join(left)}: {build}"


def _bounds(root: Path, package: str, requirement: Requirement) -> Iterator[str]:
    lowest = floor(requirement)
    bounded = any(s.operator in ("<", "<=", "~=", "==") for s in requirement.specifier)
    if lowest is None or not bounded:
        example = f"{requirement.name}>=0.1,<0.2"
        yield f"{package}: expected both bounds, as in {example}, got {requirement}"
        return
    tags = released(root, requirement.name)
    if lowest not in tags:
        known = ", ".join(map(str, tags)) or "none"
        yield (
            f"{package} requires {requirement}, and {requirement.name} {lowest} is not released "
            f"(released: {known}): release {requirement.name} first"
        )


def _commit(root: Path, tag: str) -> Iterator[str]:
    head = _git(root, "rev-parse", "HEAD")
    if head.returncode:
        yield f"{root} is not a git checkout, and a release is made from one"
        return
    tagged = _git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}")
    if tagged.returncode:
        print(f"a rehearsal: {tag} does not exist yet", file=sys.stderr)
    elif tagged.stdout != head.stdout:
        yield f"{tag} is on {tagged.stdout[:10]}, and {head.stdout[:10]} is checked out"
    if _git(root, "status", "--porcelain").stdout.strip():
        yield "there are uncommitted changes, which the tag would not hold"


def _git(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)


def main() -> int:
    """Print the notes, or what is wrong; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("tag")
    parser.add_argument("--notes", type=Path, help="write the changelog's section to this file")
    arguments = parser.parse_args()
    found = list(problems(ROOT, arguments.tag))
    if found:
        print("\n".join(found), file=sys.stderr)
        return 1
    package, version = package_and_version(arguments.tag)
    changelog = (ROOT / "packages" / package / "CHANGELOG.md").read_text(encoding="utf-8")
    _, text = section(changelog, version) or ("", "")
    print(text)
    if arguments.notes:
        arguments.notes.parent.mkdir(parents=True, exist_ok=True)
        arguments.notes.write_text(f"{text}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
