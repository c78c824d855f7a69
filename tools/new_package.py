"""Make a package that passes every session, with a small layer in it that waits to be replaced.

    uv run tools/new_package.py gonzo-demo --summary "One sentence about it"

It writes `packages/gonzo-demo/` from the templates in `tools/new_package/`, a page for its API and
one for its paper, and names the package wherever packages are listed. What is for the author to
replace is marked REPLACE-ME. Where anything speaks against it, nothing is written.
"""

import argparse
import keyword
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template

from package_lists import with_package

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = Path(__file__).resolve().with_suffix("")
MARK = "REPLACE-ME"

_LONGEST_NAME = 40
_LONGEST_SUMMARY = 90
_SUMMARY = "An exponential moving average of every feature, over a memory that is trained"


def create(root: Path, name: str, summary: str = _SUMMARY) -> list[Path]:
    """Write the package `name` into the tree at `root`, or nothing at all.

    Returns:
        The new files, in alphabetical order.

    Raises:
        ValueError: the name or the summary cannot be used, a file is there already, or a file that
            lists packages does not look as expected.
    """
    check_name(root, name)
    check_summary(summary)
    new = dict(_new_files(root, name, summary))
    for path in new:
        if path.exists():
            raise ValueError(f"{path.relative_to(root)} is there already: choose another name")
    _write({**new, **with_package(root, name, summary)})
    return sorted(new)


def check_name(root: Path, name: str) -> None:
    """Raise ValueError unless `name` can be a new package of the tree at `root`."""
    if not name.isascii() or not re.fullmatch(r"gonzo-[\w.-]*\w", name):
        raise ValueError(f"expected a name of the form gonzo-demo, got {name!r}")
    normal = re.sub(r"[-_.]+", "-", name).lower()
    if name != normal:
        raise ValueError(f"expected the name as package indexes write it, {normal}, got {name}")
    part = _part(name)
    if not part.isidentifier() or keyword.iskeyword(part):
        raise ValueError(f"{name} would be imported as gonzo.{part}, which is not valid Python")
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"expected a name of at most {_LONGEST_NAME} letters, got {len(name)}")
    if (root / "packages" / name).exists():
        raise ValueError(f"packages/{name} is there already: choose another name")


def check_summary(summary: str) -> None:
    """Raise ValueError unless `summary` can stand in TOML, in a docstring and in a table."""
    if not summary or not summary.isprintable() or summary != summary.strip(" ."):
        raise ValueError(
            f"expected a summary in one line, without a full stop at its end, got {summary!r}"
        )
    if found := sorted(set(summary) & set('"\\|')):
        raise ValueError(f"expected a summary without {' and '.join(found)}, got {summary!r}")
    if len(summary) > _LONGEST_SUMMARY:
        raise ValueError(
            f"expected a summary of at most {_LONGEST_SUMMARY} letters, got {len(summary)}"
        )


def marks(files: list[Path]) -> Iterator[tuple[Path, int, str]]:
    """Yield where each mark stands, and what it asks for."""
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if MARK in line:
                yield path, number, line.partition(f"{MARK}: ")[2].removesuffix(" -->")


def _part(name: str) -> str:
    return name.removeprefix("gonzo-").replace("-", "_")


def _new_files(root: Path, name: str, summary: str) -> Iterator[tuple[Path, str]]:
    slug, part = name.removeprefix("gonzo-"), _part(name)
    values = {"name": name, "slug": slug, "part": part, "summary": summary}
    values |= _requirements(root)
    package = root / "packages" / name
    for template in sorted(TEMPLATES.glob("package/**/*.in")):
        inside = template.relative_to(TEMPLATES / "package").as_posix().removesuffix(".in")
        yield package / inside.replace("PART", part), _filled(template, values)
    yield package / "LICENSE", (root / "LICENSE").read_text(encoding="utf-8")
    for kind in ("api", "papers"):
        yield root / f"docs/{kind}/{slug}.md", _filled(TEMPLATES / f"docs/{kind}.md.in", values)


def _requirements(root: Path) -> dict[str, str]:
    """What the package needs, in the versions that gonzo-core is at."""
    path = root / "packages/gonzo-core/pyproject.toml"
    config = tomllib.loads(path.read_text(encoding="utf-8"))
    major, minor = map(int, config["project"]["version"].split(".")[:2])
    (torch,) = (text for text in config["project"]["dependencies"] if text.startswith("torch"))
    (backend,) = config["build-system"]["requires"]
    core = f"gonzo-core>={major}.{minor},<{major}.{minor + 1}"
    return {"core": core, "torch": torch, "backend": backend}


def _filled(template: Path, values: Mapping[str, str]) -> str:
    text = Template(template.read_text(encoding="utf-8")).substitute(values)
    # The place of the package's own imports among those of core depends on its name.
    return re.sub(r"(?:^from gonzo\.\S+ import .+\n)+", _sorted_imports, text, flags=re.MULTILINE)


def _sorted_imports(block: re.Match[str]) -> str:
    return "".join(sorted(block[0].splitlines(keepends=True), key=lambda line: line.split()[1]))


def _write(texts: Mapping[Path, str]) -> None:
    """Write all files, or leave all as they were."""
    before = {path: path.read_bytes() for path in texts if path.exists()}
    new_folders = {parent for path in texts for parent in path.parents if not parent.exists()}
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    except BaseException:
        for path in texts:
            if path in before:
                path.write_bytes(before[path])
            else:
                path.unlink(missing_ok=True)
        for folder in sorted(new_folders, reverse=True):  # a folder sorts before what is in it
            if folder.exists():
                folder.rmdir()
        raise


def _next_steps(root: Path, name: str, files: list[Path]) -> str:
    lines = [f"packages/{name} holds a small layer that passes every session. To replace:", ""]
    lines += [f"  {path.relative_to(root)}:{line}: {what}" for path, line, what in marks(files)]
    folders = f"packages/{name} docs/*/{name.removeprefix('gonzo-')}.md"
    lines += ["", "To find them again, to try the package, and to try everything:", ""]
    lines += [f"  grep -rn {MARK} {folders}"]
    lines += [f'  uv run nox -s lint types "test({name})" "wheel({name})" "bench({name})"']
    lines += ["  uv run nox"]
    lines += ["", "CONTRIBUTING.md says how to add an op, a layer and a recipe."]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Make the package and say what is next; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="of the package, such as gonzo-demo")
    parser.add_argument("--summary", default=_SUMMARY, help="one sentence, without a full stop")
    parser.add_argument("--root", type=Path, default=ROOT, help="of another checkout")
    given = parser.parse_args(arguments)
    root = given.root.resolve()
    try:
        files = create(root, given.name, given.summary)
    except ValueError as problem:
        print(f"{parser.prog}: {problem}; nothing was written", file=sys.stderr)
        return 2
    # The map of papers and the tables of the new README are another tool's to write.
    tables = subprocess.run([sys.executable, "tools/results_table.py"], cwd=root)
    print(f"\n{_next_steps(root, given.name, files)}")
    if tables.returncode:
        print("\nThe generated tables are not up to date: run uv run tools/results_table.py")
    return tables.returncode


if __name__ == "__main__":
    sys.exit(main())
