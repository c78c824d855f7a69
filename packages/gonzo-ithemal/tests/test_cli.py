import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("tyro")
pytest.importorskip("gonzo.lab")

from gonzo.ithemal import cli, measurement, predictor
from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.commands import predict as predict_command
from gonzo.ithemal.commands import train as train_command
from gonzo.ithemal.harness import HarnessError, build, counter

PIECES = ["4801d8", "480fafd8", "488b07", "488907", "90", "f30f58c1", "4889d8", "505b"]
COSTS = [1.0, 3.0, 0.5, 1.5, 0.25, 4.0, 0.3, 2.0]


class Quarter:
    """Predicts a quarter of a cycle for each instruction."""

    machines = ("here",)
    model = SimpleNamespace()
    card = {}  # noqa: RUF012

    def predict(self, blocks, *, machine=None):
        if machine not in (None, *self.machines):
            raise ValueError(f"no machine {machine}")
        cycles = np.array([len(block) / 4 for block in blocks])
        return predictor.Prediction(cycles, cycles / 2, cycles * 2)


@pytest.fixture
def quarter(monkeypatch, tmp_path):
    monkeypatch.setattr(predictor.Predictor, "shipped", Quarter)
    monkeypatch.setattr(predictor.Predictor, "from_pretrained", lambda _: Quarter())
    monkeypatch.setattr(predictor, "SHIPPED", tmp_path / "none")


@pytest.fixture
def run(capsys):
    def called(*arguments, code=0):
        got = cli.run_command(list(map(str, arguments)))
        said = capsys.readouterr()
        assert got == code, said.err
        return said

    return called


def write(path, columns):
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))
    return path


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def made(count):
    generator = np.random.default_rng(0)
    found = {}
    while len(found) < count:
        picked = generator.integers(len(PIECES), size=generator.integers(1, 9))
        found["".join(PIECES[k] for k in picked)] = sum(COSTS[k] for k in picked)
    return found


@pytest.fixture
def measured(tmp_path):
    found = made(300)
    columns = {"hex": list(found), "cycles": list(found.values()), "cpu": ["mine"] * 300}
    return write(tmp_path / "measured.csv", columns)


def one_line(text):
    assert text.count("\n") == 1, text
    assert text.startswith("gonzo-ithemal: ")
    return text


def test_help_lists_the_commands(run):
    said = run("--help").out
    for name in cli.COMMANDS:
        assert f"  {name}" in said
    assert run(code=2).out == said


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_a_command(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.run_command([name, "--help"])
    assert f"gonzo-ithemal {name}" in capsys.readouterr().out


def test_help_imports_no_torch():
    code = (
        "import sys, gonzo.ithemal.cli as c; c.run_command(['--help']);"
        "sys.argv = ['x', 'train', '--help']\n"
        "try: c.main()\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_unknown_words_get_a_proposal(run):
    assert "no command 'guess'. Commands: extract, measure" in one_line(run("guess", code=2).err)
    said = one_line(run("predict", "--hxe", "90", code=2).err)
    assert "does not know --hxe. Did you mean '--hex'?" in said
    assert "--passes" in one_line(
        run("measure", "a.csv", "--out", "b.csv", "--passes", "x", code=2).err
    )


def test_without_the_extra(run, monkeypatch):
    monkeypatch.setattr(cli, "_installed", lambda name: name != "rich")
    assert 'pip install "gonzo-ithemal[cli]"' in one_line(run("predict", code=2).err)


def test_a_defect_shows_where(run, monkeypatch, quarter):
    monkeypatch.setattr(Quarter, "predict", lambda *_, **__: 1 / 0)
    assert "Traceback" in run("predict", "--hex", "90", code=1).err


def test_interruption(run, monkeypatch, quarter):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Quarter, "predict", interrupt)
    said = run("predict", "--hex", "90", "--machine", "a b", code=130).err
    assert said == "Interrupted. To continue: gonzo-ithemal predict --hex 90 --machine 'a b'\n"


@pytest.mark.usefixtures("quarter")
def test_predict_prints_a_table(run):
    lines = run("predict", "--hex", "4801d8", "4801d8480fafd8").out.splitlines()
    assert lines[0].split() == ["block", "instructions", "cycles", "90", "%", "interval"]
    assert lines[1].split() == ["4801d8", "1", "0.25", "0.12", "to", "0.50"]
    assert lines[2].split()[1:3] == ["2", "0.50"]


@pytest.mark.usefixtures("quarter")
def test_predict_says_what_no_model_can_know(run):
    said = run("predict", "--hex", "0f05", "4801d8")
    assert len(said.out.splitlines()) == 3
    assert said.err.startswith("0f05: system; such blocks are never measured")
    assert said.err.count("\n") == 1


@pytest.mark.usefixtures("quarter")
def test_predict_prints_json(run, tmp_path):
    table = write(tmp_path / "blocks.csv", {"hex": ["90", "06", "480fafd8"]})
    said = run("predict", table, "--json")
    assert json.loads(said.out) == [
        {"name": "row 1", "hex": "90", "cycles": 0.25, "low": 0.125, "high": 0.5},
        {"name": "row 3", "hex": "480fafd8", "cycles": 0.25, "low": 0.125, "high": 0.5},
    ]
    assert said.err == "left out: row 2: no valid x86-64 instruction at byte 0: 06\n"


@pytest.mark.usefixtures("quarter")
@pytest.mark.skipif(shutil.which("as") is None, reason="no assembler is installed")
def test_predict_takes_assembly(run, tmp_path):
    file = tmp_path / "loop.s"
    file.write_text("loop: addq %rax, %rbx\n decq %rcx\n jne loop\n")
    for arguments in ([file], ["--asm", file]):
        assert json.loads(run("predict", *arguments, "--json").out)[0]["hex"] == "4801c348ffc9"
    file.write_text("nop\n.include '/etc/passwd'\n")
    said = one_line(run("predict", file, code=2).err)
    assert "assembly, line 2" in said
    assert "root:" not in said


@pytest.mark.usefixtures("quarter")
def test_predict_reads_a_pipe(run, monkeypatch):
    import io

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"90\n9090\n")))
    assert len(json.loads(run("predict", "-", "--json").out)) == 2


