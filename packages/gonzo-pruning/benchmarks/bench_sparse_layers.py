"""`compile_sparse` beside the model that it was made from: what pruning buys on this machine.

The peer of every row is the dense model whose pruned weights are zero, which is as fast as if none
were. "Never slower" is judged by the same ratio, which two equal models reach to within about two
percent. Bars are those of the product itself, but for one row of 99 % sparse weights, where calling
the modules around it takes as long as the product.
"""

import functools

import torch
from torch import nn

from gonzo.core.bench import TimeRow, faster_than_peer, main
from gonzo.pruning.sparse_compiler import compile_sparse

TESTS = ["tests/test_sparse_compiler.py", "tests/test_layer_forms.py", "tests/test_dead_units.py"]
DENSE = "the dense model with its zeros"


def pruned(model, density):
    """The model without its smallest weights, layer by layer; the last layer is pruned half."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer in layers:
        kept = density if layer is not layers[-1] or len(layers) == 1 else (1 + density) / 2
        weight = layer.weight.detach()
        count = round(weight.numel() * kept)
        smallest = weight.abs().flatten().sort(stable=True).indices[: weight.numel() - count]
        weight.view(-1)[smallest] = 0
    return model.requires_grad_(False).eval()


def linear(density):
    return pruned(nn.Sequential(nn.Linear(1024, 4096)), density)


def lenet(density):
    layers = nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    return pruned(nn.Sequential(*layers), density)


def conv_4(density):
    """Four convolutions over images of 32 × 32, and three linear layers."""
    layers, width = [], 3
    for out in (64, 128):
        layers += [nn.Conv2d(width, out, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(out, out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        width = out
    layers += [nn.Flatten(), nn.Linear(128 * 64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
    return pruned(nn.Sequential(*layers, nn.Linear(256, 10)), density)


def setup(make, shape, density):
    model, x = make(density), torch.randn(shape)
    compiled = compile_sparse(model, x, seconds=1.5, verbose=False)
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-4)
    return x, model, compiled


def ours(x, _, compiled):
    return compiled(x)


def dense(x, model, _):
    return model(x)


def row(what, make, shape, density, bar=None):
    return TimeRow(
        what=f"compile_sparse {what}, {1 - density:.1%} sparse, batch {shape[0]}",
        setup=functools.partial(setup, make, shape, density),
        ours=ours,
        peer=dense,
        peer_name=DENSE,
        bar=None if bar is None else faster_than_peer(bar),
        tests=TESTS,
        caches="cold",
    )


ROWS = [
    *(
        row("1024 to 4096", linear, (batch, 1024), density, bar)
        for batch, bars in ((64, (2.8, 6, 12)), (1, (3, 5, 10)))
        for density, bar in zip((0.1, 0.05, 0.01), bars, strict=True)
    ),
    *(row("1024 to 4096", linear, (batch, 1024), 0.5, 0.98) for batch in (64, 1)),
    *(row("LeNet-300-100", lenet, (batch, 784), 0.036, bar) for batch, bar in ((64, 2), (1, 1))),
    row("LeNet-300-100", lenet, (64, 784), 0.5, 0.98),
    row("Conv-4", conv_4, (8, 3, 32, 32), 0.1, 1.15),
    row("Conv-4", conv_4, (8, 3, 32, 32), 0.02, 1.6),
]

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-pruning", script=__file__))
