"""A step of the adversarial game beside MUSE's restated, and Procrustes and orthogonalisation."""

import dataclasses
import functools

import torch
from peers import muse

from gonzo.core.bench import TimeRow, ValueRow, at_most, main, times_peer
from gonzo.translation.adversarial import AdversarialAligner, AdversarialConfig
from gonzo.translation.orthogonal import procrustes, towards_orthogonal

TESTS = ["tests/test_peers.py"]
WORDS, DIM = 20_000, 300
PEER = "MUSE's step restated with torch's autograd and SGD"


def clouds(words, dim, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.nn.functional.normalize(torch.randn(words, dim, generator=generator, dtype=dtype))
        for _ in range(2)
    ]


def players(words, dim, hidden, dtype=torch.float32):
    """Both games with the same words, weights and random draws."""
    source, target = clouds(words, dim, dtype)

    def draws():
        return muse.Draws((words, words), dim, dtype=dtype)

    config = dataclasses.replace(AdversarialConfig.muse(), hidden=hidden)
    ours = AdversarialAligner(source, target, config, seed=0, draws=draws())
    theirs = muse.AdversarialTrainer(source, target, draws(), hidden=hidden)
    theirs.take_weights(ours.discriminator.state_dict())
    return ours, theirs


def apart():
    """How far the parameters of the two are from each other after 20 steps in float64."""
    ours, theirs = players(2000, 50, 256, torch.float64)
    for _ in range(20):
        ours.step()
        theirs.step()
    mine = {**ours.discriminator.state_dict(), "mapping": ours.mapping}
    other = {**theirs.weights(), "mapping": theirs.mapping.weight.detach()}
    return max(float((mine[name] - other[name]).abs().max()) for name in mine)


def procrustes_apart():
    source, target = clouds(10_000, DIM, torch.float64)
    mine, theirs = procrustes(source, target), muse.procrustes(source, target)
    return float((mine - theirs).abs().max())


def orthogonalized_apart():
    generator = torch.Generator().manual_seed(0)
    weight = torch.eye(DIM, dtype=torch.float64)
    weight += 0.01 * torch.randn(DIM, DIM, generator=generator, dtype=torch.float64)
    theirs = weight.clone()
    muse.orthogonalize(theirs, 0.01)
    return float((towards_orthogonal(weight, 0.01) - theirs).abs().max())


ROWS = [
    TimeRow(what="adversarial step, 5 + 1, d300, 2 x 2048, batch 32",
            ours=lambda ours, _: ours.step(), peer=lambda _, theirs: theirs.step(),
            peer_name=PEER, bar=times_peer(0.95), tests=TESTS,
            setup=functools.partial(players, WORDS, DIM, 2048)),
    TimeRow(what="of it, a discriminator step",
            ours=lambda ours, _: ours.step_discriminator(),
            peer=lambda _, theirs: theirs.discriminator_step(), peer_name=PEER, tests=TESTS,
            setup=functools.partial(players, WORDS, DIM, 2048)),
    TimeRow(what="of it, a mapping step",
            ours=lambda ours, _: ours.step_mapping(),
            peer=lambda _, theirs: theirs.mapping_step(), peer_name=PEER, tests=TESTS,
            setup=functools.partial(players, WORDS, DIM, 2048)),
    ValueRow(what="parameters after 20 steps, float64, largest difference to MUSE's restated",
             ours=apart, bar=at_most(1e-10), tests=TESTS),
    TimeRow(what="Procrustes, 10,000 pairs, d300", ours=procrustes, peer=muse.procrustes,
            peer_name="MUSE's restated", tests=TESTS,
            setup=functools.partial(clouds, 10_000, DIM)),
    ValueRow(what="Procrustes, float64, largest difference to MUSE's restated",
             ours=procrustes_apart, bar=at_most(1e-8), tests=TESTS),
    ValueRow(what="orthogonalisation step, float64, largest difference to MUSE's restated",
             ours=orthogonalized_apart, bar=at_most(1e-12), tests=TESTS),
]  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-translation", script=__file__))
