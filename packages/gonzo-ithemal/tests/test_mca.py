import json
import shutil
import stat
import textwrap

import numpy as np
import pytest

from gonzo.ithemal import mca
from gonzo.ithemal.block import BasicBlock

ADD, IMUL, DIV = (BasicBlock.from_hex(code) for code in ("4801d8", "480fafd8", "f20f5ec1"))

installed = pytest.mark.skipif(shutil.which("llvm-mca") is None, reason="llvm-mca is not installed")


@pytest.fixture
def stand_in(tmp_path):
    """Write a program that passes for an llvm-mca: one instruction costs 2 cycles.

    It knows no `imul`, dies of `divsd`, and complains and goes on or gives up, as old and new
    versions do.
    """

    def write(*, version="19.1.7", as_json=True, gives_up=True, name="llvm-mca"):
        path = tmp_path / name
        path.write_text(
            textwrap.dedent(
                f"""\
                #!/usr/bin/env python3
                import json, re, sys
                if "--version" in sys.argv:
                    print("Debian LLVM version {version}"); sys.exit()
                if "--help" in sys.argv:
                    print("  --json  - Print json" if {as_json} else "  --other"); sys.exit()
                cpu = [a for a in sys.argv if a.startswith("-mcpu=")][0][6:]
                if cpu == "z80":
                    print("'z80' is not a recognized processor for this target", file=sys.stderr)
                    sys.exit(1)
                n = int([a for a in sys.argv if a.startswith("-iterations=")][0][12:])
                text = sys.stdin.read()
                assert text.endswith("\\n")
                regions, bad = [], False
                for number, line in enumerate(text.split("\\n"), 1):
                    if "BEGIN" in line:
                        regions.append([line.split()[-1], 0])
                    elif "imul" in line:
                        print(f"<stdin>:{{number}}:1: error: unknown", file=sys.stderr)
                        bad = True
                    elif "divsd" in line:
                        sys.exit(139)
                    elif line and "#" not in line:
                        regions[-1][1] += 2
                if bad and {gives_up}:
                    sys.exit(1)
                if {as_json}:
                    print(json.dumps(dict(CodeRegions=[
                        dict(Name=r, SummaryView=dict(TotalCycles=c * n)) for r, c in regions],
                        TargetInfo=dict(CPUName=cpu, Resources=["ABCDiv", "ABCPort0"]))))
                else:
                    for i, (r, c) in enumerate(regions):
                        print(f"\\n[{{i}}] Code Region - {{r}}\\n\\nIterations:   {{n}}\\n"
                              f"Total Cycles:      {{c * n}}\\n")
                """
            )
        )
        path.chmod(0o700)
        return str(path)

    return write


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("gives_up", [True, False])
def test_a_block_that_fails_takes_no_other_with_it(stand_in, as_json, gives_up):
    program = stand_in(as_json=as_json, gives_up=gives_up)
    two = BasicBlock.from_hex("4801d84801d8")
    found = mca.llvm_mca([ADD, IMUL, two, DIV, ADD], program=program)
    np.testing.assert_array_equal(found, [2, np.nan, 4, np.nan, 2])


def test_more_blocks_than_go_into_one_process(stand_in, monkeypatch):
    monkeypatch.setattr(mca, "_CHUNK", 3)
    blocks = [BasicBlock.from_hex("4801d8" * n) for n in (1, 2, 3, 4, 5, 6, 7)]
    found = mca.llvm_mca(blocks, program=stand_in(), iterations=10)
    np.testing.assert_array_equal(found, [2, 4, 6, 8, 10, 12, 14])


def test_no_block_starts_no_process(stand_in):
    assert mca.llvm_mca([], program=stand_in()).shape == (0,)


def test_one_region_without_a_heading():
    assert mca._totals("Iterations:  100\nTotal Cycles:   304\n") == {0: 304.0}


