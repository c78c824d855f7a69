import io
import shutil
import subprocess
import sys
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.ithemal import sources
from gonzo.ithemal.objects import MARKER_END, MARKER_START, ObjectFile, marked

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler is installed")

CODE = """
.globl loop
.type loop, @function
loop:
    movq table(%rip), %rax
.Lagain:
    imulq (%rdi), %rax
    decq %rsi
    jne .Lagain
    ret
.size loop, . - loop
bare:
    addq %rbx, %rax
    syscall
    pushq %rbp
.local twice
twice: nop
.section .text.cold,"ax"
twice2: .long 0x06060606
    nop
.type marked, @function
marked:
    movl $111, %ebx
    .byte 0x64, 0x67, 0x90
    addsd %xmm1, %xmm0
    jmp 1f
    mulsd %xmm1, %xmm0
1:  movl $222, %ebx
    .byte 0x64, 0x67, 0x90
    ret
.data
table: .quad 1
"""


@pytest.fixture(scope="module")
def object_file(tmp_path_factory):
    if shutil.which("gcc") is None:
        pytest.skip("no compiler is installed")
    folder = tmp_path_factory.mktemp("object")
    (folder / "a.s").write_text(CODE)
    subprocess.run(["gcc", "-c", "a.s", "-o", "a.o"], cwd=folder, check=True)
    return folder / "a.o"


def pairs(found):
    return [(name, block.hex) for name, block in found.blocks]


def texts(found):
    return [(name, "; ".join(block.text())) for name, block in found.blocks]


def test_hexadecimal_lines(tmp_path):
    file = tmp_path / "blocks.txt"
    file.write_text("# two blocks\n4801d8  # add\n\n0x480fafd8\n")
    assert pairs(sources.read(str(file))) == [("line 2", "4801d8"), ("line 4", "480fafd8")]
    file.write_text("4801d8\n06\n")
    with pytest.raises(ValueError, match="line 2: no valid x86-64 instruction at byte 0"):
        sources.read(str(file))


def test_hexadecimal_digits():
    assert pairs(sources.from_hex("48 01 d8")) == [("48 01 d8", "4801d8")]


@pytest.mark.parametrize(
    ("given", "blocks"),
    [
        (b"4801d8\n", [("line 1", "4801d8")]),
        (b"addq %rbx, %rax\n", [("start", "4801d8")]),
    ],
)
def test_standard_input(monkeypatch, given, blocks):
    if not shutil.which("as"):
        pytest.skip("no assembler is installed")
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(given)))
    assert pairs(sources.read("-")) == blocks


def test_standard_input_may_be_an_object(monkeypatch, object_file):
    there = types.SimpleNamespace(buffer=io.BytesIO(object_file.read_bytes()))
    monkeypatch.setattr(sys, "stdin", there)
    assert len(sources.read("-").blocks) == 2


def test_a_function_by_name(object_file):
    found = sources.read(f"{object_file}:loop")
    assert [name for name, _ in found.blocks] == ["loop", "loop+0x7"]
    assert found.blocks[1].block.text() == ["imul rax,qword ptr [rdi]", "dec rsi"]
    # The hole is filled: the operand is at the table, not at the end of the instruction.
    load = found.blocks[0].block.instructions[0]
    assert load.ip_rel_memory_address != load.next_ip


def test_a_name_without_a_size_ends_at_the_next(object_file):
    assert texts(sources.read(f"{object_file}:bare")) == [
        ("bare", "add rax,rbx"),
        ("bare+0x5", "push rbp"),
    ]


def test_a_function_by_address(object_file):
    file = ObjectFile(object_file.read_bytes(), "a.o")
    address = next(symbol.address for symbol in file.symbols if symbol.name == "bare")
    assert len(sources.read(f"{object_file}:{address:#x}").blocks) == 2
    with pytest.raises(ValueError, match="a function to begin at 0x1234 in"):
        sources.read(f"{object_file}:0x1234")


def test_what_is_no_code_is_said_once(object_file):
    found = sources.read(f"{object_file}:twice2")
    assert pairs(found) == [("twice2+0x4", "90")]
    assert found.skipped == ["twice2: no valid instruction"]


