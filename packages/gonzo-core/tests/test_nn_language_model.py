"""The language model keeps the contract of a sequence layer, with tokens in the place of x."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.core import param_groups
from gonzo.core.nn import CausalAttention, LanguageModel, ResidualStack
from gonzo.core.nn import linear_cross_entropy as lce
from gonzo.core.sequence import SequenceModule, map_state, select_batch
from gonzo.core.testing import assert_close

VOCAB, TIME = 7, 11


def plain():
    stack = ResidualStack([CausalAttention(8, 2), CausalAttention(8, 2, window=3)], feed_forward=12)
    return LanguageModel(VOCAB, stack)


def untied():
    return LanguageModel(VOCAB, CausalAttention(8, 2), tie=False)


def model_of(make, dtype=torch.float64):
    torch.manual_seed(0)
    return make().to(dtype).eval()


def some_tokens(*shape, seed=0):
    return torch.randint(VOCAB, shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[plain, untied])
def model(request):
    return model_of(request.param)


def test_equals_its_equation(model):
    tokens = some_tokens(2, TIME)
    y = model.stack(model.embedding.weight[tokens])
    assert_close(model(tokens), y @ model.head.weight.T)


def test_tied_weights_are_one_parameter():
    tied, free = model_of(plain), model_of(untied)
    assert tied.head.weight is tied.embedding.weight
    assert free.head.weight is not free.embedding.weight
    groups = param_groups(tied, lr=1e-3, weight_decay=0.1)
    assert sum(p is tied.head.weight for group in groups for p in group["params"]) == 1


def test_begins_near_the_uniform_distribution():
    torch.manual_seed(0)
    model = LanguageModel(500, ResidualStack([CausalAttention(64, 2)], feed_forward=64))
    repeated = torch.randint(500, (40, 1)).expand(-1, 5)
    for tokens in (torch.randint(500, (40, 5)), repeated):
        assert abs(model.loss(tokens).item() - math.log(500)) < 0.2


def test_forward_is_scan_is_chunks_is_steps(model):
    tokens = some_tokens(3, TIME)
    logits = model(tokens)
    assert logits.shape == (3, TIME, VOCAB)
    assert_close(model.scan(tokens, model.init_state(3))[0], logits, name="scan")
    for cut in range(1, TIME):
        first, state = model.scan(tokens[:, :cut], model.init_state(3))
        second, _ = model.scan(tokens[:, cut:], state)
        assert_close(torch.cat([first, second], 1), logits, name=f"split at {cut}")
    state, steps = model.init_state(3), []
    for token in tokens.unbind(1):
        step, state = model.step(token, state)
        steps.append(step)
    assert_close(torch.stack(steps, 1), logits, name="steps")


def test_float32_agrees_with_float64():
    tokens = some_tokens(3, TIME)
    model = model_of(plain, torch.float32)
    logits = model(tokens)
    assert_close(logits, model.double()(tokens), dtype=torch.float32)


def test_padding_does_not_matter(model):
    tokens, lengths = some_tokens(3, TIME), torch.tensor([4, 0, TIME])
    logits = model(tokens, lengths)
    scanned, state = model.scan(tokens, model.init_state(3), lengths)
    assert_close(scanned, logits)
    token = some_tokens(3, seed=1)
    after, _ = model.step(token, state)
    for row, length in enumerate(lengths.tolist()):
        assert not logits[row, length:].any()
        alone = torch.cat([tokens[row, :length], token[row, None]])[None]
        expected = model(alone)[0]
        if length:
            assert_close(logits[row, :length], expected[:length])
        assert_close(after[row], expected[length])


def test_states_are_kept_and_picked(model):
    tokens = some_tokens(3, TIME)
    _, state = model.scan(tokens, model.init_state(3))
    kept = map_state(Tensor.clone, state)
    token = some_tokens(3, seed=1)
    logits, _ = model.step(token, state)
    model.scan(tokens, state)
    assert_close(model.step(token, kept)[0], logits)
    index = torch.tensor([2, 0])
    assert_close(model.step(token[index], select_batch(state, index))[0], logits[index])


def test_the_past_is_blind_to_the_future(model):
    tokens = some_tokens(2, TIME)
    changed = tokens.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % VOCAB
    assert_close(model(changed)[:, :6], model(tokens)[:, :6])
    assert not torch.allclose(model(changed)[:, 6:], model(tokens)[:, 6:])


def test_loss_is_the_mean_over_next_tokens(model):
    tokens = some_tokens(3, TIME)
    logits = model(tokens)[:, :-1].flatten(0, 1)
    assert_close(model.loss(tokens), F.cross_entropy(logits, tokens[:, 1:].flatten()))


def test_loss_of_padded_sequences(model):
    tokens, lengths = some_tokens(4, TIME), torch.tensor([4, 0, TIME, 1])
    sums, count = 0, 0
    for row in (0, 2):
        n = int(lengths[row])
        sums = sums + (n - 1) * model.loss(tokens[row : row + 1, :n])
        count += n - 1
    assert_close(model.loss(tokens, lengths), sums / count)
    assert model.loss(tokens, torch.tensor([1, 0, 0, 1])).item() == 0


def test_loss_with_targets_of_its_own(model):
    tokens, targets = some_tokens(3, TIME), some_tokens(3, TIME, seed=1)
    targets[:, ::2] = -100
    expected = F.cross_entropy(model(tokens)[:, 1::2].flatten(0, 1), targets[:, 1::2].flatten())
    assert_close(model.loss(tokens, targets=targets), expected)
    lengths = torch.tensor([3, TIME, 2])
    seen = torch.arange(TIME) < lengths[:, None]
    masked = targets.masked_fill(~seen, -100)
    assert_close(model.loss(tokens, lengths, targets=targets), model.loss(tokens, targets=masked))


def test_loss_in_pieces_has_the_same_gradients(monkeypatch):
    model, tokens = model_of(plain), some_tokens(3, TIME)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(model.loss(tokens), parameters)
    monkeypatch.setattr(lce, "_LOGITS_AT_ONCE", 4 * VOCAB)
    for gradient, e in zip(
        torch.autograd.grad(model.loss(tokens), parameters), expected, strict=True
    ):
        assert_close(gradient, e)


def test_loss_in_pieces_keeps_few_logits(monkeypatch):
    model, tokens = model_of(untied), some_tokens(4, 50)

    rows = 4 * 49

    def kept_logits():
        kept = []

        def keep(tensor):
            if tensor.ndim == 2 and tensor.shape[1] == VOCAB and tensor.shape[0] in (rows, 10):
                kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.loss(tokens)
        return sum(kept)

    assert kept_logits() >= rows * VOCAB
    monkeypatch.setattr(lce, "_LOGITS_AT_ONCE", 10 * VOCAB)
    assert kept_logits() == 0


def test_reset_draws_every_parameter_anew(model):
    before = dict(model.named_parameters())
    with torch.no_grad():
        for parameter in before.values():
            parameter.fill_(float("nan"))
    model.reset_parameters()
    for name, parameter in model.named_parameters():
        assert parameter is before[name]
        assert parameter.isfinite().all()


def test_returns_from_disk(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = LanguageModel.from_pretrained(tmp_path).eval()
    tokens = some_tokens(2, TIME)
    assert torch.equal(loaded(tokens), model(tokens))
    assert (loaded.head.weight is loaded.embedding.weight) == model.tie
    assert repr(loaded) == repr(model)


def test_dropout_acts_while_training_alone():
    model = LanguageModel(VOCAB, CausalAttention(8, 2), dropout=0.5)
    tokens = some_tokens(2, TIME)
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_is_finite_under_autocast_and_in_bfloat16(dtype):
    model, tokens = model_of(plain, dtype), some_tokens(3, TIME)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
        loss = model.loss(tokens)
        logits, state = model.scan(tokens, model.init_state(3))
        step, _ = model.step(tokens[:, 0], state)
    assert loss.dtype == torch.float32
    loss.backward()
    for result in (loss, logits, step, *(p.grad for p in model.parameters())):
        assert result.isfinite().all()
    expected = model.double()(tokens)
    assert_close(logits.double(), expected, tolerance=0.05, because="several layers in bfloat16")


@pytest.mark.compile
def test_compiles_as_one_graph():
    model, tokens = model_of(plain), some_tokens(3, TIME)
    parameters = list(model.parameters())
    torch.compiler.reset()
    loss = torch.compile(model.loss, fullgraph=True, backend="aot_eager")
    step = torch.compile(model.step, fullgraph=True, backend="aot_eager")
    assert_close(loss(tokens), model.loss(tokens))
    expected = torch.autograd.grad(model.loss(tokens), parameters)
    for gradient, e in zip(torch.autograd.grad(loss(tokens), parameters), expected, strict=True):
        assert_close(gradient, e)
    with torch.no_grad():
        state = model.init_state(3)
        assert_close(step(tokens[:, 0], state)[0], model.step(tokens[:, 0], state)[0])
    torch.compiler.reset()


def test_learns_to_copy():
    """The second half repeats the first: its loss goes to 0, which takes recall by position."""
    torch.manual_seed(0)
    stack = ResidualStack([CausalAttention(32, 2), CausalAttention(32, 2)])
    model = LanguageModel(8, stack)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(250):
        half = torch.randint(8, (32, 6))
        tokens = torch.cat([half, half], 1)
        targets = torch.cat([torch.full((32, 5), -100), half, half[:, :1]], 1)
        loss = model.loss(tokens, targets=targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    prompt = torch.randint(8, (50, 6))
    copied = model.generate(prompt, 6, temperature=0).tokens
    assert (copied == prompt).float().mean() > 0.95


class ForwardOnly(SequenceModule):
    def __init__(self):
        super().__init__()
        self.d_model = 8
        self.map = nn.Linear(8, 8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m([[1]]), TypeError, "expected tokens to be a tensor, got list"),
        (lambda m: m(torch.zeros(2, 3)), TypeError, "expected int64 tokens, got float32"),
        (lambda m: m(some_tokens(3)), ValueError, r"got \(3,\); use tokens\[None\]"),
        (lambda m: m(some_tokens(3, 0)), ValueError, r"at least one token, got shape \(3, 0\)"),
        (lambda m: m(some_tokens(1, 2) + 7), ValueError, "expected tokens in 0…6, got "),
        (lambda m: m(some_tokens(1, 2), torch.tensor([3])), ValueError, "between 0 and 2, got 3"),
        (
            lambda m: m.step(some_tokens(3, 1), m.init_state(3)),
            ValueError,
            r"of shape \(batch,\), got \(3, 1\); scan takes a chunk",
        ),
        (
            lambda m: m.step(torch.zeros(3), m.init_state(3)),
            TypeError,
            "expected int64 tokens, got float32",
        ),
        (
            lambda m: m.loss(some_tokens(3, 1)),
            ValueError,
            r"expected two tokens or more, of which the last is predicted, got \(3, 1\)",
        ),
        (
            lambda m: m.loss(some_tokens(3, 5), targets=some_tokens(3, 4)),
            ValueError,
            r"expected a target for each token, \(3, 5\), got \(3, 4\)",
        ),
        (lambda m: LanguageModel(0, m.stack), ValueError, "expected vocab_size >= 1, got 0"),
        (
            lambda m: LanguageModel(9, ForwardOnly()),
            ValueError,
            "expected layers that stream, but this ForwardOnly cannot",
        ),
    ],
)
def test_wrong_inputs(call, error, message):
    with pytest.raises(error, match=f"^LanguageModel: .*{message}"):
        call(model_of(plain))
