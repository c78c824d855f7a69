import numpy as np
import pytest

from gonzo.ithemal import osaca
from gonzo.ithemal.block import BasicBlock

ADD = BasicBlock.from_hex("4801d8")

ANSWER = """\
Kernel:
- Throughput: 0.25
Summary:
  CriticalPath: 8
  LCD: {carried}
  PortPressure: {{'0': 0.25, 0DV: 0.0, '1': 1.5, '10': 0.25, '11': 0.33, 1DV: 0.0,
    '2': 0.33, '9':
      0.0}}
Target:
  Name: SPR
Warnings: {warnings}
"""


@pytest.fixture
def stand_in(tmp_path):
    """Write a program that passes for osaca; the body sees the answer's path as $out."""

    def write(body):
        path = tmp_path / "osaca"
        path.write_text(f"#!/bin/sh\nout=$6\nkernel=$7\n{body}\n")
        path.chmod(0o700)
        return str(path)

    return write


def answering(carried="4.0", warnings="[]"):
    return f"cat > $out <<'END'\n{ANSWER.format(carried=carried, warnings=warnings)}END"


def test_the_larger_of_ports_and_chain(stand_in):
    assert osaca.osaca([ADD], arch="SPR", program=stand_in(answering())) == [4.0]
    assert osaca.osaca([ADD], arch="SPR", program=stand_in(answering(carried="0"))) == [1.5]


def test_the_block_is_given_in_the_syntax_named(stand_in):
    body = 'grep -q "^addq\\|^add %rbx, *%rax" $kernel && [ $2 = ZEN3 ] && [ $4 = ATT ] || exit 1'
    program = stand_in(f"{body}\n{answering()}")
    assert osaca.osaca([ADD], arch="ZEN3", program=program) == [4.0]
    assert np.isnan(osaca.osaca([ADD], arch="ZEN4", program=program)).all()


@pytest.mark.parametrize(
    "body",
    [
        answering(warnings="[UnknownInstrWarning]"),
        answering(carried="null"),
        "exit 1",
        "exit 0",
        "echo nonsense > $out",
        "sleep 20",
    ],
    ids=["unknown instruction", "no chain", "failure", "no answer", "nonsense", "too slow"],
)
def test_no_answer_is_nan(stand_in, body):
    found = osaca.osaca([ADD, ADD], arch="SPR", program=stand_in(body), seconds=0.3)
    assert found.shape == (2,)
    assert np.isnan(found).all()


def test_an_old_answer_is_not_taken_for_a_new_one(stand_in, tmp_path):
    once = f"[ -e {tmp_path}/done ] && exit 0\ntouch {tmp_path}/done\n{answering()}"
    np.testing.assert_array_equal(
        osaca.osaca([ADD, ADD], arch="SPR", program=stand_in(once)), [4.0, np.nan]
    )


def test_its_absence_says_how_to_install_it():
    with pytest.raises(ValueError, match=r"no-such is not installed.*AGPL.*uv tool install osaca"):
        osaca.osaca([ADD], arch="SPR", program="no-such")


def test_version(stand_in):
    assert osaca.version(stand_in("echo osaca 0.7.1")) == "0.7.1"
    with pytest.raises(ValueError, match="does not say its version"):
        osaca.version(stand_in("echo hello"))


def test_an_unknown_architecture(stand_in):
    program = stand_in("echo 'osaca: error: Microarchitecture not supported.' >&2; exit 1")
    with pytest.raises(ValueError, match="does not know the processor 'Z80'"):
        osaca.osaca([ADD], arch="Z80", program=program)


@pytest.mark.parametrize(
    ("cpu", "name"),
    [
        ("GenuineIntel 6-207-2 Intel(R) Xeon(R) Processor", "SPR"),
        ("GenuineIntel 6-94-3 Intel(R) Core(TM) i7-6700", "SKX"),
        ("AuthenticAMD 25-33-0 AMD Ryzen 9 5950X", "ZEN3"),
        ("AuthenticAMD 25-97-2 AMD Ryzen 9 7950X", "ZEN4"),
        ("AuthenticAMD 23-49-0 AMD EPYC 7742", "ZEN2"),
    ],
)
def test_architecture(cpu, name):
    assert osaca.architecture(cpu) == name


@pytest.mark.parametrize("cpu", ["GenuineIntel 6-23-1 old", "AuthenticAMD 26-2-0 new", "", "arm"])
def test_architecture_that_osaca_has_not(cpu):
    with pytest.raises(ValueError, match=r"no model of this processor.*choose one of SNB.*ZEN4"):
        osaca.architecture(cpu)
