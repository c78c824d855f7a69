"""Dead units go and the function stays: against the model itself in float64."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from gonzo.pruning.dead_units import remove_dead_units


def shrink(model, *example):
    """Remove dead units and check that outputs agree, on the example and on other values."""
    model.double().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shrunk = remove_dead_units(model, example)
    assert not shrunk.problem
    for arguments in (example, tuple(3 * torch.randn_like(x) - 1 for x in example)):
        expected, got = model(*arguments), shrunk.model(*arguments)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} of the original was changed"
    return shrunk


def x(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@torch.no_grad()
def silence(layer, *rows):
    """Zero all weights of some rows, which leaves their biases."""
    layer.weight[list(rows)] = 0
    return layer


@torch.no_grad()
def ignore(layer, *columns):
    layer.weight[:, list(columns)] = 0
    return layer


def test_units_that_nobody_reads_are_removed():
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), ignore(nn.Linear(8, 3), 0, 6))
    shrunk = shrink(model, x(4, 5))
    assert shrunk.removed == {"0": 2}
    assert shrunk.model[0].weight.shape == (6, 5)
    assert shrunk.model[2].weight.shape == (3, 6)
    assert (shrunk.model[0].out_features, shrunk.model[2].in_features) == (6, 6)


def test_constant_units_go_into_the_next_bias():
    model = nn.Sequential(silence(nn.Linear(5, 8), 1, 2, 7), nn.Tanh(), nn.Linear(8, 3))
    expected = model[2].bias + model[2].weight[:, [1, 2, 7]] @ model[0].bias[[1, 2, 7]].tanh()
    shrunk = shrink(model, x(4, 5))
    assert shrunk.removed == {"0": 3}
    torch.testing.assert_close(shrunk.model[2].bias.double(), expected.double())


def test_a_bias_is_made_where_there_was_none():
    model = nn.Sequential(silence(nn.Linear(5, 8), 1), nn.Sigmoid(), nn.Linear(8, 3, bias=False))
    shrunk = shrink(model, x(4, 5))
    assert shrunk.removed == {"0": 1}
    assert shrunk.model[2].bias is not None


def test_removal_cascades_forwards_and_backwards():
    # Unit 0 of the second layer reads unit 0 of the first alone, and is read by nobody.
    second = nn.Linear(4, 4)
    with torch.no_grad():
        second.weight[1:, 0] = 0
    backwards = nn.Sequential(
        nn.Linear(3, 4), nn.ReLU(), second, nn.ReLU(), ignore(nn.Linear(4, 2), 0)
    )
    assert shrink(backwards, x(2, 3)).removed == {"0": 1, "2": 1}
    # Unit 0 of the second layer reads nothing but a constant.
    second = nn.Linear(4, 4)
    with torch.no_grad():
        second.weight[0, 1:] = 0
    forwards = nn.Sequential(
        silence(nn.Linear(3, 4), 0), nn.GELU(), second, nn.GELU(), nn.Linear(4, 2)
    )
    assert shrink(forwards, x(2, 3)).removed == {"0": 1, "2": 1}


@pytest.mark.parametrize("dead", ["rows", "columns"])
def test_a_layer_that_is_dead_altogether_keeps_one_unit(dead):
    first, last = nn.Linear(5, 8), nn.Linear(8, 3)
    with torch.no_grad():
        (first if dead == "rows" else last).weight.zero_()
    before = nn.Linear(4, 5)
    shrunk = shrink(nn.Sequential(before, nn.ReLU(), first, nn.ReLU(), last), x(2, 4))
    assert shrunk.removed == {"0": 4, "2": 7}


def test_nothing_is_removed_from_the_first_inputs_and_the_last_outputs():
    model = nn.Sequential(ignore(nn.Linear(5, 8), 0), nn.ReLU(), silence(nn.Linear(8, 3), 1))
    shrunk = shrink(model, x(4, 5))
    assert not shrunk.removed
    assert not shrunk.kept


@pytest.mark.parametrize(
    "function",
    [
        nn.ReLU(inplace=True), nn.LeakyReLU(0.1), nn.ELU(), nn.SiLU(), nn.Hardtanh(), nn.Softplus(),
        nn.Sequential(nn.Dropout(0.5), nn.Identity()), nn.BatchNorm1d(8),
        nn.BatchNorm1d(8, affine=False),
        nn.Sequential(nn.ReLU(), nn.BatchNorm1d(8), nn.ReLU()), nn.Threshold(-0.1, 0.7),
    ],
    ids=lambda module: type(module).__name__,
)  # fmt: skip
def test_functions_of_single_units_are_looked_through(function):
    for module in function.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    model = nn.Sequential(silence(nn.Linear(5, 8), 1, 3), function, ignore(nn.Linear(8, 3), 0))
    assert shrink(model, x(4, 5)).removed == {"0": 3}


class Functional(nn.Module):
    """One convolution and one linear layer with a function of the test's between them."""

    def __init__(self, between, columns, *, padding=0):
        super().__init__()
        self.first = silence(nn.Conv2d(2, 6, 3, padding=padding), 0, 4)
        self.last = nn.Linear(columns, 3)
        with torch.no_grad():
            repeat = columns // 6
            self.last.weight[:, 5 * repeat :] = 0
        self.between = between

    def forward(self, images):
        return self.last(self.between(self.first(images)))


