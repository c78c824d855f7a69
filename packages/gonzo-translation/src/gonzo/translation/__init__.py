"""Words translated without parallel data: word vectors of two languages, aligned.

The names load on first use, each with what it needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adversarial import AdversarialAligner
    from .aligning import align
    from .embeddings import Embeddings, read_embeddings
    from .lexicon import Lexicon, read_lexicon
    from .mapping import Alignment
    from .orthogonal import procrustes
    from .refinement import refine
    from .self_learner import self_learning
    from .text_training import train_embeddings
    from .word_translation_scores import word_translation

_HOME = {
    "AdversarialAligner": "adversarial",
    "Alignment": "mapping",
    "Embeddings": "embeddings",
    "Lexicon": "lexicon",
    "align": "aligning",
    "procrustes": "orthogonal",
    "read_embeddings": "embeddings",
    "read_lexicon": "lexicon",
    "refine": "refinement",
    "self_learning": "self_learner",
    "train_embeddings": "text_training",
    "word_translation": "word_translation_scores",
}

__all__ = [
    "AdversarialAligner",
    "Alignment",
    "Embeddings",
    "Lexicon",
    "align",
    "procrustes",
    "read_embeddings",
    "read_lexicon",
    "refine",
    "self_learning",
    "train_embeddings",
    "word_translation",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gonzo.translation' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"gonzo.translation.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
