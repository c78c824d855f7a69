"""Tokens a second of language models at growing context: state spaces beside attention."""

import functools

import torch

from gonzo.core.bench import TimeRow, faster_than_peer, main
from gonzo.core.nn import CausalAttention, LanguageModel, ResidualStack
from gonzo.ssm import H3, S4, S4D

D_MODEL, LAYERS, VOCABULARY = 256, 4, 256
TOKENS = 32
LAYER = {"S4D": lambda: S4D(D_MODEL), "S4": lambda: S4(D_MODEL), "H3": lambda: H3(D_MODEL)}
TRANSFORMER = "the same with attention, 4 heads and a KV cache"
BARS = {1024: None, 4096: faster_than_peer(3), 16_384: faster_than_peer(8)}


class Generating:
    """A model in the middle of a text; a call generates some tokens, greedily.

    Several, as ours and the peer take turns: the first token after the peer's reads all weights
    from memory again, which nobody who generates a text meets.
    """

    def __init__(self, make, context):
        torch.manual_seed(0)
        stack = ResidualStack([make() for _ in range(LAYERS)], feed_forward=4 * D_MODEL)
        self.model = LanguageModel(VOCABULARY, stack).eval().requires_grad_(False)
        prompt = torch.randint(VOCABULARY, (1, context))
        logits, self.state = self.model.scan(prompt, self.model.init_state(1))
        self.token = logits[:, -1].argmax(-1)

    def __call__(self):
        for _ in range(TOKENS):
            logits, self.state = self.model.step(self.token, self.state)
            self.token = logits.argmax(-1)


@torch.no_grad()
def both(name, context):
    return (
        Generating(LAYER[name], context),
        Generating(lambda: CausalAttention(D_MODEL, n_head=4), context),
    )


ROWS = [
    TimeRow(what=f"{TOKENS} tokens of a {LAYERS}-layer d{D_MODEL} language model of {name}, B1, "
            f"after {context} tokens",
            ours=lambda ours, peer: ours(), peer=lambda ours, peer: peer(), peer_name=TRANSFORMER,
            setup=functools.partial(both, name, context), bar=bar if name == "S4D" else None,
            tests=["tests/test_laws.py", "tests/test_models.py"])
    for name in LAYER for context, bar in BARS.items()
]  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-ssm", script=__file__))
