"""The peers of the benchmarks compute what ours do; this needs the folder beside the tests."""

from pathlib import Path

import pytest
import torch

from gonzo.core.ops.linear_attention import linear_attention
from gonzo.core.testing import assert_close, imports_from
from gonzo.efficient_attn import HedgehogMap

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.skipif(
    not BENCHMARKS.exists(), reason="the benchmarks are not beside the tests"
)


@pytest.fixture
def naive():
    with imports_from(BENCHMARKS):
        from peers import naive

        yield naive


def heads(d, positive=False):
    x = torch.randn(2, 3, 512, d, dtype=torch.float64)
    return x.abs() if positive else x


def test_chunked(naive):
    q, k, v = heads(8, True), heads(8, True), heads(5)
    assert_close(naive.chunked(q, k, v), linear_attention(q, k, v)[0])


def test_taylor(naive):
    q, k, v = heads(4), heads(4), heads(5)
    expected = linear_attention(q, k, v, feature_map="taylor")[0]
    assert_close(naive.chunked_taylor(q, k, v), expected)
    assert_close(naive.parallel(q, k, v, naive.taylor), expected)


def test_square(naive):
    q, k, v = heads(4), heads(4), heads(5)
    expected = linear_attention(q, k, v, feature_map="quadratic")[0]
    assert_close(naive.parallel(q, k, v, naive.square), expected)


def test_hedgehog(naive):
    q, k, v = heads(4), heads(4), heads(5)
    feature_map = HedgehogMap(3, 4).double()
    feature_map.weight.data += 0.3 * torch.randn_like(feature_map.weight)
    wq, wk = feature_map.weight.mT
    expected, _ = linear_attention(*feature_map(q, k), v, feature_map="softmax_pair", eps=0.0)
    assert_close(naive.hedgehog(q, k, v, wq, wk), expected)