@pytest.mark.parametrize(
    ("between", "columns"),
    [
        (lambda y: torch.flatten(F.max_pool2d(F.relu(y), 2), 1), 54),
        (lambda y: F.max_pool2d(y.relu(), 2).flatten(1), 54),
        (lambda y: (z := torch.tanh(y)).view(z.size(0), -1), 216),
        (lambda y: (z := torch.tanh(y)).view(z.shape[0], -1), 216),
        (lambda y: y.reshape(y.size()[0], -1), 216),
        (lambda y: torch.reshape(y, (y.size(0), -1)), 216),
        (lambda y: y.mean((2, 3)), 6),
        (lambda y: y.mean((-1, -2), keepdim=True).flatten(1), 6),
        (lambda y: F.adaptive_avg_pool2d(y, 1).flatten(1), 6),
        (lambda y: F.dropout(F.leaky_relu(y, 0.2), 0.5, False).flatten(1), 216),
    ],
)
def test_functions_between_layers_are_looked_through(between, columns):
    shrunk = shrink(Functional(between, columns), x(4, 2, 8, 8))
    assert shrunk.removed == {"first": 3}
    assert shrunk.model.last.in_features == columns // 2


@pytest.mark.parametrize(
    ("between", "columns", "named"),
    [
        (lambda y: y.view(-1, 216), 216, "view"),
        (lambda y: torch.softmax(y, 1).flatten(1), 216, "softmax"),
        (lambda y: torch.cat([y, y], 1).flatten(1), 432, "cat"),
        (lambda y: (y + 1).flatten(1), 216, "add"),
        (lambda y: y.mean((1, 2)), 6, "mean"),
        (lambda y: y.transpose(1, 2).flatten(1), 216, "transpose"),
        (lambda y: F.avg_pool2d(y, 2).flatten(1), 54, "avg_pool2d"),
        (lambda y: (y * y.sum()).flatten(1), 216, "sum"),
    ],
)
def test_what_is_not_known_protects(between, columns, named):
    shrunk = shrink(Functional(between, columns), x(4, 2, 8, 8))
    assert not shrunk.removed
    assert named in shrunk.kept["first"]


@pytest.mark.parametrize("first_to_last", [lambda y: y, lambda y: y.flatten(1)])
@pytest.mark.parametrize("write", [lambda y: F.relu(y, inplace=True), torch.relu_, nn.ReLU(True)])
def test_what_writes_over_its_input_protects_when_others_read_that(first_to_last, write):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = silence(nn.Linear(4, 4), 0)
            self.left, self.right = nn.Linear(4, 2), nn.Linear(4, 2)
            self.write = write
            nn.init.constant_(self.first.bias, -1)

        def forward(self, z):
            hidden = self.first(z)
            return self.left(self.write(first_to_last(hidden))) + self.right(hidden)

    assert "relu" in shrink(Model(), x(3, 4)).kept["first"].lower()


def test_what_writes_over_its_input_is_followed_when_nobody_else_reads_that():
    model = Functional(lambda y: (z := F.relu(y, inplace=True)).view(z.size(0), -1), 216)
    assert shrink(model, x(4, 2, 8, 8)).removed == {"first": 3}


def images_to_classes(*layers, size=8):
    layers = nn.Sequential(*layers)
    channels = layers(torch.randn(1, 2, size, size)).flatten(1).shape[1]
    return nn.Sequential(layers, nn.Flatten(), nn.Linear(channels, 3))


@pytest.mark.parametrize(
    ("pool", "removed"),
    [
        (nn.MaxPool2d(2), 2),
        (nn.MaxPool2d(3, 2, 1), 2),
        (nn.MaxPool2d(3, 2, 1, ceil_mode=True), 2),
        (nn.AvgPool2d(2), 2),
        (nn.AvgPool2d(3, 2, ceil_mode=True), 2),
        (nn.AvgPool2d(3, 2, 1), 1),  # zeros at the border are averaged in
        (nn.AvgPool2d(2, divisor_override=3), 1),
        (nn.AdaptiveAvgPool2d(2), 2),
        (nn.AdaptiveMaxPool2d(2), 2),
        (nn.MaxPool2d(2, dilation=2), 0),
        (nn.LPPool2d(2, 2), 0),
    ],
)
def test_pools(pool, removed):
    conv = silence(nn.Conv2d(2, 6, 3), 0, 1)
    nn.init.ones_(conv.bias)
    with torch.no_grad():
        conv.bias[0] = 0  # a constant 0 survives any pool
    shrunk = shrink(images_to_classes(conv, nn.ReLU(), pool), x(3, 2, 8, 8))
    assert sum(shrunk.removed.values()) == removed


