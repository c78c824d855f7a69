"""A basic block: straight-line x86-64 machine code in a canonical form.

Two blocks that differ only in where the linker placed their data are one block to a processor. So
every rip-relative operand is retargeted: the block is taken to begin at `BLOCK_BASE`, and the k-th
cache line that it refers to, in order of first use, to be the k-th line of `DATA_BASE`. What stays
is all that timing can depend on: which operands share a line, and where in the line they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from iced_x86 import Decoder, Formatter, FormatterSyntax, Instruction, MemorySizeOptions

__all__ = ["BLOCK_BASE", "DATA_BASE", "MAX_BYTES", "BasicBlock", "canonical", "decode"]

BLOCK_BASE = 0x1000_0000
"""Where a canonical block begins."""

DATA_BASE = 0x2000_0000
"""Where the data of its rip-relative operands lie."""

MAX_BYTES = 1024
"""Longer blocks are refused: their copies would leave the first-level instruction cache."""

_LINE = 64


@dataclass(frozen=True)
class BasicBlock:
    """Straight-line machine code, canonical. Equal code is an equal block.

    Args:
        code: the bytes, as `canonical` returns them; use `from_bytes` or `from_hex` for others.
    """

    code: bytes

    @classmethod
    def from_bytes(cls, code: bytes, ip: int = BLOCK_BASE) -> BasicBlock:
        """Take machine code that was found at address `ip`.

        Raises:
            ValueError: the code is empty, too long, or not made of whole valid instructions.
        """
        return cls(canonical(code, ip))

    @classmethod
    def from_hex(cls, text: str) -> BasicBlock:
        r"""Take machine code in hexadecimal digits; white space, `0x` and `\x` are skipped.

        Raises:
            ValueError: as `from_bytes`, or something is not a hexadecimal digit.
        """
        digits = re.sub(r"\s|0x|\\x", "", text)
        try:
            code = bytes.fromhex(digits)
        except ValueError:
            odd = re.search(r"[^0-9a-fA-F]", digits)
            why = f"{odd.group()!r} is none" if odd else f"there is an odd number, {len(digits)}"
            raise ValueError(
                f"expected machine code as pairs of hexadecimal digits, such as 4801d8; {why}"
            ) from None
        return cls.from_bytes(code)

    @property
    def hex(self) -> str:
        """The code in hexadecimal digits."""
        return self.code.hex()

    @cached_property
    def instructions(self) -> tuple[Instruction, ...]:
        """The decoded instructions."""
        return tuple(decode(self.code))

    def __len__(self) -> int:
        return len(self.instructions)

    def text(self, syntax: Literal["intel", "gas"] = "intel") -> list[str]:
        """Return the instructions as assembly text, one string each."""
        formatter = Formatter(FormatterSyntax.INTEL if syntax == "intel" else FormatterSyntax.GAS)
        formatter.rip_relative_addresses = True
        # As every assembler reads it: 0x0c, not 0Ch, and with the size of each memory operand.
        formatter.hex_prefix, formatter.hex_suffix = "0x", ""
        formatter.memory_size_options = MemorySizeOptions.ALWAYS
        return [formatter.format(instruction) for instruction in self.instructions]


def decode(code: bytes, ip: int = BLOCK_BASE) -> list[Instruction]:
    """Decode whole instructions.

    Raises:
        ValueError: the code is empty or longer than `MAX_BYTES`, or some of it is no instruction.
    """
    if not code:
        raise ValueError("expected machine code, got none")
    if len(code) > MAX_BYTES:
        raise ValueError(f"expected a block of at most {MAX_BYTES} bytes, got {len(code)}")
    found = []
    for instruction in Decoder(64, code, ip=ip):
        if instruction.is_invalid:
            at = instruction.ip - ip
            raise ValueError(
                f"no valid x86-64 instruction at byte {at}: {code[at : at + 15].hex()}"
            )
        found.append(instruction)
    return found


def canonical(code: bytes, ip: int = BLOCK_BASE) -> bytes:
    """Retarget the rip-relative operands of code found at `ip`; other code comes back as it is.

    Raises:
        ValueError: as `decode`.
    """
    instructions = decode(code, ip)
    if not any(instruction.is_ip_rel_memory_operand for instruction in instructions):
        return code
    moved = bytearray(code)
    lines: dict[int, int] = {}
    for at, target, next_ip in displacements(code, ip):
        line = lines.setdefault(target // _LINE, len(lines))
        new = DATA_BASE + line * _LINE + target % _LINE - (next_ip - ip + BLOCK_BASE)
        moved[at : at + 4] = new.to_bytes(4, "little", signed=True)
    return bytes(moved)


def displacements(code: bytes, ip: int = BLOCK_BASE) -> list[tuple[int, int, int]]:
    """Return (offset of the displacement, address it means, address it counts from).

    One for each rip-relative operand of valid code; the offset is in the code. A copy of the code
    elsewhere means the same address when as much is subtracted from the displacement as the copy is
    moved by.
    """
    decoder = Decoder(64, code, ip=ip)
    found = []
    for instruction in decoder:
        if instruction.is_ip_rel_memory_operand:
            # The decoder answers for the instruction that it has just decoded.
            within = decoder.get_constant_offsets(instruction).displacement_offset
            offset = instruction.ip - ip + within
            found.append((offset, instruction.ip_rel_memory_address, instruction.next_ip))
    return found
