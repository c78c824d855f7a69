import pytest
import torch
from torch import nn

from gonzo.core.nn import CausalAttention, ResidualStack, SequenceClassifier
from gonzo.core.testing import assert_close


def classifier(**settings):
    stack = ResidualStack([CausalAttention(8, 2)])
    return SequenceClassifier(3, 5, stack, **settings).double().eval()


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_equals_its_parts(pool):
    model = classifier(pool=pool)
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    y = model.stack(model.encoder(x))
    pooled = y.mean(1) if pool == "mean" else y[:, -1]
    assert_close(model(x), model.decoder(pooled))
    assert model(x).shape == (2, 5)


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_padding_does_not_matter(pool):
    model = classifier(pool=pool)
    x = torch.randn(4, 7, 3, dtype=torch.float64)
    lengths = torch.tensor([7, 1, 4, 0])
    logits = model(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = model(x[row : row + 1, :length])[0] if length else model.decoder.bias
        assert_close(logits[row], alone)


def test_dropout_acts_on_what_is_pooled():
    model = classifier(dropout=0.5).train()
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    assert not torch.equal(model(x), model(x))


def test_reset_draws_every_parameter_anew():
    model = classifier()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    model.reset_parameters()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_learns_which_half_holds_the_mark():
    torch.manual_seed(0)
    model = SequenceClassifier(1, 2, ResidualStack([CausalAttention(16, 2)]))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        place = torch.randint(10, (64,))
        x = nn.functional.one_hot(place, 10).float()[..., None]
        logits = model(x)
        loss = nn.functional.cross_entropy(logits, (place >= 5).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (logits.argmax(-1) == (place >= 5)).float().mean() > 0.95


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m(torch.zeros(2, 3, 7)), ValueError, r"expected x of shape \(batch, time, 3\)"),
        (lambda m: m(torch.zeros(2, 0, 3)), ValueError, "expected at least one time step"),
        (lambda m: m(torch.zeros(2, 4, 3).int()), TypeError, "got int32; use x.float()"),
        (
            lambda m: m(torch.zeros(2, 4, 3), torch.tensor([5, 1])),
            ValueError,
            "expected lengths between 0 and 4, got 5",
        ),
    ],
)
def test_wrong_inputs(call, error, message):
    with pytest.raises(error, match=f"^SequenceClassifier: .*{message}"):
        call(classifier())


def test_an_unknown_pool():
    with pytest.raises(ValueError, match="expected pool 'mean' or 'last', got 'max'"):
        classifier(pool="max")