@pytest.mark.parametrize(
    ("padding", "mode", "removed"),
    [(0, "zeros", 2), (1, "zeros", 1), ("same", "zeros", 1), ("valid", "zeros", 2),
     (1, "replicate", 2), (1, "reflect", 2), (1, "circular", 2)],
)  # fmt: skip
def test_a_constant_before_a_padded_convolution(padding, mode, removed):
    first = silence(nn.Conv2d(2, 6, 3), 0, 1)
    nn.init.ones_(first.bias)
    with torch.no_grad():
        first.bias[0] = -1  # relu takes it to 0
    second = nn.Conv2d(6, 4, 3, padding=padding, padding_mode=mode)
    shrunk = shrink(images_to_classes(first, nn.ReLU(), second), x(3, 2, 8, 8))
    assert shrunk.removed == {"0.0": removed}


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(6), nn.BatchNorm2d(6, track_running_stats=False)])
def test_batch_norm_is_cut_with_its_convolution_if_its_statistics_are_its_own(norm):
    own = norm.running_mean is not None
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    if own:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    first, second = silence(nn.Conv2d(2, 6, 3, bias=False), 0), ignore(nn.Conv2d(6, 4, 3), 5)
    shrunk = shrink(images_to_classes(first, norm, nn.ReLU(), second), x(3, 2, 8, 8))
    assert shrunk.removed == ({"0.0": 2} if own else {})
    assert shrunk.model[0][1].weight.shape == ((4,) if own else (6,))


def test_one_dimension_and_three():
    one = nn.Sequential(
        silence(nn.Conv1d(2, 5, 3), 0), nn.BatchNorm1d(5), nn.MaxPool1d(2),
        nn.Conv1d(5, 4, 3), nn.Flatten(), nn.Linear(20, 3),
    )  # fmt: skip
    one.append(nn.ReLU())
    assert shrink(one, x(2, 2, 16)).removed == {"0": 1}
    three = nn.Sequential(
        silence(nn.Conv3d(2, 5, 2), 0), nn.BatchNorm3d(5), nn.AvgPool3d(2), nn.Conv3d(5, 2, 1)
    )
    assert shrink(three, x(2, 2, 5, 5, 5)).removed == {"0": 1}


def test_linear_layers_over_time_and_a_flattened_batch():
    model = nn.Sequential(
        silence(nn.Linear(5, 8), 1), nn.ReLU(), nn.Flatten(0, 1), ignore(nn.Linear(8, 3), 0)
    )
    assert shrink(model, x(2, 7, 5)).removed == {"0": 2}
    # Time and units in one: columns are time-major, which is not followed.
    mixed = nn.Sequential(silence(nn.Linear(5, 8), 1), nn.Flatten(), nn.Linear(56, 3))
    assert "1 (Flatten)" in shrink(mixed, x(2, 7, 5)).kept["0"]
    # The norm's channels are times here, not units.
    over_time = nn.Sequential(silence(nn.Linear(5, 8), 1), nn.BatchNorm1d(7), nn.Linear(8, 3))
    assert "1 (BatchNorm1d)" in shrink(over_time, x(2, 7, 5)).kept["0"]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = silence(nn.Linear(6, 9), 2), silence(nn.Linear(9, 6), 0)
        self.last = nn.Linear(6, 2)

    def forward(self, z):
        return self.last(z + self.outer(torch.relu(self.inner(z))))


def test_a_residual_sum_protects_and_its_inside_does_not():
    shrunk = shrink(Residual(), x(3, 6))
    assert shrunk.removed == {"inner": 1}
    assert "add" in shrunk.kept["outer"]


def test_two_readers_both_count():
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = silence(nn.Linear(4, 6), 5)
            self.left = ignore(nn.Linear(6, 2), 0, 1)
            self.right = ignore(nn.Linear(6, 3), 1, 2)

        def forward(self, z):
            hidden = torch.relu(self.first(z))
            return self.left(hidden), self.right(torch.tanh(hidden))

    assert shrink(Fork(), x(3, 4)).removed == {"first": 2}


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.middle = silence(nn.Linear(4, 4), 0), silence(nn.Linear(4, 4), 1)
        self.last = nn.Linear(4, 2)

    def forward(self, z):
        return self.last(self.middle(self.middle(self.first(z))))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.middle = silence(nn.Linear(4, 4), 0), nn.Linear(4, 4)
        self.middle.weight = self.first.weight
        self.last = nn.Linear(4, 2)

    def forward(self, z):
        return self.last(self.middle(self.first(z)))


