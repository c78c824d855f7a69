"""The executable sections of an ELF file for x86-64, and the functions in them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

__all__ = ["Section", "executable_sections"]


class Section(NamedTuple):
    """Code as it lies in memory."""

    address: int
    """Of the first byte; 0 in an object file."""
    code: bytes
    """At least one byte."""
    functions: np.ndarray
    """(n,) uint64 addresses of functions, in no order, perhaps outside."""


_SYMBOL = np.dtype(
    [
        ("name", "<u4"),
        ("info", "u1"),
        ("other", "u1"),
        ("section", "<u2"),
        ("value", "<u8"),
        ("size", "<u8"),
    ]
)
_FUNCTION = 2  # the kind of a symbol
_KINDS = (
    (b"!<arch>\n", "a static library; unpack it with: ar x"),
    (b"MZ", "a Windows program"),
    (b"#!", "a script"),
    (b"\xcf\xfa\xed\xfe", "a macOS program"),
    (b"\xca\xfe\xba\xbe", "a macOS program or a Java class"),
    (b"BC\xc0\xde", "LLVM bitcode"),
    (b"\0asm", "WebAssembly"),
    (b"\x1f\x8b", "a file packed by gzip"),
    (b"\xfd7zXZ", "a file packed by xz"),
    (b"PK", "a zip archive"),
)


def executable_sections(path: str | os.PathLike[str]) -> list[Section]:
    """Read the sections that hold code, in the order of the file's table.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no ELF file for x86-64, is damaged or has no executable section.
    """
    path = Path(path)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no file"
        raise FileNotFoundError(f"expected an ELF file at {path}, there is {what}")
    with open(path, "rb") as file:
        magic = file.read(16)
        if magic[:4] != b"\x7fELF":
            kind = next((kind for start, kind in _KINDS if magic.startswith(start)), None)
            begins = f"begins {magic[:4]!r}" if magic else "is empty"
            looks = f"looks like {kind}" if kind else begins
            raise ValueError(f"expected an ELF file, {path} {looks}")
        try:
            return _sections(file, path)
        except _UnfitError as error:
            raise ValueError(str(error)) from None
        except Exception as error:  # pyelftools raises whatever its parser trips over
            why = str(error) or type(error).__name__
            raise ValueError(
                f"expected a whole ELF file, {path} is truncated or damaged: {why}"
            ) from None


class _UnfitError(Exception):
    """Our own verdict on a file, as opposed to what the parser tripped over."""


def _sections(file: IO[bytes], path: Path) -> list[Section]:
    elf = ELFFile(file)
    machine, bits = elf.header["e_machine"], elf.elfclass
    if machine != "EM_X86_64" or bits != 64 or not elf.little_endian:
        name = str(machine).removeprefix("EM_").lower().replace("386", "i386")
        raise _UnfitError(f"expected code for x86-64, {path} is for {name} ({bits} bits)")
    size = path.stat().st_size
    headers: list[Any] = [section.header for section in elf.iter_sections()]
    wanted = [
        (index, header)
        for index, header in enumerate(headers)
        if header["sh_flags"] & SH_FLAGS.SHF_EXECINSTR
        and header["sh_type"] != "SHT_NOBITS"
        and header["sh_size"]
    ]
    if not wanted:
        raise _UnfitError(f"expected code, {path} has no executable section with anything in it")
    if sum(header["sh_size"] for _, header in wanted) > size:
        raise ValueError(f"its {size} bytes cannot hold its sections")
    symbols = [np.zeros(0, dtype=_SYMBOL)]
    for header in headers:
        if header["sh_type"] in ("SHT_SYMTAB", "SHT_DYNSYM"):
            content = _content(file, header, size)
            count = len(content) // _SYMBOL.itemsize
            symbols.append(np.frombuffer(content, dtype=_SYMBOL, count=count))
    table: Any = np.concatenate(symbols)
    functions = table[table["info"] & 15 == _FUNCTION]
    relative = elf.header["e_type"] == "ET_REL"  # symbols count from their sections
    found = []
    for index, header in wanted:
        address = header["sh_addr"]
        own = functions["value"][functions["section"] == index]
        own = own + np.uint64(address) if relative else own
        found.append(Section(address, _content(file, header, size), own))
    return found


def _content(file: IO[bytes], header: Mapping[str, int], size: int) -> bytes:
    offset, length = header["sh_offset"], header["sh_size"]
    if offset + length > size:
        raise ValueError(f"a section ends at byte {offset + length} of {size}")
    file.seek(offset)
    return file.read(length)
