"""Words with their vectors: what is checked, looked up and cut."""

import pytest
import torch

from gonzo.translation.embeddings import Embeddings


@pytest.fixture
def animals():
    return Embeddings(("the", "dog", "Cat", "dogs"), torch.arange(12.0).reshape(4, 3))


def test_rows_are_positions(animals):
    assert len(animals) == 4
    assert animals.dim == 3
    assert [animals.row(word) for word in animals.words] == [0, 1, 2, 3]
    assert dict(animals.index) == {"the": 0, "dog": 1, "Cat": 2, "dogs": 3}
    with pytest.raises(TypeError):
        animals.index["the"] = 3
    assert repr(animals) == "Embeddings(4 words of dimension 3: 'the', 'dog', 'Cat'…)"


def test_words_may_come_as_any_sequence():
    assert Embeddings(["a", "b"], torch.zeros(2, 1)).words == ("a", "b")


@pytest.mark.parametrize(
    ("word", "similar"),
    [("cat", "'Cat'"), ("dogg", "'dog' or 'dogs'"), ("DOG", "'dog'"), (" the", "'the'")],
)
def test_an_unknown_word_is_answered_with_similar_ones(animals, word, similar):
    with pytest.raises(ValueError, match=f"^{word!r} is not among the 4 words; did you mean"):
        animals.row(word)
    with pytest.raises(ValueError, match=similar):
        animals.row(word)


def test_an_unknown_word_with_nothing_similar(animals):
    with pytest.raises(ValueError, match=r"^'xylophone' is not among the 4 words$"):
        animals.row("xylophone")


def test_head_is_a_view_of_the_most_frequent(animals):
    head = animals.head(2)
    assert head.words == ("the", "dog")
    assert head.vectors.data_ptr() == animals.vectors.data_ptr()
    assert animals.head(4) is animals
    assert animals.head(400) is animals
    with pytest.raises(ValueError, match="expected at least 1 word, got 0"):
        animals.head(0)


def test_to_another_precision(animals):
    wide = animals.to(torch.float64)
    assert wide.vectors.dtype == torch.float64
    assert wide.words is animals.words
    assert animals.to(torch.float32) is animals
    with pytest.raises(TypeError, match=r"float32 or float64 tensor, got torch\.float16"):
        animals.to(torch.float16)


@pytest.mark.parametrize(
    ("words", "vectors", "error", "message"),
    [
        (("a", "b"), torch.zeros(3, 2), ValueError, r"shape \(2, dimension\) .* got \(3, 2\)"),
        (("a",), torch.zeros(2), ValueError, r"got \(2,\)"),
        ((), torch.zeros(0, 2), ValueError, "at least one word"),
        (("a",), torch.zeros(1, 0), ValueError, r"got \(1, 0\)"),
        (("a", "b", "a"), torch.zeros(3, 2), ValueError, "the word 'a' occurs more than once"),
        (("a", ""), torch.zeros(2, 2), ValueError, "not empty"),
        (("a", 3), torch.zeros(2, 2), ValueError, "strings"),
        ("ab", torch.zeros(2, 2), TypeError, "expected a sequence of words, got 'ab'"),
        (("a",), torch.zeros(1, 2, dtype=torch.int64), TypeError, r"got torch\.int64"),
        (("a",), [[0.0]], TypeError, "got list"),
    ],
)
def test_what_is_refused(words, vectors, error, message):
    with pytest.raises(error, match=message):
        Embeddings(words, vectors)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_a_vector_that_is_not_finite_is_named_wherever_it_is(odd):
    vectors = torch.zeros(5000, 2)
    vectors[4500, 1] = odd
    words = tuple(f"w{i}" for i in range(5000))
    with pytest.raises(ValueError, match=r"the vector of 'w4500' \(row 4500\) is not finite"):
        Embeddings(words, vectors)
