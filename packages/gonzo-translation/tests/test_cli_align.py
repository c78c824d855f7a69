import json
import re
import signal

import pytest
import torch

pytest.importorskip("tyro")
pytest.importorskip("gonzo.lab")
pytest.importorskip("matplotlib")

from gonzo.translation import Alignment, Embeddings, aligning
from gonzo.translation.commands import align as align_command
from gonzo.translation.embeddings import write_embeddings
from gonzo.translation.self_learner import SelfLearner
from gonzo.translation.stability import SeedReport, StabilityReport

N, D, ALIKE = 300, 20, 30


def one_line(text):
    assert text.count("\n") == 1, text
    assert text.startswith("gonzo-translation: ")
    return text


def cells(said):
    return [re.split(r"  +", line.strip()) for line in said.out.splitlines()]


def test_self_learning_finds_the_rotation(run, languages, files, tmp_path):
    out = tmp_path / "out"
    said = run("align", *files, "--out", out, "--eval-lexicon", languages / "gold.tsv")
    assert [row[:2] for row in cells(said)[1:3]] == [
        ["nearest neighbour", "100.0%"],
        ["CSLS", "100.0%"],
    ]
    assert "gold.tsv: 300 of 301 pairs lie in both vocabularies" in said.out
    assert f"Alignment in {out}/alignment, report in {out}/report.html" in said.out
    assert "en.vec: 300 words, 20 numbers each" in said.err
    result = json.loads((out / "result.json").read_text())
    assert result["found"]
    assert result["criterion"] == pytest.approx(1, abs=1e-4)
    assert {path.name for path in (out / "figures").iterdir()} == {"clouds.svg", "hubness.svg"}
    page = (out / "report.html").read_text()
    assert page.count("data:image/svg+xml") == 2
    assert "objective by step" in page
    assert "src=" not in page.replace('src="data:', "")
    assert (out / "metrics" / "self-learning.jsonl").stat().st_size > 0
    again = run("align", *files, "--out", out, "--eval-lexicon", languages / "gold.tsv")
    assert again.out == said.out
    assert "is finished; --fresh starts over" in again.err
    other = run("align", *files, "--out", out, "--eval-lexicon", languages / "turned.tsv").err
    assert f"gonzo-translation evaluate {out} --lexicon {languages / 'turned.tsv'}" in other


