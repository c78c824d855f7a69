"""A file is the old one or the new one, also when writing fails."""

import os
from pathlib import Path

import pytest

from gonzo.lab.atomic import read_json, write_bytes, write_json
from gonzo.lab.errors import LabError


def test_failure_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"new")
    assert read_json(path, way_out="") == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00"])
def test_damaged_json_names_the_file_and_the_way_out(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(LabError, match=r"a\.json is damaged .* Do this\."):
        read_json(path, way_out="Do this.")
