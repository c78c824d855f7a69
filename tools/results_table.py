"""Write the generated blocks of the READMEs and of docs/, or check that they are up to date.

A page says where with a pair of comments, `<!-- generated: papers -->` … `<!-- end -->`:

- papers: what every package implements, from its papers.toml, with our number beside the paper's;
- results: every preset of the package's recipes, from results/; `results S4` has one paper's alone;
- benchmarks: the best and the worst row of each device, and every missed bar, from
  benchmarks/results/;
- in docs/, also the blocks of docs_tables.py.

    uv run tools/results_table.py [--check]
"""

import difflib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docs_tables
from docs_tables import known_papers, recipes_at
from generated_blocks import ROOT, Place, Writer, filled, pages
from gonzo.lab import registry
from gonzo.lab.checkout import recorded
from table_cells import (
    NOT_MEASURED,
    NOTHING,
    benchmark_bar,
    duration,
    figure,
    rounded,
    short_device,
    table,
    threads,
)


def papers(place: Place) -> str:
    """Paper, package, class, recipe, and our number beside the paper's."""
    rows = []
    for package in place.packages:
        for paper in known_papers(package):
            classes = ", ".join(f"`{name}`" for name in paper["classes"])
            start = [*_links(place, package, paper), classes]
            rows += [[*start, *_headline(name)] for name in paper["recipes"]] or [
                [*start, NOTHING, NOTHING, NOT_MEASURED]
            ]
    return table(["paper", "package", "class", "recipe", "paper's number", "ours"], rows)


def _links(place: Place, package: Path, paper: dict[str, Any]) -> list[str]:
    """The paper and the package, as links to what the reader of this page can follow."""
    part = package.name.removeprefix("gonzo-")
    to_paper = paper["url"]
    to_package = package.relative_to(ROOT) / "README.md"
    if place.in_docs:
        to_paper = os.path.relpath(
            ROOT / f"docs/papers/{paper['name'].lower()}.md", place.page.parent
        )
        to_package = os.path.relpath(ROOT / f"docs/api/{part}.md", place.page.parent)
    return [f"[{paper['name']}]({to_paper})", f"[{package.name}]({to_package})"]


def _headline(name: str) -> list[str]:
    """Recipe, the paper's number and ours at the largest preset that is recorded."""
    registered = registry.load(name)
    recipe = registered.recipe
    found = [result for preset in recipe.presets if (result := recorded(registered, preset))]
    labels = " / ".join(metric.label for metric in recipe.metrics.values())
    ours = NOT_MEASURED
    if found:
        last = found[-1]
        ours = f"**{recipe.summary(last['metrics'])}** ({last['preset']}: {last['verdict']})"
    return [f"`{name}`", f"{recipe.paper_summary()}<br>{labels}", ours]


def results(place: Place) -> str:
    """Every preset of every recipe."""
    rows = []
    for registered in recipes_at(place):
        name, recipe = registered.name, registered.recipe
        for preset, described in recipe.presets.items():
            result = recorded(registered, preset)
            start = [f"`{name}`", preset, recipe.paper_summary()]
            if result is None:
                rows.append([*start, NOT_MEASURED, "not run", f"about {described.time}"])
                continue
            ours, verdict = recipe.summary(result["metrics"]), result["verdict"]
            device = f"{short_device(result['device'])}, {threads(result['threads'])}"
            rows.append([*start, ours, verdict, f"{duration(result['wall_seconds'])}, {device}"])
    return table(["recipe", "preset", "paper's number", "ours", "verdict", "time"], rows)


def benchmarks(place: Place) -> str:
    """The best and the worst row of each device, and what missed its bar."""
    rows = []
    for package in place.packages:
        for path in sorted(package.glob("benchmarks/results/*.json")):
            measured = json.loads(path.read_text(encoding="utf-8"))
            found = [row for suite in measured["suites"].values() for row in suite["rows"]]
            timed = sorted((row for row in found if _speed(row)), key=_speed)
            chosen = [("best", timed[-1]), ("worst", timed[0])] if timed else []
            shown = [row for _, row in chosen]
            chosen += [("missed", row) for row in found if row["met"] is False and row not in shown]
            name = package.name
            rows += [[name, kind, *_benchmark(row), measured["device"]] for kind, row in chosen]
    head = ["package", "row", "what", "ours", "peer", "speed-up", "bar", "on"]
    return table(head, rows) if rows else f"{NOT_MEASURED}\n"


def _benchmark(row: dict[str, Any]) -> list[str]:
    unit, speed = row["unit"], _speed(row)
    peer = f"{row['peer']}: {figure(row['peer_time'], unit)}" if row["peer_time"] else NOTHING
    speed_up = f"{rounded(speed)} ×" if speed else NOTHING
    return [row["what"], figure(row["ours"], unit), peer, speed_up, benchmark_bar(row)]


def _speed(row: dict[str, Any]) -> float:
    """How many times as fast as the peer; 0 where there is no time to compare."""
    if row["unit"] != "s" or not row["peer_time"]:
        return 0.0
    return row["peer_time"] / row["ours"]


WRITERS: dict[str, Writer] = {
    "papers": papers,
    "results": results,
    "benchmarks": benchmarks,
    **docs_tables.WRITERS,
}


def generated() -> Iterator[tuple[Path, str, str]]:
    """Yield every page with its text as it is and as it should be."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        yield page, text, filled(page, text, WRITERS)


def main(*, check: bool) -> int:
    """Write the blocks, or say which pages have drifted from their sources."""
    drifted = False
    for path, text, wanted in generated():
        if text == wanted:
            continue
        name = str(path.relative_to(ROOT))
        if check:
            drifted = True
            lines = (text.splitlines(), wanted.splitlines())
            print("\n".join(difflib.unified_diff(*lines, name, "as generated", lineterm="")))
        else:
            path.write_text(wanted, encoding="utf-8")
            print(f"written: {name}")
    if drifted:
        print("\nGenerated blocks differ from their sources: uv run tools/results_table.py")
    unlisted = docs_tables.unlisted_deviations()
    if unlisted:
        print(
            f"\nNo page of docs/ lists the deviations of {', '.join(unlisted)}: name the modules "
            "in the block `<!-- generated: deviations … -->` of their paper's page"
        )
    return int(drifted or bool(unlisted))


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
