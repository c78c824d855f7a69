"""Distillation: its loss against the dense formula, its memory, what it changes, and controls."""

import copy
import functools
import itertools
import math

import pytest
import torch
from torch import nn

from gonzo.core.bench import peak_memory
from gonzo.core.nn import CausalAttention, LanguageModel, ResidualStack
from gonzo.core.testing import assert_close
from gonzo.efficient_attn import (
    BasedBlock,
    EluPlusOne,
    HedgehogMap,
    LinearAttention,
    Performer,
    ReBasedMap,
    ReLU,
    SlidingWindowAttention,
    Taylor,
    language_model,
)
from gonzo.efficient_attn.analysis import attention_entropy, attention_weights
from gonzo.efficient_attn.controls import attention_branches, control_report
from gonzo.efficient_attn.distillation import AttentionDistillation, distill_attention
from gonzo.efficient_attn.distillation_loss import SMALLEST_WEIGHT, attention_distillation_loss
from gonzo.efficient_attn.hybrid import HybridAttention
from gonzo.efficient_attn.linearize import linearize
from gonzo.efficient_attn.projections import queries_and_keys

B, H, T, D = 2, 3, 37, 4
F64 = torch.float64


def drawn(*shape, dtype=F64):
    return torch.randn(shape, dtype=dtype)


def dense(teacher_q, teacher_k, weights, lengths=None, scale=0.5):
    """The formula, with both matrices in memory."""
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    target = (scale * teacher_q @ teacher_k.mT).masked_fill(future, -torch.inf).softmax(-1)
    entropy = -(target * weights.clamp(min=SMALLEST_WEIGHT).log()).sum(-1)  # (B, H, T)
    if lengths is None:
        return entropy.mean()
    valid = (torch.arange(T) < lengths[:, None])[:, None].expand_as(entropy)
    return entropy[valid].mean()


def linear_weights(feature_map, q, k):
    fq, fk = feature_map.features(q, k)
    weights = (fq @ fk.mT).tril()
    return weights / (weights.sum(-1, keepdim=True) + feature_map.eps)


MAPS = {
    "hedgehog": lambda: HedgehogMap(H, D),
    "hedgehog, exp": lambda: HedgehogMap(H, D, activation="exp", bias=True),
    "elu": lambda: EluPlusOne(H, D),
    "relu": lambda: ReLU(H, D),
    "performer": lambda: Performer(H, D, n_random=9),
    "taylor": lambda: Taylor(H, D),
    "rebased": lambda: ReBasedMap(H, D),
}


@pytest.mark.parametrize("block", [1, 7, 36, 37, 500])
@pytest.mark.parametrize("make", MAPS.values(), ids=MAPS)
def test_it_is_the_dense_formula_and_so_are_its_gradients(make, block):
    feature_map = make().double()
    with torch.no_grad():
        for parameter in feature_map.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        if isinstance(feature_map, ReBasedMap):
            # Away from a weight of zero, a cancelled sum whose logarithm magnifies its rounding.
            feature_map.beta.add_(2)
    teacher = drawn(B, H, T, 5), drawn(B, H, T, 5)
    student = [drawn(B, H, T, D).requires_grad_() for _ in range(2)]
    wanted = [*student, *feature_map.parameters()]
    lengths = torch.tensor([T, 11])
    for valid in (None, lengths):
        expected = dense(*teacher, linear_weights(feature_map, *student), valid, 5**-0.5)
        actual = attention_distillation_loss(
            *teacher, *student, feature_map, lengths=valid, block=block
        )
        assert_close(actual, expected)
        judged = torch.autograd.grad(expected, wanted)
        for mine, theirs in zip(torch.autograd.grad(actual, wanted), judged, strict=True):
            assert_close(mine, theirs)


