"""Linear attention that keeps the quality of softmax: Based, ReBased, Hedgehog, Performer."""

from .based import BasedBlock
from .distillation import distill_attention
from .feature_maps import EluPlusOne, ReLU
from .hedgehog import HedgehogMap
from .linear_attention import LinearAttention
from .models import language_model
from .performer import Performer
from .rebased import ReBasedMap
from .short_conv import ShortConv
from .sliding_window import SlidingWindowAttention
from .taylor import Taylor

__all__ = [
    "BasedBlock",
    "EluPlusOne",
    "HedgehogMap",
    "LinearAttention",
    "Performer",
    "ReBasedMap",
    "ReLU",
    "ShortConv",
    "SlidingWindowAttention",
    "Taylor",
    "distill_attention",
    "language_model",
]
