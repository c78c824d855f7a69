"""Generation: what the model would say token by token, drawn as asked."""

import pytest
import torch

from gonzo.core.nn import CausalAttention, LanguageModel, ResidualStack
from gonzo.core.nn.sampling import Sampling
from gonzo.core.testing import assert_close

VOCAB = 11


@pytest.fixture
def model():
    torch.manual_seed(0)
    stack = ResidualStack([CausalAttention(8, 2), CausalAttention(8, 2, window=4)], feed_forward=12)
    model = LanguageModel(VOCAB, stack, tie=False).double()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.normal_()  # a fresh model would say one token again and again
        model.embedding.weight.normal_()
    return model


def some_tokens(*shape, seed=0):
    return torch.randint(VOCAB, shape, generator=torch.Generator().manual_seed(seed))


def by_forward(model, prompt, steps, temperature=0.0, seed=0):
    """Generation that runs the whole sequence again for each token."""
    model.eval()
    tokens, generator = prompt, torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _ in range(steps):
            token = Sampling(temperature).draw(model(tokens)[:, -1], generator)
            tokens = torch.cat([tokens, token[:, None]], 1)
    return tokens[:, prompt.shape[1] :]


def test_greedy_equals_running_everything_again(model):
    prompt = some_tokens(3, 5)
    generated = model.generate(prompt, 12, temperature=0)
    assert torch.equal(generated.tokens, by_forward(model, prompt, 12))
    assert generated.lengths.tolist() == [12] * 3


def test_a_long_generation_crosses_the_parts_of_the_cache(model):
    prompt, generator = some_tokens(1, 3), torch.Generator().manual_seed(0)
    tokens = model.generate(prompt, 150, generator=generator).tokens
    assert tokens[0, 130:].unique().numel() > 3
    assert torch.equal(tokens, by_forward(model, prompt, 150, temperature=1.0))


def test_prompts_of_different_lengths_give_what_each_gives_alone(model):
    prompt, lengths = some_tokens(4, 9), torch.tensor([9, 1, 4, 6])
    generated = model.generate(prompt, 12, lengths=lengths, temperature=0)
    for row, length in enumerate(lengths.tolist()):
        alone = model.generate(prompt[row : row + 1, :length], 12, temperature=0)
        assert torch.equal(generated.tokens[row : row + 1], alone.tokens)


def test_a_prompt_may_be_scanned_before(model):
    prompt = some_tokens(2, 9)
    model.eval()
    _, state = model.scan(prompt[:, :6], model.init_state(2))
    continued = model.generate(prompt[:, 6:], 8, state=state, temperature=0)
    assert torch.equal(continued.tokens, model.generate(prompt, 8, temperature=0).tokens)


def test_a_stop_token_ends_its_sequence_and_all_of_them_the_generation(model):
    prompt = some_tokens(4, 5)
    free = model.generate(prompt, 30, temperature=0).tokens
    stops = [int(free[0, 3]), int(free[1, 6])]
    ends = [[t in stops for t in row].index(True) + 1 if set(row) & set(stops) else 30
            for row in free.tolist()]  # fmt: skip
    assert len(set(ends)) > 1
    stopped = model.generate(prompt, 30, temperature=0, stop=stops)
    assert stopped.lengths.tolist() == ends
    assert stopped.tokens.shape == (4, max(ends))
    for row, end in enumerate(ends):
        assert torch.equal(stopped.tokens[row, :end], free[row, :end])
        assert not stopped.tokens[row, end:].any()
    one = model.generate(prompt[:1], 30, temperature=0, stop=stops[0])
    first = free[0].tolist().index(stops[0]) + 1
    assert one.tokens.shape == (1, first)
    assert one.lengths.tolist() == [first]


def test_the_callback_sees_every_token_and_may_end_the_generation(model):
    prompt = some_tokens(3, 5)
    free = model.generate(prompt, 10, temperature=0).tokens
    stop = int(free[0, 2])
    seen = []
    stopped = model.generate(prompt, 10, temperature=0, stop=stop, on_token=seen.append)
    assert len(seen) == stopped.tokens.shape[1]
    for row, length in enumerate(stopped.lengths.tolist()):
        column = [int(tokens[row]) for tokens in seen]
        assert column[:length] == stopped.tokens[row, :length].tolist()
        assert set(column[length:]) <= {-1}

    calls = []

    def until_the_fourth(token):
        calls.append(token)
        return len(calls) < 4

    ended = model.generate(prompt, 10, temperature=0, on_token=until_the_fourth)
    assert torch.equal(ended.tokens, free[:, :4])
    assert ended.lengths.tolist() == [4] * 3


