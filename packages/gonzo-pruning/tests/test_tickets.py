"""Tickets as files: what comes back, how small they are, and what is refused."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gonzo.pruning.masks import Masks
from gonzo.pruning.tickets import Ticket


def network():
    return nn.Sequential(nn.Linear(30, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 5))


def masks_of(model, density=0.2):
    generator = torch.Generator().manual_seed(5)
    return Masks(
        {
            name: torch.rand(weight.shape, generator=generator) < density
            for name, weight in model.named_parameters()
            if weight.ndim > 1
        }
    )


@pytest.fixture
def ticket():
    model = network()
    return Ticket(model.state_dict(), masks_of(model), {"round": 3, "at_end": {"loss": 0.5}})


def test_a_ticket_comes_back_to_the_bit(ticket, tmp_path):
    ticket.save(tmp_path / "ticket.safetensors")
    loaded = Ticket.load(tmp_path / "ticket.safetensors")
    assert list(loaded.state) == list(ticket.state)
    for name, value in ticket.state.items():
        assert torch.equal(loaded.state[name], value), name
        assert loaded.state[name].dtype == value.dtype
    assert loaded.masks == ticket.masks
    assert loaded.provenance == {"round": 3, "at_end": {"loss": 0.5}}
    assert "round: 3" in str(loaded)


def test_the_same_ticket_is_the_same_bytes(ticket, tmp_path):
    ticket.save(tmp_path / "a")
    Ticket.load(tmp_path / "a").save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name not in "ab"] == []


@pytest.mark.parametrize("density", [0.0, 0.05, 0.2, 1.0])
def test_a_file_has_a_bit_for_a_weight_and_a_number_for_one_that_is_alive(density, tmp_path):
    model = nn.Linear(1000, 400, bias=False)
    Ticket(model.state_dict(), masks_of(model, density)).save(tmp_path / "ticket")
    exact = int(masks_of(model, density).alive) * 4 + 400_000 // 8
    assert exact <= (tmp_path / "ticket").stat().st_size < exact + 600
    assert exact / (4 * 400_000) == pytest.approx((32 * density + 1) / 32, abs=1e-3)


LOADING = """
import sys, torch
from torch import nn
from gonzo.pruning.tickets import Ticket
torch.manual_seed(99)
model = nn.Sequential(nn.Linear(30, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 5)).eval()
Ticket.load(sys.argv[1]).into(model)
print(model(torch.arange(60.).reshape(2, 30)).tolist())
"""


def test_handed_to_another_process_the_network_computes_the_same(ticket, tmp_path):
    ticket.save(tmp_path / "ticket")
    done = subprocess.run(
        [sys.executable, "-c", LOADING, str(tmp_path / "ticket")],
        capture_output=True,
        text=True,
        check=True,
    )
    model = network().eval()
    model.load_state_dict(ticket.state)
    assert json.loads(done.stdout) == model(torch.arange(60.0).reshape(2, 30)).tolist()


def test_pruned_weights_are_zero_wherever_the_state_comes_from():
    model = network()
    state = model.state_dict()
    state["0.weight"] = torch.full((40, 30), float("nan"))
    ticket = Ticket(state, Masks({"0.weight": torch.zeros(40, 30, dtype=torch.bool)}))
    assert bool((ticket.state["0.weight"] == 0).all())
    assert bool(state["0.weight"].isnan().all())  # a copy
    target = network()
    assert ticket.into(target) is target
    assert bool((target[0].weight == 0).all())


class Tied(nn.Module):
    def __init__(self, tie=True):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        if tie:
            self.b.weight = self.a.weight


def test_tied_weights_are_stored_once_and_belong_to_tied_models(tmp_path):
    model = Tied()
    masks = Masks({"a.weight": torch.eye(6) > 0})
    masks.apply_(model)
    Ticket(model.state_dict(), masks).save(tmp_path / "ticket")
    loaded = Ticket.load(tmp_path / "ticket")
    fresh = loaded.into(Tied())
    assert fresh.b.weight is fresh.a.weight
    assert torch.equal(fresh.a.weight, model.a.weight)
    with pytest.raises(
        ValueError, match=r"a\.weight and b\.weight are one tied weight in the tick"
    ):
        loaded.into(Tied(tie=False))


def test_tied_weights_are_pruned_under_both_names():
    model = Tied()
    masks = Masks({"a.weight": torch.eye(6) > 0})
    ticket = Ticket(model.state_dict(), masks)
    assert torch.equal(ticket.state["b.weight"], ticket.state["a.weight"])
    fresh = ticket.into(Tied())
    assert fresh.b.weight.count_nonzero() == 6
    with pytest.raises(ValueError, match=r"a\.weight and b\.weight are one tied weight"):
        ticket.into(Tied(tie=False))
    # A state of copies does not say what is tied; the model does.
    copies = {name: value.clone() for name, value in model.state_dict().items()}
    assert Ticket(copies, masks).into(Tied()).b.weight.count_nonzero() == 6


def test_into_something_that_is_no_network(ticket):
    for wrong, said in (
        (None, r"expected a module to put the ticket into, got None$"),
        (network, r"got <function network .*call it first: ticket\.into\(network\(…\)\)"),
        (Tied, r"call it first: ticket\.into\(Tied\(…\)\)"),
    ):
        with pytest.raises(TypeError, match=said):
            ticket.into(wrong)
    with pytest.raises(
        ValueError, match=r"0\.weight of the model is on the meta device .*to_empty"
    ):
        ticket.into(network().to("meta"))


def test_models_that_do_not_fit(ticket):
    model = nn.Sequential(nn.Linear(30, 41), nn.Linear(41, 5, bias=False))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="the ticket does not fit Sequential") as error:
        ticket.into(model)
    text = str(error.value)
    assert "0.weight: the ticket has shape (40, 30), the model (41, 30)" in text
    assert "missing in the model: 3.weight" in text
    assert "missing in the ticket" not in text.replace("1.weight", "")
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    with pytest.raises(
        ValueError, match=r"has torch\.float32, the model torch\.float64; model\.to"
    ):
        ticket.into(network().double())


def test_files_that_are_no_tickets(ticket, tmp_path):
    path = tmp_path / "ticket"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Ticket.load(path)
    ticket.save(path)
    content = path.read_bytes()
    for cut in (0, 7, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match="is damaged, or no safetensors file"):
            Ticket.load(path)
    save_file({"x": torch.ones(2)}, path)
    with pytest.raises(ValueError, match="is a safetensors file but not a ticket"):
        Ticket.load(path)
    ticket.masks.save(path)
    with pytest.raises(ValueError, match="not a ticket"):
        Ticket.load(path)
    path.write_bytes(content.replace(b'\\"format\\": 1', b'\\"format\\": 9'))
    with pytest.raises(
        ValueError, match="has format 9 and this version reads up to 1; pip install"
    ):
        Ticket.load(path)
    for damage in (b'\\"formax\\": 1', b'\\"format\\": x'):
        path.write_bytes(content.replace(b'\\"format\\": 1', damage))
        with pytest.raises(ValueError, match=r"ticket is damaged: .*get the file again"):
            Ticket.load(path)
    with pytest.raises(ValueError, match=r"got the folder .*LotteryResult\.read\(folder\)"):
        Ticket.load(tmp_path)
    # A mask with other bits than the values have.
    bits = ticket.masks.pack()["0.weight"].numpy().tobytes()
    assert content.count(bits) == 1
    path.write_bytes(content.replace(bits, bytes([bits[0] ^ 1]) + bits[1:]))
    with pytest.raises(ValueError, match=r"is damaged: 0\.weight has \d+ values, \d+ are alive"):
        Ticket.load(path)


def test_what_makes_no_ticket():
    model = nn.Linear(3, 2)
    masks = Masks({"weight": torch.ones(2, 4, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"shape \(2, 4\) for the mask of weight, got \(2, 3\)"):
        Ticket(model.state_dict(), masks)
    with pytest.raises(ValueError, match="for the mask of weight, got none"):
        Ticket({}, masks)
    with pytest.raises(ValueError, match="a provenance that JSON can say"):
        Ticket(model.state_dict(), Masks({}), {"model": model})
