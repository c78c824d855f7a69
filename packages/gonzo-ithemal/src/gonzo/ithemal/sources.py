"""Blocks from wherever a user has them: hexadecimal digits, object files, assembly, a pipe.

A source is written

- `-`: standard input, which may hold any of what follows;
- `loop.s`: assembly text, see `assemble`;
- `blocks.txt`: machine code in hexadecimal digits, one block a line;
- `kernel.o`: the marked regions of an ELF file;
- `kernel.o:symbol`, `program:0x401126`: the basic blocks of one function.
"""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path
from typing import Literal

from gonzo.ithemal.assemble import assemble
from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.objects import Code, Found, NamedBlock, ObjectFile, Symbol, marked, split

__all__ = ["from_hex", "from_marked", "from_symbol", "read", "text_of"]

_DIGITS = re.compile(r"((0x|\\x)?[0-9a-fA-F]{2}\s*)+")

Syntax = Literal["auto", "att", "intel"]

_MARKERS_HELP = """\
To mark a region in C or C++, put this before it:
    __asm__ volatile("movl $111, %%ebx; .byte 100, 103, 144" ::: "ebx", "memory");
and the same with 222 after it; or name a function: {name}:SYMBOL"""


def read(source: str, *, syntax: Syntax = "auto") -> Found:
    """Read the blocks of a source.

    Args:
        source: as the head of this file says.
        syntax: of assembly text, as in `assemble`.

    Raises:
        ValueError: there is no block in it, and why.
        OSError: it cannot be read.
    """
    path, symbol = _split_name(source)
    data = sys.stdin.buffer.read() if source == "-" else Path(path).read_bytes()
    name = "standard input" if source == "-" else path
    if data[:4] == b"\x7fELF":
        return from_symbol(data, symbol, name) if symbol else from_marked(data, name)
    if symbol:
        raise ValueError(f"{name} is no ELF file, so there is no {symbol} to look for in it")
    text = text_of(data, name)
    if not text.strip():
        raise ValueError(f"expected blocks in {name}; it is empty")
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    written = [(number, line) for number, line in enumerate(lines, 1) if line]
    if written and all(_DIGITS.fullmatch(line) for _, line in written):
        found = Found([], [])
        for number, line in written:
            part = from_hex(line, f"line {number}")
            found.blocks.extend(part.blocks)
        return found
    return assemble(text, syntax=syntax)


def from_hex(text: str, name: str | None = None) -> Found:
    """Take one block in hexadecimal digits.

    Raises:
        ValueError: as `BasicBlock.from_hex`.
    """
    try:
        return Found([NamedBlock(name or text, BasicBlock.from_hex(text))], [])
    except ValueError as error:
        raise ValueError(f"{name}: {error}" if name else str(error)) from None


def from_symbol(data: bytes, symbol: str, name: str = "the file") -> Found:
    """Take the basic blocks of a function of an ELF file, in order of address.

    Args:
        data: the bytes of the file.
        symbol: its name, or its address as 0x….
        name: what to call the file in errors.

    Raises:
        ValueError: the file has no such symbol, or several, or no block is in it.
    """
    file = ObjectFile(data, name)
    chosen = _choose(file, symbol, name)
    code = file.code_at(chosen.address)
    if code is None:
        raise ValueError(f"{symbol} of {name} lies in no executable section")
    start = chosen.address - code.address
    end = start + chosen.size if chosen.size else _next_symbol(file, chosen, code)
    found = split(code.data[start:end], chosen.address, {chosen.address: chosen.name})
    if not found.blocks:
        why = f": {found.skipped[0]}" if found.skipped else ", only control flow"
        raise ValueError(f"{symbol} of {name} has no basic block{why}")
    return found


def from_marked(data: bytes, name: str = "the file") -> Found:
    """Take the basic blocks between the byte markers of IACA, OSACA and Ithemal in an ELF file.

    Raises:
        ValueError: nothing is marked, with how to mark, or a mark has no counterpart.
    """
    file = ObjectFile(data, name)
    found = Found([], [])
    regions = 0
    for code in file.sections:
        try:
            inside = marked(code.data)
        except ValueError as error:
            raise ValueError(f"{name}, section {code.name}: {error}") from None
        for start, end in inside:
            at = code.address + start
            part = split(code.data[start:end], at, {at: f"region {regions}"})
            found.blocks.extend(part.blocks)
            found.skipped.extend(part.skipped)
            regions += 1
    if not regions:
        functions = [symbol.name for symbol in file.symbols if symbol.function]
        some = f"\nIt has, among others: {', '.join(functions[:8])}" if functions else ""
        raise ValueError(f"{name} has no marked region. {_MARKERS_HELP.format(name=name)}{some}")
    if not found.blocks:
        raise ValueError(f"the marked regions of {name} hold no basic block")
    return found


def _split_name(source: str) -> tuple[str, str | None]:
    if source == "-" or Path(source).exists() or ":" not in source:
        return source, None
    path, _, symbol = source.rpartition(":")
    # C++ names have colons of their own: take the shortest file that exists.
    parts = source.split(":")
    for count in range(1, len(parts)):
        if Path(":".join(parts[:count])).is_file():
            path, symbol = ":".join(parts[:count]), ":".join(parts[count:])
            break
    return path, symbol or None


def _choose(file: ObjectFile, wanted: str, name: str) -> Symbol:
    if re.fullmatch(r"0x[0-9a-fA-F]+", wanted):
        found = [symbol for symbol in file.symbols if symbol.address == int(wanted, 16)][:1]
        missing = f"expected a function to begin at {wanted} in {name}; none does"
    else:
        found = [symbol for symbol in file.symbols if symbol.name == wanted]
        missing = f"{name} has no symbol {wanted!r} in its code"
        close = difflib.get_close_matches(wanted, {symbol.name for symbol in file.symbols}, 3, 0.5)
        if close:
            missing += f"; did you mean {' or '.join(map(repr, close))}?"
        elif not file.symbols:
            missing += ": it is stripped, and so has none at all"
    if not found:
        raise ValueError(missing)
    if len({symbol.address for symbol in found}) > 1:
        places = ", ".join(f"{symbol.address:#x}" for symbol in found)
        raise ValueError(
            f"{name} has {len(found)} symbols {wanted!r}, at {places}; name one by its address: "
            f"{name}:{found[0].address:#x}"
        )
    return max(found, key=lambda symbol: symbol.size)


def _next_symbol(file: ObjectFile, chosen: Symbol, code: Code) -> int:
    after = [symbol.address for symbol in file.symbols if symbol.address > chosen.address]
    return min([*after, code.address + len(code.data)]) - code.address


def text_of(data: bytes, name: str) -> str:
    """Decode assembly text or digits.

    Raises:
        ValueError: it is something else.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ValueError(
            f"expected {name} to be an ELF file, assembly text or hexadecimal digits; it begins "
            f"with {data[:8]!r}"
        )
    return text
