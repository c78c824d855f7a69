"""`population_forward` beside dense matrix products and beside neat-python's networks."""

import functools
import importlib.metadata
import importlib.util
import math

import torch

from gonzo.core.bench import TimeRow, at_most, main
from gonzo.core.ops.population_forward import population_forward
from gonzo.core.ops.population_forward.functions import ACTIVATIONS

TESTS = ["tests/test_population_forward.py"]
DENSE = "dense (P, N, N) weights, a baddbmm a node"
PARAMETERS = ("weight", "bias", "response")


def population(size, inputs, outputs, hidden, edges, *, nodes=None, capacity=None, function="tanh"):
    """Random networks without cycles whose nodes sum; columns beyond them are padding."""
    own = hidden + outputs
    nodes, capacity = nodes or own, capacity or edges
    possible = torch.tensor([(j, s) for j in range(own) for s in range(inputs + min(j, hidden))])
    chosen = torch.rand(size, len(possible)).argsort(1)[:, :edges].sort(1).values
    targets, sources = possible[chosen].unbind(-1)
    first = torch.full((size, nodes + 1), edges)
    first[:, :own] = torch.searchsorted(targets.contiguous(), torch.arange(own).repeat(size, 1))
    source = torch.zeros(size, capacity, dtype=torch.int64)
    source[:, :edges] = sources
    kind = torch.full((size, nodes), ACTIVATIONS.index(function))
    last = torch.arange(hidden, own).expand(size, outputs)
    real = (torch.randn(size, capacity), torch.randn(size, nodes), torch.ones(size, nodes))
    whole = (source, first, torch.full((size,), own), kind, torch.zeros_like(kind), last)
    return *real, *(t.int().contiguous() for t in whole)


def dense(x, weight, bias, _, source, first, nodes, __, ___, outputs):
    """Columns in topological order: each node is a product with all values before it."""
    size, inputs, own = len(weight), x.shape[-1], int(nodes.max())
    edges = torch.arange(weight.shape[1]).expand_as(weight).contiguous()
    target = torch.searchsorted(first[:, 1:].contiguous(), edges.int(), right=True)
    kept = target < own
    matrix = torch.zeros(size, own + 1, inputs + own)
    rows = torch.arange(size)[:, None].expand_as(source)
    matrix[rows, target.clamp(max=own), source.long()] = torch.where(kept, weight, 0.0)
    return x, matrix[:, :own], bias[:, :own], outputs


def run_dense(x, matrix, bias, outputs):
    size, own, columns = matrix.shape
    values = x.new_empty(size, columns, x.shape[-2])  # (P, slots, S)
    inputs = columns - own
    values[:, :inputs] = x.mT
    for j in range(own):
        before = values[:, : inputs + j]
        z = torch.baddbmm(bias[:, j, None, None], matrix[:, j : j + 1, : inputs + j], before)
        values[:, inputs + j] = z[:, 0].tanh_()
    return values[torch.arange(size)[:, None], inputs + outputs.long()].mT


def objects(x, weight, bias, response, source, first, nodes, _, __, outputs):
    """The same networks for neat-python, whose nodes are tuples and whose inputs are lists."""
    from neat.nn import FeedForwardNetwork

    def tanh(z):
        return math.tanh(max(-60.0, min(60.0, z)))

    inputs = x.shape[-1]

    def key(slot):
        return -1 - slot if slot < inputs else slot - inputs

    networks = []
    for p in range(len(weight)):
        at, w, s = first[p].tolist(), weight[p].tolist(), source[p].tolist()
        evals = [
            (j, tanh, sum, float(bias[p, j]), float(response[p, j]),
             [(key(s[e]), w[e]) for e in range(at[j], at[j + 1])])
            for j in range(int(nodes[p]))
        ]  # fmt: skip
        keys = [-1 - i for i in range(inputs)]
        networks.append(FeedForwardNetwork(keys, outputs[p].tolist(), evals))
    return networks, x.tolist()


def run_objects(networks, x):
    return [[network.activate(row) for row in x] for network in networks]


def both(make, prepare, samples, inputs):
    """Arguments of ours, and in one tuple those of the peer; the peer's networks are ready-made."""
    torch.manual_seed(0)
    network, x = make(), torch.randn(samples, inputs)
    theirs = prepare(x, *network) if prepare else ()
    if prepare is objects:
        y = torch.tensor(run_objects(theirs[0][:3], theirs[1]))
        torch.testing.assert_close(population_forward(x, *(t[:3] for t in network)), y)
    elif prepare is dense:
        torch.testing.assert_close(population_forward(x, *network), run_dense(*theirs))
    return x, network, theirs


def ours(x, network, _):
    return population_forward(x, *network)


def ours_and_back(x, network, _):
    leaves = [t.detach().requires_grad_() for t in network[:3]]
    y = population_forward(x, *leaves, *network[3:])
    return torch.autograd.grad(y.square().sum(), leaves)


def dense_and_back(_, __, theirs):
    # An allocation written node by node cannot be differentiated: the products are stacked.
    x, matrix, bias, outputs = theirs
    matrix, bias = (t.detach().requires_grad_() for t in (matrix, bias))
    size, own, columns = matrix.shape
    inputs = columns - own
    values = list(x.mT.expand(size, inputs, -1).unbind(1))
    for j in range(own):
        before = torch.stack(values, 1)
        z = torch.baddbmm(bias[:, j, None, None], matrix[:, j : j + 1, : inputs + j], before)
        values.append(z[:, 0].tanh())
    stacked = torch.stack(values, 1)
    y = stacked[torch.arange(size)[:, None], inputs + outputs.long()]
    return torch.autograd.grad(y.square().sum(), [matrix, bias])


LARGE = functools.partial(population, 1000, 4, 2, 14, 40)
PADDED = functools.partial(LARGE, nodes=50, capacity=100)
SMALL = functools.partial(population, 5000, 2, 1, 5, 10)
STEP = functools.partial(population, 150, 4, 2, 1, 8)


def rows():
    made = functools.partial(both, samples=100, inputs=4)
    against_dense = {"peer": lambda x, network, theirs: run_dense(*theirs), "peer_name": DENSE}
    row = functools.partial(TimeRow, tests=TESTS)
    has_neat = importlib.util.find_spec("neat") is not None
    against_neat = (
        {
            "peer": lambda x, network, theirs: run_objects(*theirs),
            "peer_name": f"neat-python {importlib.metadata.version('neat-python')}, networks built",
        }
        if has_neat
        else {"no_peer": "neat-python is not installed: pip install neat-python"}
    )
    return [
        row(what="population_forward P1000 S100 N16 E40", ours=ours, bar=at_most(0.02),
            setup=functools.partial(made, LARGE, dense), **against_dense),
        row(what="population_forward P1000 S100 N16 E40 in columns for N50 E100", ours=ours,
            bar=at_most(0.02), setup=functools.partial(made, PADDED, objects if has_neat else None),
            **against_neat),
        row(what="population_forward P1000 S100 N16 E40 forward+backward", ours=ours_and_back,
            peer=dense_and_back, peer_name=DENSE, setup=functools.partial(made, LARGE, dense)),
        row(what="population_forward P5000 S4 N6 E10", ours=ours,
            setup=functools.partial(both, SMALL, dense, 4, 2), **against_dense),
        row(what="population_forward P150 S1 N3 E8", ours=ours,
            setup=functools.partial(both, STEP, dense, 1, 4), **against_dense),
    ]  # fmt: skip


ROWS = rows()

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-core", script=__file__))
