"""Addresses under the values that blocks are measured with."""

import re
from pathlib import Path

import pytest

import gonzo.ithemal.harness
from gonzo.ithemal.addresses import POINTER, REACH, STACK, Link, touches
from gonzo.ithemal.block import BasicBlock


def stores(text):
    """For every load of a block, the store that it sees."""
    found = touches(BasicBlock.from_hex(text))
    return [touch.store for touch in found if not touch.writes]


SAME = [Link(0, False, "same", 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("488903 488b0b", SAME),  # [rbx], [rbx]
        ("488903 488b0f", SAME),  # [rbx], [rdi]: they hold the same pointer
        ("488903 488b4b08", [None]),  # [rbx], [rbx+8]
        ("488903 4883c308 488b4bf8", [Link(0, False, "same", 1)]),  # rbx moved on by 8
        ("488903 48ffc3 488b4bff", [Link(0, False, "same", 1)]),
        ("488903 4883eb08 488b4b08", [Link(0, False, "same", 1)]),
        ("488903 4889da 488b0a", [Link(0, False, "same", 1)]),  # mov rdx,rbx
        ("48894308 488d5308 488b0a", [Link(0, False, "same", 1)]),  # lea rdx,[rbx+8]
        ("48891c24 4c8b0424 498b08", [Link(0, False, "same", 1), None]),  # a pointer through memory
        ("50 488b0c24", SAME),  # push, [rsp]
        ("50 50 488b4c2408", [Link(0, False, "same", 2)]),
        ("50 59", SAME),
        ("4889e5 50 488b4df8", [Link(1, False, "same", 1)]),  # mov rbp,rsp; [rbp-8]
        ("8803 488b0b", [Link(0, False, "across", 1)]),
        ("488903 8a4b07", [Link(0, False, "within", 1)]),
        ("488903 488b4b04", [Link(0, False, "across", 1)]),
        ("c5fe7f03 0f104310", [Link(0, False, "within", 1)]),  # 32 bytes, then 16 of them
        (
            "31d2 488913 0fb60b 4c8b0413",  # [rbx+rdx] where rdx is 0
            [Link(1, False, "within", 1), Link(1, False, "same", 2)],
        ),
        ("488b0b 488903", [Link(1, True, "same", 1)]),  # the last repetition's store
        ("488b0b 4883c308 488903", [Link(2, True, "same", 1)]),  # rbx has moved by as much
        ("488b0b 4883c308 48894308", [None]),
        ("ff0510000000", [Link(0, True, "same", 1)]),  # inc [rip+...]
        ("488d1510000000 ff02", [Link(1, True, "same", 1)]),  # lea rdx,[rip+...]; inc [rdx]
        ("48f7f1 488903 488b0b", [Link(1, False, "same", 1)]),
        ("48f7f1 488900 488b4808", [None]),  # a quotient: one origin, other bytes
        ("48f7f1 488900 488b08", [Link(1, False, "same", 1)]),
        ("48f7f1 488900 4883c008 488b48f8", [Link(1, False, "same", 1)]),
        ("48f7f1 890418 8b0c18", [Link(1, False, "same", 1)]),  # and a sum with it
        ("48f7f1 488900 48f7f1 488b08", [None]),  # another quotient
        ("c5f96ec0 c4e26d9004c8", [None]),  # a gather has an address for each lane
    ],
)
def test_which_store_a_load_sees(text, expected):
    assert stores(text) == expected


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("488b4338", ""),
        ("488b4339", "line"),
        ("488b83fc0f0000", "page"),
        ("0f10433f", "line"),
        ("488b4424fc", "line"),  # around rsp
        ("48f7f1 488b403f", ""),  # nobody knows
        ("488b0500000000", ""),
    ],
)
def test_what_crosses_a_line_or_a_page(text, split):
    assert touches(BasicBlock.from_hex(text))[-1].split == split


def test_a_load_from_the_same_address_is_marked():
    found = touches(BasicBlock.from_hex("488b03 488b0b 488b4308"))
    assert [touch.again for touch in found] == [False, True, False]


def test_it_looks_back_as_far_as_a_store_buffer():
    near = "488903" + "488b4b08" * (REACH - 1) + "488b0b"
    assert stores(near)[-1] == Link(0, False, "same", REACH)
    assert stores("488903" + "488b4b08" * REACH + "488b0b")[-1] is None


def test_no_access_no_touch():
    assert touches(BasicBlock.from_hex("4801d8")) == ()
    assert touches(BasicBlock.from_hex("0f1f00")) == ()  # nop [rax]


def test_values_that_can_be_followed():
    """Each block leaves a pointer where the load looks for it, whatever it did before."""
    for compute in (
        "4889da",  # mov rdx,rbx
        "31d2 4801da",  # xor edx,edx; add rdx,rbx
        "4889da 48c1e204 48c1ea04",  # shl, shr
        "4889da 48f7d2 48f7d2",  # not twice
        "4889da 48f7da 48f7da",  # neg twice
        "4889da 4883e2f0",  # and rdx,-16
        "4889da 4883ca00",  # or rdx,0
        "4863d3",  # movsxd rdx,ebx
        "89da",  # mov edx,ebx: the pointer has fewer than 32 bits
        "488b13",  # mov rdx,[rbx]: memory holds the pointer
        "53 5a",  # push, pop
        "4887da 4889d3",  # xchg rdx,rbx; mov rbx,rdx
        "480f44d3",  # cmove of equal values
        "486bd301",  # imul rdx,rbx,1
        "4889da b200",  # mov dl,0 changes nothing: the pointer ends in 00
        "4889da 48d1e2 48d1fa",  # shl, sar
        "c9 4889da",  # leave
    ):
        # store to [rdx], load from [rbx]
        block = f"{compute} 488902 488b0b"
        assert stores(block)[-1] is not None, compute
        assert stores(block)[-1].shape == "same", compute


def test_a_high_byte_or_an_unknown_part_makes_a_value_unknown():
    for compute in ("b401", "0f94c0", "660f7ec0", "0fc8"):  # mov ah,1; sete al; movd eax; bswap
        assert stores(f"{compute} 488903 488b08")[-1] is None, compute


def test_the_values_are_those_that_the_measuring_program_sets():
    source = Path(gonzo.ithemal.harness.__file__).with_name("harness.c").read_text()
    (initial,) = re.findall(r"#define INITIAL (0x[0-9a-f]+)UL", source)
    assert int(initial, 16) == POINTER
    registers = re.findall(r"mov \$(0x[0-9a-f]+), %(e\w\w|r\d+d)[;\\]", source)
    pointers = {name for value, name in registers if int(value, 16) == POINTER}
    assert {name for value, name in registers if int(value, 16) == STACK} == {"ebp", "esp"}
    assert len(pointers) == 14
