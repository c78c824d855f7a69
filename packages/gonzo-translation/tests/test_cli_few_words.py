import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tyro")
pytest.importorskip("gonzo.lab")

from gonzo.core.ops.csls_topk import csls_topk
from gonzo.translation.commands import few_words


def agree(x, y, rows, k, neighbours=10):
    scores, indices = few_words.csls_of_few(x, y, rows, k, neighbours=neighbours)
    wanted = csls_topk(x, y, k, neighbours=neighbours, rows=torch.tensor(rows), backend="reference")
    torch.testing.assert_close(scores, wanted.scores, atol=1e-12, rtol=0)
    assert torch.equal(indices, wanted.indices)


@settings(deadline=None)
@given(
    n=st.integers(1, 40),
    m=st.integers(1, 40),
    part=st.integers(1, 10),
    neighbours=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_equals_csls_with_all_words(n, m, part, neighbours, seed):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(size, 4, generator=generator, dtype=torch.float64) for size in (n, m))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(few_words, "_PART", part)
        patched.setattr(few_words, "_CHUNK", 3)
        for k in {1, min(5, m), m}:
            agree(x, y, [0, n - 1], k, neighbours)


def test_looks_at_a_small_part_of_a_clustered_vocabulary(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(60, 30, generator=generator, dtype=torch.float64)
    x = centres.repeat(50, 1) + torch.randn(3000, 30, generator=generator, dtype=torch.float64) / 2
    y = x + torch.randn(3000, 30, generator=generator, dtype=torch.float64) / 4
    monkeypatch.setattr(few_words, "_CHUNK", 16)
    compared = []
    real = torch.Tensor.isnan
    monkeypatch.setattr(torch.Tensor, "isnan", lambda one: compared.append(len(one)) or real(one))
    agree(x, y, [7], 5)
    assert sum(compared) < 600


def test_a_word_without_a_vector():
    x = torch.eye(4, dtype=torch.float64)
    x[0] = 0
    scores, indices = few_words.csls_of_few(x, torch.eye(4, dtype=torch.float64), [0, 2], 1)
    assert indices[1, 0] == 2
    assert scores.isfinite().all()