def test_a_program_that_never_ends_is_nan(tmp_path, monkeypatch):
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\n[ $1 = --help ] && exit\nexec sleep 20\n")
    slow.chmod(0o700)
    run = mca.subprocess.run

    def hurried(command, **options):
        return run(command, **{**options, "timeout": min(options["timeout"], 0.3)})

    monkeypatch.setattr(mca.subprocess, "run", hurried)
    assert np.isnan(mca.llvm_mca([ADD], program=str(slow))).all()


def test_the_model_is_said(stand_in):
    assert mca.model(stand_in()) == ("19.1.7", "native", "ABC")
    assert str(mca.model(stand_in(), "znver3")) == "llvm-mca 19.1.7 (znver3, table ABC)"
    assert str(mca.model(stand_in(as_json=False, name="old"))) == "llvm-mca 19.1.7 (native)"


def test_the_newest_is_found(stand_in, tmp_path, monkeypatch):
    for number in ("9", "14", "19"):
        stand_in(version=f"{number}.0.1", name=f"llvm-mca-{number}")
    plain = stand_in(version="14.0.6")
    (tmp_path / "llvm-mca-99").write_text("not executable")
    monkeypatch.delenv(mca.PROGRAM_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert mca.find() == str(tmp_path / "llvm-mca-19")
    assert mca.version() == "19.0.1"
    monkeypatch.setenv(mca.PROGRAM_VARIABLE, plain)
    assert mca.find() == plain
    assert mca.find(str(tmp_path / "llvm-mca-9")).endswith("-9")


def test_its_absence_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.delenv(mca.PROGRAM_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"apt install llvm.*--mca PROGRAM or GONZO_LLVM_MCA"):
        mca.find()
    with pytest.raises(ValueError, match="'/nope/llvm-mca' to be an llvm-mca program"):
        mca.find("/nope/llvm-mca")


def test_what_is_no_llvm_mca_is_refused(tmp_path):
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho hello\n")
    other.chmod(stat.S_IRWXU)
    with pytest.raises(ValueError, match="does not say its version"):
        mca.version(str(other))
    other.write_text("#!/no/such/interpreter\n")
    with pytest.raises(ValueError, match="does not run"):
        mca.llvm_mca([ADD], program=str(other))


def test_bad_arguments(stand_in):
    with pytest.raises(ValueError, match="at least 1 iteration, got 0"):
        mca.llvm_mca([ADD], program=stand_in(), iterations=0)
    with pytest.raises(ValueError, match="does not know the processor 'z80'"):
        mca.llvm_mca([ADD], program=stand_in(), cpu="z80")


@installed
def test_the_installed_one_knows_chains():
    found = mca.llvm_mca([ADD, IMUL, DIV], cpu="skylake", iterations=1000)
    # A dependent add is one cycle, a dependent multiplication three, on every such processor.
    np.testing.assert_allclose(found[:2], [1.0, 3.0], rtol=0.02)
    assert found[2] > 3
    assert mca.model(cpu="skylake").cpu == "skylake"


@installed
def test_the_installed_one_refuses_an_unknown_processor():
    with pytest.raises(ValueError, match="does not know the processor 'z80'"):
        mca.llvm_mca([ADD], cpu="z80")


@installed
def test_the_installed_one_drops_what_it_cannot_read(monkeypatch):
    lines = {ADD.code: ["addq %rax, %rbx"], IMUL.code: ["foo %rax", "addq %rax, %rbx"]}
    monkeypatch.setattr(BasicBlock, "text", lambda block, _: lines[block.code])
    found = mca.llvm_mca([IMUL, ADD, IMUL, ADD], cpu="skylake", iterations=1000)
    np.testing.assert_allclose(found, [np.nan, 1, np.nan, 1], rtol=0.02)


def test_json_is_what_the_stand_in_writes(stand_in):
    said, _ = mca._run(stand_in(), [["nop"]], None, 7, 10.0)
    assert json.loads(said)["CodeRegions"][0]["SummaryView"]["TotalCycles"] == 14
