"""What every sequence model would otherwise write again: stacks, models, heads and a baseline."""

from gonzo.core.nn.attention import CausalAttention
from gonzo.core.nn.classifier import SequenceClassifier
from gonzo.core.nn.dropout import Dropout
from gonzo.core.nn.feed_forward import FeedForward
from gonzo.core.nn.forecaster import Forecaster
from gonzo.core.nn.interleave import interleave
from gonzo.core.nn.language_model import Generation, LanguageModel
from gonzo.core.nn.stack import ResidualStack

__all__ = [
    "CausalAttention",
    "Dropout",
    "FeedForward",
    "Forecaster",
    "Generation",
    "LanguageModel",
    "ResidualStack",
    "SequenceClassifier",
    "interleave",
]
