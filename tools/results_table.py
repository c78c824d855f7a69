"""Write the tables of the READMEs from recorded results, or check that they are up to date.

A README says where with a pair of comments, `<!-- generated: papers -->` … `<!-- end -->`:

- papers: what every package implements, from its papers.toml, with our number beside the paper's;
- results: every preset of the package's recipes, from results/;
- benchmarks: the best and the worst row of each device, and every missed bar, from
  benchmarks/results/.

    uv run tools/results_table.py [--check]
"""

import difflib
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gonzo.lab import registry
from gonzo.lab.checkout import recorded

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))

_MARKED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_NOT_MEASURED = "not measured"
_SCALES = {"s": [(1, "s"), (1e-3, "ms"), (1e-6, "µs")], "B": [(2**20, "MiB"), (2**10, "KiB")]}


def papers(packages: list[Path]) -> str:
    """Paper, package, class, recipe, and our number beside the paper's."""
    rows = []
    for package in packages:
        listed = package / "papers.toml"
        known = tomllib.loads(listed.read_text(encoding="utf-8")) if listed.exists() else {}
        for paper in known.get("paper", []):
            classes = ", ".join(f"`{name}`" for name in paper["classes"])
            link = f"[{package.name}](packages/{package.name}/README.md)"
            start = [f"[{paper['name']}]({paper['url']})", link, classes]
            rows += [[*start, *_headline(name)] for name in paper["recipes"]] or [
                [*start, "–", "–", _NOT_MEASURED]
            ]
    return _table(["paper", "package", "class", "recipe", "paper's number", "ours"], rows)


def _headline(name: str) -> list[str]:
    """Recipe, the paper's number and ours at the largest preset that is recorded."""
    registered = registry.load(name)
    recipe = registered.recipe
    found = [result for preset in recipe.presets if (result := recorded(registered, preset))]
    labels = " / ".join(metric.label for metric in recipe.metrics.values())
    ours = _NOT_MEASURED
    if found:
        last = found[-1]
        ours = f"**{recipe.summary(last['metrics'])}** ({last['preset']}: {last['verdict']})"
    return [f"`{name}`", f"{recipe.paper_summary()}<br>{labels}", ours]


def results(packages: list[Path]) -> str:
    """Every preset of every recipe."""
    rows = []
    for name in registry.names():
        registered = registry.load(name)
        if not any(package in registered.source.parents for package in packages):
            continue
        recipe = registered.recipe
        for preset, described in recipe.presets.items():
            result = recorded(registered, preset)
            start = [f"`{name}`", preset, recipe.paper_summary()]
            if result is None:
                rows.append([*start, _NOT_MEASURED, "not run", f"about {described.time}"])
                continue
            seconds = result["wall_seconds"]
            time = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
            rows.append(
                [
                    *start,
                    recipe.summary(result["metrics"]),
                    result["verdict"],
                    f"{time}, {_short(result['device'])}, {_threads(result['threads'])}",
                ]
            )
    return _table(["recipe", "preset", "paper's number", "ours", "verdict", "time"], rows)


def benchmarks(packages: list[Path]) -> str:
    """The best and the worst row of each device, and what missed its bar."""
    rows = []
    for package in packages:
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
    return _table(head, rows) if rows else f"{_NOT_MEASURED}\n"


def _benchmark(row: dict[str, Any]) -> list[str]:
    met = {True: ", met", False: ", **missed**", None: ""}[row["met"]]
    peer = f"{row['peer']}: {_figure(row['peer_time'], row['unit'])}" if row["peer_time"] else "–"
    speed = f"{_rounded(_speed(row))} ×" if _speed(row) else "–"
    return [
        row["what"],
        _figure(row["ours"], row["unit"]),
        peer,
        speed,
        f"{row['bar']}{met}" if row["bar"] else "–",
    ]


def _speed(row: dict[str, Any]) -> float:
    """How many times as fast as the peer; 0 where there is no time to compare."""
    if row["unit"] != "s" or not row["peer_time"]:
        return 0.0
    return row["peer_time"] / row["ours"]


def _figure(value: float, unit: str) -> str:
    for scale, name in _SCALES.get(unit, []):
        if abs(value) >= scale:
            return f"{_rounded(value / scale)} {name}"
    return f"{_rounded(value)} {unit}".rstrip()


def _rounded(value: float) -> str:
    """Three digits, without an exponent where the number can be read without one."""
    return f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


def _short(device: str) -> str:
    return " ".join(re.sub(r"\((R|TM)\)|@.*|\bCPU\b|\bProcessor\b", " ", device).split())


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


_WRITERS: dict[str, Callable[[list[Path]], str]] = {
    "papers": papers,
    "results": results,
    "benchmarks": benchmarks,
}


def generated() -> Iterator[tuple[Path, str, str]]:
    """Yield every README with its text as it is and as it should be."""
    for path in [ROOT / "README.md", *(package / "README.md" for package in PACKAGES)]:
        packages = PACKAGES if path.parent == ROOT else [path.parent]
        text = path.read_text(encoding="utf-8")
        yield (
            path,
            text,
            _MARKED.sub(lambda m, p=packages: m[1] + _WRITERS[m[2]](p) + m[3], text),
        )


def main(*, check: bool) -> int:
    """Write the tables, or say which READMEs have drifted from the results."""
    drifted = False
    for path, text, wanted in generated():
        if text == wanted:
            continue
        name = str(path.relative_to(ROOT))
        if check:
            drifted = True
            lines = (text.splitlines(), wanted.splitlines())
            print("\n".join(difflib.unified_diff(*lines, name, "from the results", lineterm="")))
        else:
            path.write_text(wanted, encoding="utf-8")
            print(f"written: {name}")
    if drifted:
        print("\nREADME tables differ from the recorded results: uv run tools/results_table.py")
    return int(drifted)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
