"""The example of the README runs, and the table of names is complete."""

import json
import re
from pathlib import Path

import pytest

import gonzo.lab

README = Path(__file__).parents[1] / "README.md"

pytestmark = pytest.mark.skipif(not README.exists(), reason="the README is not beside the tests")


def test_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(block, str(README), "exec"), {})
    logged = (tmp_path / "runs/readme/metrics/train.jsonl").read_text().splitlines()
    assert json.loads(logged[-1])["loss"] < 1.0


def test_every_public_name_is_listed_and_loads() -> None:
    table = README.read_text().partition("## Names")[2].partition("##")[0]
    for name in gonzo.lab.__all__:
        assert f"`{name}`" in table
        assert getattr(gonzo.lab, name).__doc__
    assert len(gonzo.lab.__all__) <= 12
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gonzo.lab.nothing  # noqa: B018  # ty: ignore[unresolved-attribute]
