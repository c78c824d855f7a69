"""compile_sparse computes what the model does, leaves it alone, and says what it did."""

import copy
import math
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from gonzo.pruning import layer_choice, sparse_compiler
from gonzo.pruning.masks import Masks
from gonzo.pruning.sparse_compiler import CompiledSparse, compile_sparse

QUICK = {"seconds": 0.01, "verbose": False}


def thinned(model, density=0.05, dtype=torch.float32):
    """A model with random weights zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(torch.rand(parameter.shape, generator=generator) < density)
    return model.to(dtype)


def perceptron(density=0.05, dtype=torch.float32):
    layers = nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 96), nn.ReLU(), nn.Linear(96, 10)
    return thinned(nn.Sequential(*layers), density, dtype)


def times_are(monkeypatch, seconds):
    """Let every form take the seconds of the first entry whose name begins its label."""

    def timed(calls, *, device, seconds=0, cold=False, race=True, table=seconds):
        for call in calls.values():
            call()
        return {
            label: next((t for name, t in table.items() if label.startswith(name)), 1.0)
            for label in calls
        }

    for module in (layer_choice, sparse_compiler):
        monkeypatch.setattr(module, "time_forms", timed)


@pytest.fixture(params=["csr", "sparse_linear", "smaller"])
def favourite(request, monkeypatch):
    """The form that wins every measurement."""
    times_are(monkeypatch, {request.param: 0.1, "the chosen forms": 0.2})
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 7])
def test_outputs_agree_for_the_example_and_other_batches(favourite, dtype, batch):
    model, x = perceptron(dtype=dtype), torch.randn(batch, 64, dtype=dtype)
    with torch.no_grad():
        model[0].weight[:, 10:] = 0
    compiled = compile_sparse(model, x, **QUICK)
    assert any(layer.form.startswith(favourite) for layer in compiled.report.layers)
    for rows in (batch, 1, 2, 33, 0):
        x = torch.randn(rows, 64, dtype=dtype)
        torch.testing.assert_close(compiled(x), model(x))


def test_the_model_stays_as_it_is(favourite):
    model = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Dropout(), nn.Linear(32, 4))
    thinned(model)
    before = copy.deepcopy(model.state_dict())
    compiled = compile_sparse(model, torch.randn(5, 64), **QUICK)
    assert model.training
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in compiled.parameters())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    x = torch.randn(5, 64)
    torch.testing.assert_close(compiled(x), model.eval()(x))


def test_no_random_numbers_are_drawn():
    model, x = perceptron(), torch.randn(5, 64)
    before = torch.random.get_rng_state()
    compile_sparse(model, x, **QUICK)
    assert torch.equal(torch.random.get_rng_state(), before)


class Branches(nn.Module):
    """Convolutions, a sum, two arguments and a dictionary of outputs."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.side = nn.Linear(5, 32)
        self.last = nn.Linear(32, 4)

    def forward(self, images, side):
        y = self.first(images).relu()
        y = self.pool(y + self.second(y)).flatten(1)
        y = y + self.side(side)
        return {"logits": self.last(y), "hidden": [y, y.argmax(-1)]}


@pytest.mark.parametrize("form", ["csr", "sparse_linear", "smaller", "direct"])
def test_convolutions_several_arguments_and_nested_outputs(monkeypatch, form):
    times_are(monkeypatch, {form: 0.1, f"unfolded, {form}": 0.1, "the chosen forms": 0.2})
    model = thinned(Branches(), 0.2, torch.float64)
    with torch.no_grad():
        model.last.weight[:, 2:] = 0
    arguments = (torch.randn(2, 3, 8, 8).double(), torch.randn(2, 5).double())
    compiled = compile_sparse(model, arguments, **QUICK)
    assert {layer.name for layer in compiled.report.layers} == {"first", "second", "side", "last"}
    got, expected = compiled(*arguments), model(*arguments)
    torch.testing.assert_close(got, expected)
    forms = {layer.name: layer.form for layer in compiled.report.layers}
    if form == "direct":
        assert forms == {"first": "direct", "second": "direct", "side": "dense", "last": "dense"}
    elif form != "smaller":
        assert all(form in chosen for chosen in forms.values())


