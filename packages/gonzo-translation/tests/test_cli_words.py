import re

import pytest
import torch

pytest.importorskip("tyro")
pytest.importorskip("gonzo.lab")
pytest.importorskip("matplotlib")

from gonzo.translation import Alignment, read_embeddings
from gonzo.translation.retrieval import retrieve

N, D, ALIKE = 300, 20, 30


def one_line(text):
    assert text.count("\n") == 1, text
    assert text.startswith("gonzo-translation: ")
    return text


def cells(said):
    return [re.split(r"  +", line.strip()) for line in said.out.splitlines()]


def test_a_file_that_is_cut_off(run, languages, tmp_path):
    cut = tmp_path / "cut.vec"
    content = (languages / "en.vec").read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    assert (
        "or keep what is there with --partial"
        in run("convert", cut, tmp_path / "x.npz", code=2).err
    )
    said = run("convert", cut, tmp_path / "x.npz", "--partial").err
    assert "the file ends before the 300 it promises" in said
    assert 100 < len(read_embeddings(tmp_path / "x.npz")) < 200


def test_what_would_not_fit_into_memory(run, tmp_path):
    (tmp_path / "huge.vec").write_text("9000000 900\nword 1\n")
    said = run("convert", tmp_path / "huge.vec", tmp_path / "x.npz", code=2).err
    assert "keep fewer with --max-words, or allow more from Python" in one_line(said)


def test_dictionary(run, aligned, tmp_path):
    lines = run("dictionary", aligned, "--words", 40, "--top", 2).out.splitlines()
    assert len(lines) == 80
    assert [line.split("\t")[:2] for line in lines[0:80:2]] == [
        [f"{i}", f"{i}"] if i < ALIKE else [f"en{i}", f"fr{i}"] for i in range(40)
    ]
    file = tmp_path / "new" / "d.tsv"
    said = run("dictionary", aligned, "--words", 0, "--top", 1, "--mutual", "--out", file)
    assert not said.out
    assert f"300 translations of 300 words in {file}" in said.err
    assert len(file.read_text().splitlines()) == N


def test_dictionary_conditions(run, aligned, languages):
    source, target = (read_embeddings(languages / name) for name in ("en.vec", "fr.vec"))
    alignment = Alignment.from_pretrained(aligned / "alignment")
    x, y = alignment.map_source(source.vectors), alignment.map_target(target.vectors)
    there = retrieve(x, y, 3)
    margin = there.scores[:, 0] - there.scores[:, 1]
    limit = float(margin.median())
    said = run("dictionary", aligned, "--words", 0, "--top", 1, "--min-margin", limit).out
    kept = {line.split("\t")[0] for line in said.splitlines()}
    assert kept == {source.words[i] for i in range(N) if margin[i] >= limit}
    back = retrieve(y, x, 1).indices[:, 0]
    said = run("dictionary", aligned, "--words", 0, "--top", 3, "--mutual").out
    found = [tuple(line.split("\t")[:2]) for line in said.splitlines()]
    assert found == [
        (source.words[i], target.words[j])
        for i in range(N)
        for j in there.indices[i].tolist()
        if back[j] == i
    ]
    said = run("dictionary", aligned, "--min-margin", 9, code=1)
    assert not said.out
    assert "0 translations of 0 words" in said.err


def test_translate_word(run, aligned):
    said = run("translate-word", aligned, "en50", "7", "en50", "--top", 2)
    rows = cells(said)
    assert rows[0] == ["word", "translation", "CSLS", "frequency rank"]
    assert rows[1][:2] == ["en50", "fr50"]
    assert rows[1][3] == "51"
    assert rows[3][:2] == ["7", "7"]
    assert len(rows) == 5
    for method in ("nn", "isf"):
        rows = cells(run("translate-word", aligned, "fr60", "--reverse", "--method", method))
        assert rows[1][:2] == ["fr60", "en60"]
    assert rows[0][2] == "inverted softmax"