@pytest.mark.parametrize("window", [1, 5, 40])
def test_of_a_hybrid_too(window):
    feature_map, balance = HedgehogMap(H, D).double(), drawn(H).requires_grad_()
    layer = HybridAttention(H * D, H, feature_map=feature_map, window=window, rotary=False)
    layer.double().balance = nn.Parameter(balance.detach())
    x = drawn(B, T, H * D)
    q, k = queries_and_keys(layer, x)
    teacher = drawn(B, H, T, D), drawn(B, H, T, D)
    wanted = [layer.balance, feature_map.weight]
    losses = [
        attention_distillation_loss(
            *teacher, q, k, feature_map, window=window, balance=layer.balance, block=block
        )
        for block in (8, T)
    ]
    assert_close(losses[0], dense(*teacher, attention_weights(layer, x)))
    few, whole = (torch.autograd.grad(loss, wanted, retain_graph=True) for loss in losses)
    for mine, theirs in zip(few, whole, strict=True):
        assert_close(mine, theirs)


def test_a_student_that_agrees_is_left_with_the_entropy():
    """Its weights being the teacher's, the loss is their entropy, and no weights do better."""
    layer = CausalAttention(H * D, H).double()
    hybrid = HybridAttention(H * D, H, window=T).double()  # all of it softmax
    hybrid.load_state_dict(layer.state_dict(), strict=False)
    x = drawn(B, T, H * D)
    q, k = queries_and_keys(layer, x)
    loss = attention_distillation_loss(
        q, k, q, k, hybrid.feature_map, window=T, balance=hybrid.balance
    )
    assert_close(loss, attention_entropy(attention_weights(layer, x)).mean())
    assert loss < attention_distillation_loss(q, k, q, k, HedgehogMap(H, D).double())


def test_weights_of_zero_are_safe():
    """Where no feature of a query is on, its weights are zero and their logarithm infinite."""
    q = -drawn(B, H, T, D).abs().requires_grad_()
    leaf = torch.ones_like(q, requires_grad=True)
    loss = attention_distillation_loss(q.detach(), q.detach(), q.detach() * leaf, leaf, ReLU(H, D))
    assert float(loss.detach()) == pytest.approx(-math.log(SMALLEST_WEIGHT))
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert not gradient.any()


def test_no_valid_step_is_no_loss():
    q = drawn(B, H, T, D)
    none = torch.zeros(B, dtype=torch.int64)
    assert attention_distillation_loss(q, q, q, q, HedgehogMap(H, D).double(), lengths=none) == 0


def test_padding_is_not_looked_at():
    lengths = torch.tensor([5, 20])
    feature_map = HedgehogMap(H, D).double()
    tensors = [drawn(B, H, T, D) for _ in range(4)]
    loss = attention_distillation_loss(*tensors, feature_map, lengths=lengths, block=8)
    for tensor in tensors:
        for row, length in enumerate(lengths):
            tensor[row, :, length:] = 1e3
    again = attention_distillation_loss(*tensors, feature_map, lengths=lengths, block=8)
    assert_close(again, loss)


@pytest.mark.parametrize("window", [None, 64])
def test_no_matrix_of_weights_is_kept(window):
    long = 1536
    tensors = tuple(torch.randn(1, 2, long, 16) for _ in range(4))
    one_matrix = 4 * 2 * long**2  # bytes

    def needed(block):
        options = {} if window is None else {"window": window, "balance": torch.zeros(2)}
        loss = functools.partial(
            attention_distillation_loss, feature_map=HedgehogMap(2, 16), block=block, **options
        )
        return peak_memory(functools.partial(torch.autograd.functional.vjp, loss, tensors))

    assert needed(32) < one_matrix / 3  # kept for the backward pass, there would be several
    if window is None:
        assert needed(long) > 2 * one_matrix, "the measure sees a matrix where there is one"


