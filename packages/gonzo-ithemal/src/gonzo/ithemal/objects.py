"""Code of an ELF file as memory would hold it, and the basic blocks in it.

In an object file the addresses are still open: every operand that names a symbol has a hole and a
relocation that says what belongs there. Here each section and each foreign symbol gets a place,
and the holes are filled, so that operands which name one datum name one address, as in a linked
program.
"""

from __future__ import annotations

import io
import struct
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection
from iced_x86 import Decoder, FlowControl

from gonzo.ithemal.block import BasicBlock

__all__ = ["Code", "Found", "NamedBlock", "ObjectFile", "Symbol", "marked", "split"]

MARKER_START = bytes.fromhex("bb6f000000646790")
"""mov ebx, 111; fs addr32 nop: what IACA, OSACA and Ithemal take for the start of a region."""

MARKER_END = bytes.fromhex("bbde000000646790")
"""mov ebx, 222; fs addr32 nop: its end."""

_FIRST = 0x1000_0000
_EXECUTABLE, _ALLOCATED, _COMPRESSED = 0x4, 0x2, 0x800
_SYMBOL = struct.Struct("<IBBHQQ")
_NO_TYPE, _FUNCTION = 0, 2
_RELATIVE = {2, 4}  # R_X86_64_PC32, PLT32
_TABLE = {9, 19, 20, 22, 41, 42}  # GOTPCREL and its kin: the address of a slot, not of the symbol
_ABSOLUTE = {1: 8, 10: 4, 11: 4}  # R_X86_64_64, 32, 32S: bytes


class NamedBlock(NamedTuple):
    """A basic block and where it is from, such as "main+0x1c"."""

    name: str
    block: BasicBlock


class Found(NamedTuple):
    """The blocks of a source in order, and a sentence for each piece that yielded none."""

    blocks: list[NamedBlock]
    skipped: list[str]


class Symbol(NamedTuple):
    """A name in executable code: where it begins, and its length, 0 where the file does not say."""

    name: str
    address: int
    size: int
    function: bool


class Code(NamedTuple):
    """An executable section: its name, where it lies, its bytes."""

    name: str
    address: int
    data: bytes


class ObjectFile:
    """The executable sections and symbols of an ELF file.

    Args:
        data: the bytes of the file.
        name: what to call it in errors.

    Attributes:
        sections: the executable ones, `Code`.
        symbols: the names in them, `Symbol`, by address.

    Raises:
        ValueError: it is no ELF file, not for x86-64, or damaged.
    """

    sections: list[Code]
    symbols: list[Symbol]

    def __init__(self, data: bytes, name: str):
        if data[:4] != b"\x7fELF":
            raise ValueError(f"expected {name} to be an ELF file; it begins with {data[:4]!r}")
        try:
            elf = ELFFile(io.BytesIO(data))
            machine = elf.get_machine_arch()
            if machine == "x64" and elf.elfclass == 64:
                self._read(elf)
                return
        except ELFError as error:
            raise ValueError(f"{name} is a damaged ELF file: {error}") from None
        except Exception as error:
            # A damaged field makes the reader trip wherever that field is used.
            raise ValueError(
                f"{name} is a damaged ELF file ({type(error).__name__}: {error})"
            ) from None
        raise ValueError(
            f"expected {name} to hold 64-bit x86-64 code; it is for {machine}, {elf.elfclass}-bit"
        )

    def _read(self, elf: ELFFile) -> None:
        relocatable = elf.header["e_type"] == "ET_REL"
        sections = list(elf.iter_sections())
        place: dict[int, int] = {}
        free = _FIRST
        for index, section in enumerate(sections):
            if not section["sh_flags"] & _ALLOCATED:
                continue
            place[index] = free if relocatable else section["sh_addr"]
            free = (max(free, place[index]) + section["sh_size"] + 0xFFF) & ~0xFFF
        code = {
            index: bytearray(section.data())
            for index, section in enumerate(sections)
            if index in place
            and section["sh_flags"] & _EXECUTABLE
            and section["sh_type"] != "SHT_NOBITS"
            and not section["sh_flags"] & _COMPRESSED
        }
        if relocatable:
            for section in sections:
                if isinstance(section, RelocationSection) and section["sh_info"] in code:
                    target = section["sh_info"]
                    _relocate(elf, section, code[target], place[target], place, free)
        self.sections = [
            Code(sections[index].name, place[index], bytes(data)) for index, data in code.items()
        ]
        found = set()
        for table in sections:
            if isinstance(table, SymbolTableSection):
                strings = elf.get_section(table["sh_link"]).data()
                # By hand: a large library has a million of them.
                for name, info, _, index, value, size in _SYMBOL.iter_unpack(table.data()):
                    if index in code and name and info & 0xF in (_NO_TYPE, _FUNCTION):
                        called = strings[name : strings.index(b"\0", name)].decode()
                        address = value + (place[index] if relocatable else 0)
                        found.add(Symbol(called, address, size, info & 0xF == _FUNCTION))
        self.symbols = sorted(found, key=lambda symbol: (symbol.address, symbol.name))

    def code_at(self, address: int) -> Code | None:
        """Return the section that an address is in."""
        for section in self.sections:
            if section.address <= address < section.address + len(section.data):
                return section
        return None