def test_an_unknown_word_does_not_stop_the_others(run, aligned):
    said = run("translate-word", aligned, "EN55", "en56", code=2)
    assert cells(said)[1][:2] == ["en56", "fr56"]
    assert said.err == (
        "gonzo-translation: 'EN55' is not among the 300 words; did you mean 'en55'?\n"
    )
    assert "EN55" in run("translate-word", aligned, "EN55", code=2).err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dictionary", "--top", 0), "expected --top of at least 1"),
        (("dictionary", "--words", -1), "--words of at least 0"),
        (("dictionary", "--min-margin", -1), "expected --min-margin of at least 0"),
        (("translate-word", "a", "--top", 0), "expected --top of at least 1, got 0"),
        (("translate-word",), "expected words to translate"),
        (("evaluate",), "expected something to judge by"),
        (("evaluate", "--similarity", "x", "--by-frequency"), "are about a dictionary"),
        (("evaluate", "--lexicon", "no.tsv"), "no.tsv: No such file"),
        (("evaluate", "--lexicon", "x", "--queries", 0), "expected --queries of at least 1"),
        (("hubness", "--k", 0), "expected --k of at least 1"),
        (("hubness", "--picture", "x.doc"), "expected a picture .svg, .png or .pdf"),
        (("export",), "expected where to write"),
        (("export", "--out-src", "x.pt"), "expected a name that ends in .vec"),
        (("export", "--out-src", "x.npz", "--digits", 3), "for text alone, got 3 for 'x.npz'"),
        (("dictionary", "--max-words", -3), "expected --max-words of at least 0"),
    ],
)
def test_what_the_others_refuse(run, aligned, arguments, message):
    name, *more = arguments
    assert message in one_line(run(name, aligned, *more, code=2).err)


def test_folders_that_are_no_alignment(run, tmp_path, languages):
    assert "there is no folder" in one_line(run("dictionary", tmp_path / "no", code=2).err)
    assert "is no alignment: expected a folder" in one_line(
        run("dictionary", languages, code=2).err
    )


def test_a_damaged_alignment(run, files, tmp_path):
    out = tmp_path / "out"
    run("align", *files, "--method", "identical", "--out", out)
    weights = out / "alignment" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    assert "is damaged" in one_line(run("dictionary", out, code=2).err)


def test_where_the_vectors_are(run, languages, tmp_path):
    en, fr = tmp_path / "en.vec", tmp_path / "fr.vec"
    en.write_bytes((languages / "en.vec").read_bytes())
    fr.write_bytes((languages / "fr.vec").read_bytes())
    out = tmp_path / "out"
    run(
        "align", "--src", en, "--tgt", fr, "--out", out, "--method", "identical", "--max-words", 200
    )
    ask = ("translate-word", out, "en50", "--top", 1)
    assert run(*ask).err == ""
    assert "'en250' is not among the 200 words" in run("translate-word", out, "en250", code=2).err
    swapped = run(*ask, "--src", fr, "--tgt", en, code=2).err
    assert "are the vectors of the other language" in one_line(swapped)
    narrow = run(*ask, "--src", languages / "narrow.vec", code=2).err
    assert "maps source vectors of 20 numbers, and --src has 19" in narrow
    run("convert", en, tmp_path / "en.npz")
    said = run(*ask, "--src", tmp_path / "en.npz", "--max-words", 0)
    assert "en.npz is another file than en.vec" in said.err
    assert "300 words, 20 numbers each" in said.err
    assert cells(said)[1][:2] == ["en50", "fr50"]
    with fr.open("a") as file:
        file.write("\n")
    assert f"warning: {fr} has changed since" in run(*ask).err
    fr.unlink()
    said = one_line(run(*ask, code=2).err)
    assert "which is gone; name the target vectors with --tgt" in said


def test_an_alignment_saved_from_python(run, languages, tmp_path):
    Alignment.of(torch.eye(D)).save_pretrained(tmp_path / "identity")
    said = one_line(run("dictionary", tmp_path / "identity", code=2).err)
    assert "does not say which vectors it was made with" in said
    same = ("--src", languages / "en.vec", "--tgt", languages / "en.vec")
    out = run("dictionary", tmp_path / "identity", *same, "--words", 1, "--top", 1).out
    assert out.split("\t")[:2] == ["0", "0"]