@pytest.mark.parametrize("kind", ["language model", "stack", "layer"])
@pytest.mark.parametrize("window", [None, 4])
def test_distillation_brings_the_weights_closer_and_changes_nothing_else(kind, window):
    teacher, data = a_teacher(kind)
    student = made_of(teacher, window) if kind == "layer" else linearize(teacher, window=window)
    before = copy.deepcopy(student.state_dict())
    theirs = copy.deepcopy(teacher.state_dict())
    random_state = torch.get_rng_state()
    seen = []
    report = distill_attention(
        teacher, student, itertools.repeat(data), steps=30, lr=3e-2,
        progress=lambda step, loss: seen.append((step, loss)),
    )  # fmt: skip
    assert torch.equal(torch.get_rng_state(), random_state)
    assert report.loss.shape == (30,)
    assert report.by_layer.shape == (30, 1 if kind == "layer" else 2)
    assert_close(report.by_layer.mean(1), report.loss)
    assert [step for step, _ in seen] == list(range(1, 31))
    assert torch.tensor([loss for _, loss in seen]).equal(report.loss)
    gap = report.by_layer - own_entropy(teacher, data)  # what the student can change
    assert (gap > 0).all()
    assert (gap[-1] < 0.8 * gap[0]).all()
    changed = {n for n, value in student.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {n for n in before if "feature_map" in n or "balance" in n}
    assert all(torch.equal(value, theirs[n]) for n, value in teacher.state_dict().items())
    assert all(p.grad is None for m in (teacher, student) for p in m.parameters())
    assert teacher.training, "it trains on as it did"


def a_teacher(kind):
    if kind == "language model":
        model = language_model("softmax", 11, d_model=16, n_layer=2, n_head=2)
        data = torch.randint(11, (4, 24))
    else:
        layers = [CausalAttention(16, 2) for _ in range(2)]
        model = ResidualStack(layers) if kind == "stack" else layers[0]
        data = torch.randn(4, 24, 16)
    with torch.no_grad():  # weights that are worth imitating
        for layer in attention_of(model):
            layer.project_in.weight[:32] *= 4
    return model.train(), data


def attention_of(model):
    return [m for m in model.modules() if isinstance(m, CausalAttention)]


def made_of(layer, window):
    new = (
        LinearAttention(16, 2, rotary=True) if window is None
        else HybridAttention(16, 2, window=window)
    )  # fmt: skip
    new.load_state_dict(layer.state_dict(), strict=False)
    return new


def own_entropy(teacher, data):
    """The entropy of each softmax layer, seen on its own input."""
    inputs = []
    layers = attention_of(teacher)
    hooks = [
        layer.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
        for layer in layers
    ]
    teacher(data)
    for hook in hooks:
        hook.remove()
    pairs = zip(layers, inputs, strict=True)
    return torch.stack([attention_entropy(attention_weights(*pair)).mean() for pair in pairs])


def test_every_layer_learns_from_the_teachers_own_hidden_states():
    teacher, tokens = a_teacher("language model")
    student = linearize(teacher)
    losses = AttentionDistillation(teacher, student).losses(tokens)
    with torch.no_grad():  # what the student makes of its own hidden states is of no account
        student.stack.layers[0].project_out.weight.normal_()
    assert torch.equal(AttentionDistillation(teacher, student).losses(tokens), losses)


def test_data_may_come_with_lengths():
    teacher, tokens = a_teacher("language model")
    student = linearize(teacher)
    lengths = torch.tensor([24, 5, 1, 0])
    padded = tokens.clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = 0
    data = [(tokens, lengths), (padded, lengths)]
    one, other = (
        distill_attention(teacher, copy.deepcopy(student), [pair], steps=1).by_layer
        for pair in data
    )
    assert_close(one, other)


def test_one_layer_in_two_places_is_one_pair_and_two_losses():
    layer = CausalAttention(8, 2)
    teacher = ResidualStack([layer, layer])
    student = linearize(teacher)
    assert student.layers[0] is student.layers[1]
    distillation = AttentionDistillation(teacher, student)
    assert len(distillation.parameters) == 1
    assert distillation.losses(torch.randn(2, 5, 8)).shape == (2,)


def test_a_layer_that_is_still_softmax_is_left_out():
    teacher = ResidualStack([CausalAttention(8, 2), CausalAttention(8, 2, window=3)])
    student = linearize(teacher)
    assert isinstance(student.layers[1], CausalAttention)
    assert AttentionDistillation(teacher, student).losses(torch.randn(2, 5, 8)).shape == (1,)


class Silent(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return x


def softmax_stack(n_layer=1, d_model=8, n_head=2, **options):
    return ResidualStack([CausalAttention(d_model, n_head, **options) for _ in range(n_layer)])


@pytest.mark.parametrize(
    ("teacher", "student", "complaint"),
    [
        (nn.Linear(2, 2), softmax_stack(), "the teacher, a Linear, holds no attention layer"),
        (softmax_stack(), nn.Linear(2, 2), "the student, a Linear, holds no attention layer"),
        (softmax_stack(), softmax_stack(), r"softmax attention only; student = linearize\(teacher"),
        (softmax_stack(2), linearize(softmax_stack()), "got 2 in the teacher .layers.0, layers.1"),
        (softmax_stack(n_head=1), linearize(softmax_stack()), "expected n_head=2 and d_model=8"),
        (softmax_stack(window=2), linearize(softmax_stack()), "that sees all of the past, got Cau"),
        (linearize(softmax_stack()), linearize(softmax_stack()), "got LinearAttention"),
        (softmax_stack(), linearize(softmax_stack(), feature_map="elu"), "EluPlusOne.* nothing to"),
    ],
)
def test_pairs_that_do_not_fit_are_explained(teacher, student, complaint):
    with pytest.raises(ValueError, match=complaint):
        AttentionDistillation(teacher, student)


def test_what_goes_wrong_on_the_way_is_explained():
    teacher, tokens = a_teacher("language model")
    student = linearize(teacher)
    with pytest.raises(ValueError, match="data for 3 steps, got 2 batches"):
        distill_attention(teacher, student, [tokens, tokens], steps=3)
    with pytest.raises(ValueError, match="steps of at least 1 and lr above 0, got 0"):
        distill_attention(teacher, student, [tokens], steps=0)
    student.stack.layers[0].feature_map.weight.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="the loss is nan at step 0"):
        distill_attention(teacher, student, [tokens], steps=1)
    silent = Silent(CausalAttention(8, 2))
    with pytest.raises(ValueError, match="ran without calling one of its attention layers"):
        AttentionDistillation(silent, linearize(silent)).losses(torch.randn(1, 2, 8))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"teacher_k": drawn(B, H, T, 3)}, "teacher_q and teacher_k of one shape"),
        ({"student_q": drawn(B, H, 5, D), "student_k": drawn(B, H, 5, D)}, "of one batch, n_head"),
        ({"feature_map": HedgehogMap(H, 7)}, "made for n_head=3 and d_key=7"),
        ({"window": 3}, "window and balance belong together"),
        ({"window": 3, "balance": torch.zeros(2)}, r"balance of shape \(3,\), got \(2,\)"),
        ({"block": 0}, "window and block of at least 1, got None and 0"),
        ({"lengths": torch.ones(5)}, r"lengths of shape \(2,\), got \(5,\)"),
    ],
)
def test_wrong_arguments_of_the_loss_are_explained(change, complaint):
    names = ("teacher_q", "teacher_k", "student_q", "student_k")
    arguments = {name: drawn(B, H, T, D) for name in names}
    arguments |= {"feature_map": HedgehogMap(H, D).double()} | change
    with pytest.raises(ValueError, match=complaint):
        attention_distillation_loss(**arguments)


