"""The report: one file, nothing from elsewhere, every number in it."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

from gonzo.lab.report.chart import Series, line_chart

Gonzo = Callable[..., tuple[int, str, str]]
VOID = {"meta", "img", "path", "i", "br"}


class Page(HTMLParser):
    """Collects what the page would load, and checks that it is well nested."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        assert tag not in ("script", "link", "iframe", "object")
        self.loaded += [str(found[key]) for key in ("src", "srcset", "poster") if key in found]
        if tag == "a":
            self.links.append(str(found["href"]))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text())
    return page


def test_report_is_whole_and_self_contained(gonzo: Gonzo) -> None:
    gonzo("run", "toy.line")
    gonzo("run", "toy.line", "--model.width", "3", "--steps", "700")
    code, out, _ = gonzo("report", "--output", "pages/all.html")
    assert code == 0
    assert out == "Report: pages/all.html\n"
    page = read(Path("pages/all.html"))
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.loaded)
    assert len(page.loaded) == 2
    content = Path("pages/all.html").read_text()
    assert not re.search(r"@import|url\(", content)
    assert "prefers-color-scheme: dark" in content
    assert "https://example.org/lines" in page.links
    for expected in (
        "A small network learns a line",
        "Nobody, On Lines, 1900",
        "0.0123",
        "98.7 %",
        "97.5 %",
        "direction shown",
        "40 steps instead of 400",
        "model.width = 3, steps = 700",
        "gonzo-lab",
        "toy.missing cannot be loaded",
    ):
        assert expected in page.text
    for name in ("steep", "flat"):
        assert name in page.text
    assert content.count('class="line') == 8
    assert str(Path.cwd()) not in content


def test_nothing_run_yet(gonzo: Gonzo) -> None:
    assert gonzo("report")[0] == 0
    text = read(Path("runs/report.html")).text
    assert "not run" in text
    assert "gonzo run toy.line" in text


def test_unfinished_and_damaged_runs_are_shown_as_such(gonzo: Gonzo) -> None:
    gonzo("run", "toy.line")
    run = Path("runs/toy.line.quick")
    (run / "result.json").unlink()
    (run / "metrics" / "flat" / "train.jsonl").write_text("nonsense\n")
    gonzo("report")
    text = read(Path("runs/report.html")).text
    assert "Not finished: flat/error 1/1" in text
    assert "train.jsonl is damaged (line 1" in text
    (run / "progress.json").write_text("nonsense")
    gonzo("report")
    assert "progress.json is damaged" in read(Path("runs/report.html")).text


def test_text_of_recipes_is_escaped() -> None:
    chart = line_chart("<b>", [Series("a & b", 0, [(0, 1.0), (1, 2.0)])])
    assert "<figcaption>&lt;b&gt;" in chart
    assert "a &amp; b" in chart


def test_charts_of_odd_series() -> None:
    assert line_chart("loss", []) == ""
    assert line_chart("loss", [Series("a", 0, [(0, float("nan"))])]) == ""
    for points in ([(3, 0.0)], [(0, -1.0), (1, -1.0)], [(k, 10.0**-k) for k in range(300)]):
        chart = line_chart("loss", [Series("a", 0, points)])
        assert chart.count('class="line') == 1
        assert "nan" not in chart
    assert "log scale" in chart
    assert 'class="band' in chart