def test_a_bare_layer_is_a_model(favourite):
    model = thinned(nn.Linear(64, 48))
    with torch.no_grad():
        model.weight[:, 10:] = 0
    compiled = compile_sparse(model, torch.randn(3, 64), **QUICK)
    assert compiled.report.layers[0].form.startswith(favourite)
    assert "(the model)" in str(compiled)
    x = torch.randn(3, 64)
    torch.testing.assert_close(compiled(x), model(x))


def test_masks_prune_besides_zeros():
    model, x = perceptron(1.0), torch.randn(4, 64)
    mask = torch.rand(128, 64) < 0.05
    compiled = compile_sparse(model, x, masks=Masks({"0.weight": mask}), **QUICK)
    assert compiled.report.layers[0].density == pytest.approx(int(mask.sum()) / mask.numel())
    assert (model[0].weight != 0).all()
    with torch.no_grad():
        model[0].weight.mul_(mask)
    torch.testing.assert_close(compiled(x), model(x))
    with pytest.raises(ValueError, match="nowhere"):
        compile_sparse(model, x, masks=Masks({"nowhere.weight": mask}), **QUICK)


def test_masks_of_torch_and_parametrisations_are_made_permanent_in_the_copy(favourite):
    model = perceptron(1.0)
    prune.l1_unstructured(model[0], "weight", amount=0.95)
    prune.random_unstructured(model[2], "bias", amount=0.5)
    parametrizations.orthogonal(model[4])
    x = torch.randn(4, 64)
    compiled = compile_sparse(model, x, **QUICK)
    assert compiled.report.layers[0].density == pytest.approx(0.05, abs=1e-3)
    torch.testing.assert_close(compiled(x), model(x))
    assert prune.is_pruned(model[0])
    assert hasattr(model[4], "parametrizations")
    model[4].weight.sum().backward()
    assert model[4].parametrizations.weight.original.grad is not None
    if favourite != "smaller":
        assert compiled.report.layers[0].form.startswith(favourite)


def test_dense_stays_where_nothing_is_faster(monkeypatch):
    times_are(monkeypatch, {"csr": 1.0 / 1.04, "the chosen forms": 0.98})
    model, x = perceptron(0.5), torch.randn(4, 64)
    compiled = compile_sparse(model, x, **QUICK)
    assert [layer.form for layer in compiled.report.layers] == ["dense"] * 3
    assert "best is csr @ x.T, 1 × as fast" in compiled.report.layers[0].why
    assert compiled.report.verdict == "The result is the dense model: nothing was faster."
    assert compiled.report.bytes_after == compiled.report.bytes_before
    assert torch.equal(compiled(x), model(x))
    compiled = compile_sparse(model, x, min_gain=1.03, **QUICK)
    assert compiled.report.layers[0].form == "csr @ x.T"


def test_the_whole_model_has_the_last_word(monkeypatch):
    times_are(
        monkeypatch,
        {"csr": 0.1, "the chosen forms": 1.5, "dead units": 0.5},
    )
    model = perceptron()
    with torch.no_grad():
        model[2].weight[:, :50] = 0
    x = torch.randn(4, 64)
    compiled = compile_sparse(model, x, **QUICK)
    assert "without its dead units" in compiled.report.verdict
    assert compiled.report.removed["0"] >= 50
    assert "Not used, the chosen forms: the whole model would be 0.67 ×" in str(compiled)
    assert {layer.form for layer in compiled.report.layers} == {"dense"}
    assert compiled.model[0].out_features == 128 - compiled.report.removed["0"]
    assert compiled.report.layers[0].shape_after[0] == compiled.model[0].out_features
    torch.testing.assert_close(compiled(x), model(x))
    times_are(monkeypatch, {"csr": 0.1, "the chosen forms": 1.5, "dead units": 1.1})
    compiled = compile_sparse(model, x, **QUICK)
    assert compiled.report.verdict == "The result is the dense model: nothing was faster."
    assert not compiled.report.removed
    assert compiled.report.layers[0].shape_after == (128, 64)
    assert compiled.report.bytes_after == compiled.report.bytes_before


def test_the_chosen_forms_are_preferred_unless_clearly_slower(monkeypatch):
    model, x = perceptron(), torch.randn(4, 64)
    times_are(monkeypatch, {"csr": 0.1, "the chosen forms": 0.505, "dead units": 0.5})
    assert "with these forms" in compile_sparse(model, x, **QUICK).report.verdict
    times_are(monkeypatch, {"csr": 0.1, "the chosen forms": 0.52, "dead units": 0.5})
    assert "without its dead units" in compile_sparse(model, x, **QUICK).report.verdict


