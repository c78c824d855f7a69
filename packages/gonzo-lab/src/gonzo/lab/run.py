"""One run of an experiment: it can be killed at any moment and goes on to the same numbers.

A recipe's `main(config, run)` is plain code around plain loops. What makes it resumable is
that every loop's state (parameters, optimizer, random generators, position in the metrics
file) is saved as one atomic file, and that everything else is a pure function of the config
and the seed. A restarted process runs `main` again from the top: finished loops restore their
final state and yield nothing, the one that was cut goes on from its last checkpoint.
"""

import io
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from gonzo.lab import checkpoint, console
from gonzo.lab.atomic import read_json, write_bytes, write_json
from gonzo.lab.checkpoint import Stateful
from gonzo.lab.directory import IMAGES, WAY_OUT, RunDirectory
from gonzo.lab.errors import LabError
from gonzo.lab.interrupt import Interrupted, StepwiseInterrupt
from gonzo.lab.metrics import MetricLog
from gonzo.lab.progress import Bar
from gonzo.lab.seeding import (
    derive_seed,
    own_generators,
    rng_state,
    seed_everything,
    set_rng_state,
)
from gonzo.lab.tensorboard import open_writer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Value = TypeVar("Value", float, dict[str, float])

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Run:
    """A directory, a seed and a device, with loops that resume.

    Use it as a context manager:

        with Run("runs/toy", seed=1) as run:
            model = torch.nn.Linear(4, 1)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for step in run.steps(100, model=model, optimizer=optimizer):
                ...

    Args:
        directory: where everything is written; made when it does not exist.
        identity: what is run, as JSON (recipe, preset, config). A directory that holds a run
            of another identity, seed or device is refused.
        seed: where all random numbers come from. The global generators of Python, NumPy and
            torch are seeded with it on entry, and again per part and per loop.
        device: `"cpu"`, `"cuda"`, `"cuda:1"`…
        threads: torch threads. By default what the run was started with, or torch's choice:
            the order of a sum, and so its last digit, depends on it.
        data_dir: handed to data set loaders by recipes.
        fresh: discard what an earlier run left in the directory.
        checkpoint_seconds: time between checkpoints; longer when saving takes longer than a
            twentieth of it. A loop that ends is always saved.

    Raises:
        LabError: on entry, when the directory is in use, damaged, or another run's.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        identity: Mapping[str, Any] | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
        threads: int | None = None,
        data_dir: Path | None = None,
        fresh: bool = False,
        checkpoint_seconds: float = 10.0,
    ) -> None:
        self.directory = Path(directory)
        self.seed = seed
        self.device = torch.device(device)
        self.data_dir = data_dir
        self._identity = {**(identity or {}), "seed": seed, "device": self.device.type}
        self._threads = threads
        self._fresh = fresh
        self._checkpoint_seconds = checkpoint_seconds
        self._interrupt = StepwiseInterrupt()
        self._parts: list[str] = []
        self._used: set[str] = set()
        self._loop: str | None = None
        self._log: MetricLog | None = None
        self._running: Generator[int, None, None] | None = None

    def __enter__(self) -> "Run":
        wanted = self._threads or torch.get_num_threads()
        self._opened = RunDirectory(
            self.directory, self._identity, {"threads": wanted}, fresh=self._fresh
        )
        try:
            self._seconds_before = float(self._read("progress.json").get("seconds", 0.0))
            self._values = self._read("values.json")
        except BaseException:
            self._opened.release()
            raise
        self._began = time.monotonic()
        self._outer_threads = torch.get_num_threads()
        torch.set_num_threads(self._threads or self._opened.notes["threads"])
        self._interrupt.install()
        seed_everything(derive_seed(self.seed, ""))
        return self

    def __exit__(self, *_exception: object) -> None:
        # A traceback keeps a loop that failed alive: end it here, with its file and its bar.
        if self._running is not None:
            self._running.close()
        self._interrupt.remove()
        torch.set_num_threads(self._outer_threads)
        self._opened.release()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds spent on this run, over all restarts."""
        return self._seconds_before + time.monotonic() - self._began

    def steps(self, total: int, *, name: str = "train", **stateful: Stateful) -> Iterator[int]:
        """Yield the steps 0 … total - 1 that are still to do.

        On the first start the random generators are seeded from the run's seed and the
        loop's name, so that a loop does not depend on what ran before it. On a restart, the
        state of everything named, of the generators and of the metrics is what it was after
        the last saved step; a finished loop restores its final state and yields nothing.

        Args:
            total: the number of steps.
            name: the loop's name, unique within the run (and its `part`).
            **stateful: what the loop changes, under names of your choice (`model=model,
                optimizer=optimizer, schedule=schedule`): anything with `state_dict` and
                `load_state_dict`. What a loop changes and is not named here is not resumed.

        Raises:
            LabError: the checkpoint is damaged or does not fit what is named.
            KeyboardInterrupt: after Ctrl-C, once the step is complete and the state is saved.
        """
        loop = self._claim(name)
        if self._loop is not None:
            raise RuntimeError(f"loop {loop!r} starts inside loop {self._loop!r}; end that first")
        for key, value in stateful.items():
            if not (hasattr(value, "state_dict") and hasattr(value, "load_state_dict")):
                raise TypeError(
                    f"steps: {key} is a {type(value).__name__}, which has no state_dict and "
                    "load_state_dict, and so cannot be saved and restored"
                )
        self._running = self._iterate(loop, total, stateful)
        return self._running

    def log(self, step: int, **values: float | torch.Tensor) -> None:
        """Log numbers at a step of the loop that is running.

        Tensors of one element are copied and read later, so that a GPU is not waited for.
        """
        if self._log is None:
            raise RuntimeError("Run.log belongs inside a loop over Run.steps")
        self._log.add(step, values)

    @contextmanager
    def part(self, name: str) -> Generator[None]:
        """Give a block random numbers of its own and its loops a name of their own.

        What happens inside depends on the seed and `name` only, not on what ran before, and
        leaves the random numbers of what follows as they were. Use it around each arm of a
        comparison, model construction included:

            for arm in ("hippo", "random"):
                with run.part(arm):
                    model = build(arm)
                    for step in run.steps(config.steps, model=model): ...
        """
        _require_name(name)
        self._parts.append(name)
        try:
            with own_generators(derive_seed(self.seed, "/".join(self._parts)), self.device):
                yield
        finally:
            self._parts.pop()

    def once(self, name: str, work: Callable[[], Value]) -> Value:
        """Return `work()`, computed at most once in the life of the run.

        For a long evaluation after a loop. `work` must not change anything; it gets random
        numbers of its own.

        Args:
            name: unique within the run (and its `part`).
            work: returns a float or a dict of floats.
        """
        key = self._claim(name)
        if key not in self._values:
            with own_generators(derive_seed(self.seed, key), self.device):
                self._values[key] = _as_floats(key, work())
            write_json(self.directory / "values.json", self._values)
            self._save_progress(key, 1, 1)
        return self._values[key]

    def figure(self, name: str, figure: "Figure") -> None:
        """Save a matplotlib figure as `figures/<name>.svg`; the report shows it."""
        _require_name(name)
        buffer = io.BytesIO()
        # Without a date the same numbers give the same file.
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
        write_bytes(self.directory / "figures" / f"{name}.svg", buffer.getvalue())

    def image(self, name: str, content: bytes | str, kind: str = "svg") -> None:
        """Save a picture that is drawn already as `figures/<name>.<kind>`; the report shows it.

        Args:
            name: of the file.
            content: of the file; text for an SVG.
            kind: "svg", "png" or "gif".

        Raises:
            ValueError: another kind.
        """
        _require_name(name)
        if kind not in IMAGES:
            raise ValueError(f"expected an image of kind {', '.join(IMAGES)}, got {kind!r}")
        data = content.encode() if isinstance(content, str) else content
        write_bytes(self.directory / "figures" / f"{name}.{kind}", data)

    def _iterate(
        self, loop: str, total: int, stateful: Mapping[str, Stateful]
    ) -> Generator[int, None, None]:
        start, metrics_bytes = self._restore(loop, total, stateful)
        log = MetricLog(
            self.directory / "metrics" / f"{loop}.jsonl", keep_bytes=metrics_bytes, way_out=WAY_OUT
        )
        if start == total and self._checkpoint_path(loop).exists():
            log.close()
            return
        log.mirror = open_writer(self.directory / "tensorboard" / loop, first_step=start)
        bar = Bar(console.remarks(), loop, start, total)
        done = start
        self._loop, self._log, self._interrupt.deferring = loop, log, True
        try:
            next_save = time.monotonic() + self._checkpoint_seconds
            for step in range(start, total):
                yield step
                done = step + 1
                bar.update(done, log.latest)
                asked_to_stop = self._interrupt.requested
                if asked_to_stop or done == total or time.monotonic() >= next_save:
                    took = self._save(loop, done, total, stateful, log)
                    next_save = time.monotonic() + max(self._checkpoint_seconds, 20 * took)
                if asked_to_stop:
                    raise Interrupted(f"Stopped after step {done} of {total} of {loop!r}")
            if total == 0:
                self._save(loop, 0, 0, stateful, log)
        finally:
            self._loop, self._log, self._interrupt.deferring = None, None, False
            log.close()
            bar.close(done, log.latest)

    def _save(
        self,
        loop: str,
        done: int,
        total: int,
        stateful: Mapping[str, Stateful],
        log: MetricLog,
    ) -> float:
        began = time.monotonic()
        state = {
            "done": done,
            "total": total,
            "metrics_bytes": log.flush(),
            "rng": rng_state(self.device),
            "state": {name: value.state_dict() for name, value in stateful.items()},
        }
        checkpoint.save(self._checkpoint_path(loop), state)
        self._save_progress(loop, done, total)
        return time.monotonic() - began

    def _restore(self, loop: str, total: int, stateful: Mapping[str, Stateful]) -> tuple[int, int]:
        path = self._checkpoint_path(loop)
        if not path.exists():
            seed_everything(derive_seed(self.seed, loop))
            return 0, 0
        saved = checkpoint.load(path, way_out=WAY_OUT)
        fits = saved["total"] == total and list(saved["state"]) == list(stateful)
        if not fits:
            raise LabError(
                f"{path} was saved by a loop of {saved['total']} steps over "
                f"{', '.join(saved['state']) or 'nothing'}; this one has {total} over "
                f"{', '.join(stateful) or 'nothing'}. {WAY_OUT}"
            )
        for name, value in stateful.items():
            try:
                value.load_state_dict(saved["state"][name])
            except (RuntimeError, ValueError, KeyError) as error:
                raise LabError(f"{path} does not fit {name}: {error} {WAY_OUT}") from error
        set_rng_state(saved["rng"], self.device)
        return saved["done"], saved["metrics_bytes"]

    def _save_progress(self, loop: str, done: int, total: int) -> None:
        write_json(
            self.directory / "progress.json",
            {"loop": loop, "done": done, "total": total, "seconds": self.seconds},
        )

    def _read(self, name: str) -> dict[str, Any]:
        path = self.directory / name
        return read_json(path, way_out=WAY_OUT) if path.exists() else {}

    def _claim(self, name: str) -> str:
        _require_name(name)
        full = "/".join([*self._parts, name])
        if full in self._used:
            raise ValueError(f"{full!r} was used before in this run; every name= is used once")
        self._used.add(full)
        return full

    def _checkpoint_path(self, loop: str) -> Path:
        return self.directory / "loops" / f"{loop}.pt"


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} does not name a file: letters, digits, '.', '_' and '-' are expected"
        )


def _as_floats(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): float(item) for name, item in value.items()}
    if isinstance(value, int | float):
        return float(value)
    raise TypeError(f"once({key!r}): expected a float or a dict of floats, got {type(value)}")