def test_hubness(run, aligned, tmp_path):
    picture = tmp_path / "h.svg"
    rows = cells(run("hubness", aligned, "--k", 5, "--picture", picture))
    assert [row[0] for row in rows[1:]] == ["nearest neighbour", "CSLS"]
    assert float(rows[1][2]) > float(rows[2][2])
    assert picture.stat().st_size > 1000


def test_export_is_the_whole_file_in_the_shared_space(run, languages, tmp_path):
    out = tmp_path / "out"
    files = ("--src", languages / "en.vec", "--tgt", languages / "fr.vec", "--threads", 1)
    run("align", *files, "--method", "identical", "--max-words", 200, "--out", out)
    a, b = tmp_path / "a.vec", tmp_path / "b.safetensors"
    assert "300 words in" in run("export", out, "--out-src", a, "--digits", 5).err
    run("export", out, "--out-tgt", b)
    alignment = Alignment.from_pretrained(out / "alignment")
    source, target = read_embeddings(languages / "en.vec"), read_embeddings(languages / "fr.vec")
    torch.testing.assert_close(
        read_embeddings(a).vectors, alignment.map_source(source.vectors), atol=6e-6, rtol=0
    )
    assert torch.equal(read_embeddings(b).vectors, alignment.map_target(target.vectors))
    assert len(a.read_text().splitlines()[1].split()[1].partition(".")[2]) == 5


def test_what_is_read_is_not_written_over(run, languages, tmp_path):
    en, fr, text = tmp_path / "en.vec", tmp_path / "fr.vec", tmp_path / "text.txt"
    link, out = tmp_path / "link.vec", tmp_path / "out"
    for file in (en, fr):
        file.write_bytes((languages / file.name).read_bytes())
    link.symlink_to(en)
    text.write_text("The cat sat on the mat.\n" * 30)
    before = {path: path.read_bytes() for path in (en, fr, text)}
    run("align", "--src", en, "--tgt", fr, "--method", "identical", "--out", out, "--threads", 1)
    for arguments in (
        ("convert", en, link, "--max-words", 3),
        ("train", "--text", text, "--out", text),
        ("dictionary", out, "--out", fr),
        ("export", out, "--out-src", fr),
        ("export", out, "--out-src", tmp_path / "x.vec", "--out-tgt", link),
    ):
        said = one_line(run(*arguments, code=2).err)
        assert "is read here, and would be lost: write to another file" in said
    both = ("--out-src", tmp_path / "x.vec", "--out-tgt", tmp_path / "x.vec")
    assert "expected two files" in one_line(run("export", out, *both, code=2).err)
    assert {path: path.read_bytes() for path in before} == before
    assert not (tmp_path / "x.vec").exists()


def test_convert(run, languages, tmp_path):
    out = tmp_path / "en.npz"
    said = run("convert", languages / "en.vec", out, "--max-words", 10).err
    assert "the first 10 of 300 words, 20 numbers each" in said
    assert read_embeddings(out).words == tuple(f"{i}" for i in range(10))
    assert "'en.doc'" in one_line(run("convert", out, tmp_path / "en.doc", code=2).err)


def test_train(run, tmp_path):
    pytest.importorskip("gensim")
    text = tmp_path / "text.txt"
    text.write_text("The cat sat on the mat.\nThe dog sat too.\n" * 30)
    out = tmp_path / "en.vec"
    small = ("--dim", 8, "--epochs", 2, "--buckets", 100)
    said = run("train", "--text", text, "--out", out, *small)
    assert f"in {out}, the most frequent: the, sat, cat" in said.err
    assert read_embeddings(out).vectors.shape == (7, 8)
    run("train", "--text", text, "--out", out, *small, "--keep-case", "--subwords", 0, 0)
    assert "The" in read_embeddings(out).words
    said = run("train", "--text", text, "--out", out, "--min-count", 999, code=2).err
    assert "Give more text or a smaller min_count" in said
    assert "no.txt: No such file" in run("train", "--text", "no.txt", "--out", out, code=2).err