class ReadElsewhere(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = silence(nn.Linear(4, 4), 0), nn.Linear(4, 2)

    def forward(self, z):
        return self.last(self.first(z)), self.first.weight.sum()


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = silence(nn.Linear(4, 4), 0), nn.Linear(4, 2)
        self.first.register_forward_hook(_double)

    def forward(self, z):
        return self.last(self.first(z))


def _double(_module, _arguments, output):
    return 2 * output


class Own(nn.Linear):
    def forward(self, z):
        return super().forward(z).sort(-1).values


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Twice(), "reaches middle (Linear)"),
        (Tied(), "its weights are shared"),
        (ReadElsewhere(), "its weights are read elsewhere, too"),
        (Hooked(), "it has hooks"),
        (nn.Sequential(silence(nn.Linear(4, 4), 0), Own(4, 2)), "reaches linear"),
        (nn.Sequential(silence(nn.Linear(4, 4), 0), nn.LayerNorm(4), nn.Linear(4, 2)), "LayerNorm"),
        (nn.Sequential(silence(nn.Linear(4, 4), 0), nn.PReLU(4), nn.Linear(4, 2)), "PReLU"),
    ],
)
def test_layers_that_are_more_than_a_layer_are_left_alone(model, reason):
    shrunk = shrink(model, x(3, 4))
    assert not shrunk.removed
    assert reason in next(iter(shrunk.kept.values()))


def test_convolutions_in_groups_are_left_alone():
    model = nn.Sequential(
        silence(nn.Conv2d(4, 4, 3), 0), silence(nn.Conv2d(4, 4, 3, groups=2), 1), nn.Conv2d(4, 2, 1)
    )
    shrunk = shrink(model, x(2, 4, 8, 8))
    assert not shrunk.removed
    assert shrunk.kept["1"] == "it is a convolution in groups"


def test_a_model_that_cannot_be_traced_is_left_alone():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = silence(nn.Linear(4, 4), 0), nn.Linear(4, 2)

        def forward(self, z):
            return self.last(self.first(z)) if z.sum() > 0 else self.last(-z)

    model = Branching().double()
    shrunk = remove_dead_units(model, (x(3, 4),))
    assert shrunk.problem.startswith("the model cannot be traced: symbolically traced")
    assert not shrunk.removed
    assert torch.equal(shrunk.model.first.weight, model.first.weight)


@st.composite
def perceptrons(draw):
    sizes = draw(st.lists(st.integers(1, 6), min_size=3, max_size=5))
    density = draw(st.sampled_from([0.0, 0.1, 0.3, 0.6]))
    functions = [nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.ELU()]
    layers = []
    for before, after in itertools.pairwise(sizes):
        layers += [
            nn.Linear(before, after, bias=draw(st.booleans())),
            draw(st.sampled_from(functions)),
        ]
    return nn.Sequential(*layers), density, draw(st.integers(0, 2**31))


@settings(max_examples=60, deadline=None)
@given(perceptrons())
def test_any_perceptron_keeps_its_function_and_has_no_dead_unit_left(drawn):
    model, density, seed = drawn
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(torch.rand(parameter.shape, generator=generator) < density)
    shrunk = shrink(model, x(3, model[0].in_features))
    layers = [layer for layer in shrunk.model if isinstance(layer, nn.Linear)]
    for layer, reader in itertools.pairwise(layers):
        if layer.out_features > 1:
            assert (layer.weight != 0).any(1).all()
            assert (reader.weight != 0).any(0).all()
    again = remove_dead_units(shrunk.model, (x(3, model[0].in_features),))
    assert not again.removed


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=4),
    st.sampled_from([0.0, 0.05, 0.2]),
    st.sampled_from([0, 1]),
    st.integers(0, 2**31),
)
def test_any_small_convolutional_net_keeps_its_function(channels, density, padding, seed):
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for before, after in zip([2, *channels], channels, strict=False):
        norm = nn.BatchNorm2d(after)
        norm.running_mean.normal_(generator=generator)
        layers += [nn.Conv2d(before, after, 3, padding=padding), norm, nn.ReLU()]
    model = images_to_classes(*layers, nn.MaxPool2d(2), size=14)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(torch.rand(parameter.shape, generator=generator) < density)
    shrink(model, x(2, 2, 14, 14))
