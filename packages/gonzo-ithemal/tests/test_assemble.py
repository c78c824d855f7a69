import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iced_x86 import Mnemonic

from gonzo.ithemal import assemble as module
from gonzo.ithemal.assemble import assemble, assemble_block, assembler
from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.sources import from_symbol

pytestmark = pytest.mark.skipif(
    not (shutil.which("as") or shutil.which("llvm-mc")), reason="no assembler is installed"
)


@pytest.fixture(params=["as", "llvm-mc"])
def each_assembler(request, monkeypatch):
    """Let both assemblers do the same, one after the other."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    find = shutil.which
    other = {"as": "llvm-mc", "llvm-mc": "as"}[request.param]
    monkeypatch.setattr(module.shutil, "which", lambda name: None if name == other else find(name))
    assert Path(assembler()[0]).name.startswith(request.param)


def hexes(found):
    return {name: block.hex for name, block in found.blocks}


@pytest.mark.usefixtures("each_assembler")
@pytest.mark.parametrize(
    "text",
    [
        "addq %rax, %rbx",
        "add rbx, rax",
        "ADD RBX, RAX",
        ".intel_syntax noprefix\nadd rbx, rax",
        ".intel_syntax\nadd rbx, rax",
        "nop_; # not reached\n".replace("nop_; ", "")
        + "addq %rax, %rbx # a comment; with .include",
        "/* .incbin 'x' */ addq /* inside */ %rax, %rbx // .macro",
        "  \t.text\r\n\taddq\t%rax,%rbx\r\n",
        ".globl f\n.type f, @function\nf: .cfi_startproc\n .p2align 4,,10\n addq %rax, %rbx; ret",
        '.file "a;b.c"\n.ident "#/*"\naddq %rax, %rbx',
        ".L3:\naddq %rax, %rbx\njne .L3",
    ],
)
def test_one_block_many_ways(text):
    assert assemble_block(text) == BasicBlock.from_hex("4801c3")


@pytest.mark.usefixtures("each_assembler")
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("vaddps %zmm1, %zmm2, %zmm3{%k1}{z}", "62f16cc958d9"),
        ("vaddps zmm3{k1}{z}, zmm2, zmm1", "62f16cc958d9"),
        ("vaddps {rn-sae}, %zmm1, %zmm2, %zmm3", "62f16c1858d9"),
        ("lock xaddl %eax, -8(%rdi,%rcx,4)", "f00fc1448ff8"),
        ("lock; xaddl %eax, -8(%rdi,%rcx,4)", "f00fc1448ff8"),
        ("mov rax, qword ptr [rdi + 8*rcx - 0x10]", "488b44cff0"),
        ("{vex3} vaddps %ymm1, %ymm2, %ymm3", "c4e16c58d9"),
        ("movq %fs:40, %rax", "64488b042528000000"),
        ("movl $-1, %eax", "b8ffffffff"),
    ],
)
def test_forms_of_operands(text, code):
    assert assemble_block(text).hex == code


def test_the_syntax_may_be_said():
    assert assemble_block("nop", syntax="att") == assemble_block("nop", syntax="intel")
    with pytest.raises(ValueError, match="line 1"):
        assemble_block("add rbx, rax", syntax="att")
    with pytest.raises(ValueError, match="auto, att or intel, got 'nasm'"):
        assemble("nop", syntax="nasm")


@pytest.mark.usefixtures("each_assembler")
def test_labels_and_jumps_cut():
    text = """
    f:  xorl %eax, %eax
    .L2:                         # the compiler's, and nothing jumps to it
        movq (%rdi), %rdx
    .L3:
        addq %rdx, %rax
    1:  decq %rsi
        jne .L3
        call g
        js 1b
        imulq %rax, %rax
        ret
    """
    assert hexes(assemble(text)) == {
        "f": "31c0488b17",
        "f+0x5": "4801d0",
        "f+0x8": "48ffce",
        "f+0x17": "480fafc0",
    } or hexes(assemble(text)) == {  # a call to g may be shorter or longer; the blocks are not
        "f": "31c0488b17",
        "f+0x5": "4801d0",
        "f+0x8": "48ffce",
        "f+0x14": "480fafc0",
    }


def test_a_label_in_a_jump_table_begins_a_block():
    text = "f: nop\n jmp *.L1(,%rax,8)\n.L4: decl %eax\n.L5: incl %eax\n"
    table = text + ".section .rodata\n.align 8\n.L1: .quad .L5\n.section .debug_info\n.quad .L4\n"
    found = assemble(table)
    assert [name for name, _ in found.blocks] == ["f", "f+0x8", ".L5"]
    assert [block.hex for _, block in found.blocks] == ["90", "ffc8", "ffc0"]


@pytest.mark.usefixtures("each_assembler")
def test_operands_that_name_one_datum_share_a_line():
    one, two = (assemble_block(f"movl x(%rip), %eax\nmovl {y}(%rip), %ecx") for y in ("x", "y"))
    assert one != two
    addresses = [i.ip_rel_memory_address for i in one.instructions]
    assert addresses[0] == addresses[1]
    addresses = [i.ip_rel_memory_address for i in two.instructions]
    assert addresses[0] // 64 != addresses[1] // 64


def test_regions_are_all_that_counts():
    text = """
    nop
    # LLVM-MCA-BEGIN first one
    addq %rax, %rbx
    # LLVM-MCA-END
    hlt
    # OSACA-BEGIN
    imulq %rax, %rbx   # OSACA-END
    nop
    """
    assert hexes(assemble(text)) == {"first one": "4801c3", "region 1": "480fafd8"}


def test_byte_markers_are_understood():
    mark = "movl ${}, %ebx\n.byte 100,103,144\n"
    text = "nop\n" + mark.format(111) + "addq %rax, %rbx\n" + mark.format(222) + "nop\n"
    assert hexes(assemble(text)) == {"region 0": "4801c3"}
    with pytest.raises(ValueError, match=r"a start \(mov ebx, 111\) but no end"):
        assemble(mark.format(111) + "nop")
    with pytest.raises(ValueError, match=r"an end \(mov ebx, 222\) but no start"):
        assemble(mark.format(222) + "nop")


def test_unbalanced_comments_of_regions():
    with pytest.raises(ValueError, match="'a' has a BEGIN but no END"):
        assemble("# LLVM-MCA-BEGIN a\nnop")
    with pytest.raises(ValueError, match="an END but no BEGIN"):
        assemble("nop\n# LLVM-MCA-END")


DIRECTIVES = [
    '.include "{secret}"',
    ".include {secret}",
    '.incbin "{secret}"',
    ".INCBIN '{secret}'",
    ".macro m\nnop\n.endm\nm",
    ".rept 1000000000\nnop\n.endr",
    ".irp x,1\nnop\n.endr",
    ".set x, 1",
    ".equ x, 1",
    "x = 1",
    ".fill 1000000000, 8, 0",
    ".space 1000000000",
    ".zero 1000000000",
    ".org 0x7fffffff",
    ".nops 1000000000",
    ".byte 0x0f, 0x05",
    ".ascii 'x'",
    ".pushsection .data",
    ".code32",
    ".altmacro",
    ".print 'x'",
    ".error 'x'",
    ".if 1",
    ".bundle_align_mode 30",
    ".linkonce",
    ".cv_file 1 'x'",
    ".secure_log_unique x",
]
DISGUISES = [
    "{}",
    "nop; {}",
    "nop;{}",
    "label: {}",
    "1: {}",
    "a: b: {}",
    "\t {}",
    "/* x */ {}",
    "nop /* x */ ; {}",
    "# comment\n{}",
    "#APP\n{}\n#NO_APP",
    "// comment\r{}".replace("\r", "\n"),
    '.ident "\\""; {}',
    '.file "a\\\\"\n{}',
    '.ident "/*"\n{}\n/* */',
    "nop # \\\n{}",
]


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("directive", DIRECTIVES)
def test_a_directive_is_refused_wherever_it_hides(directive, disguise, monkeypatch):
    monkeypatch.setattr(module, "_run", lambda _: pytest.fail("the assembler was started"))
    text = disguise.format(directive.format(secret="/etc/passwd"))
    with pytest.raises(ValueError, match=r"assembly, line \d+: .* is refused"):
        assemble(text)


@pytest.mark.parametrize(
    "text",
    [
        "mov $'a', %eax",
        'call "x"',
        "mov $1, %eax \\\n",
        "nop \x0c .include x",
        "nop\x00",
        "nöp",
        "nop | nop",
        "mov `x`, %eax",
        "movl $(1<<40), %eax",
        "{ nop",
        "%rax",
        "$1",
        "nop.include x",
        "nop " + "x" * 2000,
    ],
)
def test_letters_that_no_instruction_needs_are_refused(text, monkeypatch):
    monkeypatch.setattr(module, "_run", lambda _: pytest.fail("the assembler was started"))
    with pytest.raises(ValueError, match=r"assembly, line 1: .* is refused: expected an instruct"):
        assemble(text)


@pytest.mark.parametrize("text", ['nop "', "nop /* never closed", 'nop "a\nb"', '.file "a\\"'])
def test_what_does_not_end_is_refused(text):
    with pytest.raises(ValueError, match=r"line 1: .* a string or a comment that does not end"):
        assemble(text)


@pytest.mark.parametrize(
    "piece", ['\\"', "/*", "a:", "a: ", ";", "{a}", "'", '""', "# /*", "//", "\n", ".L1 "]
)
def test_hostile_text_takes_no_time(piece, monkeypatch):
    monkeypatch.setattr(module, "_run", lambda _: pytest.fail("the assembler was started"))
    text = '"' + piece * 300_000
    began = time.process_time()
    for hostile in (text, text[1:], "nop " + text[1:]):
        with pytest.raises((ValueError, pytest.fail.Exception)):
            assemble(hostile[:900_000])
    assert time.process_time() - began < 10


alphabet = st.sampled_from(
    [*".;:#/*\"\\\n\t \r\x0b\x0c{}$%='@,", ".include", ".incbin", "nop", "a", "1", '"x"', "\u2028"]
)


@settings(max_examples=400)
@given(st.lists(alphabet, max_size=30).map("".join))
def test_nothing_but_instructions_and_labels_ever_gets_through(text):
    try:
        program = module._read(text, "auto")
    except ValueError as error:
        assert "refused" in str(error)  # noqa: PT017
        return
    for _, line in program.lines:
        assert "\n" not in line
        assert (
            module._INSTRUCTION.fullmatch(line)
            or module._LABEL.fullmatch(line)
            or line in (*module._SYNTAX.values(), ".byte 100, 103, 144")
        )


def test_the_assembler_gets_a_folder_that_only_this_user_sees(monkeypatch):
    seen = {}
    run = subprocess.run

    def spy(command, **options):
        folder = Path(options["cwd"])
        seen.update(mode=stat.S_IMODE(folder.stat().st_mode), folder=folder, env=options["env"])
        return run(command, **options)

    monkeypatch.setattr(module.subprocess, "run", spy)
    monkeypatch.setenv("SECRET", "x")
    assemble("nop")
    assert seen["mode"] == 0o700
    assert not seen["folder"].exists()
    assert "SECRET" not in seen["env"]


@pytest.mark.usefixtures("each_assembler")
def test_an_error_shows_the_line():
    with pytest.raises(ValueError, match=r"assembly, line 3: 'movq %foo, %rax': .*register name"):
        assemble("nop\n\nmovq %foo, %rax\n")
    with pytest.raises(ValueError, match=r"line 2: 'frobnicate \.L2': "):
        assemble("nop\nfrobnicate .L2\n.att_syntax")


def test_no_text_and_too_much():
    with pytest.raises(ValueError, match="found no instruction"):
        assemble("# nothing\n.globl f\n")
    with pytest.raises(ValueError, match="at most 1000000 letters"):
        assemble("nop\n" * 300_000)
    with pytest.raises(ValueError, match=r"one basic block, got 2"):
        assemble_block("nop\njmp 1f\nnop\n1:")
    with pytest.raises(ValueError, match="at most 1024 bytes"):
        assemble_block("nop\n" * 1100)
    assert assemble("nop\njmp 1f\n" + "nop\n" * 1100 + "1:").skipped == [
        "start+0x6: expected a block of at most 1024 bytes, got 1100"
    ]


def test_data_in_other_sections_is_left_out_and_code_there_refused():
    assert assemble_block(".data\nx: .long 1, 2\n.text\nnop").hex == "90"
    assert assemble_block('.section .text.startup,"ax"\nnop').hex == "90"
    with pytest.raises(ValueError, match=r"line 2: 'nop' is refused: instructions outside \.text"):
        assemble(".data\nnop")
    with pytest.raises(ValueError, match="data among instructions"):
        assemble("nop\n.long 1")
    with pytest.raises(ValueError, match="expected prefix or noprefix"):
        assemble(".intel_syntax x")


def test_an_assembler_that_hangs_is_ended(tmp_path, monkeypatch):
    slow = tmp_path / "as"
    slow.write_text("#!/bin/sh\nexec sleep 20\n")
    slow.chmod(0o700)
    monkeypatch.setattr(module, "_SECONDS", 0.2)
    monkeypatch.setattr(module, "assembler", lambda: [str(slow)])
    with pytest.raises(ValueError, match=r"did not end within 0\.2 s"):
        assemble("nop")


def test_no_assembler_says_how_to_get_one(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(ValueError, match="apt install binutils"):
        assemble("nop")


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler is installed")
@pytest.mark.parametrize("options", [["-O2"], ["-O0"], ["-O2", "-g"], ["-O3", "-masm=intel"]])
def test_what_a_compiler_writes_gives_the_blocks_of_its_object(tmp_path, options):
    (tmp_path / "a.c").write_text(
        """
        extern double scale; static int hits; static const char *name = "a\\"; .include /*";
        double dot(const double *x, const double *y, int n) {
            double s = 0; hits++;
            for (int i = 0; i < n; i++) s += x[i] * y[i] * scale * 3.5;
            return name ? s : -s;
        }
        """
    )
    for extra in (["-S", "-o", "a.s"], ["-c", "-o", "a.o"]):
        command = ["gcc", "-fno-asynchronous-unwind-tables", *options, *extra, "a.c"]
        subprocess.run(command, cwd=tmp_path, check=True)
    text = assemble((tmp_path / "a.s").read_text()).blocks
    there = from_symbol((tmp_path / "a.o").read_bytes(), "dot").blocks

    def plain(blocks):  # what loops are aligned with is left out of text
        kept = (
            [i.mnemonic for i in b.instructions if i.mnemonic != Mnemonic.NOP] for _, b in blocks
        )
        return [mnemonics for mnemonics in kept if mnemonics]

    assert plain(text) == plain(there)
    assert len(text) >= 3