def test_interrupted_and_continued_to_the_same_numbers(run, files, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    arguments = ("align", *files, "--vocabulary", 200)
    run(*arguments, "--out", whole)
    step = SelfLearner.step

    def interrupting(learner):
        if len(learner.objective) == 5:
            signal.raise_signal(signal.SIGINT)
        return step(learner)

    with monkeypatch.context() as patched:
        patched.setattr(SelfLearner, "step", interrupting)
        said = run(*arguments, "--out", cut, "--fresh", code=130).err
    assert "Stopped after step 6 of 500 of 'self-learning'. To continue: gonzo-translation" in said
    assert "--fresh" not in said.splitlines()[-1]
    unfinished = one_line(run("dictionary", cut, code=2).err)
    assert "is not finished (self-learning, step 6 of 500)" in unfinished
    assert "self-learning: 6/500 | continues" in run(*arguments, "--out", cut).err
    one, other = (Alignment.from_pretrained(out / "alignment") for out in (whole, cut))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_a_fresh_start_that_is_cut_leaves_no_old_alignment(run, files, tmp_path, monkeypatch):
    out = tmp_path / "out"
    arguments = ("align", *files, "--method", "identical", "--out", out)
    run(*arguments)
    run("dictionary", out, "--words", 1)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(aligning, "refine", interrupt)
    run(*arguments, "--fresh", code=130)
    assert "is not finished" in one_line(run("dictionary", out, code=2).err)


def test_another_run_in_the_same_folder(run, languages, files, aligned):
    said = one_line(run("align", *files, "--method", "identical", "--out", aligned, code=2).err)
    assert "holds another run" in said
    assert "method is 'supervised' there and 'identical' here" in said
    assert said.endswith("Start over with --fresh, or choose another directory with --out.\n")
    said = run(
        "align",
        "--src",
        languages / "fr.vec",
        "--tgt",
        languages / "en.vec",
        "--out",
        aligned,
        "--method",
        "supervised",
        "--lexicon",
        languages / "learn.tsv",
        code=2,
    ).err
    assert "source.file is 'en.vec' there and 'fr.vec' here" in one_line(said)


@pytest.mark.parametrize("method", ["identical", "supervised", "semi-supervised", "rcsls"])
def test_the_other_methods(run, languages, files, tmp_path, method):
    known = () if method == "identical" else ("--lexicon", languages / "learn.tsv")
    out = tmp_path / "out"
    said = run(
        "align",
        *files,
        "--method",
        method,
        *known,
        "--out",
        out,
        "--eval-lexicon",
        languages / "turned.tsv",
    )
    assert cells(said)[2][:2] == ["CSLS", "100.0%"]
    assert "taken the other way round" in said.err
    assert Alignment.from_pretrained(out / "alignment").method == method


def game(files, out, *more):
    small = ("--epochs", 1, "--epoch-steps", 3, "--hidden", 4, "--refine-steps", 1)
    return "align", *files, "--method", "adversarial", "--out", out, "--seeds", 0, 1, *small, *more


def test_no_seed_found_a_mapping(run, files, tmp_path):
    out = tmp_path / "out"
    said = run(*game(files, out), code=1)
    assert [row[0] for row in cells(said)[1:3]] == ["0", "1"]
    assert [row[-1] for row in cells(said)[1:3]] == ["failed", "failed"]
    assert "No seed found a mapping (best criterion " in said.out
    assert "WARNING: no seed found a mapping" in said.err
    assert not (out / "alignment").exists()
    assert (out / "figures" / "stability.svg").exists()
    assert "no seed found a mapping" in (out / "report.html").read_text()
    assert run(*game(files, out), code=1).out == said.out
    assert "holds no mapping, because no seed found one" in run("dictionary", out, code=2).err


def test_one_seed_failed(run, files, tmp_path, monkeypatch):
    real = aligning.restart

    def half(*arguments, **options):
        report = real(*arguments, **options)
        first, second = report.seeds
        best, worst = sorted((first, second), key=lambda one: -one.criterion)
        found = best._replace(failed=False)
        assert isinstance(found, SeedReport)
        return StabilityReport(
            tuple(sorted((found, worst), key=lambda one: one.seed)), report.random
        )

    monkeypatch.setattr(aligning, "restart", half)
    out = tmp_path / "out"
    said = run(*game(files, out, "--preset", "muse"))
    assert sorted(row[-1] for row in cells(said)[1:3]) == ["failed", "kept"]
    assert "1 of 2 seeds found a mapping; kept seed" in said.out
    assert "WARNING: these seeds failed" in said.err
    assert (out / "alignment" / "model.safetensors").exists()


def test_settings_reach_the_methods(files, tmp_path):
    options = align_command.Options(
        src=files[1], tgt=files[3], out=tmp_path, preset="muse", epochs=2, refine_steps=3
    )
    game_rules = align_command.game_rules(options)
    assert (game_rules.epochs, game_rules.smoothing, game_rules.hidden) == (2, 0.1, 2048)
    rules = align_command.refinement_rules(options)
    assert (rules.steps, rules.direction) == (3, "source-to-target")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--method", "supervised"), "--method supervised needs known translations: --lexicon"),
        (("--lexicon", "x"), "--method self-learning learns from no lexicon"),
        (("--epochs", 3), "--epochs is of --method adversarial; self-learning does not use it"),
        (("--method", "identical", "--vocabulary", 5), "--vocabulary is of --method self-learning"),
        (("--vocabulary", 0), "expected --vocabulary of at least 1, got 0"),
        (("--seeds", 1, 1), "expected --seeds of at least 0 that differ"),
        (("--max-words", -1), "expected --max-words and --threads of at least 0"),
        (("--eval-lexicon", "no.txt"), "no.txt: No such file or directory"),
        (("--normalize", "unit", "centre"), "'centre'"),
    ],
)
def test_what_align_refuses_before_it_reads(run, files, tmp_path, more, message):
    said = one_line(run("align", *files, "--out", tmp_path / "out", *more, code=2).err)
    assert message in said
    assert not (tmp_path / "out").exists()


def test_vectors_that_do_not_fit(run, languages, tmp_path):
    en, narrow = languages / "en.vec", languages / "narrow.vec"
    out = tmp_path / "out"
    said = run("align", "--src", en, "--tgt", narrow, "--out", out, code=2).err
    assert "expected vectors of one dimension, got 20 (source) and 19 (target)" in said
    corrected = ("--src", en, "--tgt", languages / "fr.vec", "--method", "identical")
    run("align", *corrected, "--out", out, "--threads", 1)
    said = run("align", "--src", en, "--tgt", en, "--out", tmp_path / "b", code=2).err
    assert "--src and --tgt are the same vectors" in one_line(said)
    said = run("align", "--src", en, "--tgt", tmp_path / "no.vec", "--out", out, code=2).err
    assert "no.vec: No such file or directory" in one_line(said)


def test_no_word_in_common(run, tmp_path):
    for name in ("a", "b"):
        vectors = torch.randn(30, 4, generator=torch.Generator().manual_seed(ord(name)))
        words = tuple(f"{name}{i}" for i in range(30))
        write_embeddings(Embeddings(words, vectors), tmp_path / f"{name}.npz")
    files = ("--src", tmp_path / "a.npz", "--tgt", tmp_path / "b.npz")
    said = run("align", *files, "--out", tmp_path / "out", "--method", "identical", code=2).err
    assert "share no word" in said or "no word is spelt alike" in said
    (tmp_path / "l.tsv").write_text("chat\tcat\n")
    for option in (("--method", "supervised", "--lexicon"), ("--eval-lexicon",)):
        said = run(
            "align", *files, "--out", tmp_path / "c", *option, tmp_path / "l.tsv", "--fresh", code=2
        ).err
        assert "no pair lies in both vocabularies, either way round" in said
