"""An alignment keeps what was fitted, on disk too, and refuses vectors of another space."""

import pytest
import torch

from gonzo.translation import Alignment, Embeddings
from gonzo.translation.normalization import fit_normalization


def made(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    x, y = draw(20, 4) + 1, draw(30, 5) - 1
    source = fit_normalization(x, ("unit", "center", "unit"))
    target = fit_normalization(y, ("center",))
    return x, y, source, target, draw(3, 4), draw(3, 5)


def test_it_normalises_and_maps_both_sides():
    x, y, source, target, a, b = made()
    alignment = Alignment.of(a, b, source=source, target=target, method="by hand")
    unit = x / x.norm(dim=1, keepdim=True)
    unit = unit - unit.mean(0)
    unit = unit / unit.norm(dim=1, keepdim=True)
    assert torch.allclose(alignment.map_source(x), unit @ a.T, atol=1e-12)
    assert torch.allclose(alignment.map_target(y), (y - y.mean(0)) @ b.T, atol=1e-12)
    # Of another word alone, with the means of the vocabulary.
    assert torch.allclose(alignment.map_source(x[:1]), (unit @ a.T)[:1], atol=1e-12)
    assert "4 and 5 -> 3, method='by hand'" in repr(alignment)


def test_without_a_target_map_the_target_stays():
    x, _, source, _, _, _ = made()
    alignment = Alignment.of(torch.eye(4, dtype=torch.float64), source=source)
    words = Embeddings([str(i) for i in range(20)], x)
    assert torch.equal(alignment.mapped_target(words).vectors, x)
    assert alignment.mapped_source(words).words == words.words


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_comes_back_from_disk_bit_by_bit(tmp_path, dtype):
    x, y, source, target, a, b = made(dtype)
    alignment = Alignment.of(a, b, source=source, target=target, method="by hand")
    alignment.save_pretrained(tmp_path / "alignment")
    again = Alignment.from_pretrained(tmp_path / "alignment")
    assert again.method == "by hand"
    assert again.source_steps == ("unit", "center", "unit")
    assert torch.equal(again.map_source(x), alignment.map_source(x))
    assert torch.equal(again.map_target(y), alignment.map_target(y))


def test_bad_input():
    x, _, source, target, a, b = made()
    alignment = Alignment.of(a, b, source=source, target=target)
    with pytest.raises(ValueError, match=r"map_source: expected vectors of shape \(words, 4\)"):
        alignment.map_source(x[:, :3])
    with pytest.raises(ValueError, match=r"into one space, got \(3, 4\) and \(2, 5\)"):
        Alignment.of(a, b[:2])
    with pytest.raises(ValueError, match="source_means of dimension 4, got"):
        Alignment.of(a, b, source=target)