def test_regions_of_an_object(object_file):
    assert texts(sources.read(str(object_file))) == [
        ("region 0", "addsd xmm0,xmm1"),
        ("region 0+0x6", "mulsd xmm0,xmm1"),
    ]


def test_an_unknown_symbol_gets_a_proposal(object_file):
    with pytest.raises(ValueError, match=r"no symbol 'loops' in its code; did you mean 'loop'\?"):
        sources.read(f"{object_file}:loops")


@needs_compiler
def test_several_symbols_of_one_name(tmp_path, object_file):
    for name in "bc":
        text = f"{name}:\nnop\nret\nsame: incl %eax\nret\n"
        (tmp_path / f"{name}.s").write_text(text)
    subprocess.run(["gcc", "-c", "b.s", "c.s"], cwd=tmp_path, check=True)
    subprocess.run(["ld", "-r", "b.o", "c.o", "-o", "both.o"], cwd=tmp_path, check=True)
    with pytest.raises(ValueError, match=r"has 2 symbols 'same', at 0x.*both\.o:0x1000000"):
        sources.read(f"{tmp_path}/both.o:same")
    assert object_file.exists()


@needs_compiler
def test_a_linked_and_a_stripped_program(tmp_path):
    text = "int f(int n) { return n * 7 + 1; }\nint main() { return f(3); }\n"
    (tmp_path / "a.c").write_text(text)
    subprocess.run(["gcc", "-O1", "a.c", "-o", "a"], cwd=tmp_path, check=True)
    assert "lea" in texts(sources.read(f"{tmp_path}/a:f"))[0][1]
    with pytest.raises(ValueError, match=r"a has no marked region(.|\n)*movl \$111, %%ebx(.|\n)*f"):
        sources.read(f"{tmp_path}/a")
    subprocess.run(["strip", "-s", "a"], cwd=tmp_path, check=True)
    with pytest.raises(ValueError, match="no symbol 'f' in its code"):
        sources.read(f"{tmp_path}/a:f")


def test_a_function_of_control_flow_alone(tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("no compiler is installed")
    (tmp_path / "a.s").write_text("f: ret\n")
    subprocess.run(["gcc", "-c", "a.s"], cwd=tmp_path, check=True)
    with pytest.raises(ValueError, match=r"f of .* has no basic block, only control flow"):
        sources.read(f"{tmp_path}/a.o:f")


def test_what_is_neither_object_nor_text(tmp_path):
    file = tmp_path / "picture.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    with pytest.raises(ValueError, match=r"an ELF file, assembly text or hex.*begins with b.\\x89"):
        sources.read(str(file))
    with pytest.raises(ValueError, match="is no ELF file, so there is no f to look for"):
        sources.read(f"{file}:f")
    with pytest.raises(FileNotFoundError):
        sources.read(str(tmp_path / "none.o"))
    with pytest.raises(FileNotFoundError):
        sources.read(str(tmp_path / "none.o:f"))


def test_names_with_colons(tmp_path, object_file):
    odd = tmp_path / "a:b.o"
    odd.write_bytes(object_file.read_bytes())
    assert len(sources.read(str(odd)).blocks) == 2
    assert len(sources.read(f"{odd}:loop").blocks) == 2
    with pytest.raises(ValueError, match="no symbol 'std::f'"):
        sources.read(f"{object_file}:std::f")


def test_other_machines_are_named(object_file):
    data = bytearray(object_file.read_bytes())
    data[18:20] = (183).to_bytes(2, "little")
    with pytest.raises(ValueError, match="64-bit x86-64 code; it is for AArch64"):
        ObjectFile(bytes(data), "a.o")
    with pytest.raises(
        ValueError, match=r"expected a.txt to be an ELF file; it begins with b'abcd'"
    ):
        ObjectFile(b"abcdef", "a.txt")


def test_marks():
    region = MARKER_START + b"\x90" + MARKER_END
    assert marked(b"") == []
    assert marked(b"\xc3" + region + b"\xc3" + region) == [(9, 10), (27, 28)]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_is_an_error_or_a_result(object_file, data):
    content = bytearray(object_file.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(4, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(4, len(content)))])
    for read in (
        lambda: sources.from_marked(content, "a.o"),
        lambda: sources.from_symbol(content, "loop", "a.o"),
    ):
        try:
            assert read().blocks
        except ValueError as error:
            assert str(error)  # noqa: PT017
