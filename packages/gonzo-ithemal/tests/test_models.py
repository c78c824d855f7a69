"""Laws of the models: batching, order, the paper's one-by-one path, gradients, heads, chains."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gonzo.ithemal.bag import LinearBag
from gonzo.ithemal.batch import Batch, EncodedBlocks, encode
from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.graph import GraphThroughput
from gonzo.ithemal.lstm import Ithemal
from gonzo.ithemal.model import ThroughputModel
from gonzo.ithemal.tokens import Vocabulary, tokenize

HEXES = (
    "4801d8",  # add rax, rbx
    "480fafc34801c84889c2",  # imul rax, rbx; add rax, rcx; mov rdx, rax
    "488b00",  # mov rax, [rax]
    "4883c0014883c001488b1848891c24",
    "f20f58c1f20f59d0",  # addsd xmm0, xmm1; mulsd xmm2, xmm0
    "4801d84801d84801d84801d84801d84801d8",
    "90",
)
BLOCKS = [BasicBlock.from_hex(text) for text in HEXES]
VOCABULARY = Vocabulary.build((tokenize(block) for block in BLOCKS), min_count=1)
ENCODED = encode(BLOCKS, VOCABULARY)
MACHINES = ("one", "two")


def make(kind: str, *, randomise: bool = True) -> ThroughputModel:
    torch.manual_seed(0)
    n = len(VOCABULARY)
    model: ThroughputModel = {
        "bag": lambda: LinearBag(n, machines=MACHINES),
        "lstm": lambda: Ithemal(n, machines=MACHINES, d_token=16, d_instruction=24, d_model=20),
        "graph": lambda: GraphThroughput(
            n, machines=MACHINES, d_model=16, rounds=2, sums=3, chains=2
        ),
    }[kind]()
    if randomise:  # corrections start at zero, where a mistake in them would not show
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.double().eval()


@pytest.fixture(params=["bag", "lstm", "graph"])
def model(request: pytest.FixtureRequest) -> ThroughputModel:
    return make(request.param)


# --- batches


def rebuild(batch: Batch) -> list[list[tuple[int, ...]]]:
    """Read the blocks back from a batch, by definition."""
    sizes, token_sizes = batch.sizes.tolist(), batch.token_sizes.tolist()
    words: list[list[int]] = [[] for _ in range(token_sizes[0])]
    tokens = iter(batch.tokens.tolist())
    for size in token_sizes:
        for row in range(size):
            words[row].append(next(tokens))
    blocks: list[list[tuple[int, ...]]] = [[] for _ in range(sizes[0])]
    nodes = iter(zip(batch.instruction.tolist(), batch.block.tolist(), strict=True))
    for size in sizes:
        for row in range(size):
            instruction, block = next(nodes)
            assert block == row
            blocks[row].append(tuple(words[instruction]))
    return [blocks[place] for place in batch.place.tolist()]


@given(st.lists(st.integers(0, len(BLOCKS) - 1), min_size=1, max_size=12))
def test_a_batch_holds_the_blocks_that_were_asked_for(rows: list[int]) -> None:
    batch = ENCODED.batch(rows)
    expected = [
        [tuple(map(VOCABULARY.encode, words)) for words in tokenize(BLOCKS[row])] for row in rows
    ]
    assert rebuild(batch) == expected
    assert len({tuple(words) for words in itertools.chain(*expected)}) == batch.token_sizes[0]
    # An edge stays within its block, and as many places apart.
    first = (batch.sizes.cumsum(0) - batch.sizes).tolist()
    step = {node: k for k, f in enumerate(first) for node in range(f, f + int(batch.sizes[k]))}
    found = [
        (int(batch.block[p]), step[p], step[c], int(r))
        for p, c, r in zip(
            batch.producer.tolist(), batch.consumer.tolist(), batch.relation, strict=True
        )
    ]
    assert torch.equal(batch.block[batch.consumer], batch.block[batch.producer])
    wanted = [
        (int(place), *map(int, edge))
        for place, row in zip(batch.place, rows, strict=True)
        for edge in ENCODED.edges[ENCODED.edge_starts[row] : ENCODED.edge_starts[row + 1]]
    ]
    assert found == wanted


@pytest.mark.parametrize("rows", [[], [-1], [len(BLOCKS)]])
def test_rows_that_do_not_exist_are_refused(rows: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one row, each within 0 … 6"):
        ENCODED.batch(rows)


def test_no_blocks_encode_to_no_rows() -> None:
    empty = encode([], VOCABULARY)
    assert len(empty) == 0
    assert empty.edges.shape == (0, 3)


def test_signatures_are_equal_exactly_for_equal_token_sequences() -> None:
    same = encode([BLOCKS[0], BLOCKS[2], BLOCKS[0], BLOCKS[5]], VOCABULARY)
    keys = [same.signature(row) for row in range(4)]
    assert keys[0] == keys[2]
    assert len(set(keys)) == 3


# --- laws of every model


def test_batching_changes_nothing(model: ThroughputModel) -> None:
    rows = [3, 0, 6, 1, 5, 2, 4, 0]
    together = model(ENCODED.batch(rows))
    for place, row in enumerate(rows):
        alone = model(ENCODED.batch([row]))
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[place], b[0], rtol=1e-10, atol=1e-12)


def test_intervals_contain_the_prediction(model: ThroughputModel) -> None:
    if isinstance(model, Ithemal):
        assert model.heads[0].positive
    out = model(ENCODED.batch(range(len(BLOCKS))))
    assert (out.low < out.cycles).all()
    assert (out.cycles < out.high).all()
    assert (out.low > 0).all()


def test_machines_have_heads_of_their_own(model: ThroughputModel) -> None:
    batch = ENCODED.batch([0, 3, 5])
    one, two = (model(batch, torch.full((3,), k)).cycles for k in (0, 1))
    assert not torch.isclose(one, two).any()
    mixed = model(batch, torch.tensor([1, 0, 1])).cycles
    torch.testing.assert_close(mixed, torch.stack([two[0], one[1], two[2]]))
    torch.testing.assert_close(model(batch).cycles, one)


def test_a_new_machine_begins_as_another_and_leaves_the_rest(model: ThroughputModel) -> None:
    batch = ENCODED.batch([1, 3])
    wider = model.with_machine("three", like="two").double()
    assert wider.machines == ("one", "two", "three")
    assert type(wider) is type(model)
    for index, source in ((0, 0), (1, 1), (2, 1)):
        got = wider(batch, torch.full((2,), index)).cycles
        torch.testing.assert_close(got, model(batch, torch.full((2,), source)).cycles)
    with torch.no_grad():
        for parameter in wider.heads[2].parameters():
            parameter += 1
    torch.testing.assert_close(
        wider(batch, torch.tensor([1, 1])).cycles, model(batch, torch.tensor([1, 1])).cycles
    )


def test_a_new_machine_must_be_new_and_like_one_that_is(model: ThroughputModel) -> None:
    with pytest.raises(ValueError, match="a head for 'two' already"):
        model.with_machine("two")
    with pytest.raises(ValueError, match="no head for 'four'; the model has one, two"):
        model.with_machine("three", like="four")


def test_every_parameter_learns(model: ThroughputModel) -> None:
    out = model(ENCODED.batch(range(len(BLOCKS))), torch.tensor([0, 1, 0, 1, 0, 1, 0]))
    sum(column.sum() for column in out).backward()
    silent = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert not silent


@pytest.mark.parametrize("kind", ["bag", "lstm", "graph"])
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    model = make(kind)
    batch = ENCODED.batch([3, 1, 4])
    parameters = list(model.parameters())
    loss = model(batch).cycles.log().sum()
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    expected = sum(
        (g * d).sum() for g, d in zip(gradients, direction, strict=True) if g is not None
    )
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p += sign * 1e-3 * d
            values.append(model(batch).cycles.log().sum())
            for p, d in zip(parameters, direction, strict=True):
                p -= sign * 1e-3 * d
    # The latency bound is computed in single precision.
    torch.testing.assert_close((values[0] - values[1]) / 2e-3, expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("machines", [(), ("a", "a")])
def test_machines_must_be_different_names(machines: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="at least one machine and no name twice"):
        Ithemal(5, machines=machines)


def test_a_name_is_no_sequence_of_names() -> None:
    with pytest.raises(TypeError, match=r"a sequence of names, such as \(\"here\",\), got 'here'"):
        LinearBag(5, machines="here")


# --- Ithemal


@pytest.mark.parametrize("machine", [0, 1])
def test_packed_blocks_equal_the_one_by_one_path(machine: int) -> None:
    model = make("lstm").float()
    rows = range(len(BLOCKS))
    packed = model(ENCODED.batch(rows), torch.full((len(BLOCKS),), machine))
    assert isinstance(model, Ithemal)
    for row, block in enumerate(BLOCKS):
        alone = model.forward_one(
            [list(map(VOCABULARY.encode, words)) for words in tokenize(block)], machine
        )
        for a, b in zip(packed, alone, strict=True):
            torch.testing.assert_close(a[row], b[0], rtol=1e-5, atol=1e-6)


def test_the_cell_is_the_one_of_the_textbook() -> None:
    model = make("lstm")
    assert isinstance(model, Ithemal)
    tokens = [3, 1, 4]
    h = c = torch.zeros(24, dtype=torch.float64)
    lstm = model.token_lstm
    for token in tokens:
        gates = lstm.weight_ih_l0 @ model.embedding.weight[token] + lstm.bias_ih_l0
        i, f, g, o = (gates + lstm.weight_hh_l0 @ h + lstm.bias_hh_l0).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    e, h, c = h, torch.zeros(20, dtype=torch.float64), torch.zeros(20, dtype=torch.float64)
    lstm = model.instruction_lstm
    for _ in range(2):
        gates = lstm.weight_ih_l0 @ e + lstm.bias_ih_l0
        i, f, g, o = (gates + lstm.weight_hh_l0 @ h + lstm.bias_hh_l0).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    expected = (model.heads[0].linear(h)[0]).exp()
    torch.testing.assert_close(model.forward_one([tokens, tokens]).cycles[0], expected)


def test_the_papers_output_is_linear() -> None:
    torch.manual_seed(0)
    model = Ithemal(len(VOCABULARY), d_token=8, d_instruction=8, d_model=8, positive=False)
    batch = ENCODED.batch([0, 1])
    head = model.heads[0].linear
    torch.testing.assert_close(model(batch).cycles, head(model.features(batch))[:, 0][batch.place])
    with torch.no_grad():
        head.bias[0] = -5
    assert (model(batch).cycles < 0).all()


def test_the_paper_has_about_a_million_parameters() -> None:
    model = Ithemal(100)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(1.05e6, rel=0.05)


# --- the bag


def test_the_bag_is_a_sum_of_its_tokens() -> None:
    model = make("bag")
    cost = torch.nn.functional.softplus(model.heads[0].cost)
    for row, block in enumerate(BLOCKS):
        tokens = [VOCABULARY.encode(word) for words in tokenize(block) for word in words]
        torch.testing.assert_close(model(ENCODED.batch([row])).cycles[0], cost[tokens].sum())


# --- the graph


@pytest.mark.parametrize("row", [1, 3, 5])
def test_the_graph_is_its_equation(row: int) -> None:
    model = make("graph")
    assert isinstance(model, GraphThroughput)
    block = BLOCKS[row]
    edges = ENCODED.edges[ENCODED.edge_starts[row] : ENCODED.edge_starts[row + 1]].tolist()
    n = len(block)
    x = []
    for words in tokenize(block):
        token_sum = sum(model.embedding.weight[VOCABULARY.encode(word)] for word in words)
        distinct = model.norm_tokens(token_sum)
        x.append(distinct + model.mix_tokens(distinct))
    for one in model.rounds:
        states = [one.norm(state) for state in x]
        g = sum(states) / n**0.5
        w, a, b = one.project.weight.chunk(3)
        w_bias, a_bias, b_bias = one.project.bias.chunk(3)
        y = [w @ state + w_bias + one.block.weight @ g for state in states]
        for p, c, kind in edges:
            back = kind + 8
            y[c] = y[c] + one.scale.weight[kind] * (a @ states[p] + a_bias) + one.shift.weight[kind]
            y[p] = y[p] + one.scale.weight[back] * (b @ states[c] + b_bias) + one.shift.weight[back]
        x = [x[i] + one.out(torch.nn.functional.gelu(y[i])) for i in range(n)]
    x = [model.norm(state) for state in x]
    head, softplus = model.heads[0], torch.nn.functional.softplus
    sums = sum(softplus(head.sums(state)) for state in x)
    latency = [
        softplus(head.producer(x[p]) + head.consumer(x[c]) + head.relation.weight[kind])
        for p, c, kind in edges
    ]
    start: list[list[torch.Tensor]] = []  # of every repetition, of every instruction: (chains,)
    for _ in range(17):
        start.append([torch.zeros(2, dtype=torch.float64)] * n)
        for (p, c, kind), cycles in zip(edges, latency, strict=True):
            source = start[-2 if kind >= 4 else -1][p] if len(start) > 1 else None
            if source is not None:
                start[-1][c] = torch.maximum(start[-1][c], source + cycles)
    ends = [torch.stack(one).amax(0) for one in start]
    bounds = torch.log(torch.cat([sums, (ends[16] - ends[8]) / 8]) + 0.02)
    tightest = torch.log((head.beta * bounds).exp().sum()) / head.beta
    mixed = head.mix(torch.cat([head.block(sum(x) / n**0.5), bounds]))
    expected = torch.exp(tightest + mixed[0])
    # The chains are added up in single precision.
    torch.testing.assert_close(model(ENCODED.batch([row])).cycles[0], expected, rtol=1e-5, atol=0)


def permuted(encoded: EncodedBlocks, row: int, order: list[int]) -> EncodedBlocks:
    """One block with its instructions renumbered; edges keep their ends."""
    renumber = np.argsort(order)
    edges = encoded.edges[encoded.edge_starts[row] : encoded.edge_starts[row + 1]].copy()
    edges[:, :2] = renumber[edges[:, :2]]
    instruction = encoded.instruction[encoded.starts[row] : encoded.starts[row + 1]][order]
    bounds = np.array([0, len(order)])
    return EncodedBlocks(
        encoded.tokens,
        encoded.token_starts,
        instruction,
        bounds,
        edges,
        np.array([0, len(edges)]),
    )


def test_only_dependences_tell_the_graph_an_order() -> None:
    # Two chains that do not meet: where the instructions of one stand among those of the other
    # makes no difference, as long as edges still point onwards.
    block = BasicBlock.from_hex("4801d8 4801f9 4801d8 4801f9")  # rax += rbx, rcx += rdi, twice
    encoded = encode([block], VOCABULARY)
    assert len(encoded.edges)
    model = make("graph")
    moved = permuted(encoded, 0, [0, 2, 1, 3])
    torch.testing.assert_close(model(encoded.batch([0])), model(moved.batch([0])))
    swapped = encode([BasicBlock.from_hex("4801d8 4801f9 4801f9 4801f9")], VOCABULARY)
    assert not torch.isclose(model(encoded.batch([0])).cycles, model(swapped.batch([0])).cycles)


def test_the_graph_sees_edges() -> None:
    model = make("graph")
    batch = ENCODED.batch([5])
    assert len(batch.producer)
    none = batch.producer[:0]
    cut = batch._replace(producer=none, consumer=none, relation=none)
    assert not torch.isclose(model(batch).cycles, model(cut).cycles, rtol=1e-3)


def test_the_graph_needs_bounds() -> None:
    with pytest.raises(ValueError, match="sums and chains of at least 1, got 3, 0 and 8"):
        GraphThroughput(5, sums=0)
