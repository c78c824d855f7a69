"""What one instruction reads and writes: registers, flags, memory, and its effect on addresses.

A register is named by the architectural register that holds it: `rax` for al and eax too, `v0` for
xmm0, ymm0 and zmm0, `k1` for a mask. Everything here depends on the bytes of the instruction alone,
so it is worked out once for each distinct instruction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from iced_x86 import (
    Instruction,
    InstructionInfo,
    InstructionInfoFactory,
    MemorySizeExt,
    Mnemonic,
    OpAccess,
    OpKind,
    Register,
    RegisterExt,
    RflagsBits,
)

from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.effects import GENERAL, Step, step

__all__ = ["Access", "Usage", "register_name", "usages"]


class Access(NamedTuple):
    """One access to memory."""

    base: str
    """A register, "rip" (the end of the instruction), or "" for none."""
    index: str
    """A register, or "" for none; "v1", say, when every lane has its own."""
    scale: int
    """1, 2, 4 or 8."""
    displacement: int
    """Signed."""
    size: int
    """Bytes; 0 when it is not known."""
    reads: bool
    writes: bool


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """What an instruction needs and changes. Two of them are equal when they are the same object.

    Names are in the order of general registers by number, then others by name.
    """

    reads: tuple[str, ...]
    """Registers whose values it needs, apart from those that make addresses."""
    writes: tuple[str, ...]
    """Registers that it changes. Where a part of the old value stays, `reads` has it too."""
    addresses: tuple[str, ...]
    """Registers that make the addresses of its accesses."""
    partial: frozenset[str]
    """Registers of which it writes 8 or 16 bits."""
    high: frozenset[str]
    """Registers of which it uses bits 8 to 15: ah, bh, ch or dh."""
    flags_read: tuple[str, ...]
    """Among "C", "O" and "ZAPS", the groups that processors rename apart."""
    flags_written: tuple[str, ...]
    memory: tuple[Access, ...]
    """Its accesses, the operand that is written out before implicit ones."""
    idiom: bool
    """Its result does not depend on its operands: `xor eax, eax`, `pcmpeqd xmm0, xmm0`."""
    step: Step | None
    """Its effect on the values of general registers."""
    length: int
    """Bytes of the instruction."""


_LOADS = {
    OpAccess.READ,
    OpAccess.COND_READ,
    OpAccess.READ_WRITE,
    OpAccess.READ_COND_WRITE,
}
_READS = _LOADS | {OpAccess.COND_WRITE}  # the old value stays when it does not write
_WRITES = {
    OpAccess.WRITE,
    OpAccess.COND_WRITE,
    OpAccess.READ_WRITE,
    OpAccess.READ_COND_WRITE,
}
_GROUPS = (
    ("C", RflagsBits.CF),
    ("O", RflagsBits.OF),
    ("ZAPS", RflagsBits.ZF | RflagsBits.AF | RflagsBits.PF | RflagsBits.SF),
)
_HIGH = {Register.AH, Register.BH, Register.CH, Register.DH}
_ONES = {getattr(Mnemonic, f"{v}PCMPEQ{size}") for v in ("", "V") for size in "BWDQ"}
_ORDER = {name: number for number, name in enumerate(GENERAL)}

_MOST = 1 << 17
_factory = InstructionInfoFactory()
_names: dict[int, str] = {}
_known: dict[bytes, Usage] = {}


@lru_cache(maxsize=8)  # tokens, addresses and dependencies ask one after the other
def usages(block: BasicBlock) -> tuple[Usage, ...]:
    """Return what each instruction of a block reads and writes."""
    code, at, found = block.code, 0, []
    for instruction in block.instructions:
        end = at + len(instruction)
        key = code[at:end]
        usage = _known.get(key)
        if usage is None:
            if len(_known) >= _MOST:
                _known.clear()
            usage = _known[key] = _usage(instruction)
        found.append(usage)
        at = end
    return tuple(found)


def register_name(register: int) -> str:
    """Name the architectural register that holds one; "" for none and for segments."""
    name = _names.get(register)
    if name is None:
        full = RegisterExt.full_register(register)  # ty: ignore[invalid-argument-type]
        number = RegisterExt.number(full)
        name = ""
        for is_kind, letter in (
            (RegisterExt.is_zmm, "v"),
            (RegisterExt.is_k, "k"),
            (RegisterExt.is_mm, "mm"),
            (RegisterExt.is_st, "st"),
        ):
            if is_kind(full):
                name = f"{letter}{number}"
        if RegisterExt.is_gpr(full):
            name = GENERAL[number]
        _names[register] = name
    return name


def _usage(instruction: Instruction) -> Usage:
    info = _factory.info(instruction)
    memory = _accesses(instruction, info)
    addresses = {name for access in memory for name in (access.base, access.index)} - {"", "rip"}
    reads, writes, partial, high = set(), set(), set(), set()
    for used in info.used_registers():
        name = register_name(used.register)
        if used.access in _WRITES:
            writes.add(name)
            if RegisterExt.is_gpr8(used.register) or RegisterExt.is_gpr16(used.register):
                partial.add(name)
        if used.access in _READS and not (used.access == OpAccess.READ and name in addresses):
            reads.add(name)
        if used.register in _HIGH:
            high.add(name)
    registers = []
    for k in range(instruction.op_count):
        if instruction.op_kind(k) == OpKind.REGISTER:
            registers.append(instruction.op_register(k))
            if info.op_access(k) in _READS:  # it may make an address besides
                reads.add(register_name(registers[-1]))
    writes.discard("")
    ones = instruction.mnemonic in _ONES and len(registers) > 1 and registers[-1] == registers[-2]
    nothing = OpAccess.NONE in [info.op_access(k) for k in range(instruction.op_count)]
    masks = any(name.startswith("k") for name in writes)
    idiom = not memory and bool(writes) and (nothing or (ones and not masks))
    return Usage(
        reads=_sorted(partial if idiom else (reads | partial) - {""}),
        writes=_sorted(writes),
        addresses=_sorted(addresses),
        partial=frozenset(partial),
        high=frozenset(high),
        flags_read=_flags(instruction.rflags_read),
        flags_written=_flags(instruction.rflags_modified),
        memory=memory,
        idiom=idiom,
        step=step(
            instruction,
            [_ORDER[name] for name in _sorted(writes) if name in _ORDER],
            [access.size for access in memory],
        ),
        length=len(instruction),
    )


def _sorted(names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=lambda name: (_ORDER.get(name, 16), name)))


def _flags(bits: int) -> tuple[str, ...]:
    return tuple(name for name, group in _GROUPS if bits & group)


def _accesses(instruction: Instruction, info: InstructionInfo) -> tuple[Access, ...]:
    found = []
    for used in info.used_memory():
        size = MemorySizeExt.info(used.memory_size)
        base, displacement = register_name(used.base), used.displacement_i64
        if used.base == Register.NONE and instruction.is_ip_rel_memory_operand and not found:
            base, displacement = "rip", displacement - instruction.next_ip
        found.append(
            Access(
                base=base,
                index=register_name(used.index),
                scale=used.scale,
                displacement=displacement,
                size=size.element_size if size.is_broadcast else size.size,
                reads=used.access in _LOADS,
                writes=used.access in _WRITES,
            )
        )
    return tuple(found)
