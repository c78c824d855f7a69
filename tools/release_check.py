"""Build what is published of a package, twice, and check every byte, file and line of metadata.

The two builds differ in folder, order and age of the files, permissions, time zone and locale; one
makes the wheel from the sdist, the other from the tree. Sdist and wheel must come out identical.
Both start from what git would commit, so that nothing else on this machine is published.

The wheel must hold the files of `src/` and its metadata, the sdist those files, the tests and the
changelog; byte for byte, no more and no less. Metadata must be valid, agree with pyproject.toml and
show the README with links that work away from the repository. No network is needed where uv is a
version that `build-system.requires` allows.

    python tools/release_check.py gonzo-ssm --out-dir build/release/gonzo-ssm
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.metadata import Metadata
from packaging.requirements import Requirement

import check_wheel

ROOT = Path(__file__).resolve().parents[1]

_AT_THE_TOP = ("CHANGELOG.md", "LICENSE", "README.md")
_NOT_SOURCES = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "build", "dist", "runs")
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)\s]+)")


class BuildError(Exception):
    """uv could not build the package."""


def export(root: Path, package: str, to: Path) -> Path:
    """Copy the package's files that git tracks or would add; without git, all but caches."""
    folder = root / "packages" / package
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "."]
    done = subprocess.run(listing, cwd=folder, capture_output=True, text=True)
    copy = to / package
    if done.returncode or not done.stdout:
        shutil.copytree(folder, copy, ignore=_NOT_SOURCES)
        return copy
    for name in sorted(done.stdout.split("\0")):
        if (folder / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, copy / name)
    return copy


def disturb(folder: Path) -> None:
    """Write the files anew in reverse order, each older and more private than it was."""
    for path in sorted((p for p in folder.rglob("*") if p.is_file()), reverse=True):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        path.chmod(0o600)
        os.utime(path, (1e9, 1e9))


