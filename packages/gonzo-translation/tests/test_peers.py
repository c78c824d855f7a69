"""The benchmarks' peer computes what ours does; this needs the folder beside the tests."""

import dataclasses
from pathlib import Path

import pytest
import torch

from gonzo.core.testing import imports_from
from gonzo.translation.adversarial import AdversarialAligner, AdversarialConfig
from gonzo.translation.induction import induce_lexicon
from gonzo.translation.orthogonal import procrustes, towards_orthogonal

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.skipif(
    not BENCHMARKS.exists(), reason="the benchmarks are not beside the tests"
)


@pytest.fixture
def muse():
    with imports_from(BENCHMARKS):
        from peers import muse

        yield muse


def words(n, d, dtype=torch.float64):
    return torch.nn.functional.normalize(torch.randn(n, d, dtype=dtype))


def test_the_adversarial_game(muse):
    source, target = words(200, 12), words(150, 12)

    def draws():
        return muse.Draws((200, 150), 12, batch=8, dtype=torch.float64, seed=3)

    config = dataclasses.replace(AdversarialConfig.muse(), hidden=24, batch=8)
    ours = AdversarialAligner(source, target, config, draws=draws())
    theirs = muse.AdversarialTrainer(source, target, draws(), hidden=24)
    theirs.take_weights(ours.discriminator.state_dict())
    before = {name: value.clone() for name, value in theirs.weights().items()}
    for _ in range(20):
        ours.step()
        theirs.step()
    for name, value in theirs.weights().items():
        assert not torch.allclose(value, before[name], rtol=0, atol=1e-4), name
        torch.testing.assert_close(ours.discriminator.state_dict()[name], value, rtol=0, atol=1e-12)
    assert not torch.allclose(ours.mapping, torch.eye(12).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.mapping, theirs.mapping.weight.detach(), rtol=0, atol=1e-12)


def test_procrustes_and_orthogonalization(muse):
    source, target = words(50, 8), words(50, 8)
    expected = muse.procrustes(source, target)
    torch.testing.assert_close(procrustes(source, target), expected, rtol=0, atol=1e-12)
    weight = torch.eye(8).double() + 0.1 * words(8, 8)
    expected = weight.clone()
    muse.orthogonalize(expected, 0.01)
    assert not torch.allclose(expected, weight, rtol=0, atol=1e-4)
    torch.testing.assert_close(towards_orthogonal(weight, 0.01), expected, rtol=0, atol=1e-14)


def test_dictionaries(muse):
    source, target = words(300, 10), words(250, 10)
    length = 0.5 + torch.rand(300, 1, dtype=torch.float64)  # lengths must not matter
    settings = {"neighbours": 4}
    forward = muse.dictionary(source, target, max_rank=200, **settings)
    found = induce_lexicon(length * source, target, max_rank=(200, 201), **settings)
    assert found.equal(forward)  # in the order of margins, too
    assert (forward[:, 1] == 200).any()  # the cut that MUSE makes is inclusive on one side
    backward = muse.dictionary(
        source, target, direction="target-to-source", max_rank=200, **settings
    )
    found = induce_lexicon(
        source, target, direction="target-to-source", max_rank=(201, 200), **settings
    )
    assert found.equal(backward)
    for direction in ("intersection", "union"):
        expected = muse.dictionary(source, target, direction=direction, max_rank=0, **settings)
        found = induce_lexicon(source, target, direction=direction, max_rank=None, **settings)
        assert sorted(found.tolist()) == expected.tolist()
