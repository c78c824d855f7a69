"""Compare predictors on measured blocks: a model, llvm-mca, OSACA, and two simple rules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro

from gonzo.ithemal.commands.predict import load
from gonzo.lab.terminal import print_table, remark, remarks_instead_of_warnings

if TYPE_CHECKING:
    from gonzo.ithemal.block import BasicBlock
    from gonzo.ithemal.comparison import Comparison
    from gonzo.ithemal.metrics import Errors

_OSACA_BLOCKS = 300


@dataclass(frozen=True)
class Options:
    """Options of gonzo-ithemal compare.

    Args:
        table: A measured table: the columns hex and cycles, and status where there is one.
        model: Folder of a trained model; blocks that it was trained on are left out. By default the
            model that comes with the package, if there is one.
        machine: Whose cycles the model predicts, of the machines that it was trained on; by default
            the one in the table's column cpu if it is among them.
        mca: The llvm-mca to run; by default the newest that is installed.
        mca_cpu: The processor for llvm-mca, by its name there; by default this one.
        osaca: Run OSACA too, at about two blocks a second.
        osaca_arch: The processor for OSACA, such as ZEN3; by default this one.
        limit: Compare on so many blocks, drawn at random; 0 takes all, or 300 with --osaca.
        seed: Of the draw.
    """

    table: Annotated[Path, tyro.conf.Positional]
    model: Path | None = None
    machine: str | None = None
    mca: str | None = None
    mca_cpu: str | None = None
    osaca: bool = False
    osaca_arch: str | None = None
    limit: int = 0
    seed: int = 0


def command(options: Options) -> int:
    """Print one table over all blocks, with and without push and pop, and one by class."""
    from gonzo.ithemal.comparison import baselines, compare
    from gonzo.ithemal.metrics import coverage

    blocks, cycles, machines = read_measured(options.table)
    predictors: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    model = _model(options)
    machine = options.machine
    if model is not None:
        if machine is None and set(machines) <= set(model[0].machines) and len(set(machines)) == 1:
            machine = machines[0]  # the table says whose cycles these are
        blocks, cycles = _leave_out(blocks, cycles, model[1])
    if options.limit < 0:
        raise ValueError(f"expected --limit of at least 0, got {options.limit}")
    limit = options.limit or (_OSACA_BLOCKS if options.osaca else 0)
    if limit and len(blocks) > limit:
        blocks, cycles = _draw(blocks, cycles, limit, options.seed)
        remark(f"{limit} blocks, drawn at random")

    def ours(given: list[BasicBlock]) -> Any:
        assert model is not None
        intervals["ours"] = model[0].predict(given, machine=machine)
        return intervals["ours"].cycles

    if model is not None:
        predictors[f"ours ({type(model[0].model).__name__})"] = ours
    predictors |= _others(options) | baselines(cycles)
    with remarks_instead_of_warnings():
        if model is not None:
            ours(blocks[:8])  # what happens once, at the first call, is no matter of speed
        compared = compare(blocks, cycles, predictors)
    _print(compared)
    if intervals:
        share = coverage(intervals["ours"].low, intervals["ours"].high, cycles)
        print(f"\nOur 90 % interval holds the measured value of {share:.1%} of the blocks.")
    return 0


class Measured(NamedTuple):
    """Blocks, their cycles, and the machine that each was measured on."""

    blocks: list[BasicBlock]
    cycles: list[float]
    machines: list[str]


def read_measured(path: Path, *, machine: str | None = None) -> Measured:
    """Read the blocks of a table that have a value which their passes agree on.

    Args:
        path: the table.
        machine: the name of the machine where the table has no column cpu; "here" by default.

    Raises:
        ValueError: a column is missing, a value is no number, or no block has one.
    """
    from gonzo.ithemal.block import BasicBlock
    from gonzo.ithemal.measurement import STEADY
    from gonzo.ithemal.tables import column, read_table

    table = read_table(path)
    codes, values = column(table, "hex", path), column(table, "cycles", path)
    statuses = table.get("status", ["ok"] * len(codes))
    spreads = table.get("spread", ["0"] * len(codes))
    names = table.get("cpu", [machine or "here"] * len(codes))
    found = Measured([], [], [])
    for row, code in enumerate(codes):
        if statuses[row] != "ok":
            continue
        try:
            cycles, spread, block = (
                float(values[row]),
                float(spreads[row]),
                BasicBlock.from_hex(code),
            )
        except ValueError as error:
            raise ValueError(f"{path}, row {row + 1}: {error}") from None
        if math.isfinite(cycles) and cycles > 0 and spread <= STEADY:
            found.blocks.append(block)
            found.cycles.append(cycles)
            found.machines.append(names[row])
    if not found.blocks:
        raise ValueError(
            f"{path} has no block with a measured value: status ok, cycles above 0, and a spread "
            f"of at most {STEADY}"
        )
    return found


def _model(options: Options) -> tuple[Any, Path] | None:
    import gonzo.ithemal.predictor as home

    if options.model is not None:
        return load(options.model), options.model
    try:
        return home.Predictor.shipped(), home.SHIPPED
    except FileNotFoundError:
        remark("no model: none comes with this build; name one with --model DIR")
        return None


def _leave_out(
    blocks: list[BasicBlock], cycles: list[float], folder: Path
) -> tuple[list[BasicBlock], list[float]]:
    from gonzo.ithemal.seen import seen

    fresh = [i for i, known in enumerate(seen(folder, blocks)) if not known]
    if not fresh:
        raise ValueError(f"the model in {folder} was trained on every block of the table")
    if len(fresh) < len(blocks):
        remark(f"left out: {len(blocks) - len(fresh)} blocks that the model was trained on")
    return [blocks[i] for i in fresh], [cycles[i] for i in fresh]


def _draw(
    blocks: list[BasicBlock], cycles: list[float], limit: int, seed: int
) -> tuple[list[BasicBlock], list[float]]:
    import random

    rows = sorted(random.Random(seed).sample(range(len(blocks)), limit))
    return [blocks[row] for row in rows], [cycles[row] for row in rows]


def _others(options: Options) -> dict[str, Any]:
    from gonzo.ithemal.mca import llvm_mca, model
    from gonzo.ithemal.measurement import cpu_model
    from gonzo.ithemal.osaca import architecture, osaca, version

    found: dict[str, Any] = {}
    try:
        name = str(model(options.mca, options.mca_cpu))
        found[name] = lambda blocks: llvm_mca(blocks, program=options.mca, cpu=options.mca_cpu)
    except ValueError as error:
        if options.mca or options.mca_cpu:
            raise
        remark(str(error))
    if options.osaca:
        name = f"OSACA {version()}"
        arch = options.osaca_arch or architecture(cpu_model())
        found[f"{name} ({arch})"] = lambda blocks: osaca(blocks, arch=arch)
    return found


def _print(compared: Comparison) -> None:
    total = sum(compared.classes.values())
    print_table(
        ("", "MAPE", "median", "≤ 10 %", "≤ 25 %", "tau", "no push/pop", "missing", "blocks/s"),
        [
            (
                row.name,
                *_percents(row.all),
                "–" if math.isnan(row.all.tau) else f"{row.all.tau:.3f}",
                _percent(row.without_stack.mape),
                str(row.all.missing),
                f"{row.blocks_per_second:,.0f}",
            )
            for row in compared.rows
        ],
    )
    print(
        f"\n{total} blocks. Errors are relative to the measured cycles; no push/pop is the MAPE "
        "without blocks that push or pop;\nblocks/s is end to end, with preparing the input and "
        "starting the other program.\n"
    )
    print_table(
        ("MAPE by class", *(f"{name} ({n})" for name, n in compared.classes.items())),
        [
            (
                row.name.split(" (")[0],
                *(_percent(row.by_class[name].mape) for name in compared.classes),
            )
            for row in compared.rows
        ],
    )


def _percents(errors: Errors) -> list[str]:
    values = (errors.mape, errors.median, errors.within_10, errors.within_25)
    return [_percent(value) for value in values]


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1%}"