def _relocate(
    elf: ELFFile,
    relocations: RelocationSection,
    data: bytearray,
    address: int,
    place: dict[int, int],
    free: int,
) -> None:
    table = elf.get_section(relocations["sh_link"])
    if not isinstance(table, SymbolTableSection):
        raise ELFError("relocations without a symbol table")
    slots: dict[tuple[int, bool], int] = {}
    for relocation in relocations.iter_relocations():
        kind, at = relocation["r_info_type"], relocation["r_offset"]
        number = relocation["r_info_sym"]
        symbol = table.get_symbol(number)
        home = symbol["st_shndx"]
        if home in place and kind not in _TABLE:
            meant = place[home] + symbol["st_value"]
        else:
            # Foreign: a page of its own, so that no two of them share a cache line by accident.
            meant = free + 0x1000 * slots.setdefault((number, kind in _TABLE), len(slots))
        meant += relocation["r_addend"] if relocation.is_RELA() else 0
        if kind in _RELATIVE or kind in _TABLE:
            value, size = meant - (address + at), 4
        elif kind in _ABSOLUTE:
            value, size = meant, _ABSOLUTE[kind]
        else:
            continue
        if at + size <= len(data):
            data[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def marked(code: bytes) -> list[tuple[int, int]]:
    """Return the (start, end) offsets of what lies between byte markers.

    Raises:
        ValueError: a start has no end, or an end no start.
    """
    found = []
    at = 0
    while True:
        start, end = code.find(MARKER_START, at), code.find(MARKER_END, at)
        if start < 0 and end < 0:
            return found
        if start < 0 or 0 <= end < start:
            raise ValueError("a marked region has an end (mov ebx, 222) but no start before it")
        if end < 0:
            raise ValueError("a marked region has a start (mov ebx, 111) but no end after it")
        found.append((start + len(MARKER_START), end))
        at = end + len(MARKER_END)


def split(
    code: bytes, address: int, names: Mapping[int, str], leaders: Collection[int] = ()
) -> Found:
    """Cut code into basic blocks: at control flow, at the targets of its jumps, at names, leaders.

    The instruction that transfers control ends a block and is not in it.

    Args:
        code: the bytes.
        address: where they lie.
        names: names by address. A block is called the nearest one before it and the distance,
            "main+0x1c"; before the first, "start".
        leaders: further addresses where a block begins.
    """
    pieces = list(_instructions(code, address))
    starts = {*names, *leaders, *(target for _, _, target in pieces if target is not None)}
    named = sorted({address: "start", **names}.items())
    found = Found([], [])
    first: int | None = None
    before = _NEXT
    for at, kind, _ in [*pieces, (address + len(code), _TRANSFER, None)]:
        if first is not None and (at in starts or kind != _NEXT):
            called = _called(first, named)
            try:
                block = BasicBlock.from_bytes(code[first - address : at - address], first)
                found.blocks.append(NamedBlock(called, block))
            except ValueError as error:
                found.skipped.append(f"{called}: {error}")
            first = None
        if kind == _NEXT and first is None:
            first = at
        if kind == _INVALID != before:
            found.skipped.append(f"{_called(at, named)}: no valid instruction")
        before = kind
    return found


_NEXT, _TRANSFER, _INVALID = range(3)


def _instructions(code: bytes, address: int) -> Iterator[tuple[int, int, int | None]]:
    """Yield (address, what follows, target of a near jump) of every instruction."""
    jumps = {FlowControl.CONDITIONAL_BRANCH, FlowControl.UNCONDITIONAL_BRANCH}
    for instruction in Decoder(64, code, ip=address):
        if instruction.is_invalid:
            yield instruction.ip, _INVALID, None
        elif instruction.flow_control == FlowControl.NEXT:
            yield instruction.ip, _NEXT, None
        else:
            near = instruction.flow_control in jumps and instruction.near_branch_target
            yield instruction.ip, _TRANSFER, near or None


def _called(address: int, named: list[tuple[int, str]]) -> str:
    home, name = named[max(bisect_right(named, address, key=lambda item: item[0]) - 1, 0)]
    return name + (f"+{address - home:#x}" if address > home else "")
