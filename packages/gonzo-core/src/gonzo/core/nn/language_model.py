"""A causal language model over any sequence layer that streams.

    logits_t = W stack(E[token])_t

with W = E by default (Press and Wolf, "Using the Output Embedding to Improve Language Models",
2017). E begins as N(0, 0.02²), as in GPT-2 (Radford et al., 2019): small beside what the layers
add, or a model with W = E would begin by predicting each token to repeat.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gonzo.core.nn.dropout import Dropout
from gonzo.core.nn.linear_cross_entropy import IGNORED, linear_cross_entropy
from gonzo.core.nn.sampling import Sampling
from gonzo.core.pretrained import Pretrained
from gonzo.core.sequence import (
    SequenceModule,
    check_lengths,
    last_step,
    map_state,
    renew_state,
    time_mask,
)

__all__ = ["ChunkLoss", "Generation", "LanguageModel"]

_STD = 0.02


class Generation(NamedTuple):
    """What ``generate`` returns."""

    tokens: Tensor  # (batch, generated), zero past each length
    lengths: Tensor  # (batch,), of the generated part; a stop token counts


class ChunkLoss(NamedTuple):
    """The loss of one chunk of a long sequence."""

    loss: Tensor  # the mean over its predictions
    count: int  # the number of its predictions


class LanguageModel(Pretrained):
    """Token embedding, a stack, and a linear head over the vocabulary.

    It keeps the contract of a sequence layer with tokens in the place of features: ``forward``,
    ``init_state``, ``scan`` and ``step`` take int64 tokens and return logits, and agree.

    Args:
        vocab_size: The number of different tokens, 0…vocab_size - 1.
        stack: Any sequence layer that streams.
        tie: Share one matrix between the embedding and the head.
        dropout: Probability, on the embedded tokens.
    """

    def __init__(
        self,
        vocab_size: int,
        stack: SequenceModule,
        *,
        tie: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if vocab_size < 1:
            raise ValueError(f"LanguageModel: expected vocab_size >= 1, got {vocab_size}")
        if not stack.streams:
            raise ValueError(
                f"LanguageModel: expected layers that stream, but this {type(stack).__name__} "
                "cannot: a layer that sees the future cannot predict it"
            )
        self.vocab_size = vocab_size
        self.tie = tie
        self.embedding = nn.Embedding(vocab_size, stack.d_model, device=device, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.stack = stack
        self.head = nn.Linear(stack.d_model, vocab_size, bias=False, device=device, dtype=dtype)
        if tie:
            self.head.weight = self.embedding.weight
        nn.init.normal_(self.embedding.weight, std=_STD)

    def reset_parameters(self) -> None:
        """Draw the parameters anew, those of the stack included."""
        self.stack.reset_parameters()
        if not self.tie:
            self.head.reset_parameters()
        nn.init.normal_(self.embedding.weight, std=_STD)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the logits of the token after each.

        Args:
            tokens: (batch, time) int64, at least one time step.
            lengths: (batch,) integers in 0…time for right-padded sequences; by default all full.

        Returns:
            (batch, time, vocab_size), zero past each length.

        Raises:
            ValueError: ``tokens`` or ``lengths`` has the wrong shape or values.
            TypeError: ``tokens`` or ``lengths`` is not integer.
        """
        self._check(tokens, lengths)
        return self.head(self.stack(self._embedded(tokens), lengths))

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Any:
        """Return the state before the first token; see ``SequenceModule.init_state``."""
        return self.stack.init_state(batch, device=device, dtype=dtype)

    def scan(self, tokens: Tensor, state: Any, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Run a chunk (batch, time); return its logits and the state after it."""
        self._check(tokens, lengths)
        y, state = self.stack.scan(self._embedded(tokens), state, lengths)
        return self.head(y), state

    def step(self, token: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Run one token (batch,); return the logits (batch, vocab_size) and the state after it."""
        _check_integers(token)
        if token.ndim != 1:
            hint = "; scan takes a chunk" if token.ndim == 2 else ""
            raise ValueError(
                f"LanguageModel: expected one token for each sequence, of shape (batch,), "
                f"got {tuple(token.shape)}{hint}"
            )
        y_t, state = self.stack.step(self._embedded(token), state)
        return self.head(y_t), state

    def loss(
        self, tokens: Tensor, lengths: Tensor | None = None, *, targets: Tensor | None = None
    ) -> Tensor:
        """Return the mean cross entropy, in nats, of predicting each token from those before it.

        The logits exist a piece at a time, so that a large vocabulary costs no memory.

        Args:
            tokens: (batch, time) int64.
            lengths: (batch,) integers in 0…time for right-padded sequences; by default all full.
            targets: (batch, time) int64, what the logits of each step should predict, -100 where
                nothing; by default the next token of ``tokens``, which then has two steps or more.

        Raises:
            ValueError: A shape is wrong.
            TypeError: A dtype is wrong.
        """
        self._check(tokens, lengths)
        if targets is None:
            if tokens.shape[1] < 2:
                raise ValueError(
                    "LanguageModel: expected two tokens or more, of which the last is predicted, "
                    f"got {tuple(tokens.shape)}"
                )
            tokens, targets = tokens[:, :-1], tokens[:, 1:]
            lengths = None if lengths is None else (lengths - 1).clamp(min=0)
        elif targets.shape != tokens.shape:
            raise ValueError(
                f"LanguageModel: expected a target for each token, {tuple(tokens.shape)}, "
                f"got {tuple(targets.shape)}"
            )
        if lengths is not None:
            targets = targets.masked_fill(~time_mask(lengths, targets.shape[1]), IGNORED)
        y = self.stack(self._embedded(tokens), lengths)
        return linear_cross_entropy(y, self.head.weight, targets.long())

    def losses(self, chunks: Iterable[Tensor]) -> Iterator[ChunkLoss]:
        """Iterate over the losses of the chunks of one sequence, which may be longer than memory.

        The state goes on from chunk to chunk, and every token but the first is predicted once: the
        mean of the losses, weighted by their counts, is ``loss`` of the whole sequence. Gradients
        stop between chunks (truncated backpropagation through time), and an optimizer may step
        between them::

            for loss, _ in model.losses(text.split(1024, dim=1)):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        Args:
            chunks: (batch, time) int64, each following the one before; of any length.
        """
        state, last = None, None
        for chunk in chunks:
            self._check(chunk, None)
            if last is not None and last.shape[0] != chunk.shape[0]:
                raise ValueError(
                    f"LanguageModel: expected chunks of one batch, got {last.shape[0]} sequences "
                    f"and then {chunk.shape[0]}"
                )
            known = chunk if last is None else torch.cat([last, chunk], dim=1)
            last = chunk[:, -1:]
            if known.shape[1] < 2:
                continue
            fresh = self.init_state(chunk.shape[0], device=chunk.device)
            state = fresh if state is None else renew_state(state, fresh)
            y, state = self.stack.scan(self._embedded(known[:, :-1]), state)
            state = map_state(Tensor.detach, state)
            targets = known[:, 1:]
            yield ChunkLoss(
                linear_cross_entropy(y, self.head.weight, targets.long()), targets.numel()
            )

    def generate(
        self,
        prompt: Tensor,
        max_new_tokens: int,
        *,
        lengths: Tensor | None = None,
        state: Any = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: int | Sequence[int] | None = None,
        generator: torch.Generator | None = None,
        on_token: Callable[[Tensor], object] | None = None,
    ) -> Generation:
        """Continue each prompt: the prompt in parallel, then one step for each token.

        The model runs in evaluation mode, without gradients. The global random state is left alone.
        What a sequence draws depends on the others in its batch, since all draw from one generator;
        with ``temperature=0`` it does not.

        Args:
            prompt: (batch, time) int64, at least one token.
            max_new_tokens: Generate this many, unless a stop comes first.
            lengths: (batch,) integers in 1…time for right-padded prompts; by default all full.
            state: After what came before the prompt, from ``scan``; by default nothing did.
            temperature: Divides the logits; 0 takes the most likely token.
            top_k: Draw among this many most likely tokens.
            top_p: Draw among the fewest most likely tokens that have this probability together;
                after ``top_k``, of what that left.
            stop: A token, or several, after which a sequence ends. Generation ends when all have.
            generator: Draws the tokens, on the device of the model; by default a new one, with a
                seed from the operating system.
            on_token: Called with the new tokens (batch,) after each step, -1 for a sequence that
                had ended before; returning False ends the generation.

        Returns:
            The new tokens (batch, generated), zero past each length, and the lengths (batch,).

        Raises:
            ValueError: A value or shape is wrong.
            TypeError: ``prompt`` or ``lengths`` is not integer.
        """
        self._check_prompt(prompt, lengths, max_new_tokens)
        sampling = Sampling(temperature, top_k, top_p)
        stops = self._stops(stop, prompt.device)
        if generator is None:
            generator = torch.Generator(prompt.device)
            generator.seed()
        batch = prompt.shape[0]
        # Made here, outside inference mode, so that the caller may train on them.
        tokens = torch.zeros((batch, max_new_tokens), device=prompt.device, dtype=torch.int64)
        made = torch.zeros(batch, device=prompt.device, dtype=torch.int64)
        running = torch.ones(batch, device=prompt.device, dtype=torch.bool)
        steps = 0
        with _evaluating(self), torch.inference_mode():
            if state is None:
                state = self.init_state(batch, device=prompt.device)
            y, state = self.stack.scan(self._embedded(prompt), state, lengths)
            logits = self.head(last_step(y, lengths))
            while True:
                token = sampling.draw(logits, generator)
                tokens[:, steps] = token.masked_fill(~running, 0)
                made += running
                steps += 1
                if on_token is not None and on_token(token.masked_fill(~running, -1)) is False:
                    break
                if stops is not None:
                    running &= ~torch.isin(token, stops)
                    if not running.any():
                        break
                if steps == max_new_tokens:
                    break
                logits, state = self.step(token, state)
        return Generation(tokens[:, :steps], made)

    def _embedded(self, tokens: Tensor) -> Tensor:
        try:
            return self.dropout(self.embedding(tokens))
        except IndexError:
            raise ValueError(
                f"LanguageModel: expected tokens in 0…{self.vocab_size - 1}, "
                f"got {int(tokens.min())}…{int(tokens.max())}"
            ) from None

    def _check(self, tokens: Tensor, lengths: Tensor | None) -> None:
        _check_integers(tokens)
        if tokens.ndim != 2:
            hint = "; use tokens[None], a batch of one" if tokens.ndim == 1 else ""
            raise ValueError(
                f"LanguageModel: expected tokens of shape (batch, time), "
                f"got {tuple(tokens.shape)}{hint}"
            )
        if tokens.shape[1] == 0:
            raise ValueError(
                f"LanguageModel: expected at least one token, got shape {tuple(tokens.shape)}"
            )
        if lengths is not None:
            check_lengths("LanguageModel", lengths, tokens)

    def _check_prompt(self, prompt: Tensor, lengths: Tensor | None, max_new_tokens: int) -> None:
        self._check(prompt, lengths)
        if max_new_tokens < 1:
            raise ValueError(f"generate: expected max_new_tokens >= 1, got {max_new_tokens}")
        if lengths is not None and bool((lengths < 1).any()):
            raise ValueError("generate: expected at least one token in each prompt, got a length 0")

    def _stops(self, stop: int | Sequence[int] | None, device: torch.device) -> Tensor | None:
        if stop is None:
            return None
        stops = [stop] if isinstance(stop, int) else list(stop)
        wrong = [token for token in stops if not 0 <= token < self.vocab_size]
        if wrong:
            raise ValueError(
                f"generate: expected stop tokens in 0…{self.vocab_size - 1}, got {wrong[0]}"
            )
        return torch.tensor(stops, device=device, dtype=torch.int64)

    def extra_repr(self) -> str:
        """Describe the layer in ``repr``."""
        return f"vocab_size={self.vocab_size}, tie={self.tie}"


def _check_integers(tokens: Tensor) -> None:
    if not isinstance(tokens, Tensor):
        raise TypeError(
            f"LanguageModel: expected tokens to be a tensor, got {type(tokens).__name__}"
        )
    if tokens.dtype not in (torch.int64, torch.int32):
        got = str(tokens.dtype).removeprefix("torch.")
        raise TypeError(f"LanguageModel: expected int64 tokens, got {got}")


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Generator[None]:
    """Evaluation mode inside the block, and each part's own mode again after it."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
