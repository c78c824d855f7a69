"""Show what each instruction of a basic block contributes, and which one waits for which."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from gonzo.ithemal.commands.predict import gather, load
from gonzo.lab.terminal import remark, remarks_instead_of_warnings


@dataclass(frozen=True)
class Options:
    """Options of gonzo-ithemal explain.

    Args:
        sources: As those of predict: program:function, object, assembly, hexadecimal lines, or -.
        hex: Blocks as hexadecimal digits.
        asm: Files of assembly text.
        syntax: Of assembly text.
        block: Explain the block of this name only, one of those that predict prints.
        picture: Draw it to this file too: .svg, .png or .pdf. Needs one block.
        model: Folder of a trained model; by default the one that comes with the package.
        machine: Whose cycles, of the machines that the model was trained on.
    """

    sources: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    hex: tuple[str, ...] = ()
    asm: tuple[Path, ...] = ()
    syntax: Literal["auto", "att", "intel"] = "auto"
    block: str | None = None
    picture: Path | None = None
    model: Path | None = None
    machine: str | None = None


def command(options: Options) -> int:
    """Print every block, line by line."""
    from gonzo.ithemal.explanation import explain
    from gonzo.ithemal.picture import draw, text

    blocks = gather(options.sources, options.hex, options.asm, options.syntax).blocks
    if options.block is not None:
        names = ", ".join(name for name, _ in blocks)
        blocks = [named for named in blocks if named.name == options.block]
        if not blocks:
            raise ValueError(f"there is no block {options.block!r}; there are: {names}")
    if options.picture and len(blocks) > 1:
        names = ", ".join(name for name, _ in blocks)
        raise ValueError(f"a picture is of one block; choose with --block one of: {names}")
    predictor = load(options.model)
    with remarks_instead_of_warnings():
        explained = [explain(block, predictor, machine=options.machine) for _, block in blocks]
    for (name, _), explanation in zip(blocks, explained, strict=True):
        print(f"{name}: {text(explanation)}\n")
    if options.picture:
        remark(f"Picture: {draw(explained[0], options.picture)}")
    return 0
