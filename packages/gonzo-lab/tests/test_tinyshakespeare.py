"""Tiny Shakespeare: all of it, in three parts that follow each other."""

from pathlib import Path

import pytest

from gonzo.lab import LabError, tinyshakespeare
from gonzo.lab.data import tinyshakespeare as module


def test_the_splits_are_the_text_in_order() -> None:
    train, valid, test = (tinyshakespeare(split) for split in ("train", "valid", "test"))
    text = train + valid + test
    assert len(text) == 1_115_394
    assert len(set(text)) == 65
    assert set(text) == set(train)
    assert len(train) == 9 * len(text) // 10
    assert len(valid) == len(test) == len(text) // 20 + 1
    assert text.startswith("First Citizen:\nBefore we proceed any further, hear me speak.\n")
    assert train.endswith("thus grieved as I?\nBut who comes here")
    assert valid.startswith("?\n\nGREMIO:\nGood morrow, neighbour Baptista.\n")
    assert text.endswith("Whiles thou art waking.\n")


def test_its_source_and_licence_are_beside_it() -> None:
    note = (module.SHIPPED / "SOURCE.md").read_text()
    assert "karpathy/char-rnn" in note
    assert "public domain" in note


def test_a_damaged_file_and_an_unknown_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="expected the split 'train', 'valid' or 'test', got 'a'"):
        tinyshakespeare("a")  # ty: ignore[invalid-argument-type]
    whole = (module.SHIPPED / module.FILE.name).read_bytes()
    (tmp_path / module.FILE.name).write_bytes(whole[:-9])
    monkeypatch.setattr(module, "SHIPPED", tmp_path)
    with pytest.raises(LabError, match=r"input\.txt\.gz is damaged \(the gzip file is damaged"):
        tinyshakespeare("train")
