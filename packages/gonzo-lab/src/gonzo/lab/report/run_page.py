"""A page about one run that is no recipe's: what a package's own command did."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from gonzo.lab.atomic import write_bytes
from gonzo.lab.directory import IMAGES, WAY_OUT
from gonzo.lab.metrics import read_metrics
from gonzo.lab.report.drawings import charts, figures
from gonzo.lab.report.page import STYLE


def write_run_page(
    directory: Path,
    title: str,
    lead: str,
    tables: Mapping[str, Sequence[Sequence[str]]],
    *,
    warning: str = "",
) -> Path:
    """Write `report.html` in a run's directory, with its curves and figures, and return its path.

    The page needs no other file.

    Args:
        directory: of the run.
        title: the heading.
        lead: the sentence below it.
        tables: rows by title; the first row is the heading.
        warning: what must not be missed.

    Raises:
        LabError: a file of metrics is damaged.
    """
    metrics = directory / "metrics"
    curves = {
        path.relative_to(metrics).with_suffix("").as_posix(): read_metrics(path, way_out=WAY_OUT)
        for path in sorted(metrics.rglob("*.jsonl"))
    }
    pictures = [p for p in sorted(directory.glob("figures/*")) if p.suffix[1:] in IMAGES]
    alarm = f'<p class="problem">{escape(warning)}</p>' if warning else ""
    body = "".join(_table(name, rows) for name, rows in tables.items() if rows)
    today = datetime.now(UTC).date().isoformat()
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE.read_text()}</style></head><body>"
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p></header>'
        f"<main><section>{alarm}{body}"
        f'<div class="charts">{figures(pictures)}{charts(curves)}</div></section></main>'
        f"<footer>Written on {today}.</footer></body></html>\n"
    )
    path = directory / "report.html"
    write_bytes(path, html.encode())
    return path


def _table(title: str, rows: Sequence[Sequence[str]]) -> str:
    head, *rest = ["".join(f"<td>{escape(cell)}" for cell in row) for row in rows]
    lines = "".join(f"<tr>{row}</tr>" for row in rest)
    heading = head.replace("<td>", "<th>")
    return (
        f'<h4>{escape(title)}</h4><table class="summary"><thead><tr>{heading}</tr></thead>'
        f"<tbody>{lines}</tbody></table>"
    )
