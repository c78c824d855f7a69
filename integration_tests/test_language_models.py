"""Language models over layers of several packages: parallel prefill, then steps, are one model."""

import pytest
import torch

from gonzo.core.nn import CausalAttention, LanguageModel, ResidualStack, interleave
from gonzo.core.testing import assert_close
from gonzo.efficient_attn import BasedBlock, LinearAttention, ShortConv, SlidingWindowAttention
from gonzo.ssm import H3, LSSL, S4, S4D, S5, Mega

VOCABULARY, WIDTH = 11, 8
MAKE = {
    "s": lambda: S4(WIDTH, 8),
    "d": lambda: S4D(WIDTH, 8),
    "5": lambda: S5(WIDTH, 8),
    "h": lambda: H3(WIDTH, 8, head_dim=2),
    "l": lambda: LSSL(WIDTH, 8),
    "m": lambda: Mega(WIDTH, 4, d_key=4, chunk=4),
    "a": lambda: CausalAttention(WIDTH, n_head=2),
    "t": lambda: LinearAttention(WIDTH, 2, feature_map="taylor", d_key=4, rotary=True),
    "g": lambda: LinearAttention(WIDTH, 2, feature_map="hedgehog"),
    "b": lambda: BasedBlock(WIDTH, 2, feature_map="rebased", d_key=4, window=3),
    "w": lambda: SlidingWindowAttention(WIDTH, 2, window=4),
    "c": lambda: ShortConv(WIDTH),
}


def language_model(pattern):
    torch.manual_seed(0)
    layers = interleave(pattern, {letter: MAKE[letter] for letter in set(pattern)})
    stack = ResidualStack(layers, feed_forward=16)
    model = LanguageModel(VOCABULARY, stack, dtype=None).eval()
    torch.nn.init.normal_(model.embedding.weight)  # far from uniform predictions
    return model.double()


@pytest.mark.parametrize(
    "pattern", ["sss", "hah", "h", "dam", "5ls", "msahd5l", "tcw", "sbg", "hwt"]
)
@torch.no_grad()
def test_generation_is_the_whole_forward_at_every_token(pattern):
    model = language_model(pattern)
    lengths = torch.tensor([7, 3, 1])
    prompt = torch.randint(VOCABULARY, (3, 7))
    found = model.generate(prompt, 12, lengths=lengths, temperature=0)
    for row, length in enumerate(lengths):
        text = prompt[row : row + 1, :length]
        for token in found.tokens[row]:
            best = model(text)[0, -1].argmax()
            assert token == best
            text = torch.cat([text, best.view(1, 1)], 1)


@torch.no_grad()
def test_the_hybrid_streams_in_chunks_as_it_does_whole():
    model = language_model("hah")
    tokens = torch.randint(VOCABULARY, (2, 20))
    state, logits = model.init_state(2), []
    for chunk in tokens.split([1, 9, 4, 6], 1):
        part, state = model.scan(chunk, state)
        logits.append(part)
    assert_close(torch.cat(logits, 1), model(tokens))


def test_a_hybrid_learns_to_repeat_what_it_read(tmp_path):
    torch.manual_seed(0)
    layers = interleave("ha", {"h": lambda: H3(32, 16), "a": lambda: CausalAttention(32, 2)})
    model = LanguageModel(VOCABULARY, ResidualStack(layers))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(150):
        tokens = torch.randint(VOCABULARY, (32, 5)).repeat(1, 3)
        loss = model.loss(tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().save_pretrained(tmp_path)
    model = LanguageModel.from_pretrained(tmp_path).eval()
    prompt = torch.randint(VOCABULARY, (50, 5)).repeat(1, 2)
    found = model.generate(prompt, 5, temperature=0).tokens
    assert (found == prompt[:, :5]).float().mean() > 0.9
