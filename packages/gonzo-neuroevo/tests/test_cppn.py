"""CPPNs whose values are known in closed form."""

import math

import pytest
import torch

from gonzo.neuroevo.cppn import CPPN, connection_inputs, point_inputs
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.phenotypes import networks
from gonzo.neuroevo.population import Population


def rings() -> Genome:
    """Outputs sin(3 r) and x/2 + y/4 + 0.1."""
    return Genome(
        4,
        2,
        (NodeGene(0, activation="sin"), NodeGene(1, activation="identity")),
        (
            ConnectionGene(-3, 0, 3.0),
            ConnectionGene(-1, 1, 0.5),
            ConnectionGene(-2, 1, 0.25),
            ConnectionGene(-4, 1, 0.1),
        ),
    )


def test_pattern():
    points = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, -0.25]], dtype=torch.float64)
    population = Population.from_genomes([rings()], dtype=torch.float64)
    values = CPPN.of(population).pattern(points)
    for (x, y), (ring, slope) in zip(points.tolist(), values[0].tolist(), strict=True):
        assert ring == pytest.approx(math.sin(3 * math.sqrt(2) * math.hypot(x, y)), abs=1e-12)
        assert slope == pytest.approx(x / 2 + y / 4 + 0.1, abs=1e-12)


def test_connectivity_in_three_dimensions():
    """The output is x1 - 2 z2 + 3 distance + 4."""
    genes = ((-1, 1.0), (-6, -2.0), (-7, 3.0), (-8, 4.0))
    genome = Genome(
        8,
        1,
        (NodeGene(0, activation="identity"),),
        tuple(ConnectionGene(source, 0, weight) for source, weight in genes),
    )
    cppn = CPPN(networks(Population.from_genomes([genome] * 2, dtype=torch.float64)))
    source, target = (torch.rand(n, 3, dtype=torch.float64) * 2 - 1 for n in (4, 5))
    values = cppn.connectivity(source, target, distance=True)
    assert values.shape == (2, 4, 5, 1)
    distance = (source[:, None] - target).norm(dim=2)
    expected = source[:, None, 0] - 2 * target[:, 2] + 3 * distance + 4
    torch.testing.assert_close(values[1, ..., 0], expected)


def test_picture_runs_down_and_right():
    image = CPPN.of(rings()).picture(3, 4)
    assert image.shape == (1, 3, 4, 2)
    x, y = torch.tensor([-0.75, -0.25, 0.25, 0.75]), torch.tensor([-2 / 3, 0, 2 / 3])
    expected = (x / 2 + y[:, None] / 4 + 0.1 + 1) / 2
    torch.testing.assert_close(image[0, ..., 1], expected)
    assert ((image >= 0) & (image <= 1)).all()


def test_a_mirrored_picture_is_symmetric():
    cppn = CPPN.of(rings())
    image, plain = cppn.picture(6, mirror=True), cppn.picture(6)
    torch.testing.assert_close(image, image.flip(2), rtol=0, atol=0)
    torch.testing.assert_close(image[:, :, 3:], plain[:, :, 3:], rtol=0, atol=0)
    assert not torch.equal(image, plain)


def test_pixels_do_not_depend_on_each_other():
    cppn = CPPN.of(rings())
    points = torch.rand(37, 2)
    together = cppn.pattern(points)
    alone = torch.cat([cppn.pattern(point[None]) for point in points], 1)
    torch.testing.assert_close(together, alone, rtol=0, atol=0)


def test_bad_input():
    cppn = CPPN.of(rings())
    with pytest.raises(ValueError, match=r"expected networks with 5 inputs \(d \+ 2 .* d = 3\)"):
        cppn.pattern(torch.zeros(2, 3))
    with pytest.raises(
        ValueError,
        match=r"expected networks with 6 inputs \(2 d \+ 2 .* and their distance\), got 4",
    ):
        cppn.connectivity(torch.zeros(2, 2), torch.zeros(3, 2), distance=True)
    with pytest.raises(ValueError, match=r"expected points of shape \(n, d\), got \(2,\)"):
        point_inputs(torch.zeros(2))
    with pytest.raises(ValueError, match=r"points of one dimension, got the shapes \(2, 2\) and"):
        connection_inputs(torch.zeros(2, 2), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="expected at least one pixel, got 0 × 3"):
        cppn.picture(0, 3)
