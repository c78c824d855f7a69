"""What every sequence model would otherwise write again: stacks, heads and a baseline."""

from gonzo.core.nn.attention import CausalAttention
from gonzo.core.nn.classifier import SequenceClassifier
from gonzo.core.nn.dropout import Dropout
from gonzo.core.nn.feed_forward import FeedForward
from gonzo.core.nn.stack import ResidualStack

__all__ = ["CausalAttention", "Dropout", "FeedForward", "ResidualStack", "SequenceClassifier"]
