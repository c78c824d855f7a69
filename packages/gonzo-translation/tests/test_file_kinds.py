"""Files are told apart by content, and pickles are refused whatever their name."""

import pickle
import struct

import pytest
import torch

from gonzo.translation.file_kinds import embeddings_kind


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("x.vec", b"1 2\na 1 2\n", "text"),
        ("x.anything", b"a 1 2\n", "text"),
        ("x.bin", b"1 2\na 1 2\n", "text"),
        ("x.vec", b"2 2\na 1 2\n\0 1 2\n", "text"),
        ("x.bin", b"1 1\na " + struct.pack("<f", 1.5), "word2vec"),
        ("x.vec", b"1 1\na " + struct.pack("<f", 1.5), "word2vec"),
        ("x.bin", struct.pack("<i", 793712314), "fasttext"),
        ("x", struct.pack("<i", 793712314), "fasttext"),
        ("x.safetensors", b"", "safetensors"),
        ("x.npz", b"", "npz"),
        ("x.vec", b"", "text"),
    ],
)
def test_the_kind(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    assert embeddings_kind(tmp_path / name) == kind


@pytest.mark.parametrize("name", ["x.pth", "x.vec", "x"])
@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_pickles_are_refused_with_the_way_to_convert_them(tmp_path, name, how):
    path = tmp_path / name
    content = {"dico": ["a"], "vectors": torch.ones(1, 2)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(ValueError, match=r"a pickle, .* refused\. .* --export txt; gensim with"):
        embeddings_kind(path)