def test_a_generator_repeats_and_the_global_random_state_stays(model):
    prompt = some_tokens(3, 5)
    before = torch.random.get_rng_state()
    first = model.generate(prompt, 20, generator=torch.Generator().manual_seed(1)).tokens
    again = model.generate(prompt, 20, generator=torch.Generator().manual_seed(1)).tokens
    other = model.generate(prompt, 20, generator=torch.Generator().manual_seed(2)).tokens
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(model.generate(prompt, 20).tokens, model.generate(prompt, 20).tokens)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_runs_in_evaluation_mode_and_leaves_the_modes_as_they_were():
    model = LanguageModel(VOCAB, ResidualStack([CausalAttention(8, 2)], dropout=0.5), dropout=0.5)
    model.stack.layers[0].eval()
    modes = [part.training for part in model.modules()]
    prompt = some_tokens(1, 5)
    runs = [model.generate(prompt, 20, temperature=0).tokens for _ in range(2)]
    assert torch.equal(*runs)
    assert [part.training for part in model.modules()] == modes


def test_what_was_generated_can_be_trained_on(model):
    generated = model.generate(some_tokens(2, 5), 6, temperature=0)
    model.loss(generated.tokens, generated.lengths).backward()
    assert model.embedding.weight.grad.isfinite().all()


def test_a_batch_of_none(model):
    generated = model.generate(some_tokens(0, 5), 3)
    assert generated.tokens.shape == (0, 3)


def frequencies(draws=20_000, **settings):
    """The distribution that one row of logits is drawn from, measured."""
    logits = torch.tensor([2.0, -1.0, 0.5, 1.0, -3.0, 0.0]).log_softmax(-1)
    generator = torch.Generator().manual_seed(0)
    drawn = Sampling(**settings).draw(logits.expand(draws, -1), generator)
    return torch.bincount(drawn, minlength=6) / draws, logits.exp()


def test_draws_from_the_softmax_at_a_temperature():
    measured, exact = frequencies()
    torch.testing.assert_close(measured, exact, rtol=0, atol=0.015)
    measured, exact = frequencies(temperature=0.5)
    torch.testing.assert_close(measured, exact**2 / (exact**2).sum(), rtol=0, atol=0.015)


@pytest.mark.parametrize(
    ("settings", "support"),
    [
        ({"top_k": 1}, [0]),
        ({"top_k": 3}, [0, 2, 3]),
        ({"top_k": 100}, range(6)),
        # The probabilities are 0.56, 0.21, 0.13, 0.08, 0.03, 0.004 for tokens 0, 3, 2, 5, 1, 4.
        ({"top_p": 0.5}, [0]),
        ({"top_p": 0.7}, [0, 3]),
        ({"top_p": 0.85}, [0, 2, 3]),
        ({"top_p": 1.0}, range(6)),
        # Of the two that top_k leaves, the first has 0.73.
        ({"top_k": 2, "top_p": 0.7}, [0]),
        ({"top_k": 2, "top_p": 0.75}, [0, 3]),
        ({"temperature": 1e-3}, [0]),
        ({"temperature": 0}, [0]),
    ],
)
def test_draws_from_the_tokens_asked_for_and_no_others(settings, support):
    measured, exact = frequencies(**settings)
    assert measured.nonzero().flatten().tolist() == list(support)
    if "temperature" not in settings:
        kept = torch.zeros(6)
        kept[list(support)] = exact[list(support)]
        torch.testing.assert_close(measured, kept / kept.sum(), rtol=0, atol=0.015)


def test_half_precision_logits_are_drawn_from_in_float32():
    logits = torch.zeros(1, 4, dtype=torch.bfloat16)
    assert Sampling(top_p=0.9).draw(logits, torch.Generator().manual_seed(0)).shape == (1,)


def test_float64_and_float32_models_agree(model):
    prompt = some_tokens(2, 5)
    expected = model.generate(prompt, 5, temperature=0).tokens
    logits = model.eval()(prompt)
    model.float()
    assert_close(model(prompt), logits, dtype=torch.float32)
    assert torch.equal(model.generate(prompt, 5, temperature=0).tokens, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "expected max_new_tokens >= 1, got 0"),
        ({"temperature": -1.0}, "expected a finite temperature >= 0 .*, got -1.0"),
        ({"temperature": float("nan")}, "expected a finite temperature >= 0 .*, got nan"),
        ({"top_k": 0}, "expected top_k >= 1 or None, got 0"),
        ({"top_p": 0.0}, "expected 0 < top_p <= 1 or None, got 0.0"),
        ({"top_p": 1.5}, "expected 0 < top_p <= 1 or None, got 1.5"),
        ({"stop": 11}, "expected stop tokens in 0…10, got 11"),
        ({"stop": [1, -1]}, "expected stop tokens in 0…10, got -1"),
        (
            {"lengths": torch.tensor([2, 0])},
            "expected at least one token in each prompt, got a length 0",
        ),
    ],
)
def test_wrong_settings(model, settings, message):
    settings = {"prompt": some_tokens(2, 3), "max_new_tokens": 5, **settings}
    with pytest.raises(ValueError, match=f"^generate: {message}"):
        model.generate(**settings)


def test_wrong_prompts(model):
    with pytest.raises(TypeError, match="expected int64 tokens, got float64"):
        model.generate(torch.zeros(2, 3, dtype=torch.float64), 5)
    with pytest.raises(ValueError, match=r"expected tokens of shape \(batch, time\), got \(3,\)"):
        model.generate(some_tokens(3), 5)
