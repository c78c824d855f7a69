"""`Run`: resuming is exact, and a directory that cannot be continued is left as it is."""

import hashlib
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from gonzo.lab import LabError, Run


class StopHereError(Exception):
    """Stands for whatever ends a process early."""


def train(
    run: Run, *, steps: int = 12, stop_at: int | None = None, lr: float = 0.05
) -> list[float]:
    """A loop that draws from every generator; returns the final parameters."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
    for step in run.steps(steps, model=model, optimizer=optimizer, schedule=schedule):
        if step == stop_at:
            raise StopHereError
        noise = random.random() + np.random.rand()  # noqa: NPY002
        loss = (model(torch.randn(5, 3)) - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        run.log(step, loss=loss, noise=noise)
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


def fingerprint(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def interrupted(directory: Path, stop_at: int = 7) -> None:
    with pytest.raises(StopHereError), Run(directory, checkpoint_seconds=0) as run:
        train(run, stop_at=stop_at)


@pytest.mark.parametrize("stop_at", [0, 1, 7, 11])
def test_resumes_to_the_same_numbers(tmp_path: Path, stop_at: int) -> None:
    with Run(tmp_path / "whole") as run:
        whole = train(run)
        after = torch.rand(3).tolist()
    interrupted(tmp_path / "cut", stop_at)
    with Run(tmp_path / "cut") as run:
        assert train(run) == whole
        assert torch.rand(3).tolist() == after
    logs = [(tmp_path / name / "metrics/train.jsonl").read_text() for name in ("whole", "cut")]
    assert logs[0] == logs[1]
    assert [json.loads(line)["step"] for line in logs[0].splitlines()] == list(range(12))


def test_a_finished_loop_restores_and_yields_nothing(tmp_path: Path) -> None:
    with Run(tmp_path) as run:
        first = train(run)
    with Run(tmp_path) as run:
        model = torch.nn.Linear(3, 1)
        with pytest.raises(LabError, match="this one has 12 over model"):
            next(iter(run.steps(12, model=model)))
    with Run(tmp_path) as run:
        assert train(run) == first


def test_parts_depend_on_their_name_only(tmp_path: Path) -> None:
    drawn = {}
    for order in ("ab", "ba"):
        with Run(tmp_path / order, seed=3) as run:
            for name in order:
                with run.part(name):
                    drawn[order, name] = torch.rand(2).tolist()
            drawn[order, "after"] = torch.rand(2).tolist()
    assert drawn["ab", "a"] == drawn["ba", "a"] != drawn["ab", "b"] == drawn["ba", "b"]
    assert drawn["ab", "after"] == drawn["ba", "after"]


def test_once_remembers_and_leaves_the_generators_alone(tmp_path: Path) -> None:
    calls = []

    def work() -> dict[str, float]:
        calls.append(1)
        return {"x": torch.rand(()).item()}

    answers = []
    for _ in range(2):
        with Run(tmp_path) as run:
            answers.append((run.once("value", work), torch.rand(1).item()))
    assert len(calls) == 1
    assert answers[0] == answers[1]
    with Run(tmp_path) as run, pytest.raises(TypeError, match="expected a float or a dict"):
        run.once("other", lambda: "text")  # ty: ignore[invalid-argument-type]


def test_seconds_accumulate(tmp_path: Path) -> None:
    interrupted(tmp_path)
    saved = json.loads((tmp_path / "progress.json").read_text())["seconds"]
    assert saved > 0
    with Run(tmp_path) as run:
        assert run.seconds >= saved


def test_images_are_kept_as_they_are(tmp_path: Path) -> None:
    with Run(tmp_path / "run") as run:
        run.image("graph", "<svg/>")
        run.image("rollout", b"GIF89a", "gif")
        with pytest.raises(ValueError, match="svg, png, gif, got 'html'"):
            run.image("page", "<script>", "html")
    figures = tmp_path / "run" / "figures"
    assert (figures / "graph.svg").read_text() == "<svg/>"
    assert (figures / "rollout.gif").read_bytes() == b"GIF89a"


def test_names_are_checked(tmp_path: Path) -> None:
    with Run(tmp_path) as run:
        list(run.steps(1, name="a"))
        with pytest.raises(ValueError, match="'a' was used before"):
            run.steps(1, name="a")
        with pytest.raises(ValueError, match="does not name a file"):
            run.steps(1, name="../a")
        with pytest.raises(TypeError, match="number is a int, which has no state_dict"):
            run.steps(1, name="b", number=3)  # ty: ignore[invalid-argument-type]
        with pytest.raises(RuntimeError, match="belongs inside a loop"):
            run.log(0, loss=1.0)
        for _ in run.steps(1, name="c"):
            with pytest.raises(RuntimeError, match="starts inside loop 'c'"):
                run.steps(1, name="d")


def test_unsafe_state_is_refused_when_saved(tmp_path: Path) -> None:
    class Odd:
        def state_dict(self) -> dict[str, object]:
            return {"where": {"path": tmp_path}}

        def load_state_dict(self, state: dict[str, object]) -> None: ...

    with Run(tmp_path) as run, pytest.raises(TypeError, match=r"\['path'\] is a PosixPath"):
        list(run.steps(1, odd=Odd()))


def test_not_finite_metrics_are_json(tmp_path: Path) -> None:
    with Run(tmp_path) as run:
        for step in run.steps(1):
            run.log(step, loss=math.nan)
    assert json.loads((tmp_path / "metrics/train.jsonl").read_text()) == {"step": 0, "loss": None}


DAMAGE = {
    "truncated checkpoint": ("loops/train.pt", lambda content: content[:-100]),
    "flipped bit": ("loops/train.pt", lambda c: c[:600] + bytes([c[600] ^ 1]) + c[601:]),
    "empty checkpoint": ("loops/train.pt", lambda _: b""),
    "garbage checkpoint": (
        "loops/train.pt",
        lambda _: b"garbage" + hashlib.sha256(b"garbage").digest(),
    ),
    "run.json": ("run.json", lambda _: b"{"),
    "run.json of another kind": ("run.json", lambda _: b'{"format": 99}'),
    "progress": ("progress.json", lambda _: b"\x00\x00"),
    "short metrics": ("metrics/train.jsonl", lambda content: content[:20]),
    "garbage metrics": ("metrics/train.jsonl", lambda content: b"#" + content[1:]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_reported_and_left_alone(tmp_path: Path, damage: str) -> None:
    name, change = DAMAGE[damage]
    interrupted(tmp_path)
    (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    before = fingerprint(tmp_path)
    with pytest.raises(LabError) as caught, Run(tmp_path) as run:
        train(run)
    assert str(tmp_path / name) in str(caught.value)
    assert "--fresh" in str(caught.value)
    assert "--run-dir" in str(caught.value)
    assert fingerprint(tmp_path) == before
    with Run(tmp_path, fresh=True) as run:
        assert len(train(run)) == 21


def test_another_config_is_refused_field_by_field(tmp_path: Path) -> None:
    with Run(tmp_path, identity={"config": {"model": {"width": 8}, "steps": 3}}):
        pass
    before = fingerprint(tmp_path)
    identity = {"config": {"model": {"width": 9}, "steps": 3}}
    expected = "model.width is 8 there and 9 here; seed is 0 there and 1 here"
    with pytest.raises(LabError, match=expected), Run(tmp_path, identity=identity, seed=1):
        pass
    assert fingerprint(tmp_path) == before


def test_a_foreign_directory_is_refused_even_when_fresh(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    for fresh in (False, True):
        with pytest.raises(LabError, match="not a run"), Run(tmp_path, fresh=fresh):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(LabError, match="cannot be used"), Run(tmp_path / "thesis.tex"):
        pass


def test_fresh_killed_half_way_goes_on_deleting(tmp_path: Path) -> None:
    interrupted(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 1, "discarded": true}')
    with Run(tmp_path):
        assert not (tmp_path / "loops").exists()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        Run(tmp_path),
        pytest.raises(LabError, match="in use by another process"),
        Run(tmp_path),
    ):
        pass
    with Run(tmp_path):
        pass


def test_threads_are_kept_over_restarts_and_given_back(tmp_path: Path) -> None:
    outside = torch.get_num_threads()
    with Run(tmp_path, threads=1):
        assert torch.get_num_threads() == 1
    with Run(tmp_path):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == outside
