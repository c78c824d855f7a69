"""Criteria against closed forms, finite differences and whole Hessians; models stay as they are."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gonzo.pruning.gradient_magnitude import GradientMagnitude
from gonzo.pruning.grasp import GraSP
from gonzo.pruning.magnitude import Magnitude
from gonzo.pruning.mask_guard import guard_masks
from gonzo.pruning.masks import Masks
from gonzo.pruning.movement import Movement
from gonzo.pruning.random_scores import RandomScores
from gonzo.pruning.snip import SNIP
from gonzo.pruning.synflow import SynFlow

ON_A_LOSS = [SNIP, GraSP, GradientMagnitude]


def squares(model, batch):
    x, y = batch
    return (model(x) - y).square().sum() / 2


def entropy(model, batch):
    x, y = batch
    return F.cross_entropy(model(x), y)


def batches(count=2, features=5, classes=3, size=7):
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, features, generator=generator, dtype=torch.float64),
            torch.randint(classes, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def full(model):
    return Masks.full(model, [name for name, p in model.named_parameters() if p.ndim > 1])


def random_masks(model, density=0.6):
    generator = torch.Generator().manual_seed(2)
    return Masks(
        {n: torch.rand(m.shape, generator=generator) < density for n, m in full(model).items()}
    )


@pytest.fixture
def network():
    """Small, bent and in float64, so that differences and Hessians are exact enough."""
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()


@pytest.fixture
def convolutional():
    """Has all that a measurement may disturb: statistics, dropout, mixed modes and gradients."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(4, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 16, 3),
    )
    model(torch.randn(5, 1, 8, 8)).square().sum().backward()
    model[5].eval()
    return model


@pytest.fixture
def images():
    return [(torch.randn(6, 1, 8, 8), torch.randint(3, (6,))) for _ in range(2)]


# Closed forms


def test_magnitude_is_the_absolute_value(network):
    scores = Magnitude().scores(network, full(network))
    assert list(scores) == ["0.weight", "2.weight"]
    assert torch.equal(scores["0.weight"], network[0].weight.abs())
    assert not scores["0.weight"].requires_grad
    scores["0.weight"].zero_()
    assert network[0].weight.abs().min() > 0


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        (GradientMagnitude, lambda w, x, r: torch.outer(r, x).abs()),
        (SNIP, lambda w, x, r: (w * torch.outer(r, x)).abs()),
        # The Hessian of a row of W is x xᵀ, and that times the gradient r x is r x (xᵀx).
        (GraSP, lambda w, x, r: w * torch.outer(r, x) * (x @ x)),
    ],
)
def test_a_linear_layer_and_squares(criterion, expected):
    layer = nn.Linear(4, 3, bias=False).double()
    x, y = torch.randn(1, 4).double(), torch.randn(1, 3).double()
    scores = criterion(squares, [(x, y)]).scores(layer, full(layer))["weight"]
    residual = (layer(x) - y)[0].detach()
    assert torch.allclose(scores, expected(layer.weight.detach(), x[0], residual), atol=1e-14)


def test_synflow_of_a_linear_network():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    first, second = (layer.weight.detach().double().abs() for layer in (model[0], model[2]))
    scores = SynFlow((3,)).scores(model, full(model))
    assert scores["0.weight"].dtype == torch.float64
    assert torch.allclose(scores["0.weight"], first * second.sum(0)[:, None], rtol=1e-14)
    assert torch.allclose(scores["2.weight"], second * first.sum(1), rtol=1e-14)


def test_movement_is_minus_the_sum_of_weight_times_gradient():
    layer = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, 3.0]]))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    criterion, masks = Movement(), full(layer)
    expected = torch.zeros(1, 2, dtype=torch.float64)
    with criterion.observe(layer, masks):
        for _ in range(3):
            # The first weight is driven to zero (gradient w), the second away from it (-1).
            gradient = layer.weight.detach().clone()
            gradient[0, 1] = -1
            expected -= layer.weight.detach() * gradient
            (layer.weight[0, 0] ** 2 / 2 - layer.weight[0, 1]).backward()
            optimizer.step()
            optimizer.zero_grad()
    layer.weight.grad = torch.ones(1, 2).double()
    optimizer.step()  # outside: nobody looks
    scores = criterion.scores(layer, masks)["weight"]
    assert criterion.steps == 3
    assert torch.allclose(scores, expected, atol=1e-14)
    assert scores[0, 0] < 0 < scores[0, 1]


