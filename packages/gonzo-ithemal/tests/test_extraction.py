"""Blocks of ELF files: small ones made here, damaged ones, and one of this machine."""

import os
import platform
import random
import struct
import sys
from pathlib import Path

import pytest

from gonzo.ithemal.admit import refusal
from gonzo.ithemal.block import MAX_BYTES, BasicBlock
from gonzo.ithemal.extraction import extract

ADD, LOAD, RET = "4801d8", "488b0510000000", "c3"


def elf(code, *, functions=(), machine=62, kind=2, address=0x401000, flags=6, bits=64, more=()):
    """Return an ELF file: .text with `code`, then `more` sections of code, and symbols."""
    codes = [code, *more]
    names = b"\0.text\0.symtab\0.strtab\0"
    symbols = b"\0" * 24 + b"".join(
        struct.pack("<IBBHQQ", 0, 2, 0, 1, value, 0) for value in functions
    )
    body, offset, headers = b"", 64, [b"\0" * 64]
    for index, one in enumerate(codes):
        at = 0 if kind == 1 else address + index * 0x10000
        headers.append(struct.pack("<IIQQQQIIQQ", 1, 1, flags, at, offset, len(one), 0, 0, 16, 0))
        body += one
        offset += len(one)
    count = len(codes)
    headers.append(
        struct.pack("<IIQQQQIIQQ", 7, 2, 0, 0, offset, len(symbols), count + 2, 1, 8, 24)
    )
    body += symbols
    offset += len(symbols)
    headers.append(struct.pack("<IIQQQQIIQQ", 15, 3, 0, 0, offset, len(names), 0, 0, 1, 0))
    body += names
    offset += len(names)
    ident = b"\x7fELF" + bytes([bits // 32, 1, 1]) + b"\0" * 9
    start = struct.pack(
        "<HHIQQQIHHHHHH", kind, machine, 1, 0, 0, offset, 0, 64, 0, 0, 64, count + 3, count + 2
    )
    return ident + start + body + b"".join(headers)


def write(tmp_path, content):
    path = tmp_path / "program"
    path.write_bytes(content)
    return path


def found(tmp_path, text, **options):
    result = extract(write(tmp_path, elf(bytes.fromhex(text), **options)))
    assert result.found == len(result.blocks) + sum(result.dropped.values())
    return [block.hex for block in result.blocks], result.dropped


def test_blocks_end_at_branches_and_begin_at_their_targets(tmp_path):
    # add; jne over inc; inc; add (a target); ret
    text = ADD + "7503" + "48ffc1" + "4829d8" + RET
    assert found(tmp_path, text) == ([ADD, "48ffc1", "4829d8"], {})


def test_a_backward_branch_splits_what_came_before(tmp_path):
    text = ADD + "48ffc1" + "75fb" + RET  # jne to the inc
    assert found(tmp_path, text) == ([ADD, "48ffc1"], {"empty": 1})


def test_calls_and_other_exits_end_blocks(tmp_path):
    text = ADD + "e800000000" + "48ffc1" + "ffe0" + "48ffc2" + "0f05" + "48ffc3" + RET
    assert found(tmp_path, text)[0] == [ADD, "48ffc1", "48ffc2", "48ffc3"]


def test_a_target_inside_an_instruction_splits_nothing(tmp_path):
    assert found(tmp_path, "4801d8 48ffc1 75fa".replace(" ", "") + RET)[0] == [ADD + "48ffc1"]


def test_functions_begin_blocks(tmp_path):
    assert found(tmp_path, ADD + "48ffc1" + RET)[0] == [ADD + "48ffc1"]
    assert found(tmp_path, ADD + "48ffc1" + RET, functions=[0x401003])[0] == [ADD, "48ffc1"]
    assert found(tmp_path, ADD + "48ffc1" + RET, functions=[3], kind=1)[0] == [ADD, "48ffc1"]
    # a symbol before, after or far from the section changes nothing
    beyond = [0x400000, 0x401007, 0x402000, 2**64 - 1, 0]
    assert found(tmp_path, ADD + "48ffc1" + RET, functions=beyond)[0] == [ADD + "48ffc1"]


def test_reasons(tmp_path):
    text = ADD + RET + ADD + RET + RET + "0f1f00" + RET + "64488b00" + RET + "f348a5" + RET
    text += "d8c1" + RET + "06"
    blocks, dropped = found(tmp_path, text)
    assert blocks == [ADD]
    assert dropped == {
        "duplicate": 1,
        "empty": 1,
        "padding": 1,
        "repeated string": 1,
        "segment": 1,
        "undecodable": 1,
        "x87": 1,
    }


def test_a_refused_block_is_counted_each_time_and_never_as_a_duplicate(tmp_path):
    assert found(tmp_path, ("d8c1" + RET) * 3) == ([], {"x87": 3})


def test_long_runs(tmp_path):
    long = "90" * MAX_BYTES + "48ffc1"
    assert found(tmp_path, long + RET + ADD + RET) == ([ADD], {"too long": 1})


def test_blocks_are_canonical_before_they_are_compared(tmp_path):
    # They refer to byte 0x17 of a line, to byte 0x17 of another line, and to byte 0x1f.
    text = LOAD + RET + "90" * 55 + RET + LOAD + RET + LOAD + RET
    blocks, dropped = found(tmp_path, text)
    assert len(blocks) == 2
    assert dropped == {"duplicate": 1, "padding": 1}
    assert blocks[0] == BasicBlock.from_bytes(bytes.fromhex(LOAD), 0x401000).hex


def test_every_executable_section_counts_in_order(tmp_path):
    path = write(tmp_path, elf(bytes.fromhex(ADD), more=[bytes.fromhex("48ffc1"), b"\xc3"]))
    result = extract(path)
    assert [block.hex for block in result.blocks] == [ADD, "48ffc1"]
    assert result.dropped == {"empty": 1}


def test_limit(tmp_path):
    path = write(tmp_path, elf(bytes.fromhex(ADD + RET + ADD + RET + "48ffc1" + RET)))
    assert extract(path, limit=1).found == 1
    assert len(extract(path, limit=2).blocks) == 2
    assert len(extract(path, limit=9).blocks) == 2
    with pytest.raises(ValueError, match="expected a limit of at least 1 block, got 0"):
        extract(path, limit=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an ELF file, .* is empty"),
        (b"#!/bin/sh\n", "expected an ELF file, .* looks like a script"),
        (b"MZ\x90\0", "looks like a Windows program"),
        (b"!<arch>\nx", "a static library; unpack it with: ar x"),
        (b"\xcf\xfa\xed\xfe", "a macOS program"),
        (b"hello", "expected an ELF file, .* begins b'hell'"),
        (b"\x7fELF", "is truncated or damaged"),
        (elf(b"\xc3")[:60], "is truncated or damaged"),
        (elf(b"\xc3")[:-70], "is truncated or damaged"),
        (elf(b"\xc3", machine=183), r"expected code for x86-64, .* is for aarch64 \(64 bits\)"),
        (elf(b"\xc3", machine=243), "is for riscv"),
        (elf(b"\xc3", flags=2), "expected code, .* has no executable section with anything in it"),
        (elf(b""), "has no executable section with anything in it"),
    ],
)
def test_what_cannot_be_extracted_says_so(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        extract(write(tmp_path, content))


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected an ELF file at .*, there is no file"):
        extract(tmp_path / "no")
    with pytest.raises(FileNotFoundError, match=r"expected an ELF file at .*, there is a folder"):
        extract(tmp_path)


def test_damaged_files_give_a_result_or_a_value_error(tmp_path):
    draw = random.Random(0)
    code = bytes.fromhex((ADD + LOAD + RET + "7503" + "48ffc1") * 4)
    whole = elf(code, functions=[0x401003, 0x401010])
    outcomes = set()
    for _ in range(600):
        content = bytearray(whole)
        for _ in range(draw.choice([0, 1, 1, 3, 10])):
            bit = draw.randrange(len(content) * 8)
            content[bit // 8] ^= 1 << bit % 8
        if draw.random() < 0.3:
            del content[draw.randrange(len(content)) :]
        try:
            result = extract(write(tmp_path, bytes(content)))
        except ValueError as error:
            assert str(error).startswith("expected ")  # noqa: PT017
            outcomes.add("error")
        else:
            assert result.found == len(result.blocks) + sum(result.dropped.values())
            outcomes.add("result")
    assert outcomes == {"error", "result"}


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() != "x86_64",
    reason="the programs of this machine are not ELF for x86-64",
)
def test_a_program_of_this_machine():
    path = Path(os.path.realpath("/bin/ls"))
    if not path.exists() or path.read_bytes()[:4] != b"\x7fELF":
        path = Path(os.path.realpath(sys.executable))
    one = extract(path, limit=2000)
    assert len(one.blocks) > 100
    assert len(set(one.blocks)) == len(one.blocks)
    assert one == extract(path, limit=2000)
    for block in one.blocks:
        assert refusal(block.instructions) is None
        assert BasicBlock.from_bytes(block.code) == block