@pytest.mark.usefixtures("quarter")
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["predict"], "expected blocks: FILE, FILE:FUNCTION, --hex"),
        (["predict", "--hex", "zz"], "expected machine code as pairs of hexadecimal digits"),
        (["predict", "/no/such/file"], "/no/such/file: No such file or directory"),
        (["predict", "/no/such/file.csv"], "expected a table at /no/such/file.csv"),
        (["predict", "--hex", "90", "--machine", "moon"], "no machine moon"),
        (["explain", "--hex", "90", "--block", "x"], "there is no block 'x'; there are: 90"),
        (["explain", "--hex", "90", "91", "--picture", "a.svg"], "a picture is of one block"),
        (["explain", "--hex", "90", "--picture", "a.jpg"], ".svg, .png or .pdf, got 'a.jpg'"),
        (["measure", "/no/such.csv", "--out", "x.csv"], "expected a table at /no/such.csv"),
        (["compare", "/no/such.txt"], "a table ending in .csv, .csv.xz or .parquet"),
        (["train", "--out", "x"], "expected at least one measured table, got none"),
        (["extract", "--out", "x.csv"], "expected at least one ELF file, got none"),
    ],
)
def test_what_a_user_does_wrong_is_one_line(run, arguments, complaint):
    said = run(*arguments, code=2)
    assert complaint in one_line(said.err)


def test_no_shipped_model_says_what_to_do(run, monkeypatch):
    def none():
        raise FileNotFoundError("weights")

    monkeypatch.setattr(predictor.Predictor, "shipped", none)
    assert "no model comes with this build" in one_line(run("predict", "--hex", "90", code=2).err)


@pytest.mark.usefixtures("quarter")
def test_warnings_are_remarks(run, monkeypatch):
    import warnings

    def warn(self, blocks, *, machine=None):
        warnings.warn("another processor", stacklevel=2)
        return Quarter.machines and predictor.Prediction(*np.ones((3, len(blocks))))

    monkeypatch.setattr(Quarter, "predict", warn)
    said = run("predict", "--hex", "90", "--json")
    assert said.err == "warning: another processor\n"
    assert json.loads(said.out)[0]["cycles"] == 1.0