@pytest.mark.parametrize("window", [None, 3])
def test_linearize_keeps_everything_but_the_attention(window):
    model = language_model("softmax", 11, d_model=16, n_layer=2, n_head=2).eval()
    before = copy.deepcopy(model.state_dict())
    random_state = torch.get_rng_state()
    student = linearize(model, feature_map="performer", window=window)
    assert torch.equal(torch.get_rng_state(), random_state)
    wanted = LinearAttention if window is None else HybridAttention
    assert [type(layer) for layer in student.stack.layers] == [wanted] * 2
    assert not any(m.training for m in student.modules())
    maps = [layer.feature_map for layer in student.stack.layers]
    assert not torch.equal(*(m.projection for m in maps)), "each layer draws its own"
    weights = student.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in before.items())
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("window", [None, 3])
def test_what_was_linearized_can_be_saved(window, tmp_path):
    model = language_model("softmax", 11, d_model=8, n_layer=2, n_head=2)
    student = linearize(model, window=window)
    tokens = torch.randint(11, (2, 9))
    student.save_pretrained(tmp_path / "student")
    loaded = LanguageModel.from_pretrained(tmp_path / "student")
    assert torch.equal(loaded(tokens), student(tokens))
    model.save_pretrained(tmp_path / "teacher")  # and the teacher is what it was
    loaded = LanguageModel.from_pretrained(tmp_path / "teacher")
    assert torch.equal(loaded(tokens), model(tokens))


