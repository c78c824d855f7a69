"""Which format a file of embeddings has: by what its first bytes say, and by its name in doubt."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from gonzo.translation.compressed import inner_suffix, opened
from gonzo.translation.fasttext_format import FASTTEXT_MAGIC

__all__ = ["embeddings_kind"]

_HEAD = 1 << 16
_NUMERIC = b"0123456789+-.eEnaifNAIF \t\r"
_PICKLES = {".pth", ".pt", ".pkl", ".pickle", ".model", ".kv"}


def embeddings_kind(path: Path) -> str:
    """``"text"``, ``"word2vec"``, ``"fasttext"``, ``"npz"`` or ``"safetensors"``.

    Raises:
        ValueError: It is a pickle, which could run code, or a compressed fastText model.
    """
    suffix = inner_suffix(path)
    raw = _first_bytes(path)
    if suffix in _PICKLES or _is_pickle(raw):
        raise ValueError(
            f"{path}: a pickle, as torch.save and gensim's save write them, can run code when it "
            "is read, so it is refused. If you trust the file, convert it where it was made: "
            "MUSE exports text with --export txt; gensim with "
            "model.wv.save_word2vec_format(path, binary=True); a dictionary of "
            "torch.save with numpy.savez(path, words=numpy.array(words), vectors=vectors)"
        )
    if suffix == ".npz" or _is_npz(path, raw):
        return "npz"
    if suffix == ".safetensors" or _is_safetensors(raw):
        return "safetensors"
    if _is_fasttext(raw):
        return "fasttext"
    with opened(path) as reader:
        head = reader.read(_HEAD)
    if head != raw and _is_fasttext(head):
        raise ValueError(f"{path}: fastText loads a model only from a file that is not compressed")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(
            f"{path}: expected UTF-8, found a text in UTF-16; convert it with: "
            f"iconv -f utf-16 -t utf-8 {path.name}"
        )
    binary = suffix in (".bin", ".ftz") or b"\0" in head
    return "word2vec" if binary and not _is_text(head) else "text"


def _first_bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_HEAD)


def _is_pickle(raw: bytes) -> bool:
    """A pickle of protocol 2 or later, alone or in the zip that torch.save writes."""
    bare = raw[:1] == b"\x80" and raw[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    return (bare and not _is_safetensors(raw)) or b"data.pkl" in raw[:256]


def _is_safetensors(raw: bytes) -> bool:
    """The length of a JSON header in 8 bytes, whose limit is 100 MB, and the header's brace."""
    return raw[8:9] == b"{" and raw[4:8] == bytes(4)


def _is_fasttext(head: bytes) -> bool:
    return head[:4] == struct.pack("<i", FASTTEXT_MAGIC)


def _is_npz(path: Path, raw: bytes) -> bool:
    if not raw.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return "vectors.npy" in archive.namelist()
    except zipfile.BadZipFile:
        return False


def _is_text(head: bytes) -> bool:
    """Whether what follows the first word of the second line is made of numbers alone."""
    _, _, rest = head.partition(b"\n")
    row = rest.partition(b"\n")[0].partition(b" ")[2]
    return bool(row) and not row.translate(None, _NUMERIC)