def test_movement_counts_an_accumulated_gradient_once_and_starts_anew():
    layer = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    other = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    criterion, masks = Movement(), full(layer)
    for _ in range(2):
        with criterion.observe(layer, masks):
            layer.zero_grad()
            for _ in range(4):
                layer(torch.tensor([1.0, 2.0])).sum().backward()
            optimizer.step()
            other.step()
    expected = -4 * layer.weight.detach() * torch.tensor([[1.0, 2.0]])
    assert torch.allclose(criterion.scores(layer, masks)["weight"], expected)
    assert criterion.steps == 1


def test_random_scores_come_from_the_seed_alone(network):
    masks = full(network)
    first, again = (RandomScores(5).scores(network, masks) for _ in range(2))
    torch.randn(3)
    other = RandomScores(6).scores(network, masks)
    for name in masks:
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])
        assert first[name].unique().numel() == first[name].numel()
        assert ((first[name] >= 0) & (first[name] < 1)).all()


# Independent judges


def test_snip_is_the_derivative_by_a_gate(network):
    data, masks = batches(), random_masks(network)
    scores = SNIP(entropy, data).scores(network, masks)
    masks.apply_(network)

    def loss():
        with torch.no_grad():
            return sum(float(entropy(network, batch)) for batch in data) / len(data)

    for name, mask in masks.items():
        weight = network.get_parameter(name)
        for index in torch.cartesian_prod(*map(torch.arange, mask.shape)).tolist():
            value = float(weight.detach()[tuple(index)])
            sides = []
            for gate in (1 + 1e-6, 1 - 1e-6):
                with torch.no_grad():
                    weight[tuple(index)] = gate * value
                sides.append(loss())
            with torch.no_grad():
                weight[tuple(index)] = value
            slope = abs(sides[0] - sides[1]) / 2e-6
            assert float(scores[name][tuple(index)]) == pytest.approx(slope, abs=1e-8)


def hessian_and_gradient(network, names, data):
    """Of the mean loss in all weights of `names` together, whole."""
    start = {name: network.get_parameter(name).detach() for name in names}
    sizes = [weight.numel() for weight in start.values()]

    def loss(flat):
        pieces = zip(start, flat.split(sizes), strict=True)
        values = {name: piece.view_as(start[name]) for name, piece in pieces}
        losses = [
            F.cross_entropy(torch.func.functional_call(network, values, (x,)), y) for x, y in data
        ]
        return torch.stack(losses).mean()

    flat = torch.cat([weight.flatten() for weight in start.values()])
    functional = torch.autograd.functional
    return flat, functional.hessian(loss, flat), functional.jacobian(loss, flat)


def test_grasp_is_the_weight_times_the_hessian_times_the_gradient(network):
    data = batches(3)
    scores = GraSP(entropy, data).scores(network, full(network))
    flat, hessian, gradient = hessian_and_gradient(network, list(scores), data)
    expected = flat * (hessian @ gradient)
    found = torch.cat([score.flatten() for score in scores.values()])
    assert torch.allclose(found, expected, atol=1e-14, rtol=1e-10)


def test_grasp_of_a_masked_network_knows_the_alive_weights_only(network):
    data, masks = batches(), random_masks(network)
    scores = GraSP(entropy, data).scores(network, masks)
    masks.apply_(network)
    flat, hessian, gradient = hessian_and_gradient(network, list(scores), data)
    alive = torch.cat([mask.flatten() for mask in masks.values()])
    expected = flat * (hessian @ (gradient * alive))
    found = torch.cat([score.flatten() for score in scores.values()])
    assert torch.allclose(found, expected, atol=1e-14, rtol=1e-10)
    assert (found[~alive] == 0).all()


def test_grasp_keeps_the_weights_whose_removal_takes_gradient_flow_away(network):
    data = batches()
    scores = GraSP(entropy, data).scores(network, full(network))["0.weight"]
    index = divmod(int(scores.argmax()), 5)
    flows = []
    for shrunk in (0, 1e-5):
        with torch.no_grad():
            network[0].weight[index] *= 1 - shrunk
        _, _, gradient = hessian_and_gradient(network, ["0.weight", "2.weight"], data)
        flows.append(float(gradient @ gradient))
    change = (flows[1] - flows[0]) / 1e-5
    assert change == pytest.approx(-2 * float(scores[index]), rel=1e-3)
    assert change < 0


