"""`gonzo reproduce`: every installed paper's headline recipe, then one table and one page."""

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.markup import escape

from gonzo.lab import console, registry
from gonzo.lab.arguments import parse
from gonzo.lab.cli import FAILED, OK
from gonzo.lab.errors import LabError, did_you_mean
from gonzo.lab.launch import RUNS, Settings, execute
from gonzo.lab.overview import Outcome, finished, table
from gonzo.lab.recipe import Verdict
from gonzo.lab.registry import Registered
from gonzo.lab.report.page import write_report


@dataclass(frozen=True)
class ReproduceOptions:
    """Options of gonzo reproduce.

    Args:
        packages: Packages to reproduce, as in "ssm"; all that are installed by default.
        all: Run every recipe, not only the headline of each paper.
        preset: The size of the experiments.
        fresh: Start over instead of continuing or showing what is there.
        device: cpu, cuda, cuda:1, …; auto is cuda where there is one.
        threads: CPU threads of torch; 0 leaves it to torch.
        data_dir: Folder to look for data sets first.
        runs_dir: Folder of the runs and the report.
    """

    packages: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    all: bool = False
    preset: str = "quick"
    fresh: bool = False
    device: str = "auto"
    threads: int = 0
    data_dir: Path | None = None
    runs_dir: Path = RUNS


def command(arguments: list[str]) -> int:
    """Run the recipes one after another; print the table and, last, the report's path."""
    options = parse(
        ReproduceOptions,
        arguments,
        command="gonzo reproduce",
        description="Run the headline recipes of the installed papers and compare.",
    )
    recipes, problems = _select(options)
    outcomes = []
    for position, registered in enumerate(recipes, start=1):
        console.remarks().print(
            f"[bold]\\[{position}/{len(recipes)}] {registered.name}[/] "
            f"{escape(registered.recipe.claim)}",
            soft_wrap=True,
        )
        outcomes.append(_reproduce(registered, options))
    console.output().print(table(outcomes))
    wrong = [o for o in outcomes if o.verdict in (Verdict.MISSED, Verdict.FAILED)]
    for outcome in wrong:
        console.output().print(_complaint(outcome), soft_wrap=True, markup=False)
    for problem in problems:
        console.output().print(problem, soft_wrap=True, markup=False)
    print(f"Report: {write_report(options.runs_dir)}")
    return FAILED if wrong or problems else OK


def _select(options: ReproduceOptions) -> tuple[list[Registered], list[str]]:
    names = registry.names()
    packages = sorted({name.partition(".")[0] for name in names})
    for package in options.packages:
        if package not in packages:
            raise LabError(
                f"No installed package {package!r} brings recipes."
                f"{did_you_mean(package, packages)} There are: {', '.join(packages) or 'none'}."
            )
    wanted = options.packages or packages
    found, problems = registry.load_all(n for n in names if n.partition(".")[0] in wanted)
    chosen = [r for r in found if options.all or r.recipe.headline]
    if not chosen and not problems:
        raise LabError("There is nothing to reproduce: no installed package brings recipes.")
    for registered in chosen:
        registered.preset(options.preset)
    return chosen, problems


def _reproduce(registered: Registered, options: ReproduceOptions) -> Outcome:
    directory = options.runs_dir / f"{registered.name}.{options.preset}"
    settings = Settings(
        device=options.device,
        threads=options.threads,
        data_dir=options.data_dir,
        fresh=options.fresh,
    )
    config = registered.preset(options.preset).config
    try:
        result = execute(registered, options.preset, config, settings, directory)
    except LabError as error:
        remark = str(error)
    except Exception as error:
        # One defective recipe must not keep the others from running.
        traceback.print_exc()
        remark = f"{type(error).__name__}: {error}"
    else:
        return finished(registered, result, directory)
    return Outcome(registered, options.preset, Verdict.FAILED, remark=remark)


def _complaint(outcome: Outcome) -> str:
    name = outcome.registered.name
    if outcome.result is None:
        return f"{name} failed: {outcome.remark}"
    targets = " and ".join(outcome.result["targets"])
    return f"{name} did not reach its target {targets}: {outcome.ours()}"