def build(source: Path, out: Path, *kinds: str, **variables: str) -> None:
    """Build a package with uv: its sdist, and a wheel from that unless `kinds` says otherwise.

    Raises:
        BuildError: with what uv said.
    """
    done = subprocess.run(
        ["uv", "build", "--no-create-gitignore", "--out-dir", str(out), *kinds, str(source)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise BuildError(f"uv build fails:\n{done.stderr.strip()}")


def differences(first: Path, second: Path) -> Iterator[str]:
    """Yield the archives that two folders do not both hold with the same bytes."""
    names = sorted({path.name for folder in (first, second) for path in folder.iterdir()})
    for name in names:
        sums = [_sha256(folder / name) for folder in (first, second)]
        if sums[0] == sums[1]:
            print(f"{name}: {(first / name).stat().st_size:,} bytes, sha256 {sums[0]}")
        else:
            yield f"{name} is not the same when it is built again: sha256 {sums[0]}, then {sums[1]}"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "(not built)"


def in_wheel(wheel: Path, source: Path, project: dict[str, Any]) -> Iterator[str]:
    """Yield how a wheel differs from the files of `src/` with their metadata."""
    with zipfile.ZipFile(wheel) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}
    info = f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"
    expected: dict[str, bytes | None] = dict(_files(source / "src"))
    expected |= {f"{info}/{name}": None for name in ("METADATA", "RECORD", "WHEEL")}
    expected |= {
        f"{info}/licenses/{name}": (source / name).read_bytes() for name in project["license-files"]
    }
    if project.keys() & {"scripts", "gui-scripts", "entry-points"}:
        expected[f"{info}/entry_points.txt"] = None
    yield from _compare(wheel.name, found, expected)


def in_sdist(sdist: Path, source: Path) -> Iterator[str]:
    """Yield how an sdist differs from the sources, the tests and what explains them."""
    top = f"{sdist.name.removesuffix('.tar.gz')}/"
    with tarfile.open(sdist) as archive:
        files = [(member, archive.extractfile(member)) for member in archive if member.isfile()]
        found = {member.name.removeprefix(top): f.read() for member, f in files if f}
    expected: dict[str, bytes | None] = {name: (source / name).read_bytes() for name in _AT_THE_TOP}
    for folder in ("src", "tests"):
        expected |= {f"{folder}/{name}": data for name, data in _files(source / folder).items()}
    # uv writes the pyproject.toml of an sdist in its own form and keeps ours beside it.
    expected |= {"PKG-INFO": None, "pyproject.toml": None}
    found.pop("pyproject.toml.orig", None)
    yield from _compare(sdist.name, found, expected)
    if not any(name.startswith("tests/") for name in found):
        yield 'add source-include = ["CHANGELOG.md", "tests/**"] under [tool.uv.build-backend]'


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _compare(
    archive: str, found: dict[str, bytes], expected: dict[str, bytes | None]
) -> Iterator[str]:
    yield from (f"{archive} lacks {name}" for name in sorted(expected.keys() - found.keys()))
    yield from (f"{archive} holds {name}" for name in sorted(found.keys() - expected.keys()))
    for name in sorted(found.keys() & expected.keys()):
        if expected[name] not in (None, found[name]):
            yield f"{archive}: {name} is not the file of the tree"


def in_metadata(wheel: Path, source: Path, project: dict[str, Any]) -> Iterator[str]:
    """Yield what an index would refuse, show wrongly, or contradicts pyproject.toml."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        text = archive.read(name)
    try:
        metadata = Metadata.from_email(text, validate=True)
    except ExceptionGroup as group:
        yield from (f"metadata: {problem}" for problem in group.exceptions)
        return
    readme = (source / project["readme"]).read_text(encoding="utf-8")
    required = metadata.requires_dist or []
    said = {
        "name": (metadata.name, project["name"]),
        "version": (str(metadata.version), project["version"]),
        "license": (metadata.license_expression, project["license"]),
        "requires-python": (str(metadata.requires_python), project["requires-python"]),
        "content type": (metadata.description_content_type, "text/markdown"),
        "description": ((metadata.description or "").strip(), readme.strip()),
        "dependencies": (
            sorted(str(r) for r in required if "extra ==" not in str(r.marker)),
            sorted(str(Requirement(text)) for text in project["dependencies"]),
        ),
    }
    for key, (got, wanted) in said.items():
        if got != wanted:
            yield f"metadata: expected {key} {wanted!r}, got {got!r}"
    yield from (f"metadata: {r} names a file or a URL" for r in required if r.url)
    for label, url in (metadata.project_urls or {}).items():
        if not url.startswith("https://"):
            yield f"metadata: expected {label} to begin with https://, got {url!r}"
    if not metadata.project_urls:
        print("note: the package names no project URLs")
    for link in _LINK.findall(readme):
        yield f"README.md links to {link}, which leads nowhere from the package index"


def check(root: Path, package: str, out: Path) -> list[str]:
    """Leave one sdist and one wheel in `out`, and return what is wrong with them, in words."""
    path = root / "packages" / package / "pyproject.toml"
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as elsewhere:
        source = export(root, package, Path(elsewhere, "first"))
        copy = export(root, package, Path(elsewhere, "again", "in a folder of another name"))
        disturb(copy)
        again = Path(elsewhere, "rebuilt")
        try:
            build(source, out, TZ="UTC")
            build(copy, again, "--sdist", "--wheel", TZ="Asia/Kathmandu", LC_ALL="C")
        except BuildError as problem:
            return [str(problem)]
        (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
        return [
            *differences(out, again),
            *in_wheel(wheel, source, project),
            *in_sdist(sdist, source),
            *check_wheel.problems(wheel),
            *in_metadata(wheel, source, project),
        ]


def main() -> int:
    """Print the sums, and what is wrong; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("package")
    parser.add_argument("--out-dir", type=Path, required=True, help="emptied first")
    arguments = parser.parse_args()
    found = check(ROOT, arguments.package, arguments.out_dir)
    print("\n".join(found) or f"{arguments.package} may be published, if its tests pass")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
