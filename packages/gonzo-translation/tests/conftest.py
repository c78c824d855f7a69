import os
import tempfile
from pathlib import Path

import pytest

# Compiled kernels stay in one place between runs, and out of the source tree. It must be known
# before torch and Numba are imported.
_CACHES = Path(tempfile.gettempdir()) / f"gonzo-test-caches-{os.getuid()}"
os.environ.setdefault("NUMBA_CACHE_DIR", str(_CACHES / "numba"))
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_CACHES / "inductor"))


@pytest.fixture(autouse=True)
def _repeatable():
    """Every test starts from one seed and on one thread, which small sizes are fastest on."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def languages(tmp_path_factory):
    """Files of two languages, one a rotation of the other, with 30 words of 300 spelt alike."""
    import torch

    from gonzo.translation import Embeddings
    from gonzo.translation.embeddings import write_embeddings

    n, d, alike = 300, 20, 30
    folder = tmp_path_factory.mktemp("languages")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator)
    turn = torch.linalg.qr(torch.randn(d, d, generator=generator)).Q
    names = [f"{i}" for i in range(alike)]
    source = Embeddings((*names, *(f"en{i}" for i in range(alike, n))), x)
    target = Embeddings((*names, *(f"fr{i}" for i in range(alike, n))), x @ turn.T)
    write_embeddings(source, folder / "en.vec")
    write_embeddings(target, folder / "fr.vec")
    write_embeddings(Embeddings(source.words, x[:, : d - 1].clone()), folder / "narrow.vec")
    pairs = list(zip(source.words, target.words, strict=True))
    (folder / "learn.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs[:100]))
    # A fact in plain sight, and a pair that no vocabulary has.
    (folder / "gold.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in [*pairs, ("no", "non")]))
    (folder / "turned.tsv").write_text("".join(f"{b}\t{a}\n" for a, b in pairs))
    return folder


@pytest.fixture
def run(capsys):
    """Call the command and return what it printed, having checked its exit code."""
    from gonzo.translation import cli

    def called(*arguments, code=0):
        got = cli.run_command(list(map(str, arguments)))
        said = capsys.readouterr()
        assert got == code, said.err
        return said

    return called


@pytest.fixture
def files(languages):
    """Options that name the two vocabularies."""
    return "--src", languages / "en.vec", "--tgt", languages / "fr.vec", "--threads", 1


@pytest.fixture(scope="session")
def aligned(languages, tmp_path_factory):
    """The folder of a finished alignment."""
    from gonzo.translation import cli

    folder = tmp_path_factory.mktemp("aligned") / "out"
    options = ["--src", languages / "en.vec", "--tgt", languages / "fr.vec", "--out", folder]
    options += ["--method", "supervised", "--lexicon", languages / "learn.tsv", "--threads", "1"]
    assert cli.run_command(["align", *map(str, options)]) == 0
    return folder
