"""What a user can get wrong says what was expected, what came, and the way out."""

import pytest

from gonzo.efficient_attn import (
    BasedBlock,
    EluPlusOne,
    HedgehogMap,
    LinearAttention,
    Performer,
    ReBasedMap,
    ShortConv,
    SlidingWindowAttention,
    Taylor,
    language_model,
)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("expected d_model to be a multiple of n_head, got d_model=10 and n_head=4",
         lambda: LinearAttention(10, 4)),
        ("expected feature_map to be a FeatureMap or one of 'elu', 'relu', 'performer', 'taylor'",
         lambda: LinearAttention(8, 4, feature_map="softmax")),
        ("the feature map is made for n_head=2 and d_key=16, and the layer for n_head=4$",
         lambda: LinearAttention(8, 4, feature_map=Taylor(2))),
        ("made for n_head=2 and d_key=16, and the layer for n_head=2 and d_key=8",
         lambda: LinearAttention(8, 2, feature_map=Taylor(2), d_key=8)),
        ("rotary positions turn pairs of numbers, so d_key must be even, got 3",
         lambda: LinearAttention(9, 3, rotary=True)),
        ("EluPlusOne: expected n_head and d_key of at least 1, got 0 and 4",
         lambda: EluPlusOne(0, 4)),
        ("Performer: expected n_random of at least 1, got 0",
         lambda: Performer(1, 4, n_random=0)),
        ("ReBasedMap: expected convention 'per_head' or 'joint', got 'fla'",
         lambda: ReBasedMap(1, 4, convention="fla")),
        ("HedgehogMap: expected activation to be one of 'softmax', 'clamped', 'exp', got 'relu'",
         lambda: HedgehogMap(1, 4, activation="relu")),
        ("ShortConv: expected d_model and kernel_size of at least 1, got 4 and 0",
         lambda: ShortConv(4, 0)),
        ("expected window >= 1, got 0", lambda: SlidingWindowAttention(8, 2, window=0)),
        ("expected d_model to be a multiple of n_head", lambda: BasedBlock(9, 2)),
        ("language_model: expected kind to be one of 'based', 'rebased', 'hedgehog', 'performer'",
         lambda: language_model("mamba", 10)),
        ("language_model: expected n_layer of at least 1, got 0",
         lambda: language_model("based", 10, n_layer=0)),
    ],
)  # fmt: skip
def test_it_is_explained(message, call):
    with pytest.raises(ValueError, match=message):
        call()