@pytest.mark.usefixtures("quarter")
def test_explain(run, tmp_path):
    said = run("explain", "--hex", "4801d8480fafd8").out
    assert said.startswith("4801d8480fafd8: 0.50 cycles per repetition")
    assert "2 imul rbx,rax +0.25" in " ".join(said.split())
    pytest.importorskip("matplotlib")
    file = tmp_path / "block.svg"
    assert str(file) in run("explain", "--hex", "90", "--picture", file).err
    assert file.exists()


@pytest.mark.usefixtures("quarter")
def test_compare(run, tmp_path):
    found = made(60)
    columns = {
        "hex": [*found, "90", "91", "92"],
        "cycles": [*found.values(), "nan", "1", "1"],
        "status": [*["ok"] * 60, "fault", "ok", "ok"],
        "spread": [*["0.01"] * 61, "0.5", "0.01"],
    }
    table = write(tmp_path / "measured.csv", columns)
    said = run("compare", table)
    assert "61 blocks." in said.out  # without the failed one and the one whose passes disagree
    assert "ours (SimpleNamespace)" in said.out
    assert "instructions / 4" in said.out
    assert "MAPE by class" in said.out
    assert "Our 90 % interval holds" in said.out
    said = run("compare", table, "--limit", "20")
    assert "20 blocks." in said.out
    assert "20 blocks, drawn at random" in said.err


@pytest.mark.usefixtures("quarter")
def test_compare_leaves_out_what_was_trained_on(run, tmp_path, measured):
    from gonzo.ithemal.seen import remember

    blocks = [BasicBlock.from_hex(row["hex"]) for row in read(measured)]
    folder = tmp_path / "model"
    folder.mkdir()
    remember(folder, blocks[:200])
    said = run("compare", measured, "--model", folder)
    assert "left out: 200 blocks that the model was trained on" in said.err
    assert "100 blocks." in said.out
    remember(folder, blocks)
    said = one_line(run("compare", measured, "--model", folder, code=2).err)
    assert "was trained on every block of the table" in said


@pytest.mark.usefixtures("quarter")
def test_compare_with_osaca(run, monkeypatch, measured, tmp_path):
    program = tmp_path / "osaca"
    answer = "Summary:\n  LCD: 2.0\n  PortPressure: {'0': 1.0}\nTarget:\nWarnings: []\n"
    body = f'[ "$1" = --version ] && echo osaca 0.9.9 && exit\ncat > $6 <<END\n{answer}END\n'
    program.write_text(f"#!/bin/sh\n{body}")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.delenv("GONZO_LLVM_MCA", raising=False)
    said = run("compare", measured, "--osaca", "--osaca-arch", "ZEN3", "--limit", 5)
    assert "OSACA 0.9.9 (ZEN3)" in said.out
    assert "nan" not in said.out


@pytest.mark.usefixtures("quarter")
def test_compare_without_the_tools(run, monkeypatch, measured, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("GONZO_LLVM_MCA", raising=False)
    said = run("compare", measured)
    assert "llvm-mca is not installed" in said.err
    assert "llvm-mca" not in said.out
    assert "'x' to be an llvm-mca" in one_line(run("compare", measured, "--mca", "x", code=2).err)
    said = run("compare", measured, "--osaca", code=2).err
    assert "osaca is not installed" in said.splitlines()[-1]


@pytest.fixture
def measuring(monkeypatch):
    """Measure as a table of known cycles does, so that the command is what is tested."""
    calls = []

    def stand_in(blocks, *, passes, workers, journal, progress):
        calls.append((len(blocks), passes, workers, journal))
        journal.write_text("kept")
        progress(1, 2)
        return [
            measurement.Measurement(
                block.hex,
                float(len(block)) if len(block) < 9 else float("nan"),
                "ok" if len(block) < 9 else "fault",
                *(0.01, 1, False, 0.75, passes, passes, "mine"),
            )
            for block in blocks
        ]

    monkeypatch.setattr(measurement, "measure", stand_in)
    return calls


def test_measure_writes_what_it_was_given_and_what_it_found(run, tmp_path, measuring):
    codes = ["90", "4801d8", "90", "06", "90" * 9]
    table = write(tmp_path / "blocks.csv", {"hex": codes, "application": list("abcde")})
    out = tmp_path / "new" / "measured.csv"
    said = run("measure", table, "--out", out, "--passes", 7, "--workers", 2)
    rows = read(out)
    assert [row["hex"] for row in rows] == codes
    assert [row["application"] for row in rows] == list("abcde")
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "invalid", "fault"]
    assert [row["cycles"] for row in rows] == ["1.0", "1.0", "1.0", "nan", "nan"]
    assert {row["passes"] for row in rows} == {"7", "0"}
    assert measuring == [(3, 7, 2, tmp_path / "new" / "measured.csv.journal")]
    assert not measuring[0][3].exists()
    assert "ok" in said.out
    assert "5 blocks in" in said.out


