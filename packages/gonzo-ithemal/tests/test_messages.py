"""Messages along dependences: the kernel against the equation, and its gradients."""

import pytest
import torch

from gonzo.ithemal import BasicBlock
from gonzo.ithemal.batch import RELATIONS, encode
from gonzo.ithemal.messages import exchange, exchange_reference
from gonzo.ithemal.tokens import Vocabulary, tokenize

CODES = ["4801d8 480fafc3 488b38", "90", "488b07 4801c8 488907 4883c708", "505b", "31c0"]


def problem(codes, d=5, dtype=torch.float32):
    blocks = [BasicBlock.from_hex(code) for code in codes]
    batch = encode(blocks, Vocabulary.build(map(tokenize, blocks))).batch(range(len(blocks)))
    kinds = 2 * len(RELATIONS)
    sizes = ((len(batch.block), 3 * d), (len(blocks), d), (kinds, d), (kinds, d))
    inputs = [torch.randn(size, dtype=torch.float64).to(dtype).requires_grad_() for size in sizes]
    return inputs, batch


@pytest.mark.parametrize("codes", [CODES, CODES[:1], CODES[1:2], CODES[2:]])
def test_the_kernel_equals_the_equation(codes):
    inputs, batch = problem(codes)
    judge = [part.detach().double().requires_grad_() for part in inputs]
    found, expected = exchange(*inputs, batch), exchange_reference(*judge, batch)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    gradient = torch.randn_like(found)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, gradient),
        torch.autograd.grad(expected, judge, gradient.double()),
        strict=True,
    ):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)


def test_the_equation_has_the_gradient_that_differences_say():
    inputs, batch = problem(CODES, d=2, dtype=torch.float64)
    torch.autograd.gradcheck(lambda *parts: exchange(*parts, batch), inputs)


def test_what_depends_on_nothing_hears_its_block_alone():
    (projected, common, scale, shift), batch = problem(CODES[1:2], d=3)
    assert len(batch.producer) == 0
    found = exchange(projected, common, scale, shift, batch)
    torch.testing.assert_close(found, projected[:, :3] + common)


def test_inputs_that_are_not_contiguous():
    (projected, common, scale, shift), batch = problem(CODES)
    turned = projected.T.contiguous().T
    torch.testing.assert_close(
        exchange(turned, common, scale, shift, batch),
        exchange(projected, common, scale, shift, batch),
    )


def test_other_precisions_take_the_equation():
    inputs, batch = problem(CODES, dtype=torch.bfloat16)
    assert exchange(*inputs, batch).dtype == torch.bfloat16
