"""The training function's side: order of calls, records, order of data, a resumed ticket."""

import pytest
import torch
from torch import nn

from gonzo.pruning.masks import Masks
from gonzo.pruning.tickets import Ticket
from gonzo.pruning.training import Training


def sgd(model):
    return torch.optim.SGD(model.parameters(), 0.1)


def step_of(model, optimizer):
    optimizer.zero_grad()
    model(torch.ones(2, 3)).square().sum().backward()
    optimizer.step()


def test_steps_and_records():
    model = nn.Linear(3, 2)
    with Training(model, first_step=2) as training:
        optimizer = sgd(model)
        assert training.optimizer(optimizer) is optimizer
        training.record(loss=9)
        seen = []
        for step in training.steps(5):
            seen.append(step)
            training.record(before=step)
            step_of(model, optimizer)
            training.record(loss=torch.tensor(float(step)))
        training.record(loss=7, end=True)
    assert seen == [2, 3, 4]
    # A record after the optimizer's step counts that step; one before it does not.
    assert training.history == [
        {"step": 2, "loss": 9.0, "before": 2.0},
        {"step": 3, "loss": 2.0, "before": 3.0},
        {"step": 4, "loss": 3.0, "before": 4.0},
        {"step": 5, "loss": 7.0, "end": 1.0},
    ]


def test_a_ticket_trains_outside_of_a_run_and_stays_pruned():
    model = nn.Linear(3, 2)
    masks = Masks({"weight": torch.tensor([[1, 0, 1], [0, 1, 0]]) > 0})
    with Training(model, masks) as training:
        optimizer = training.optimizer(torch.optim.Adam(model.parameters(), weight_decay=0.1))
        for _ in training.steps(3):
            step_of(model, optimizer)
    assert Masks.of_zeros(model, ["weight"]) == masks


def test_stopping_early_is_allowed():
    model = nn.Linear(3, 2)
    with Training(model) as training:
        optimizer = training.optimizer(sgd(model))
        for step in training.steps(100):
            step_of(model, optimizer)
            if step == 3:
                training.stop()
                break
        training.record(loss=1)
    assert training.history == [{"step": 4, "loss": 1.0}]