def test_measure_without_a_table_takes_the_blocks_of_the_package(run, tmp_path, measuring):
    from gonzo.ithemal.samples import sample_blocks

    out = tmp_path / "measured.csv"
    run("measure", "--limit", 20, "--out", out)
    expected = sample_blocks(20)
    assert [row["hex"] for row in read(out)] == [sample.block.hex for sample in expected]
    assert [row["application"] for row in read(out)] == [one.application for one in expected]
    assert measuring[0][0] == 20


def test_measure_of_nothing_measurable(run, tmp_path, measuring):
    table = write(tmp_path / "blocks.csv", {"hex": ["90" * 9]})
    run("measure", table, "--out", tmp_path / "out.csv", code=1)
    table = write(tmp_path / "blocks.csv", {"hex": ["06"]})
    said = one_line(run("measure", table, "--out", tmp_path / "out.csv", code=2).err)
    assert "expected blocks in the column hex" in said
    table = write(tmp_path / "blocks.csv", {"code": ["90"]})
    said = one_line(run("measure", table, "--out", tmp_path / "out.csv", code=2).err)
    assert "expected a column 'hex'" in said
    assert measuring == [(1, 5, 1, tmp_path / "out.csv.journal")]


def test_measure_where_the_machine_cannot(run, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise HarnessError("there is no C compiler")

    monkeypatch.setattr(measurement, "measure", refuse)
    table = write(tmp_path / "blocks.csv", {"hex": ["90"]})
    said = one_line(run("measure", table, "--out", tmp_path / "out.csv", code=2).err)
    assert "there is no C compiler" in said


@pytest.mark.skipif(not os.path.exists("/usr/bin/env"), reason="no program to look into")
def test_extract(run, tmp_path):
    out = tmp_path / "blocks.csv"
    said = run("extract", "/usr/bin/env", "/usr/bin/env", "--out", out, "--limit", 50)
    rows = read(out)
    assert 1 < len(rows) <= 50
    assert {row["application"] for row in rows} == {"env"}
    assert len({row["hex"] for row in rows}) == len(rows)
    assert f"{len(rows)} blocks in" in said.out


def test_train_predict_and_compare(run, tmp_path, measured):
    model = tmp_path / "model"
    arguments = ("train", measured, "--out", model, "--model", "bag", "--steps", 40)
    said = run(*arguments)
    assert "mine" in said.out
    assert "Model in" in said.out
    assert not (model / "training.pt").exists()
    assert "holds a model already" in one_line(run(*arguments, code=2).err)
    said = run("predict", "--hex", "90", "--model", model, "--machine", "mine", "--json")
    assert json.loads(said.out)[0]["cycles"] > 0
    said = run("predict", "--hex", "90", "--model", model, "--machine", "moon", code=2)
    assert "moon" in one_line(said.err)
    said = run("compare", measured, "--model", model)
    assert "ours (LinearBag)" in said.out
    assert "warning" not in said.err  # the table is of another processor, which the model knows


def test_training_goes_on_to_the_same_numbers(run, tmp_path, measured, monkeypatch):
    monkeypatch.setattr(train_command, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    arguments = ("train", measured, "--model", "bag", "--steps", 40)
    run(*arguments, "--out", tmp_path / "whole")
    resumable = train_command._Resumable.__call__

    def interrupted(self, total, /, **stateful):
        for step in resumable(self, total, **stateful):
            if step == 25:
                raise KeyboardInterrupt
            yield step

    monkeypatch.setattr(train_command._Resumable, "__call__", interrupted)
    run(*arguments, "--out", tmp_path / "parts", code=130)
    monkeypatch.setattr(train_command._Resumable, "__call__", resumable)
    said = run(*arguments, "--out", tmp_path / "parts")
    assert "goes on at step 25 of 40" in said.err
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_checkpoint_of_other_data_is_not_gone_on_from(run, tmp_path, measured, monkeypatch):
    monkeypatch.setattr(train_command, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr(train_command._Resumable, "forget", lambda _: None)
    arguments = ("train", measured, "--model", "bag", "--out", tmp_path / "model")
    run(*arguments, "--steps", 30)
    (tmp_path / "model" / "config.json").unlink()
    assert "goes on" not in run(*arguments, "--steps", 31).err


def test_machine(run, monkeypatch, quarter):
    monkeypatch.setenv("CC", "cc")
    said = run("machine").out
    for part in ("processor", "compiler", "measuring", "shipped model", "llvm-mca", "OSACA"):
        assert part in said
    assert measurement.cpu_model()[:20] in said
    assert "is for another processor: here" in said


def test_a_reader_that_stops_is_no_error(tmp_path):
    file = tmp_path / "many.txt"
    file.write_text("90\n" * 5000)
    code = """
        import sys, types, numpy
        from gonzo.ithemal import cli
        from gonzo.ithemal.commands import predict
        ones = lambda blocks, machine: numpy.ones((3, len(blocks)))
        predict.load = lambda _: types.SimpleNamespace(predict=ones)
        sys.exit(cli.run_command(["predict", sys.argv[1], "--json"]))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


def test_load_names_its_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no predictor\.json"):
        predict_command.load(tmp_path)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler is installed")
def test_an_interrupted_measurement_goes_on(tmp_path):
    try:
        counter(build())
    except HarnessError as error:
        pytest.skip(str(error))
    codes = list(made(500))
    table = write(tmp_path / "blocks.csv", {"hex": codes})
    out = tmp_path / "measured.csv"
    journal = tmp_path / "measured.csv.journal"
    code = "import sys; from gonzo.ithemal.cli import run_command as r; sys.exit(r(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "measure", str(table), "--out", str(out)]
    command += ["--passes", "3"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.stat().st_size > 1000):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Interrupted. To continue: gonzo-ithemal measure" in said
    kept = journal.read_text().splitlines()
    assert len(kept) > 10
    assert not out.exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=100)
    assert [row["hex"] for row in read(out)] == codes


@pytest.mark.parametrize("name", ["x.txt", "x.csv.xz", "."])
def test_measure_looks_at_where_to_write_before_it_measures(run, tmp_path, measuring, name):
    run("measure", "--limit", 5, "--out", tmp_path / name, code=2)
    assert measuring == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["measure", "--limit", "-3", "--out", "x.csv"], "expected --limit of at least 0, got -3"),
        (["train", "x.csv", "--out", "x", "--threads", "100000"], "expected --threads of 1 to"),
        (["train", "x.csv", "--out", "x", "--seed", "-1"], "--steps and --seed of at least 0"),
    ],
)
def test_numbers_out_of_range(run, arguments, said):
    assert said in one_line(run(*arguments, code=2).err)


def test_train_names_a_checkpoint_that_is_none(run, tmp_path, measured):
    out = tmp_path / "model"
    out.mkdir()
    (out / "training.pt").write_bytes(b"garbage")
    said = run("train", measured, "--out", out, "--steps", 2, code=2).err
    assert "training.pt is damaged, or no checkpoint of this command; delete it" in said


@pytest.mark.usefixtures("quarter")
@pytest.mark.parametrize("text", ["48 01 d8\n", r"\x48\x01\xd8", "0x4801d8\n"])
def test_predict_reads_digits_however_they_are_written(run, monkeypatch, text):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    assert json.loads(run("predict", "-", "--json").out)[0]["hex"] == "4801d8"


@pytest.mark.usefixtures("quarter")
def test_predict_names_what_is_empty_or_no_text(run, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"\n")))
    assert "expected blocks in standard input; it is empty" in run("predict", "-", code=2).err
    file = tmp_path / "odd.s"
    file.write_bytes(b"\xd0\xff\xfe")
    assert f"expected {file} to be" in run("predict", "--asm", file, code=2).err


def test_predict_warns_of_blocks_longer_than_those_it_learnt(run, monkeypatch):
    quarter = Quarter()
    quarter.card = {"instructions_of_99_percent": 3}
    monkeypatch.setattr(predict_command, "load", lambda _: quarter)
    said = run("predict", "--hex", "90" * 3, "90" * 4).err
    assert said.count("\n") == 1
    assert "4 instructions, and 99 % of the blocks that the model learnt have at most 3" in said
