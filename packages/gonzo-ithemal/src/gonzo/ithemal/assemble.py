"""Assembly text to basic blocks, through the assembler of the machine: GNU as, else llvm-mc.

An assembler is a programming language: `.include` and `.incbin` read files, `.rept` and `.macro`
write without end. So the text does not reach it. The text is read here into statements, and only
these are written down again for the assembler: instructions made of letters that instructions
need, and labels. Directives that say nothing about the code (`.globl`, `.cfi_startproc`,
`.p2align`, …) and data in other sections are left out; every other directive is refused.

The output of `gcc -S` and `clang -S` is understood, in both syntaxes, and so are the comments
`LLVM-MCA-BEGIN`/`END` and `OSACA-BEGIN`/`END`, and the byte markers of IACA.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.objects import Found, ObjectFile, marked, split

__all__ = ["assemble", "assemble_block", "assembler"]

_MAX_TEXT = 1_000_000
_MAX_LINE = 20_000
_MAX_STATEMENT = 1000
_SECONDS = 30.0
_MARK = "gonzo__"

# Say nothing about the code. Alignment is among them: a block has no address here.
_IGNORED = re.compile(
    r"file|loc|globa?l|type|size|ident|weak|hidden|protected|internal|local|l?comm|addrsig(_sym)?"
    r"|cfi_\w+|p2align|b?align|code64"
)
_DATA = re.compile(
    r"byte|short|value|word|[248]byte|long|int|quad|octa|zero|space|skip|string|asciz|ascii"
    r"|float|double|single|[us]leb128"
)
_LABEL = re.compile(r"[ \t]*([A-Za-z_.$][\w.$]*|\d{1,9})[ \t]*:", re.ASCII)
_INSTRUCTION = re.compile(
    r"(\{\w+\}[ \t]*)*[A-Za-z][A-Za-z0-9]*(?![\w.])[\w%$(),+\-*:\[\]{}@. \t]*", re.ASCII
)
_MARKER_BYTES = re.compile(r"\.byte\s+(0x64|100)\s*,\s*(0x67|103)\s*,\s*(0x90|144)", re.IGNORECASE)
_REGION = re.compile(r"\b(?:LLVM-MCA|OSACA)-(BEGIN|END)\b[ \t]*([^\n*]*)")
_ERROR = re.compile(r"^in\.s:(\d+):(?:\d+:)? (?:fatal )?error: (.*)$", re.IGNORECASE | re.MULTILINE)


class _Statement(NamedTuple):
    line: int
    text: str


class _Program(NamedTuple):
    lines: list[_Statement]  # what the assembler gets, one statement a line
    names: dict[str, str]  # label of ours -> that of the user, where it is known to start a block
    regions: list[tuple[str, str]]  # (BEGIN or END, name), in order; region k has the label _r{k}


def assembler() -> list[str]:
    """Return the start of the command that assembles: GNU as where it makes x86-64, else llvm-mc.

    Raises:
        ValueError: neither is installed.
    """
    native = sys.platform == "linux" and platform.machine() == "x86_64"
    gnu = shutil.which("as") if native else shutil.which("x86_64-linux-gnu-as")
    if gnu:
        return [gnu, "--64"]
    llvm = shutil.which("llvm-mc")
    if llvm:
        return [llvm, "-filetype=obj", "-triple=x86_64-unknown-linux-gnu"]
    raise ValueError(
        "assembly text needs an assembler, and neither as nor llvm-mc is installed: "
        "apt install binutils, dnf install binutils, or llvm for llvm-mc"
    )


def assemble_block(text: str, *, syntax: Literal["auto", "att", "intel"] = "auto") -> BasicBlock:
    """Assemble one basic block.

    Raises:
        ValueError: as `assemble`, or the text is not one block.
    """
    found = assemble(text, syntax=syntax)
    if found.skipped:
        raise ValueError(found.skipped[0])
    if len(found.blocks) != 1:
        raise ValueError(
            f"expected one basic block, got {len(found.blocks)}; `assemble` returns all of them"
        )
    return found.blocks[0].block


def assemble(text: str, *, syntax: Literal["auto", "att", "intel"] = "auto") -> Found:
    """Assemble text and cut it into basic blocks; where it marks regions, only those.

    Args:
        text: instructions, labels and comments; statements end at a line's end or at ";".
        syntax: "att" is `addq %rax, %rbx`, "intel" is `add rbx, rax`; "auto" takes text with "%"
            for AT&T syntax. `.intel_syntax` and `.att_syntax` in the text change it.

    Raises:
        ValueError: something in the text is not allowed or no instruction, with its line; or there
            is no assembler.
    """
    if syntax not in ("auto", "att", "intel"):
        raise ValueError(f"expected the syntax to be auto, att or intel, got {syntax!r}")
    if len(text) > _MAX_TEXT:
        raise ValueError(f"expected at most {_MAX_TEXT} letters of assembly, got {len(text)}")
    program = _read(text, syntax)
    if not any(_INSTRUCTION.fullmatch(s.text) for s in program.lines):
        raise ValueError("expected assembly text, found no instruction in it")
    compiled = ObjectFile(_run(program), "what the assembler wrote")
    places = {symbol.name: symbol.address for symbol in compiled.symbols}
    (section,) = (code for code in compiled.sections if code.name == ".text")
    names = {places[ours]: theirs for ours, theirs in program.names.items()}
    regions = _regions(program, places) or [
        (section.address + start, section.address + end, f"region {number}")
        for number, (start, end) in enumerate(marked(section.data))
    ]
    if not regions:
        return split(section.data, section.address, names)
    found = Found([], [])
    for start, end, name in regions:
        inside = {at: label for at, label in names.items() if start < at < end}
        code = section.data[start - section.address : end - section.address]
        part = split(code, start, {start: name}, inside)
        found.blocks.extend(part.blocks)
        found.skipped.extend(part.skipped)
    return found


def _regions(program: _Program, places: dict[str, int]) -> list[tuple[int, int, str]]:
    found = []
    begun: list[tuple[int, str]] = []
    for number, (kind, name) in enumerate(program.regions):
        at = places[f"{_MARK}r{number}"]
        if kind == "BEGIN":
            begun.append((at, name or f"region {len(found) + len(begun)}"))
        elif not begun:
            raise ValueError("a marked region has an END but no BEGIN before it")
        else:
            start, called = begun.pop()
            found.append((start, at, called))
    if begun:
        raise ValueError(f"the marked region {begun[-1][1]!r} has a BEGIN but no END")
    return sorted(found)


def _read(text: str, syntax: str) -> _Program:
    program = _Program([], {}, [])
    section, wanted = "code", set[str]()
    labels: list[tuple[str, str]] = []
    first = syntax if syntax != "auto" else "att" if "%" in _without_comments(text) else "intel"
    program.lines.append(_Statement(0, _SYNTAX[first]))
    for line, statement, region in _statements(text):
        if region is not None:
            program.lines.append(_Statement(line, f"{_MARK}r{len(program.regions)}:"))
            program.regions.append(region)
            continue
        rest = statement
        if len(rest) > _MAX_LINE:
            raise _refusal(line, rest, f"expected at most {_MAX_LINE} letters")
        while label := _LABEL.match(rest):
            rest = rest[label.end() :]
            if section == "code":
                ours = f"{_MARK}{len(labels)}"
                labels.append((ours, label[1]))
                program.lines.append(_Statement(line, f"{ours}:"))
                program.lines.append(_Statement(line, f"{_renamed(label[1])}:"))
        rest = rest.strip()
        if not rest:
            continue
        if rest.startswith("."):
            switch = _directive(line, rest, section == "code")
            if switch in ("code", "data", "notes"):
                section = switch
            elif switch == "table":
                # Notes for debuggers name many labels that nothing jumps to.
                wanted.update(re.findall(r"\.L[\w.$]+", rest if section == "data" else ""))
            elif switch is not None:
                program.lines.append(_Statement(line, switch))
        elif section != "code":
            raise _refusal(line, rest, "instructions outside .text are not read")
        elif len(rest) > _MAX_STATEMENT or not _INSTRUCTION.fullmatch(rest):
            odd = re.search(r"[^\w%$(),+\-*:\[\]{}@. \t]", rest, re.ASCII)
            why = f"it has {odd.group()!r}" if odd else "it is too long, or begins with none"
            raise _refusal(line, rest, f"expected an instruction; {why}")
        else:
            program.lines.append(_Statement(line, _renamed(rest)))
    # Labels that the compiler made begin a block only where something jumps to them, which the
    # machine code shows, or where a table of addresses names them.
    for ours, theirs in labels:
        if theirs in wanted or not (theirs.startswith(".") or theirs.isdigit()):
            program.names[ours] = theirs
    return program


_SYNTAX = {"att": ".att_syntax prefix", "intel": ".intel_syntax noprefix"}


def _directive(line: int, text: str, in_code: bool) -> str | None:
    """Judge a directive: the kind of section it begins, "table", a statement to keep, or None."""
    name, operands = [*text[1:].split(maxsplit=1), "", ""][:2]
    name, operands = name.lower(), operands.strip()
    if name in ("intel_syntax", "att_syntax"):
        if operands not in ("", "prefix", "noprefix"):
            raise _refusal(line, text, "expected prefix or noprefix after it")
        return f".{name} {operands}" if operands else _SYNTAX[name.removesuffix("_syntax")]
    if name == "text":
        return "code"
    if name in ("data", "bss"):
        return "data"
    if name == "section":
        section = re.split(r"[\s,]", operands, maxsplit=1)[0].strip('"')
        if section == ".text" or section.startswith(".text."):
            return "code"
        return "notes" if section.startswith((".debug", ".eh_frame", ".gcc_except")) else "data"
    if _IGNORED.fullmatch(name):
        return None
    if _DATA.fullmatch(name):
        if not in_code:
            return "table"
        if _MARKER_BYTES.fullmatch(text):
            return ".byte 100, 103, 144"
        raise _refusal(line, text, "data among instructions is not read")
    raise _refusal(line, text, "of directives, only those that say nothing about the code may stay")


def _refusal(line: int, text: str, why: str) -> ValueError:
    shown = text if len(text) <= 60 else text[:57] + "..."
    return ValueError(f"assembly, line {line}: {shown!r} is refused: {why}")


def _renamed(text: str) -> str:
    # Labels that begin with a dot are not kept by an assembler, and llvm-mc wants each defined.
    return re.sub(r"(?<![\w.$@])\.(?=[A-Za-z_])", f"{_MARK}dot_", text)


def _statements(text: str) -> Iterator[tuple[int, str, tuple[str, str] | None]]:
    """Yield (line, statement, None) and, for a comment that marks a region, (line, "", region)."""
    line = 1
    for kind, token in _tokens(text):
        if kind == "comment":
            for mark in _REGION.finditer(token):
                yield line, "", (mark[1], mark[2].strip())
        elif kind == "statement" and token.strip():
            yield line, token.strip(), None
        line += token.count("\n")


_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*|//[^\n]*|/\*(?:.*?)\*/)
      |(?P<string>"(?:[^"\\\n]|\\[^\n])*")
      |(?P<open>"|/\*)
      |(?P<end>[;\n])
      |(?P<other>[^"#/;\n]+|.)""",
    re.VERBOSE | re.DOTALL,
)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield ("comment", …), ("statement", …) and ("end", …); together they are the whole text."""
    gathered: list[str] = []
    for found in _TOKEN.finditer(text):
        if found.lastgroup == "open":
            # At the first one: to look for the end of each takes the square of the length.
            line = text.count("\n", 0, found.start()) + 1
            raise _refusal(line, found.group(), "a string or a comment that does not end")
        if found.lastgroup in ("string", "other"):
            gathered.append(found.group())
            continue
        if found.lastgroup == "comment" and "\n" not in found.group() and gathered:
            # A comment inside a line is a blank to an assembler; a mark in it comes after the line.
            gathered.append(" ")
            if _REGION.search(found.group()):
                yield "statement", "".join(gathered)
                gathered = []
                yield "comment", found.group()
            continue
        yield "statement", "".join(gathered)
        gathered = []
        yield str(found.lastgroup), found.group()
    yield "statement", "".join(gathered)


def _without_comments(text: str) -> str:
    return "\n".join(token for kind, token in _tokens(text) if kind == "statement")


def _run(program: _Program) -> bytes:
    with tempfile.TemporaryDirectory(prefix="gonzo-assemble-") as name:
        folder = Path(name)  # readable by this user alone
        (folder / "in.s").write_text("".join(f"{s.text}\n" for s in program.lines))
        command = [*assembler(), "-o", "out.o", "in.s"]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TMPDIR": name},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"the assembler did not end within {_SECONDS:g} s") from None
        complaint = _ERROR.search(done.stderr)
        if complaint:
            statement = program.lines[int(complaint[1]) - 1]
            said = f"{statement.text!r}: {complaint[2]}".replace(f"{_MARK}dot_", ".")
            raise ValueError(f"assembly, line {statement.line}: {said}")
        out = folder / "out.o"
        if done.returncode != 0 or not out.exists():
            said = done.stderr.strip()[-300:] or f"exit status {done.returncode}"
            raise ValueError(f"{command[0]} failed: {said}")
        return out.read_bytes()