def test_a_wrong_form_is_never_used(monkeypatch):
    times_are(monkeypatch, {"csr": 0.1, "the chosen forms": 0.2})
    right = layer_choice.forms_of

    def one_wrong(weight, bias, rows, wanted):
        for label, make in right(weight, bias, rows, wanted):
            wrong = label.startswith("csr")
            yield label, lambda make=make, wrong=wrong: _Off(make()) if wrong else make()

    monkeypatch.setattr(layer_choice, "forms_of", one_wrong)
    compiled = compile_sparse(perceptron(), torch.randn(4, 64), **QUICK)
    assert not any("csr" in label for layer in compiled.report.layers for label in layer.tried)
    assert all("sparse_linear" in layer.tried for layer in compiled.report.layers)


class _Off(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, x):
        return self.form(x) * 1.001


def test_a_model_that_meets_other_layers_badly_stays_dense(monkeypatch):
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(64, 64)

        def forward(self, x):
            return self.first(x) * self.first.weight.abs().max()

    times_are(monkeypatch, {"csr": 0.1, "the chosen forms": 0.2})
    model, x = thinned(Reads()), torch.randn(4, 64)
    compiled = compile_sparse(model, x, **QUICK)
    assert "has no attribute 'weight'" in str(compiled)
    assert torch.equal(compiled(x), model(x))


def test_layers_inside_torch_s_own_layers_and_with_hooks_stay(favourite):
    encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = thinned(nn.Sequential(encoder, nn.Linear(16, 64), nn.Linear(64, 16)), 0.3)
    calls = []
    model[1].register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(2, 5, 16)
    compiled = compile_sparse(model, x, **QUICK)
    forms = {layer.name: layer.why for layer in compiled.report.layers}
    assert "reads its weights itself" in forms["0.linear1"]
    assert forms["1"] == "dense: it has hooks"
    torch.testing.assert_close(compiled(x), model.eval()(x))
    before = len(calls)
    compiled(x)
    assert len(calls) == before + 1


def test_shared_layers_are_exchanged_everywhere(monkeypatch):
    times_are(monkeypatch, {"csr": 0.1, "the chosen forms": 0.2})
    shared = nn.Linear(32, 32)
    model, x = thinned(nn.Sequential(shared, nn.ReLU(), shared)), torch.randn(4, 32)
    compiled = compile_sparse(model, x, **QUICK)
    assert compiled.model[0] is compiled.model[2]
    assert len(compiled.report.layers) == 1
    torch.testing.assert_close(compiled(x), model(x))


def test_a_model_that_cannot_be_traced_is_compiled_without_removing_units(favourite):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 4)

        def forward(self, z):
            return self.last(self.first(z)) if z.sum() > 1e9 else self.last(self.first(-z))

    model, x = thinned(Branching()), torch.randn(4, 64)
    with torch.no_grad():
        model.first.weight[:40] = 0
    compiled = compile_sparse(model, x, **QUICK)
    assert "Dead units stay: the model cannot be traced" in str(compiled)
    torch.testing.assert_close(compiled(x), model(x))


def test_the_report_says_which_dead_units_stay():
    model = nn.Sequential(nn.Linear(64, 32), nn.LayerNorm(32), nn.Linear(32, 4))
    with torch.no_grad():
        model[0].weight[3] = 0
    printed = str(compile_sparse(thinned(model, 0.5), torch.randn(2, 64), **QUICK))
    assert "Dead units of 0 stay: it reaches 1 (LayerNorm)." in printed


def test_the_report_adds_up():
    model, x = perceptron(0.02), torch.randn(16, 64)
    compiled = compile_sparse(model, x, **QUICK)
    report = compiled.report
    assert report.bytes_before == sum(p.nbytes for p in model.parameters())
    stored = [*compiled.parameters(), *compiled.buffers()]
    assert report.bytes_after == sum(tensor.nbytes for tensor in stored)
    assert report.bytes_before == sum(layer.bytes_before for layer in report.layers)
    assert report.bytes_after == sum(layer.bytes_after for layer in report.layers)
    assert report.speedup == report.seconds_before / report.seconds_after >= 1
    assert report.shrinkage == report.bytes_before / report.bytes_after
    first = report.layers[0]
    assert (first.name, first.kind, first.shape, first.rows) == ("0", "Linear", (128, 64), 16)
    assert first.density == int((model[0].weight != 0).sum()) / (128 * 64)
    assert all(layer.seconds_before > 0 and layer.seconds_after > 0 for layer in report.layers)