def test_a_map_of_ones_own_is_copied_for_every_layer():
    model = softmax_stack(2)
    own = HedgehogMap(2, 4, activation="exp")
    first, second = (layer.feature_map for layer in linearize(model, feature_map=own).layers)
    assert first.activation == second.activation == "exp"
    assert len({id(m.weight) for m in (own, first, second)}) == 3


def test_what_cannot_be_linearized_is_explained():
    with pytest.raises(ValueError, match="this Linear holds no CausalAttention"):
        linearize(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="put it into a ResidualStack"):
        linearize(CausalAttention(4, 2))


@torch.no_grad()
def quality(model):
    x = torch.arange(2 * 9 * 8).view(2, 9, 8).sin()
    state = model.init_state(2)
    return float(model(x).square().sum() + model.scan(x, state)[0].square().sum())


def without(model, *kinds):
    """Quality with the output of layers of some kinds set to zero for good."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, kinds):
                layer.project_out.weight.zero_()
    return quality(model)


def test_the_control_report_of_pure_linear_attention():
    model = linearize(softmax_stack(2))
    report = control_report(model, quality)
    assert report.both == report.linear == quality(model)
    assert report.window is None
    assert report.softmax is None
    assert report.none == without(model, LinearAttention) != report.both


def test_the_control_report_of_separate_layers():
    model = ResidualStack([BasedBlock(8, 2, window=3), LinearAttention(8, 2)])
    report = control_report(model, quality)
    assert report.both == quality(model)
    assert report.linear == without(model, SlidingWindowAttention)
    assert report.window == without(model, LinearAttention)
    assert report.none == without(model, LinearAttention, SlidingWindowAttention)
    assert len(set(report)) == 5


def test_the_control_report_of_a_hybrid():
    teacher = softmax_stack(2)
    model = linearize(teacher, window=3)
    report = control_report(model, quality, teacher=teacher)
    assert report.softmax == quality(teacher)
    assert report.none == without(model, HybridAttention)
    assert len(set(report)) == 5
    for branches in ("linear", "window"):
        for layer in model.layers:
            layer.branches = branches
        assert getattr(report, branches) == quality(model)


def test_everything_is_as_before_after_the_controls_even_after_an_error():
    model = ResidualStack([HybridAttention(8, 2, window=3), LinearAttention(8, 2)])
    model.layers[0].branches = "window"
    expected, kept = quality(model), model.layers[1].project_out

    def failing(model):
        assert quality(model) != expected or model.layers[0].branches != "none"
        if model.layers[0].branches == "none":
            raise RuntimeError
        return 0.0

    with pytest.raises(RuntimeError):
        control_report(model, failing)
    assert quality(model) == expected
    assert model.layers[0].branches == "window"
    assert model.layers[1].project_out is kept


def test_full_softmax_attention_is_silent_under_none_alone():
    model = softmax_stack()
    for branches in ("both", "linear", "window"):
        with attention_branches(model, branches):
            assert quality(model) == control_report(model, quality).both
    assert control_report(model, quality).none == without(model, CausalAttention)


def test_controls_of_nothing_are_explained():
    with pytest.raises(ValueError, match="this Linear holds no attention layer"):
        control_report(nn.Linear(2, 2), lambda _: 0.0)
    with pytest.raises(ValueError, match=r"branches to be one of 'both'.*got 'softmax'"):
        attention_branches(softmax_stack(), "softmax").__enter__()
