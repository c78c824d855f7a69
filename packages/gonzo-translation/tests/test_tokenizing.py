"""The tokenizer: what a word is, in several scripts, and what its options change."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gonzo.translation.tokenizing import Tokenizer


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("Hello, World!", ["hello", "world"]),
        ("L'eau d’Évian", ["l", "eau", "d", "évian"]),
        ("x² + 3½ = 4th_of m3", ["x", "th", "of", "m"]),
        ("arc-en-ciel", ["arc", "en", "ciel"]),
        ("Straße\tÜBER\nnaïve", ["straße", "über", "naïve"]),
        ("соба́ка 猫 हिन्दी", ["соба́ка", "猫", "हिन्दी"]),
        ("𐐨𐐩 𠀀b 😀", ["𐐨𐐩", "𠀀b"]),
        ("Donau\u00addampf", ["donaudampf"]),
        ("\u0301 lone mark", ["lone", "mark"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert Tokenizer()(text) == words


@pytest.mark.parametrize(
    ("apostrophes", "hyphens", "words"),
    [
        ("split", "split", ["l", "arc", "en", "ciel", "don", "t", "l", "x"]),
        ("left", "split", ["l'", "arc", "en", "ciel", "don'", "t", "l", "x"]),
        ("keep", "split", ["l'arc", "en", "ciel", "don't", "l", "x"]),
        ("split", "keep", ["l", "arc-en-ciel", "don", "t", "l", "x"]),
        ("left", "keep", ["l'", "arc-en-ciel", "don'", "t", "l", "x"]),
        ("keep", "keep", ["l'arc-en-ciel", "don't", "l", "x"]),
    ],
)
def test_apostrophes_and_hyphens(apostrophes: str, hyphens: str, words: list[str]) -> None:
    tokenizer = Tokenizer(apostrophes=apostrophes, hyphens=hyphens)  # ty: ignore[invalid-argument-type]
    assert tokenizer("'L’arc‑en‐ciel' – don't- l' x") == words


def test_case_is_kept_on_request() -> None:
    assert Tokenizer(lowercase=False)("Der Hund") == ["Der", "Hund"]


def test_one_spelling_however_accents_were_typed() -> None:
    decomposed = unicodedata.normalize("NFD", "Éléphant")
    assert len(decomposed) == 10
    assert Tokenizer()(decomposed) == Tokenizer()("éléphant") == ["éléphant"]


@given(st.text())
def test_words_are_letters_and_their_marks_in_order(text: str) -> None:
    words = Tokenizer(lowercase=False)(text)
    composed = unicodedata.normalize("NFC", text.replace("\u00ad", ""))
    letters = [char for char in composed if unicodedata.category(char)[0] == "L"]
    # ʼ is a letter to Unicode, and an apostrophe to us.
    assert [c for c in "".join(words) if unicodedata.category(c)[0] == "L"] == [
        char for char in letters if char != "ʼ"
    ]
    assert all(unicodedata.category(word[0])[0] == "L" for word in words)
    assert all(unicodedata.category(char)[0] in "LM" for word in words for char in word)


@given(st.text(), st.sampled_from(["split", "left", "keep"]), st.sampled_from(["split", "keep"]))
def test_words_tokenize_to_themselves(text: str, apostrophes: str, hyphens: str) -> None:
    tokenizer = Tokenizer(apostrophes=apostrophes, hyphens=hyphens)  # ty: ignore[invalid-argument-type]
    words = [word.rstrip("'") for word in tokenizer(text)]
    assert tokenizer(" ".join(words)) == words


def test_bad_input() -> None:
    with pytest.raises(
        ValueError, match="expected apostrophes to be 'split', 'left' or 'keep', got 'moses'"
    ):
        Tokenizer(apostrophes="moses")  # ty: ignore[invalid-argument-type]
    with pytest.raises(ValueError, match="expected hyphens to be 'split' or 'keep', got 'left'"):
        Tokenizer(hyphens="left")  # ty: ignore[invalid-argument-type]
    with pytest.raises(TypeError, match=r"expected text \(str\), got list"):
        Tokenizer()(["a"])  # ty: ignore[invalid-argument-type]