def test_the_report_is_printed_when_verbose(capsys):
    model, x = perceptron(), torch.randn(4, 64)
    compiled = compile_sparse(model, x, seconds=0.01)
    printed = capsys.readouterr().out
    assert printed == f"{compiled.report}\n"
    assert printed.splitlines()[0].split() == [
        "layer", "weight", "alive", "latency", "stored", "what", "runs", "now",
    ]  # fmt: skip
    assert re.search(r"^whole model .* × as fast, .* × smaller$", printed, re.MULTILINE)
    assert re.search(r"the whole warm, on .+, 1 thread, float32\.$", printed)
    compile_sparse(model, x, **QUICK)
    assert not capsys.readouterr().out


def test_it_can_be_copied_but_not_trained(favourite):
    model, x = perceptron(dtype=torch.float64), torch.randn(4, 64).double()
    compiled = compile_sparse(model, x, **QUICK)
    expected = compiled(x)
    assert torch.equal(copy.deepcopy(compiled)(x), expected)
    assert compiled.eval() is compiled
    with pytest.raises(ValueError, match="CompiledSparse is for inference alone"):
        compiled.train()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    model, x = perceptron(dtype=dtype), torch.randn(4, 64).to(dtype)
    compiled = compile_sparse(model, x, **QUICK)
    torch.testing.assert_close(compiled(x), model(x), atol=0.02, rtol=0.02)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x) + torch.randn(4)


class Silent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return float(self.layer(x).sum())


def broken():
    model = nn.Linear(4, 4)
    nn.init.constant_(model.weight, float("nan"))
    return model


@pytest.mark.parametrize(
    ("model", "example", "options", "error", "message"),
    [
        (nn.ReLU(), torch.zeros(1, 4), {}, ValueError, "ReLU has no linear layer and no conv"),
        (nn.Linear(4, 4), torch.zeros(1, 4), {"forms": ["csc"]}, ValueError,
         "expected forms out of csr, sparse_linear, bsr, compact, 2:4, direct, got csc"),
        (nn.Linear(4, 4), torch.zeros(1, 4), {"min_gain": 0.9}, ValueError,
         "expected min_gain of at least 1, got 0.9"),
        (nn.Linear(4, 4), torch.zeros(1, 4, device="meta"), {}, ValueError,
         "the example is on meta, the model on cpu; move one of them"),
        (nn.Linear(4, 4), torch.zeros(1, 4).double(), {}, ValueError,
         r"the example is torch.float64, the weights are torch.float32; use example.to"),
        (nn.Linear(4, 4, dtype=torch.complex64), torch.zeros(1, 4), {}, ValueError,
         "expected weights of torch.float64, torch.float32"),
        (nn.Linear(4, 4), (), {}, TypeError, "as example_input, got an empty tuple"),
        (nn.Linear(4, 4), [1.0], {}, TypeError, "as example_input, got list"),
        (broken(), torch.zeros(1, 4), {}, ValueError, "Linear returns values that are not finite"),
        (Noisy(), torch.zeros(1, 4), {}, ValueError, "Noisy returns something else at a second"),
        (Silent(), torch.zeros(1, 4), {}, TypeError, "Silent returns no tensor"),
    ],
)  # fmt: skip
def test_what_cannot_be_compiled_is_refused(model, example, options, error, message):
    with pytest.raises(error, match=message):
        compile_sparse(model, example, verbose=False, **options)


def test_a_model_that_cannot_be_copied_is_refused():
    model = nn.Linear(4, 4)
    model.handle = (i for i in range(3))
    with pytest.raises(TypeError, match="works on a copy, and Linear cannot be copied"):
        compile_sparse(model, torch.zeros(1, 4))


def test_it_is_a_module_with_its_report():
    compiled = compile_sparse(perceptron(), torch.randn(4, 64), **QUICK)
    assert isinstance(compiled, CompiledSparse)
    assert isinstance(compiled, nn.Module)
    assert not compiled.training
    assert str(compiled) == str(compiled.report)


