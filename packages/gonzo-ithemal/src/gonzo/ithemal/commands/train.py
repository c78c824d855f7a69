"""Train a throughput model on measured blocks; it goes on where it was interrupted."""

from __future__ import annotations

import hashlib
import os
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from gonzo.ithemal.commands.compare import Measured, read_measured
from gonzo.lab.terminal import print_table, progress, remark

_SECONDS_BETWEEN_CHECKPOINTS = 20.0


@dataclass(frozen=True)
class Options:
    """Options of gonzo-ithemal train.

    Args:
        tables: Measured tables, of one machine or several: the columns hex, cycles and cpu.
        out: The folder for the model.
        model: What to train: the dependency graph network, the paper's LSTM or a linear bag. With
            --start it is of the kind of that model.
        start: Folder of a model to go on from. A machine that it does not know gets a head.
        machine: The name of the machine, where a table has no column cpu.
        steps: Optimizer steps; 0 takes the default.
        seed: Of the split, the initial weights and the order.
        threads: CPU threads of torch. Blocks are small: a second one hardly helps, and beside
            other load it hurts.
    """

    tables: Annotated[tuple[Path, ...], tyro.conf.Positional]
    out: Path
    model: Literal["graph", "ithemal", "bag"] = "graph"
    start: Path | None = None
    machine: str | None = None
    steps: int = 0
    seed: int = 0
    threads: int = 1


_MODELS = {"graph": "GraphThroughput", "ithemal": "Ithemal", "bag": "LinearBag"}


def command(options: Options) -> int:
    """Train, save, and print the errors on blocks that were kept from training."""
    import torch

    from gonzo.ithemal.learning import learn
    from gonzo.ithemal.predictor import Predictor
    from gonzo.ithemal.seen import remember, seen
    from gonzo.ithemal.training import TrainConfig

    if (options.out / "config.json").exists():
        raise ValueError(f"{options.out} holds a model already; name another folder with --out")
    most = os.cpu_count() or 1
    if not 1 <= options.threads <= most:
        raise ValueError(f"train: expected --threads of 1 to {most}, got {options.threads}")
    if options.steps < 0 or options.seed < 0:
        raise ValueError("train: expected --steps and --seed of at least 0")
    torch.set_num_threads(options.threads)
    data = _read(options)
    config = TrainConfig(seed=options.seed)
    if options.steps:
        config = TrainConfig(seed=options.seed, steps=options.steps)
    start = Predictor.from_pretrained(options.start) if options.start else None
    machines = ", ".join(dict.fromkeys(data.machines))
    remark(f"{len(data.blocks)} blocks, measured on {machines}")
    known = seen(options.start, data.blocks) if options.start else None
    began = time.perf_counter()
    with progress("training") as shown:
        loop = _Resumable(options.out / "training.pt", _key(data, options), shown)
        learnt = learn(
            data.blocks,
            data.cycles,
            data.machines,
            model=_MODELS[options.model],
            config=config,
            start=start,
            known=known,
            loop=loop,
        )
    options.out.mkdir(parents=True, exist_ok=True)
    remember(options.out, [data.blocks[row] for row in learnt.used], also=options.start)
    learnt.predictor.save_pretrained(options.out)
    loop.forget()
    print_table(
        ("errors on blocks kept from training", "blocks", "MAPE", "median", "tau", "in interval"),
        [
            (
                name,
                str(error.count),
                f"{error.mape:.1%}",
                f"{error.median:.1%}",
                f"{error.tau:.3f}",
                f"{learnt.coverage[name]:.0%}",
            )
            for name, error in learnt.errors.items()
        ],
    )
    print(f"Model in {options.out}, trained in {time.perf_counter() - began:.0f} s")
    return 0


def _read(options: Options) -> Measured:
    if not options.tables:
        raise ValueError("train: expected at least one measured table, got none")
    parts = [read_measured(path, machine=options.machine) for path in options.tables]
    return Measured(
        [block for part in parts for block in part.blocks],
        [value for part in parts for value in part.cycles],
        [name for part in parts for name in part.machines],
    )


def _key(data: Measured, options: Options) -> str:
    content = hashlib.sha256()
    for block, cycles, machine in zip(data.blocks, data.cycles, data.machines, strict=True):
        content.update(f"{block.hex} {cycles!r} {machine}\n".encode())
    content.update(repr((options.model, options.start, options.steps, options.seed)).encode())
    return content.hexdigest()


class _Resumable:
    """A loop over steps that writes down now and then where it is, and goes on from there."""

    def __init__(self, file: Path, key: str, shown: Callable[[int, int], None]):
        self._file, self._key, self._shown = file, key, shown

    def __call__(self, total: int, /, **stateful: Any) -> Iterator[int]:
        import torch

        first = 0
        if self._file.exists():
            try:
                found = torch.load(self._file, weights_only=True)
                ours = found["key"] == self._key
                state, step = found["state"], found["step"]
            except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError):
                raise ValueError(
                    f"{self._file} is damaged, or no checkpoint of this command; delete it, or "
                    "name another folder with --out"
                ) from None
            if ours:
                first = step
                for name, part in stateful.items():
                    part.load_state_dict(state[name])
                remark(f"goes on at step {first} of {total}")
        saved = time.monotonic()
        for step in range(first, total):
            # Only here, between steps, do all the parts belong together.
            if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                state = {name: part.state_dict() for name, part in stateful.items()}
                self._file.parent.mkdir(parents=True, exist_ok=True)
                new = self._file.with_suffix(".new")
                torch.save({"key": self._key, "step": step, "state": state}, new)
                os.replace(new, self._file)
                saved = time.monotonic()
            self._shown(step, total)
            yield step

    def forget(self) -> None:
        """Remove the checkpoint."""
        self._file.unlink(missing_ok=True)
