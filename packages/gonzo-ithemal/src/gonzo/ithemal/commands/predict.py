"""Predict the cycles of basic blocks when they are repeated back to back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from gonzo.lab.terminal import print_table, remark, remarks_instead_of_warnings

if TYPE_CHECKING:
    from gonzo.ithemal.objects import Found
    from gonzo.ithemal.predictor import Predictor


@dataclass(frozen=True)
class Options:
    """Options of gonzo-ithemal predict.

    Args:
        sources: program:function, an object file with marked regions, assembly text, a file of
            hexadecimal lines, a table with a column hex, or - for standard input.
        hex: Blocks as hexadecimal digits.
        asm: Files of assembly text.
        syntax: Of assembly text.
        model: Folder of a trained model; by default the one that comes with the package.
        machine: Whose cycles, of the machines that the model was trained on.
        json: Print JSON instead of a table.
    """

    sources: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    hex: tuple[str, ...] = ()
    asm: tuple[Path, ...] = ()
    syntax: Literal["auto", "att", "intel"] = "auto"
    model: Path | None = None
    machine: str | None = None
    json: bool = False


def command(options: Options) -> int:
    """Print the cycles of every block, with their 90 % interval."""
    from gonzo.ithemal.admit import refusal
    from gonzo.ithemal.learning import USUAL_LENGTH

    found = gather(options.sources, options.hex, options.asm, options.syntax)
    predictor = load(options.model)
    with remarks_instead_of_warnings():
        answer = predictor.predict([block for _, block in found.blocks], machine=options.machine)
    values = list(zip(found.blocks, *(column.tolist() for column in answer), strict=True))
    if options.json:
        rows = [
            {"name": name, "hex": block.hex, "cycles": cycles, "low": low, "high": high}
            for (name, block), cycles, low, high in values
        ]
        print(json.dumps(rows, indent=1))
    else:
        print_table(
            ("block", "instructions", "cycles", "90 % interval"),
            [
                (name, str(len(block)), f"{cycles:.2f}", f"{low:.2f} to {high:.2f}")
                for (name, block), cycles, low, high in values
            ],
        )
    for name, block in found.blocks:
        if reason := refusal(block.instructions):
            remark(f"{name}: {reason}; such blocks are never measured, so the number is a guess")
    usual = predictor.card.get(USUAL_LENGTH)
    for name, block in found.blocks:
        if isinstance(usual, int) and len(block) > usual:
            remark(
                f"{name}: {len(block)} instructions, and 99 % of the blocks that the model learnt "
                f"have at most {usual}: take neither the number nor its interval at its word"
            )
    for sentence in found.skipped:
        remark(f"left out: {sentence}")
    return 0


def gather(
    given: tuple[str, ...],
    hexes: tuple[str, ...],
    texts: tuple[Path, ...],
    syntax: Literal["auto", "att", "intel"],
) -> Found:
    """Return the blocks of all sources of a command line.

    Raises:
        ValueError: there is none, or a source is not what it should be.
        OSError: a file cannot be read.
    """
    from gonzo.ithemal.assemble import assemble
    from gonzo.ithemal.objects import Found
    from gonzo.ithemal.sources import from_hex, read, text_of

    if not (given or hexes or texts):
        raise ValueError(
            "expected blocks: FILE, FILE:FUNCTION, --hex 4801d8, --asm FILE, or - for a pipe"
        )
    parts = [from_hex(text) for text in hexes]
    parts += [assemble(text_of(path.read_bytes(), str(path)), syntax=syntax) for path in texts]
    parts += [_table(one) if _is_table(one) else read(one, syntax=syntax) for one in given]
    blocks = [block for part in parts for block in part.blocks]
    skipped = [sentence for part in parts for sentence in part.skipped]
    if not blocks:
        raise ValueError(f"found no block{': ' + skipped[0] if skipped else ''}")
    return Found(blocks, skipped)


def load(folder: Path | None) -> Predictor:
    """Load a model, or the one that comes with the package.

    Raises:
        FileNotFoundError: it is not there; the message says how to make one.
        ValueError: the folder is no model.
    """
    import torch

    from gonzo.ithemal.predictor import Predictor

    torch.set_num_threads(1)  # blocks are small: a second thread waits more than it works
    if folder is not None:
        return Predictor.from_pretrained(folder)
    try:
        return Predictor.shipped()
    except FileNotFoundError:
        raise FileNotFoundError(
            "no model comes with this build of gonzo-ithemal. To make one: gonzo-ithemal extract, "
            "measure and train; then name it with --model DIR"
        ) from None


def _is_table(source: str) -> bool:
    return source.lower().endswith((".csv", ".csv.xz", ".parquet"))


def _table(source: str) -> Found:
    from gonzo.ithemal.objects import Found
    from gonzo.ithemal.sources import from_hex
    from gonzo.ithemal.tables import column, read_table

    found = Found([], [])
    for number, text in enumerate(column(read_table(source), "hex", source), 1):
        try:
            found.blocks.extend(from_hex(text, f"row {number}").blocks)
        except ValueError as error:
            found.skipped.append(str(error))
    return found
