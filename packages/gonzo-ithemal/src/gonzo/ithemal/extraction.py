"""The basic blocks of an ELF file: programs, shared libraries and object files for x86-64.

Executable sections are swept from their first byte to their last. A block begins at a function, at
the target of a branch, or after an instruction that may leave the straight line, and ends before
the next such place; the branch itself is not part of it. Data between functions decode as nonsense
and are dropped where that shows.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from iced_x86 import Code, Decoder, FlowControl, Mnemonic

from gonzo.ithemal.admit import refusal
from gonzo.ithemal.block import MAX_BYTES, BasicBlock, decode
from gonzo.ithemal.elf import Section, executable_sections

__all__ = ["Extraction", "extract"]


class Extraction(NamedTuple):
    """What a file holds; `found == len(blocks) + sum(dropped.values())`."""

    blocks: list[BasicBlock]
    """The admitted blocks, each once, in the order of their first appearance."""
    dropped: dict[str, int]
    """How many were dropped for each reason: what `admit.refusal` says, "duplicate", "empty" (a
    branch alone), "padding" (nops alone), "too long", "undecodable". The most frequent first."""
    found: int
    """How many were looked at."""


_CHUNK = 1 << 15  # instructions that are held at once
_DIRECT = (
    FlowControl.UNCONDITIONAL_BRANCH,
    FlowControl.CONDITIONAL_BRANCH,
    FlowControl.CALL,
)


def extract(path: str | os.PathLike[str], *, limit: int | None = None) -> Extraction:
    """Collect the basic blocks of an ELF file that may be measured.

    Args:
        path: a program, a shared library or an object file. Relocations are not applied.
        limit: stop after so many blocks; by default, look at the whole file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no ELF file for x86-64, is damaged or has no executable section.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"expected a limit of at least 1 block, got {limit}")
    blocks: list[BasicBlock] = []
    dropped: Counter[str] = Counter()
    verdicts: dict[bytes, str] = {}  # of code that was seen, what to count it as next time
    for section in executable_sections(path):
        for code, ip, ending in _runs(section):
            reason = ending or _verdict(code, ip, verdicts, blocks)
            if reason:
                dropped[reason] += 1
            elif len(blocks) == limit:
                return _extraction(blocks, dropped)
    return _extraction(blocks, dropped)


def _extraction(blocks: list[BasicBlock], dropped: Counter[str]) -> Extraction:
    ordered = dict(sorted(dropped.items(), key=lambda item: (-item[1], item[0])))
    return Extraction(blocks, ordered, len(blocks) + dropped.total())


def _verdict(
    code: bytes, ip: int | None, verdicts: dict[bytes, str], blocks: list[BasicBlock]
) -> str | None:
    """Return why a block is dropped, or append it and return None."""
    if len(code) > MAX_BYTES:
        return "too long"
    if ip is not None:  # it refers to data: canonical first, so that equal blocks are equal
        code = BasicBlock.from_bytes(code, ip).code
    reason = verdicts.get(code)
    if reason is None:
        instructions = decode(code)
        reason = refusal(instructions)
        if reason is None and all(one.mnemonic == Mnemonic.NOP for one in instructions):
            reason = "padding"
        verdicts[code] = reason or "duplicate"
        if reason is None:
            blocks.append(BasicBlock(code))
    return reason


def _runs(section: Section) -> Iterator[tuple[bytes, int | None, str | None]]:
    """Yield each run of straight-line code: (code, ip, None), or (b"", None, why it is none).

    The ip is None when nothing in the code depends on where it is.
    """
    flows, ends, data, invalid, targets = _sweep(section)
    size = len(flows)
    starts = np.concatenate([[0], ends[:-1]])
    begins = np.zeros(size + 1, dtype=bool)
    begins[[0, size]] = True
    leaving = np.flatnonzero(flows)
    begins[leaving + 1] = True
    for addresses in (targets, section.functions):
        offsets = addresses - np.uint64(
            section.address
        )  # wraps to beyond the end where it is before
        at = np.searchsorted(starts, offsets[offsets < len(section.code)].astype(np.int64))
        exact = offsets[offsets < len(section.code)].astype(np.int64)
        inside = at < size
        at, exact = at[inside], exact[inside]
        begins[at[starts[at] == exact]] = True
    edges = np.flatnonzero(begins)
    first, last = edges[:-1], edges[1:]
    stop = last - (flows[last - 1] != 0)  # without the branch
    count = np.concatenate([[0], np.cumsum(data)])
    columns = (
        starts[first],
        ends[np.maximum(stop - 1, 0)],
        stop > first,
        count[stop] > count[first],
        invalid[last - 1],
    )
    code, address = section.code, section.address
    for begin, end, whole, moves, wrong in zip(*(one.tolist() for one in columns), strict=True):
        if wrong:
            yield b"", None, "undecodable"
        elif not whole:
            yield b"", None, "empty"
        else:
            yield code[begin:end], address + begin if moves else None, None


def _sweep(section: Section) -> tuple[np.ndarray, ...]:
    """Decode a section.

    Returns:
        For each instruction its flow control, the offset of its end, whether it refers to data
        relative to itself, and whether it is none; then the addresses that branches go to.
    """
    flows: list[np.ndarray] = []
    lengths: list[np.ndarray] = []
    data: list[np.ndarray] = []
    invalid: list[np.ndarray] = []
    targets: list[int] = []
    decoder = iter(Decoder(64, section.code, ip=section.address))
    while chunk := list(islice(decoder, _CHUNK)):
        flow = np.array([one.flow_control for one in chunk], dtype=np.uint8)
        flows.append(flow)
        lengths.append(np.array([len(one) for one in chunk], dtype=np.int64))
        data.append(np.array([one.is_ip_rel_memory_operand for one in chunk]))
        wrong = np.zeros(len(chunk), dtype=bool)
        for at in np.flatnonzero(flow == FlowControl.EXCEPTION).tolist():
            wrong[at] = chunk[at].code == Code.INVALID
        invalid.append(wrong)
        direct = np.flatnonzero(np.isin(flow, _DIRECT)).tolist()
        targets += [chunk[at].near_branch_target for at in direct]
    return (
        np.concatenate(flows),
        np.cumsum(np.concatenate(lengths)),
        np.concatenate(data),
        np.concatenate(invalid),
        np.array(targets, dtype=np.uint64),
    )
