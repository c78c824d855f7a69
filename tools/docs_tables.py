"""The generated blocks that only docs/ has.

- sizes S4: what the recipes of a paper claim, and what each preset leaves out;
- metrics ssm.listops …: every metric of these recipes, the paper's and ours at each preset;
- origins S4: which seed, versions and commit the numbers of a paper come from, and when;
- deviations gonzo.ssm.hippo …: the notes that these modules' docstrings begin with `Deviation:`;
- every_benchmark: all recorded rows of all packages.
"""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from generated_blocks import PACKAGES, Place, Writer, blocks, pages
from gonzo.lab import registry
from gonzo.lab.checkout import recorded
from gonzo.lab.registry import Registered
from table_cells import (
    NOT_MEASURED,
    NOTHING,
    benchmark_bar,
    figure,
    rounded,
    short_commit,
    table,
    unbroken,
)

_NOTE = re.compile(r"^Deviation: (.+?)(?=\n\s*\n|\Z)", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"(`+.+?`+)")


def known_papers(package: Path) -> list[dict[str, Any]]:
    """Return what a package's papers.toml lists."""
    listed = package / "papers.toml"
    if not listed.exists():
        return []
    return tomllib.loads(listed.read_text(encoding="utf-8"))["paper"]


def recipes_at(place: Place) -> Iterator[Registered]:
    """Yield the recipes of the papers that a block names, or of the page's packages."""
    papers = {paper["name"]: paper for package in PACKAGES for paper in known_papers(package)}
    unknown = [name for name in place.names if name not in papers]
    if unknown:
        raise ValueError(f"{place.page}: expected one of {', '.join(papers)}, got {unknown}")
    chosen = [recipe for name in place.names for recipe in papers[name]["recipes"]]
    for name in chosen if place.names else registry.names():
        registered = registry.load(name)
        if place.names or any(package in registered.source.parents for package in place.packages):
            yield registered


def sizes(place: Place) -> str:
    """What each recipe claims and what its presets leave out."""
    text = ""
    for registered in recipes_at(place):
        recipe = registered.recipe
        rows = [
            [
                preset,
                "<br>".join(described.reduced) or NOTHING,
                "<br>".join(unbroken(str(target)) for target in described.targets),
                described.time,
            ]
            for preset, described in recipe.presets.items()
        ]
        text += (
            f"`{registered.name}`: {recipe.claim}. The paper's number: {recipe.paper.where}.\n\n"
        )
        text += table(["preset", "what is reduced", "target", "takes about"], rows) + "\n"
    return text.removesuffix("\n") or f"{NOT_MEASURED}\n"


def metrics(place: Place) -> str:
    """Every metric of the recipes that the block names; a column of ours for each preset."""
    unknown = sorted(set(place.names) - set(registry.names()))
    if unknown:
        raise ValueError(
            f"{place.page}: expected one of {', '.join(registry.names())}, got {unknown}"
        )
    chosen = [registry.load(name) for name in place.names]
    presets = list(dict.fromkeys(preset for one in chosen for preset in one.recipe.presets))
    rows = []
    for registered in chosen:
        found = {preset: recorded(registered, preset) for preset in registered.recipe.presets}
        for name, metric in registered.recipe.metrics.items():
            ours = [
                metric.format(result["metrics"].get(name)) if result else NOT_MEASURED
                for result in map(found.get, presets)
            ]
            rows.append([f"`{registered.name}`", metric.label, metric.format(metric.paper), *ours])
    head = ["recipe", "what", "the paper's", *(f"ours, {preset}" for preset in presets)]
    return table(head, rows)


def origins(place: Place) -> str:
    """Where every recorded number comes from."""
    rows = []
    for registered in recipes_at(place):
        for preset in registered.recipe.presets:
            result = recorded(registered, preset)
            if result is None:
                continue
            versions = result["versions"]
            rows.append(
                [
                    f"`{registered.name}`",
                    preset,
                    str(result["seed"]),
                    f"torch {versions['torch']}, Python {versions['python']}",
                    short_commit(result["commit"]),
                    result["finished"],
                ]
            )
    head = ["recipe", "preset", "seed", "versions", "commit", "finished"]
    return table(head, rows) if rows else f"{NOT_MEASURED}\n"


def deviations(place: Place) -> str:
    """Where our code departs from a paper, in the words of its own docstrings."""
    notes = {module: found for package in PACKAGES for module, found in _notes(package).items()}
    unknown = [name for name in place.names if name not in notes]
    if unknown:
        raise ValueError(f"{place.page}: no docstring of {', '.join(unknown)} says 'Deviation:'")
    return "".join(f"- `{name}`: {note}\n" for name in place.names for note in notes[name])


def unlisted_deviations() -> list[str]:
    """Return the modules whose deviations no page lists."""
    listed = {name for page in pages() for names in blocks(page, "deviations") for name in names}
    return sorted({module for package in PACKAGES for module in _notes(package)} - listed)


def every_benchmark(place: Place) -> str:
    """All rows of all scripts, with what they were measured on."""
    text = ""
    for package in place.packages:
        for path in sorted(package.glob("benchmarks/results/*.json")):
            measured = json.loads(path.read_text(encoding="utf-8"))
            text += f"## {package.name} on {measured['device']}\n\n"
            for script, suite in measured["suites"].items():
                versions = ", ".join(f"{name} {v}" for name, v in suite["versions"].items())
                text += f"### {script}\n\nCommit {short_commit(suite['commit'])}; {versions}.\n\n"
                text += table(_BENCHMARK_HEAD, map(_benchmark, suite["rows"])) + "\n"
    return text.removesuffix("\n") or f"{NOT_MEASURED}\n"


_BENCHMARK_HEAD = ["what", "ours", "peer's", "ratio", "bar", "peer", "threads"]


def _benchmark(row: dict[str, Any]) -> list[str]:
    faster = "faster" in row["bar"]
    ratio = (
        f"{rounded(row['ratio'])} × {'faster' if faster else 'peer'}" if row["ratio"] else NOTHING
    )
    return [
        row["what"],
        unbroken(figure(row["ours"], row["unit"])),
        unbroken(figure(row["peer_time"], row["unit"])),
        unbroken(ratio),
        unbroken(benchmark_bar(row)),
        row["peer"] or NOTHING,
        unbroken(f"{row['threads']}, {row['caches']}" if row["caches"] else str(row["threads"])),
    ]


def _notes(package: Path) -> dict[str, list[str]]:
    """The deviation notes of each module of a package, as one line of Markdown each."""
    found: dict[str, list[str]] = {}
    source = package / "src"
    for path in sorted(source.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "Deviation" not in text:
            continue
        parts = path.relative_to(source).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        notes = [note for doc in _docstrings(text) for note in _NOTE.findall(doc)]
        if len(re.findall(r"\bDeviations?:", text)) != len(notes):
            raise ValueError(f"{path}: expected 'Deviation: …' as a paragraph of a docstring")
        if notes:
            found[module] = [_as_markdown(note) for note in notes]
    return found


def _docstrings(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def _as_markdown(note: str) -> str:
    """One line, with the letters that Markdown would take for marks escaped outside of code."""
    pieces = _CODE.split(" ".join(note.split()))
    pieces[::2] = [re.sub(r"([*_\[])", r"\\\1", plain) for plain in pieces[::2]]
    return "".join(pieces)


WRITERS: dict[str, Writer] = {
    "sizes": sizes,
    "metrics": metrics,
    "origins": origins,
    "deviations": deviations,
    "every_benchmark": every_benchmark,
}
