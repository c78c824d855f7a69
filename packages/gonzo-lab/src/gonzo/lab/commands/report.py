"""`gonzo report`: one self-contained HTML page about everything in the runs folder."""

from dataclasses import dataclass
from pathlib import Path

from gonzo.lab.arguments import parse
from gonzo.lab.cli import OK
from gonzo.lab.launch import RUNS
from gonzo.lab.report.page import write_report


@dataclass(frozen=True)
class ReportOptions:
    """Options of gonzo report.

    Args:
        runs_dir: Folder of the runs.
        output: The file to write; report.html in the folder of the runs by default.
    """

    runs_dir: Path = RUNS
    output: Path | None = None


def command(arguments: list[str]) -> int:
    """Write the page and print its path."""
    options = parse(
        ReportOptions,
        arguments,
        command="gonzo report",
        description="Write one HTML page with plots: our numbers beside the papers'.",
    )
    print(f"Report: {write_report(options.runs_dir, options.output)}")
    return OK
