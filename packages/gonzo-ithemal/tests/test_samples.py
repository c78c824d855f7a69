"""The blocks that come with the package."""

import pytest

from gonzo.ithemal import BasicBlock, samples
from gonzo.ithemal.admit import refusal
from gonzo.ithemal.samples import COUNT, haswell_blocks, sample_blocks


def test_they_are_canonical_distinct_and_admitted():
    drawn = sample_blocks()
    assert len(drawn) == COUNT
    assert len({sample.block for sample in drawn}) == COUNT
    for sample in drawn[::37]:
        assert BasicBlock.from_bytes(sample.block.code) == sample.block
        assert refusal(sample.block.instructions) is None
    assert len({sample.application for sample in drawn}) == 10


def test_the_first_are_the_same_whatever_the_number():
    assert sample_blocks(10) == sample_blocks(100)[:10]


@pytest.mark.parametrize("limit", [0, -1, COUNT + 1])
def test_a_number_out_of_range(limit):
    with pytest.raises(ValueError, match=f"a limit between 1 and 30000, got {limit}"):
        sample_blocks(limit)


def test_those_of_haswell_have_cycles_and_machines():
    measured = haswell_blocks()
    assert len(measured) == 2900
    assert all(0.1 < one.cycles < 200 for one in measured)
    assert sum(one.machine == "Haswell" for one in measured) == 968
    (one,) = [one for one in measured if one.block.hex == "4889de4889c24c89ff"]
    assert one.cycles == 0.91


def test_a_damaged_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(samples, "_FOLDER", tmp_path)
    (tmp_path / "blocks.csv.xz").write_bytes(b"not xz")
    with pytest.raises(
        ValueError, match=r"blocks\.csv\.xz is damaged .* install the package again"
    ):
        sample_blocks()
    (tmp_path / "blocks.csv.xz").write_bytes(samples.lzma.compress(b"hex,application\n90,x\n"))
    with pytest.raises(ValueError, match="is not what the package was made with"):
        sample_blocks()