def test_synflow_is_conserved_at_every_unit_and_layer(convolutional):
    masks = random_masks(convolutional)
    scores = SynFlow((1, 8, 8)).scores(convolutional, masks)
    totals = [float(score.sum()) for score in scores.values()]
    assert totals == pytest.approx([totals[0]] * 3, rel=1e-12)
    into = scores["0.weight"].sum((1, 2, 3))
    out = scores["4.weight"].sum((0, 2, 3))
    assert torch.allclose(into, out, rtol=1e-12)
    into = scores["4.weight"].sum((1, 2, 3))
    out = scores["8.weight"].view(3, 6, 16).sum((0, 2))
    assert torch.allclose(into, out, rtol=1e-12)
    assert all((scores[name][~masks[name]] == 0).all() for name in masks)
    assert into.min() > 0


def test_synflow_does_not_care_for_biases_signs_or_statistics(convolutional):
    masks = full(convolutional)
    before = SynFlow((1, 8, 8)).scores(convolutional, masks)
    with torch.no_grad():
        convolutional[0].bias.add_(3)
        convolutional[4].weight.neg_()
        convolutional[1].running_mean.add_(2)
        convolutional[1].running_var.mul_(5)
    after = SynFlow((1, 8, 8)).scores(convolutional, masks)
    assert all(torch.equal(before[name], after[name]) for name in masks)


def test_synflow_of_a_deep_network_does_not_overflow():
    model = nn.Sequential(*(nn.Linear(100, 100) for _ in range(60)))
    for layer in model:
        nn.init.constant_(layer.weight, 1.0)
    scores = SynFlow((100,)).scores(model, full(model))
    # R = 100^61 is far beyond float32; every weight of every layer has the same share of it.
    assert float(scores["30.weight"][3, 4]) == pytest.approx(100.0**59, rel=1e-12)


# What all have in common


def made(kind, data, shape):
    if kind in ON_A_LOSS:
        return kind(entropy, data)
    return kind(shape) if kind is SynFlow else kind()


