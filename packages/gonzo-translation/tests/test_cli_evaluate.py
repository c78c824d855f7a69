import re

import pytest
import torch
from torch.nn.functional import normalize

pytest.importorskip("tyro")
pytest.importorskip("gonzo.lab")
pytest.importorskip("matplotlib")

from gonzo.translation import Embeddings, read_embeddings
from gonzo.translation.embeddings import write_embeddings

N, D, ALIKE = 300, 20, 30


def one_line(text):
    assert text.count("\n") == 1, text
    assert text.startswith("gonzo-translation: ")
    return text


def cells(said):
    return [re.split(r"  +", line.strip()) for line in said.out.splitlines()]


def test_evaluate_by_a_lexicon(run, languages, aligned):
    gold = languages / "gold.tsv"
    said = run("evaluate", aligned, "--lexicon", gold, "--by-frequency")
    rows = cells(said)
    assert [row[0] for row in rows[1:4]] == ["nearest neighbour", "inverted softmax", "CSLS"]
    assert rows[1] == ["nearest neighbour", "100.0%", "98.7% to 100.0%", "100.0%", "100.0%", "300"]
    assert rows[6] == ["1–500", "100.0%", "100.0%", "100.0%", "300"]
    assert "judged 300 of 301 source words" in said.err
    assert "the source word in 0, the target word in 0, both in 1, such as 'no'" in said.err
    said = run("evaluate", aligned, "--lexicon", gold, "--method", "nn", "--without-identical")
    assert len(cells(said)) == 2
    assert cells(said)[1][-1] == f"{N - ALIKE}"
    assert "left out 30 words that are their own translation" in said.err


def test_evaluate_by_wrong_files(run, languages, aligned, tmp_path):
    said = run("evaluate", aligned, "--lexicon", languages / "en.vec", code=2).err
    assert "en.vec, line 2: expected a source word and a target word" in one_line(said)
    (tmp_path / "s.tsv").write_text("a b\tc\nno tab\n")
    said = run("evaluate", aligned, "--sentences", tmp_path / "s.tsv", code=2).err
    assert "s.tsv, line 2: expected a sentence, a tab and its translation, got 'no tab'" in said
    (tmp_path / "s.tsv").write_text("a b\tc\n")
    said = run("evaluate", aligned, "--sentences", tmp_path / "s.tsv", code=2).err
    assert "expected at least 2 lines" in said
    (tmp_path / "w.txt").write_text("a b 1\nc d 2\n")
    said = run("evaluate", aligned, "--similarity", tmp_path / "w.txt", code=2).err
    assert "expected at least 2 pairs of known words, got 0 of 2" in said


@pytest.fixture
def lettered(tmp_path, run):
    """An alignment of words of letters alone, as sentences are cut into such."""
    letters = "abcdefghijkl"
    names = [one + other for one in letters for other in letters][:100]
    x = torch.randn(100, 12, generator=torch.Generator().manual_seed(1))
    for prefix in "xy":
        words = tuple(prefix + name for name in names)
        write_embeddings(Embeddings(words, x), tmp_path / f"{prefix}.npz")
    (tmp_path / "l.tsv").write_text("".join(f"x{name}\ty{name}\n" for name in names))
    files = ("--src", tmp_path / "x.npz", "--tgt", tmp_path / "y.npz", "--threads", 1)
    known = ("--method", "supervised", "--lexicon", tmp_path / "l.tsv")
    run("align", *files, "--out", tmp_path / "out", *known)
    return names


def test_evaluate_by_sentences(run, lettered, tmp_path):
    generator = torch.Generator().manual_seed(2)
    lines = []
    for _ in range(60):
        picked = [lettered[i] for i in torch.randint(100, (8,), generator=generator)]
        lines.append(" ".join("x" + p for p in picked) + "\t" + " ".join("y" + p for p in picked))
    file, rest = tmp_path / "s.tsv", tmp_path / "rest.tsv"
    file.write_text("\n".join(["zz zz\tzz", *lines]) + "\n")
    rest.write_text("\n".join(lines) + "\n")
    said = run("evaluate", tmp_path / "out", "--sentences", file, "--idf-sentences", rest)
    assert [row[0] for row in cells(said)[1:]] == ["nearest neighbour", "inverted softmax", "CSLS"]
    assert cells(said)[1][1] == f"{60 / 61:.1%}"
    assert "61 pairs are searched; 60 others weigh the words" in said.err
    assert "2 sentences have no known word" in said.err
    said = run("evaluate", tmp_path / "out", "--sentences", file, "--queries", 10, "--method", "nn")
    assert "10 pairs are searched; 51 others weigh the words" in said.err
    assert (
        "30 pairs are searched; 31 others"
        in run("evaluate", tmp_path / "out", "--sentences", file, "--method", "nn").err
    )


def test_evaluate_by_similarity(run, lettered, tmp_path):
    vectors = read_embeddings(tmp_path / "x.npz").vectors
    unit = normalize(vectors)
    cosine = normalize(unit - unit.mean(0))  # both are in the shared space, turned alike
    judged = [f"{float(cosine[i] @ cosine[i + 1])}" for i in range(20)]
    for first, second in ("xx", "xy", "yx", "yy"):
        (tmp_path / "w.txt").write_text(
            "".join(
                f"{first}{lettered[i]} {second}{lettered[i + 1]} {score}\n"
                for i, score in enumerate(judged)
            )
            + "zz zzz 3\n"
        )
        said = run("evaluate", tmp_path / "out", "--similarity", tmp_path / "w.txt")
        sides = {"x": "source", "y": "target"}
        assert cells(said)[1][:5] == ["w.txt", sides[first], sides[second], "1.000", "20"]
        assert cells(said)[1][5] == "1, such as zz, zzz"
