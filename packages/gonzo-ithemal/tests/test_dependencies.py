"""Who waits for whom, by hand and by laws."""

import random

import pytest
from iced_x86 import Decoder

from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.dependencies import Edge, dependencies


def edges(text):
    """Write edges short: `0>1r`, and `0>>1r` when carried, with the first letter of the kind."""
    return {
        f"{edge.producer}{'>>' if edge.carried else '>'}{edge.consumer}{edge.kind[0]}"
        for edge in dependencies(BasicBlock.from_hex(text))
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4801d8", "0>>0r"),  # add rax,rbx: on itself
        ("4801d8 4801c1", "0>>0r 0>1r 1>>1r"),
        ("31c0 01c3", "0>1r 1>>1r"),
        ("31c0 31c0", ""),
        ("29c0", ""),
        ("89c1 89ca", "0>1r"),
        ("b001 88c3", "0>>0r 0>1r 1>>1r"),  # mov al,1 keeps the rest of rax
        ("b801000000 88c3", "0>1r 1>>1r"),
        ("488b00", "0>>0a"),  # a chain of pointers
        ("480300", "0>>0a 0>>0r"),
        ("488900", ""),
        ("4889c3 488b0b", "0>1a"),
        ("4839d8 0f94c1", "0>1f 1>>1r"),
        ("4811d8", "0>>0r 0>>0f"),  # adc
        ("4839d8 48ffc1 0f92c2", "1>>1r 0>2f 2>>2r"),  # inc leaves the carry
        ("4839d8 48ffc1 0f94c2", "1>>1r 1>2f 2>>2r"),
        ("0f97c0 4839d8", "1>>0f 0>>0r 0>1r"),
        ("488903 488b0b", "0>1m"),
        ("480103", "0>>0m"),
        ("f20f58c1", "0>>0r"),
        ("c5f458c1", ""),
        ("f20f10c1", "0>>0r"),  # movsd between registers keeps the upper half
        ("f20f1003", ""),
        ("50 58", "0>1r 1>>0r 0>1a 1>>0a 0>1m"),
        ("0f1f00", ""),
        ("488d0410", "0>>0r"),  # lea computes, it does not load
    ],
)
def test_by_hand(text, expected):
    assert edges(text) == set(expected.split())


def random_block(seed):
    """Return a block of whatever random bytes decode to."""
    draw, code = random.Random(seed), b""
    while len(code) < 40:
        one = draw.randbytes(15)
        instruction = next(iter(Decoder(64, one)))
        if not instruction.is_invalid:
            code += one[: len(instruction)]
    return BasicBlock.from_bytes(code)


@pytest.mark.parametrize("seed", range(200))
def test_laws(seed):
    block = random_block(seed)
    found = dependencies(block)
    assert len(set(found)) == len(found)
    assert [edge.consumer for edge in found] == sorted(edge.consumer for edge in found)
    for edge in found:
        assert isinstance(edge, Edge)
        assert 0 <= edge.producer < len(block)
        assert edge.kind in ("register", "flags", "memory", "address")
        if not edge.carried:
            assert edge.producer < edge.consumer


FIXED = [
    seed
    for seed in range(60)
    if not any(one.is_ip_rel_memory_operand for one in random_block(seed).instructions)
]


@pytest.mark.parametrize("seed", FIXED)
def test_two_repetitions_in_one_block_say_the_same(seed):
    """What was carried into the block is inside it, in the second half of a block that is twice it.

    Registers and flags only: addresses after three repetitions may differ from those after one.
    """
    block = random_block(seed)
    size = len(block)
    twice = dependencies(BasicBlock(block.code * 2))
    inner = {
        (edge.producer % size, edge.consumer - size, edge.kind, edge.producer < size)
        for edge in twice
        if edge.consumer >= size and edge.kind != "memory"
    }
    assert inner == {tuple(edge) for edge in dependencies(block) if edge.kind != "memory"}