@pytest.mark.parametrize("kind", [*ON_A_LOSS, SynFlow, Magnitude, RandomScores])
def test_a_model_is_left_as_it_was_and_scores_repeat(kind, convolutional, images):
    model = convolutional
    masks = random_masks(model)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in tensors.items()}
    gradients = {name: (p.grad, p.grad.clone()) for name, p in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    criterion = made(kind, images, (1, 8, 8))
    first = criterion.scores(model, masks)
    assert torch.equal(torch.get_rng_state(), random)
    torch.randn(7)
    with torch.no_grad():
        second = criterion.scores(model, masks)
    for name, score in first.items():
        assert torch.equal(score, second[name])
        assert score.shape == masks[name].shape
        assert not score.requires_grad
    assert list(first) == list(masks)
    after = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, (place, values) in before.items():
        assert after[name] is tensors[name]
        assert after[name].data_ptr() == place
        assert torch.equal(after[name], values)
    for name, parameter in model.named_parameters():
        assert parameter.grad is gradients[name][0]
        assert torch.equal(parameter.grad, gradients[name][1])
        assert parameter.requires_grad
    assert [module.training for module in model.modules()] == modes


def test_a_loss_that_fails_leaves_the_model_as_it_was(convolutional):
    def broken(model, batch):
        model(batch[0])
        raise RuntimeError("no")

    before = {name: value.clone() for name, value in convolutional.state_dict().items()}
    criterion = SNIP(broken, [(torch.randn(4, 1, 8, 8), None)])
    with pytest.raises(RuntimeError, match="no"):
        criterion.scores(convolutional, random_masks(convolutional))
    after = convolutional.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert convolutional.training
    assert not convolutional[5].training


@pytest.mark.parametrize("kind", [*ON_A_LOSS, SynFlow])
def test_scores_are_those_of_the_masked_network(kind, network):
    masks = random_masks(network)
    criterion = made(kind, batches(), (5,))
    dense = criterion.scores(network, full(network))
    masked = criterion.scores(network, masks)
    masks.apply_(network)
    expected = criterion.scores(network, masks)
    for name, mask in masks.items():
        assert torch.equal(masked[name][mask], expected[name][mask])
    assert not torch.allclose(masked["2.weight"], dense["2.weight"] * masks["2.weight"])


@pytest.mark.parametrize("kind", [*ON_A_LOSS, SynFlow])
def test_a_guarded_model_can_be_scored_and_trained_on(kind, network):
    masks, data = random_masks(network), batches()
    criterion = made(kind, data, (5,))
    expected = criterion.scores(network, masks)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    with guard_masks(network, masks, optimizer):
        scores = criterion.scores(network, masks)
        for _ in range(2):
            optimizer.zero_grad()
            entropy(network, data[0]).backward()
            optimizer.step()
    for name, mask in masks.items():
        assert torch.equal(scores[name][mask], expected[name][mask])
        assert (network.get_parameter(name)[~mask] == 0).all()
        assert (network.get_parameter(name)[mask] != 0).all()


@pytest.mark.parametrize("kind", ON_A_LOSS)
def test_batches_count_alike_in_any_number(kind, network):
    data = batches(2)
    once = kind(entropy, data).scores(network, full(network))
    twice = kind(entropy, [*data, *data]).scores(network, full(network))
    assert all(torch.allclose(once[n], twice[n], rtol=1e-10, atol=1e-16) for n in once)


@pytest.mark.parametrize("kind", [*ON_A_LOSS, SynFlow, Magnitude])
def test_a_tied_weight_is_scored_once_by_all_that_it_does(kind):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).double()
    model[2].weight = model[0].weight
    masks = Masks.full(model, ["0.weight"])
    scores = made(kind, batches(features=4), (4,)).scores(model, masks)
    assert list(scores) == ["0.weight"]
    if kind is SNIP:
        gradients = [
            torch.autograd.grad(entropy(model, batch), model[0].weight)[0]
            for batch in batches(features=4)
        ]
        expected = (model[0].weight * sum(gradients) / 2).abs()
        assert torch.allclose(scores["0.weight"], expected, atol=1e-14)
    if kind is SynFlow:
        w = model[0].weight.detach().abs().requires_grad_()
        (slope,) = torch.autograd.grad((w @ w).sum(), w)
        assert torch.allclose(scores["0.weight"], (w * slope).detach(), rtol=1e-12)


@pytest.mark.parametrize("kind", ON_A_LOSS)
def test_dropout_is_off_and_statistics_are_of_the_batch(kind, convolutional, images):
    convolutional.eval()
    masks = full(convolutional)
    scores = kind(entropy, images).scores(convolutional, masks)
    convolutional[3].p = 0.0
    convolutional[1].running_var.mul_(100)
    assert all(
        torch.equal(score, scores[name])
        for name, score in kind(entropy, images).scores(convolutional, masks).items()
    )


def test_the_hessian_of_a_loss_that_is_linear_in_the_weights_is_zero():
    layer = nn.Linear(4, 3, bias=False).double()
    x = torch.randn(2, 4).double()
    criterion = GraSP(lambda model, batch: model(batch).sum(), [x, 2 * x])
    assert (criterion.scores(layer, full(layer))["weight"] == 0).all()
    bent = GraSP(lambda model, batch: model(batch[0]).pow(batch[1]).sum(), [(x, 2), (x, 1)])
    # g = (2 Σ y x + Σ x) / 2 and H = Σ x xᵀ, for each row of W.
    moment = x.T @ x
    gradient = layer.weight.detach() @ moment + x.sum(0) / 2
    expected = layer.weight.detach() * (gradient @ moment)
    assert torch.allclose(bent.scores(layer, full(layer))["weight"], expected, atol=1e-13)


@pytest.mark.parametrize("kind", [*ON_A_LOSS, SynFlow, Magnitude, RandomScores])
def test_no_masks_no_scores(kind, network):
    assert made(kind, batches(), (5,)).scores(network, Masks({})) == {}


# Bad input


