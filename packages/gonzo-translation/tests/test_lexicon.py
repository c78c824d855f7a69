"""Pairs of words, and what becomes of each when they are looked up."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.translation.embeddings import Embeddings
from gonzo.translation.lexicon import Lexicon, identical_words, read_lexicon, write_lexicon


def embed(*words):
    return Embeddings(words, torch.zeros(len(words), 2))


def test_every_pair_is_found_or_counted():
    lexicon = Lexicon(
        (("chat", "cat"), ("chien", "dog"), ("chien", "hound"), ("x", "cat"), ("y", "z"))
    )
    rows = lexicon.rows(embed("chien", "chat"), embed("the", "cat", "dog"))
    assert rows.pairs.dtype == torch.int64
    assert rows.pairs.tolist() == [[1, 1], [0, 2]]
    assert rows[1:] == (2, 1, 1, 1, ("hound", "x", "y"))
    assert str(rows) == (
        "2 of 5 pairs lie in both vocabularies; unknown: the source word in 1, the target word in "
        "1, both in 1, such as 'hound', 'x', 'y'"
    )
    found = lexicon.rows(["chat"], ["cat"])
    assert found.pairs.tolist() == [[0, 0]]


def test_no_overlap_gives_an_empty_table_with_its_shape():
    rows = Lexicon((("a", "b"),)).rows(embed("c"), embed("d"))
    assert rows.pairs.shape == (0, 2)
    assert rows.missing_both == 1
    assert str(Lexicon(()).rows(["a"], ["b"])) == "0 of 0 pairs lie in both vocabularies"


WORDS = st.sampled_from("abcdefgh")


@settings(deadline=None)
@given(
    st.lists(st.tuples(WORDS, WORDS), max_size=20),
    st.lists(WORDS, unique=True, min_size=1),
    st.lists(WORDS, unique=True, min_size=1),
)
def test_the_counts_add_up_and_the_rows_are_the_words(pairs, source, target):
    lexicon = Lexicon.of(pairs)
    rows = lexicon.rows(source, target)
    assert rows.found + rows.missing_source + rows.missing_target + rows.missing_both == len(
        lexicon
    )
    assert len(rows.pairs) == rows.found
    known = [(s, t) for s, t in lexicon.pairs if s in source and t in target]
    assert [(source[i], target[j]) for i, j in rows.pairs.tolist()] == known
    assert rows.missing_source == sum(s not in source and t in target for s, t in lexicon.pairs)
    assert rows.missing_target == sum(s in source and t not in target for s, t in lexicon.pairs)
    swapped = lexicon.swapped().rows(target, source)
    assert swapped.pairs.flip(1).tolist() == rows.pairs.tolist()


def test_translations_keep_the_order_of_the_pairs():
    lexicon = Lexicon((("b", "x"), ("a", "y"), ("b", "w")))
    assert dict(lexicon.translations) == {"b": ("x", "w"), "a": ("y",)}
    assert list(lexicon.translations) == ["b", "a"]
    assert str(lexicon) == "3 pairs of 2 source words"
    assert lexicon == Lexicon.of([("b", "x"), ("b", "x"), ("a", "y"), ("b", "w"), ("a", "y")])


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((("a", "b"), ("a", "b")), r"the pair \('a', 'b'\) occurs twice; Lexicon.of"),
        ((("a", ""),), r"expected pairs .* got \('a', ''\) as pair 0"),
        ((("a", "b"), ("a", "b", "c")), "as pair 1"),
        ((("a", 1),), r"got \('a', 1\)"),
    ],
)
def test_pairs_that_are_refused(pairs, message):
    with pytest.raises(ValueError, match=message):
        Lexicon(pairs)


def test_a_string_is_no_vocabulary():
    with pytest.raises(TypeError, match=r"target vocabulary .* got the string 'abc'"):
        Lexicon((("a", "b"),)).rows(["a"], "abc")


def test_identical_words_in_the_order_of_the_source():
    source, target = (
        embed("de", "Paris", "2018", "a", "co-op"),
        embed("co-op", "a", "2018", "Paris"),
    )
    assert identical_words(source, target).pairs == tuple(
        (w, w) for w in ("Paris", "2018", "a", "co-op")
    )
    assert identical_words(source, target, letters_only=True).pairs == (
        ("Paris", "Paris"),
        ("a", "a"),
    )
    assert [p[0] for p in identical_words(source, target, min_length=5).pairs] == ["Paris", "co-op"]


def test_no_identical_words_is_an_error():
    with pytest.raises(ValueError, match="share no word of at least 1 characters; lower-case both"):
        identical_words(embed("a"), embed("b"))
    with pytest.raises(ValueError, match="at least 2 characters of letters alone"):
        identical_words(embed("a", "22"), embed("a", "22"), min_length=2, letters_only=True)


def test_what_is_written_reads_back(tmp_path):
    lexicon = Lexicon((("l'été", "summer"), ("b", "x"), ("b", "w")))
    write_lexicon(lexicon, tmp_path / "x.tsv")
    assert (tmp_path / "x.tsv").read_bytes() == "l'été\tsummer\nb\tx\nb\tw\n".encode()
    assert read_lexicon(tmp_path / "x.tsv") == lexicon
    with pytest.raises(ValueError, match="holds a tab or a line end"):
        write_lexicon(Lexicon((("a\tb", "c"),)), tmp_path / "x.tsv")
    assert read_lexicon(tmp_path / "x.tsv") == lexicon
