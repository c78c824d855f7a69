import re
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gonzo.ithemal import picture
from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.dependencies import Edge, dependencies
from gonzo.ithemal.explanation import explain, without

PIECES = [
    "4801d8",
    "480fafd8",
    "488b07",
    "488907",
    "8b0510000000",
    "833d0500000001",
    "90",
    "f30f58c1",
]
CHAIN = BasicBlock.from_hex("488b07 480fafc3 488907 83c101")


class ByCode:
    """A multiplication costs 3 cycles, anything else 1; remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def predict(self, blocks, *, machine=None):
        self.asked.append((list(blocks), machine))
        cycles = np.array([sum(3 if "mul" in t else 1 for t in b.text()) for b in blocks], float)
        return SimpleNamespace(cycles=cycles, low=cycles - 0.5, high=cycles + 0.25)


def test_contributions_of_an_additive_model_are_its_costs():
    predictor = ByCode()
    found = explain(CHAIN, predictor, machine="there")
    assert (found.cycles, found.low, found.high) == (6.0, 5.5, 6.25)
    np.testing.assert_array_equal(found.contributions, [1, 3, 1, 1])
    assert found.block == CHAIN
    # One batch: the block, and the block without each instruction.
    ((blocks, machine),) = predictor.asked
    assert (len(blocks), machine) == (5, "there")


def test_a_single_instruction_is_all_of_it():
    predictor = ByCode()
    found = explain(BasicBlock.from_hex("480fafd8"), predictor)
    np.testing.assert_array_equal(found.contributions, [3.0])
    assert len(predictor.asked[0][0]) == 1


@given(st.lists(st.sampled_from(PIECES), min_size=2, max_size=12), st.data())
def test_the_others_stay_what_they_were(pieces, data):
    block = BasicBlock.from_hex("".join(pieces))
    position = data.draw(st.integers(0, len(block) - 1))
    rest = without(block, position)
    kept = [i for k, i in enumerate(block.instructions) if k != position]
    assert [i.code for i in rest.instructions] == [i.code for i in kept]
    before = [i.ip_rel_memory_address for i in kept if i.is_ip_rel_memory_operand]
    after = [i.ip_rel_memory_address for i in rest.instructions if i.is_ip_rel_memory_operand]
    # The same place in a line, and a common line where there was one.
    assert [a % 64 for a in before] == [a % 64 for a in after]
    assert [[a // 64 == b // 64 for a in before] for b in before] == [
        [a // 64 == b // 64 for a in after] for b in after
    ]


def test_bad_positions():
    with pytest.raises(ValueError, match="a position from 0 to 3, got 4"):
        without(CHAIN, 4)
    with pytest.raises(ValueError, match="from 0 to 3, got -1"):
        without(CHAIN, -1)
    with pytest.raises(ValueError, match="a block of one instruction is nothing"):
        without(BasicBlock.from_hex("90"), 0)


def test_text_has_a_line_for_each_instruction():
    lines = picture.text(explain(CHAIN, ByCode())).splitlines()
    assert lines[0] == "6.00 cycles per repetition, 90 % interval 5.50 to 6.25"
    assert [re.sub(r"\s+", " ", line).strip() for line in lines[1:]] == [
        "1 mov rax,qword ptr [rdi] +1.00 █████ ← 3'",
        "2 imul rax,rbx +3.00 ████████████████ ← 1",
        "3 mov qword ptr [rdi],rax +1.00 █████ ← 2",
        "4 add ecx,1 +1.00 █████ ← 4'",
    ]
    assert Edge(2, 0, "memory", True) in dependencies(CHAIN)


def test_text_of_nothing_gained():
    found = explain(CHAIN, ByCode())._replace(contributions=np.array([0.0, -2.0, 0.0, 1.0]))
    lines = picture.text(found).splitlines()
    assert "█" not in lines[1]
    assert "-2.00 ░░░░░░░░░░░░░░░░" in lines[2]
    zero = found._replace(contributions=np.zeros(4))
    assert not set("█░") & set(picture.text(zero))


@pytest.mark.parametrize("pieces", [["90"], PIECES, PIECES * 8], ids=len)
def test_svg(tmp_path, pieces):
    pytest.importorskip("matplotlib")
    block = BasicBlock.from_hex("".join(pieces))
    file = picture.draw(explain(block, ByCode()), tmp_path / "block.svg")
    words = [e.text for e in ElementTree.parse(file).iter() if e.tag.endswith("}text")]
    for line in block.text():
        assert line in words
    first = file.read_bytes()
    assert picture.draw(explain(block, ByCode()), file).read_bytes() == first
    assert b"gonzo" not in first


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_other_kinds(tmp_path, suffix, begins):
    pytest.importorskip("matplotlib")
    file = picture.draw(explain(CHAIN, ByCode()), tmp_path / f"block.{suffix}")
    assert file.read_bytes().startswith(begins)


def test_an_unknown_kind_of_picture(tmp_path):
    with pytest.raises(ValueError, match=r"\.svg, \.png or \.pdf, got 'block\.jpg'"):
        picture.draw(explain(CHAIN, ByCode()), tmp_path / "block.jpg")


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "gonzo-ithemal\[plot\]"'):
        picture.draw(explain(CHAIN, ByCode()), tmp_path / "block.svg")