@pytest.mark.parametrize("kind", ON_A_LOSS)
@pytest.mark.parametrize(
    ("loss", "data", "error", "message"),
    [
        (None, [1], TypeError, r"expected a loss to call with \(model, batch\), got None"),
        (entropy, iter([1]), TypeError, r"gone through again and again, got a list_iterator"),
        (entropy, 3, TypeError, "expected an iterable of batches, got 3"),
    ],
)
def test_what_cannot_be_a_loss_or_batches_is_refused(kind, loss, data, error, message):
    with pytest.raises(error, match=message):
        kind(loss, data)


@pytest.mark.parametrize(
    ("loss", "data", "message"),
    [
        (entropy, [], "expected at least one batch to take gradients on, got none"),
        (lambda model, batch: 3.0, [0], "a tensor of one element, got 3.0"),
        (lambda model, batch: model[0].weight, [0], r"one element, got shape \(4, 5\)"),
        (lambda model, batch: torch.ones(()), [0], "the loss does not depend on the weights"),
        (lambda model, batch: model[0].weight.sum() / 0, [0], "expected a finite loss, got"),
    ],
)
def test_losses_that_cannot_be_used_are_explained(network, loss, data, message):
    with pytest.raises(ValueError, match=message):
        SNIP(loss, data).scores(network, full(network))


def test_a_frozen_weight_has_no_gradient(network):
    network[0].weight.requires_grad_(False)
    with pytest.raises(ValueError, match=r"0\.weight: no gradient, because requires_grad is False"):
        SNIP(entropy, batches()).scores(network, full(network))


@pytest.mark.parametrize("kind", [*ON_A_LOSS, SynFlow, Magnitude, RandomScores])
def test_masks_of_another_model_are_refused(kind, network):
    criterion = made(kind, batches(), (5,))
    with pytest.raises(ValueError, match=r"1\.weight"):
        criterion.scores(network, Masks({"1.weight": torch.ones(4, 5, dtype=torch.bool)}))
    with pytest.raises(ValueError, match=r"0\.weight.*\(4, 6\)"):
        criterion.scores(network, Masks({"0.weight": torch.ones(4, 6, dtype=torch.bool)}))


def test_movement_wants_to_be_observed(network):
    criterion = Movement()
    with pytest.raises(ValueError, match=r"no training step was observed; train inside"):
        criterion.scores(network, full(network))
    with criterion.observe(network, Masks.full(network, ["0.weight"])):
        entropy(network, batches()[0]).backward()
        torch.optim.SGD(network.parameters(), lr=0.1).step()
    with pytest.raises(ValueError, match=r"2\.weight was not observed"):
        criterion.scores(network, full(network))


def test_synflow_explains_what_it_cannot_use(network):
    with pytest.raises(ValueError, match=r"sizes of at least 1, got \(3, 0\)"):
        SynFlow((3, 0))
    with pytest.raises(TypeError, match=r"the shape of one example, .* got Tensor"):
        SynFlow(torch.ones(1, 20))
    model = nn.LSTM(3, 4)
    with pytest.raises(ValueError, match="expected a model that returns a tensor, got tuple"):
        SynFlow((5, 3)).scores(model, Masks.full(model, ["weight_ih_l0"]))
    with torch.no_grad():
        network[0].weight.fill_(1e308)
        network[2].weight.fill_(1e308)
    network[1] = nn.Identity()
    with pytest.raises(ValueError, match="the flow through the network is inf in float64"):
        SynFlow((5,)).scores(network, full(network))


def test_a_seed_is_an_int():
    with pytest.raises(TypeError, match=r"expected a seed of type int, got 1\.5"):
        RandomScores(1.5)


def test_movement_sums_many_small_products_of_narrow_weights():
    layer = nn.Linear(1, 1, bias=False).bfloat16()
    with torch.no_grad():
        layer.weight.fill_(1.0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    criterion, masks = Movement(), full(layer)
    with criterion.observe(layer, masks):
        for _ in range(600):  # bfloat16 counts no further than 256
            layer.weight.grad = -torch.ones_like(layer.weight)
            optimizer.step()
    assert criterion.scores(layer, masks)["weight"].item() == 600


def test_synflow_refuses_batch_normalisation_without_statistics():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(ValueError, match=r"1 normalises every batch .*track_running_stats"):
        SynFlow((4,)).scores(model, Masks.full(model, ["0.weight"]))
