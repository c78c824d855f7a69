"""What every gonzo package stands on: ops, the sequence contract, models' common parts, tools."""

from gonzo.core.backends import backend, explain
from gonzo.core.param_groups import TrainRule, param_groups
from gonzo.core.pretrained import Pretrained
from gonzo.core.require import require
from gonzo.core.sequence import SequenceModule

__all__ = [
    "Pretrained",
    "SequenceModule",
    "TrainRule",
    "backend",
    "explain",
    "param_groups",
    "require",
]