def test_the_order_of_data_follows_from_the_seed():
    one, same, other = (Training(nn.Linear(1, 1), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.permutation(50, 3), same.permutation(50, 3))
    assert sorted(one.permutation(50, 3).tolist()) == list(range(50))
    assert not torch.equal(one.permutation(50, 3), one.permutation(50, 4))
    assert not torch.equal(one.permutation(50, 3), other.permutation(50, 3))
    drawn = [torch.rand(4, generator=training.generator) for training in (one, same, other)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_optimizers_go_on_from_a_given_state():
    model, twin = nn.Linear(3, 2), nn.Linear(3, 2)
    twin.load_state_dict(model.state_dict())
    masks = Masks({"weight": torch.tensor([[1, 0, 1], [0, 1, 0]]) > 0})
    earlier = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9)
    step_of(twin, earlier)
    with Training(model, masks, first_step=1, optimizer_states=[earlier.state_dict()]) as training:
        optimizer = training.optimizer(torch.optim.SGD(model.parameters(), 0.01, momentum=0.9))
        momentum = optimizer.state[model.weight]["momentum_buffer"]
        expected = earlier.state[twin.weight]["momentum_buffer"] * masks["weight"]
        assert torch.equal(momentum, expected)
        assert momentum.count_nonzero() == 3
        assert optimizer.param_groups[0]["lr"] == 0.01  # as this training says
        for _ in training.steps(2):
            step_of(model, optimizer)


def test_what_a_training_function_can_do_wrong():
    model = nn.Linear(3, 2)
    with (
        pytest.raises(ValueError, match=r"did not train: it must loop over training\.steps"),
        Training(model) as training,
    ):
        training.optimizer(sgd(model))
    with (
        pytest.raises(ValueError, match="no optimizer is guarded: write optimizer = training"),
        Training(model) as training,
    ):
        training.steps(3)
    with Training(model) as training:
        training.optimizer(sgd(model))
        with pytest.raises(TypeError, match=r"number of steps as an int, got 3\.0"):
            training.steps(3.0)
        for _ in training.steps(1):
            step_of(model, training.optimizers[0])
        with pytest.raises(ValueError, match="called twice"):
            training.steps(3)
        with pytest.raises(ValueError, match="before the steps begin"):
            training.optimizer(sgd(model))
        with pytest.raises(ValueError, match="expected metrics by name"):
            training.record()
        with pytest.raises(ValueError, match="the step is noted by itself"):
            training.record(step=3)
        with pytest.raises(ValueError, match="expected loss as a number, got Tensor"):
            training.record(loss=torch.ones(2))
    with Training(model, first_step=3) as training:
        optimizer = training.optimizer(sgd(model))
        with pytest.raises(ValueError, match="more steps than the 3 that lie before"):
            training.steps(3)
        for step in training.steps(4):
            assert step == 3
            step_of(model, optimizer)
    with pytest.raises(ValueError, match="this training has not begun"):
        Training(model).optimizer(sgd(model))
    with pytest.raises(ValueError, match="expected first_step of 0 or more, got -1"):
        Training(model, first_step=-1)
    with (
        pytest.raises(TypeError, match=r"expected a torch\.optim\.Optimizer, got object"),
        Training(model) as training,
    ):
        training.optimizer(object())
    state = sgd(nn.Linear(3, 2, bias=False)).state_dict()
    with (
        pytest.raises(ValueError, match=r"groups of \[1\] parameters.*got \[2\]"),
        Training(model, optimizer_states=[state]) as training,
    ):
        training.optimizer(sgd(model))
    with (
        pytest.raises(ValueError, match="the state of 0 optimizers and this is one more"),
        Training(model, optimizer_states=[]) as training,
    ):
        training.optimizer(sgd(model))


def test_a_training_that_trains_nothing_or_ends_early_is_told():
    model = nn.Linear(3, 2)

    def train(stepping):
        with Training(model) as training:
            optimizer = training.optimizer(sgd(model))
            for _ in training.steps(9):
                if stepping:
                    step_of(model, optimizer)
                    break

    with pytest.raises(ValueError, match=r"trained nothing: .* call optimizer\.step\(\)"):
        train(stepping=False)
    with pytest.warns(UserWarning, match=r"left training\.steps\(9\) after 1 steps; call training"):
        train(stepping=True)
    with Training(model) as training:  # all steps, though the loop ends by its other half
        optimizer = training.optimizer(sgd(model))
        for _, _ in zip(range(3), training.steps(3), strict=False):
            step_of(model, optimizer)


def test_a_ticket_trains_from_the_step_it_was_rewound_to():
    model = nn.Linear(3, 2)
    masks = Masks({"weight": torch.tensor([[1, 0, 1], [0, 1, 0]]) > 0})
    ticket = Ticket(model.state_dict(), masks, {"step": 3})
    other = nn.Linear(3, 2)
    with Training.of_ticket(other, ticket, seed=4) as training:
        assert torch.equal(other.weight, ticket.state["weight"])
        optimizer = training.optimizer(sgd(other))
        seen = []
        for step in training.steps(5):
            seen.append(step)
            step_of(other, optimizer)
    assert (seen, training.seed) == ([3, 4], 4)
    assert Masks.of_zeros(other, ["weight"]) == masks
    assert Training.of_ticket(other, Ticket(model.state_dict(), masks)).first_step == 0
    with pytest.raises(ValueError, match=r"the ticket's step as an int of 0 or more, got 'x'"):
        Training.of_ticket(other, Ticket(model.state_dict(), masks, {"step": "x"}))
    with pytest.raises(TypeError, match=r"expected a Ticket, got Masks; write Training\.of_ticket"):
        Training.of_ticket(other, masks)
