"""The page: a summary, then a section per recipe with our numbers beside the paper's."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from gonzo.lab.atomic import write_bytes
from gonzo.lab.overview import Outcome
from gonzo.lab.progress import format_seconds
from gonzo.lab.recipe import Metric, Verdict
from gonzo.lab.report.drawings import charts, figures
from gonzo.lab.report.gather import ReportedRecipe, ReportedRun, gather

STYLE = Path(__file__).with_name("style.css")


def write_report(runs_dir: Path, output: Path | None = None) -> Path:
    """Write the report about every run in `runs_dir` and return its path.

    Args:
        runs_dir: the folder of the runs; it need not exist.
        output: the file to write; `report.html` in `runs_dir` by default.
    """
    path = output or runs_dir / "report.html"
    write_bytes(path, render(*gather(runs_dir)).encode())
    return path


def render(recipes: list[ReportedRecipe], problems: list[str]) -> str:
    """Return the whole page as HTML without any outside resource."""
    today = datetime.now(UTC).date().isoformat()
    counts = Counter(recipe.best().verdict for recipe in recipes)
    chips = " ".join(_chip(verdict, f"{counts[verdict]} {verdict}") for verdict in counts)
    body = "".join(_section(recipe) for recipe in recipes)
    failures = "".join(f'<p class="problem">{escape(text)}</p>' for text in problems)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>gonzo report, {today}</title><style>{STYLE.read_text()}</style></head><body>"
        f'<header><h1>gonzo</h1><p class="lead">What the papers claim, and what came out here.'
        f"</p><p>{chips}</p></header><main>{_summary(recipes)}{failures}{body}</main>"
        f"<footer>Written by <code>gonzo report</code> on {today}. Curves show the mean of "
        "neighbouring steps and, as a band, their range.</footer></body></html>\n"
    )


def _summary(recipes: list[ReportedRecipe]) -> str:
    rows = "".join(_summary_row(recipe) for recipe in recipes)
    return (
        '<table class="summary"><thead><tr><th>recipe<th>claim<th>paper<th>ours<th>verdict'
        f"<th>time</tr></thead><tbody>{rows}</tbody></table>"
    )


def _summary_row(recipe: ReportedRecipe) -> str:
    name, outcome = recipe.registered.name, recipe.best()
    preset = f" <small>{escape(outcome.preset)}</small>" if outcome.directory else ""
    return (
        f'<tr><td data-label="recipe"><a href="#{escape(name)}">{escape(name)}</a>{preset}'
        f'<td data-label="claim">{escape(recipe.registered.recipe.claim)}'
        f'<td data-label="paper" class="number">{escape(recipe.registered.recipe.paper_summary())}'
        f'<td data-label="ours" class="number"><b>{escape(outcome.ours())}</b>'
        f'<td data-label="verdict">{_chip(outcome.verdict)}'
        f'<td data-label="time" class="number">{escape(outcome.time())}</tr>'
    )


def _section(recipe: ReportedRecipe) -> str:
    registered, paper = recipe.registered, recipe.registered.recipe.paper
    citation = escape(paper.citation)
    if paper.url:
        citation = f'<a href="{escape(paper.url)}">{citation}</a>'
    runs = "".join(_run(run) for run in recipe.runs)
    if not recipe.runs:
        runs = (
            '<p class="faint">Not run yet. <code>gonzo run '
            f"{escape(registered.name)}</code> takes about "
            f"{escape(registered.recipe.presets['quick'].time)}.</p>"
        )
    return (
        f'<section id="{escape(registered.name)}"><h2>{escape(registered.recipe.claim)}</h2>'
        f'<p class="source"><code>{escape(registered.name)}</code> {citation}. '
        f"{escape(paper.where)}.</p>{runs}{_recorded(recipe.recorded)}</section>"
    )


def _run(run: ReportedRun) -> str:
    outcome = run.outcome
    problems = "".join(f'<p class="problem">{escape(text)}</p>' for text in run.problems)
    if outcome.result is None:
        state = escape(outcome.remark or "started, nothing saved yet")
        facts = f'<p class="faint">Not finished: {state}.</p>'
        if outcome.verdict is Verdict.FAILED:
            facts = f'<p class="problem">{escape(outcome.remark)}</p>'
    else:
        facts = _comparison(outcome) + _reduced(outcome.result)
    details = _details(outcome.result) if outcome.result else ""
    drawn = charts(run.curves) + figures(run.figures)
    plots = f'<div class="charts">{drawn}</div>' if drawn else ""
    changed = ", changed" if (outcome.result or {}).get("changed") else ""
    return (
        f"<article><h3>{escape(outcome.preset)}{changed} {_chip(outcome.verdict)}"
        f'<span class="faint">{escape(outcome.time())}</span></h3>'
        f"{facts}{problems}{plots}{details}</article>"
    )


def _comparison(outcome: Outcome) -> str:
    metrics = outcome.registered.recipe.metrics
    targets = outcome.registered.recipe.presets[outcome.preset].targets
    bars = []
    for name, metric in metrics.items():
        ours = (outcome.result or {})["metrics"].get(name)
        target = next((t for t in targets if t.metric == name), None)
        bars.append(_bar(metric, ours, target.value if target else None, str(target or "")))
    return f'<div class="bars">{"".join(bars)}</div>'


def _bar(metric: Metric, ours: float | None, target: float | None, said: str) -> str:
    values = [v for v in (ours, metric.paper, target, 0.0) if v is not None]
    high, low = max(values) * 1.08, min(values) * 1.08
    if metric.unit == "%" and min(values) >= 0 and max(values) <= 100:
        high = 100.0
    span = (high - low) or 1.0

    def share(value: float) -> str:
        return f"{100 * (value - low) / span:.2f}%"

    marks = ""
    if ours is not None:
        begin, end = min(ours, 0.0), max(ours, 0.0)
        width = f"{100 * (end - begin) / span:.2f}%"
        marks += f'<i class="ours" style="left:{share(begin)};width:{width}"></i>'
    if target is not None:
        marks += f'<i class="target" style="left:{share(target)}" title="{escape(said)}"></i>'
    if metric.paper is not None:
        marks += f'<i class="paper" style="left:{share(metric.paper)}"></i>'
    words = [f"ours <b>{escape(metric.format(ours))}</b>"]
    if metric.paper is not None:
        words.append(f'<i class="key paper"></i>paper {escape(metric.format(metric.paper))}')
    if target is not None:
        words.append(f'<i class="key target"></i>target {escape(metric.format(target))}')
    return (
        f'<div class="bar"><div class="label">{escape(metric.label)}</div>'
        f'<div class="track">{marks}</div><div class="words">{" ".join(words)}</div></div>'
    )


def _reduced(result: dict[str, Any]) -> str:
    parts = []
    if result["reduced"]:
        parts.append("Smaller than the paper: " + "; ".join(result["reduced"]) + ".")
    if result["changed"]:
        changed = ", ".join(f"{name} = {value}" for name, value in result["changed"].items())
        parts.append(f"Changed from the preset: {changed}.")
    return f'<p class="faint">{escape(" ".join(parts))}</p>' if parts else ""


def _details(result: dict[str, Any]) -> str:
    numbers = {name: "nan" if v is None else f"{v:.6g}" for name, v in result["metrics"].items()}
    facts = {
        "seed": result["seed"],
        "device": f"{result['device']}, {result['threads']} threads",
        "time": format_seconds(result["wall_seconds"]),
        "finished": result["finished"],
        "commit": result["commit"] or "not from a commit",
    }
    tables = (
        ("all numbers", numbers),
        ("config", dict(_flat(result["config"]))),
        ("run", facts),
        ("versions", result["versions"]),
    )
    blocks = "".join(_facts(title, rows) for title, rows in tables)
    return (
        "<details><summary>Numbers, config, versions</summary>"
        f'<div class="facts">{blocks}</div></details>'
    )


def _facts(title: str, rows: dict[str, Any]) -> str:
    lines = "".join(f"<tr><td>{escape(k)}<td>{escape(str(v))}</tr>" for k, v in rows.items())
    return f"<div><h4>{escape(title)}</h4><table>{lines}</table></div>"


def _recorded(outcomes: Iterable[Outcome]) -> str:
    rows = "".join(
        f'<tr><td>{escape(o.preset)}<td class="number"><b>{escape(o.ours())}</b>'
        f'<td>{_chip(o.verdict)}<td class="number">{escape(o.time())}'
        f"<td>{escape(str((o.result or {}).get('device')))}</tr>"
        for o in outcomes
    )
    if not rows:
        return ""
    return (
        "<details><summary>Recorded with the package</summary>"
        f'<table class="recorded">{rows}</table></details>'
    )


def _flat(config: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in config.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value))
    return rows


def _chip(verdict: Verdict, text: str = "") -> str:
    return f'<span class="chip {verdict.name.lower()}">{escape(text or str(verdict))}</span>'