class Ordinary(nn.Module):
    """Two layers with a skip, and an argument that is left out."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(32, 32), nn.Linear(32, 32)
        sparsify(self)

    def forward(self, x, scale=None):
        y = self.b(torch.relu(self.a(x)))
        return x + (y if scale is None else scale * y)


def sparsify(model):
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data *= torch.rand(parameter.shape) < 0.05


def test_an_argument_that_is_left_out_is_traced_as_it_runs():
    model, x = Ordinary(), torch.randn(4, 32)
    model.a.weight.data[:7] = 0
    compiled = compile_sparse(model, x, seconds=0.01, verbose=False)
    assert "cannot be traced" not in str(compiled)
    torch.testing.assert_close(compiled(x), model(x))


def test_no_gradient_passes_rather_than_a_part_of_it(monkeypatch):
    times_are(monkeypatch, {"sparse_linear": 0.1, "the chosen forms": 0.2})
    x = torch.randn(4, 32, requires_grad=True)
    y = compile_sparse(Ordinary(), x.detach(), verbose=False)(x)
    with pytest.raises(RuntimeError, match="does not require grad"):
        y.sum().backward()


def test_autocast_meets_the_models_own_precision(monkeypatch):
    times_are(monkeypatch, {"sparse_linear": 0.1, "the chosen forms": 0.2})
    model, x = Ordinary(), torch.randn(4, 32)
    compiled = compile_sparse(model, x, verbose=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compiled(x), compiled.model(x.clone()))


def test_view_on_more_rows_than_the_example_had(monkeypatch):
    class Viewing(Ordinary):
        def forward(self, x):
            return self.b(self.a(x).view(-1, 4, 8).view(-1, 32))

    times_are(monkeypatch, {"sparse_linear": 0.1, "the chosen forms": 0.2})
    model = Viewing()
    compiled = compile_sparse(model, torch.randn(1, 32), verbose=False)
    x = torch.randn(5, 32)
    torch.testing.assert_close(compiled(x), model(x))


def test_what_has_no_row_is_named():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.read, self.out = nn.LSTM(8, 16), nn.Linear(16, 2)
            sparsify(self)

        def forward(self, x):
            return self.out(self.read(x)[0])

    text = str(compile_sparse(Recurrent(), torch.randn(3, 1, 8), seconds=0.01, verbose=False))
    assert re.search(r"read \(LSTM, 1,536 weights, 9\d% zero\) stays dense", text)


def test_a_layer_without_weights_is_named():
    model = perceptron()
    model[2].weight.data.zero_()
    text = str(compile_sparse(model, torch.randn(4, 64), seconds=0.01, verbose=False))
    assert "2 has no weight left: it passes nothing of its input on." in text


@pytest.mark.parametrize(
    ("model", "arguments", "error", "message"),
    [
        (nn.Linear, {}, TypeError, r"expected a model \(nn.Module\), got Linear"),
        (None, {}, TypeError, "got NoneType"),
        (perceptron, {"masks": {}}, TypeError, "expected masks as Masks, got dict"),
        (perceptron, {"forms": None}, TypeError, "expected forms by name, got None"),
        (perceptron, {"min_gain": "2"}, TypeError, "expected min_gain as a number, got '2'"),
        (perceptron, {"min_gain": math.nan}, ValueError, "min_gain of at least 1, got nan"),
        (perceptron, {"seconds": -1}, ValueError, "seconds of at least 0, got -1"),
        (perceptron, {"tolerance": -1}, ValueError, "tolerance of at least 0, got -1"),
        (
            perceptron,
            {"x": torch.randn(4, 65)},
            ValueError,
            "Sequential does not run on the example",
        ),
    ],
)
def test_what_cannot_be_compiled(model, arguments, error, message):
    model = model() if model is perceptron else model
    arguments = {"x": torch.randn(4, 64), **arguments}
    with pytest.raises(error, match=message):
        compile_sparse(model, arguments.pop("x"), verbose=False, **arguments)


def test_a_compiled_model_is_sent_back():
    # Importing torch's compiler warns; what it returns shows its original by this name.
    model = perceptron()
    model.add_module("_orig_mod", perceptron())
    with pytest.raises(TypeError, match=r"from before torch.compile \(model._orig_mod"):
        compile_sparse(model, torch.randn(4, 64))
