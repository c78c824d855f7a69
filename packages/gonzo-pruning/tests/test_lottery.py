"""The protocol of the lottery ticket experiment, its files, and what an interruption leaves."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gonzo.pruning.controls import Controls
from gonzo.pruning.lottery import LotteryRun
from gonzo.pruning.lottery_result import LotteryResult
from gonzo.pruning.magnitude import Magnitude
from gonzo.pruning.pruning_at_init import LayerCollapseWarning
from gonzo.pruning.rates import count_to_prune
from gonzo.pruning.run_directory import RunDirectory
from gonzo.pruning.tickets import Ticket
from gonzo.pruning.trials import Trial, early_stop

STEPS = 12
X = torch.randn(64, 7, generator=torch.Generator().manual_seed(0))
Y = (X[:, :2].sum(1) > 0).long()


def build():
    return nn.Sequential(nn.Linear(7, 11), nn.BatchNorm1d(11), nn.ReLU(), nn.Linear(11, 2))


def small(count):
    width = max(1, count // 10)
    return nn.Sequential(nn.Linear(7, width), nn.ReLU(), nn.Linear(width, 2))


ALL = Controls(reinit=2, random_mask=1, one_shot=True, dense=small, rounds=[2])


class InterruptedRunError(Exception):
    pass


class Trainer:
    """A training function that notes what it was given, and fails where it is told to."""

    def __init__(self, fail_at=None, steps=STEPS):
        self.fail_at, self.steps, self.done = fail_at, steps, 0
        self.seen = []

    def __call__(self, model, training):
        self.seen.append({name: value.clone() for name, value in model.state_dict().items()})
        optimizer = torch.optim.Adam(model.parameters(), 0.02, weight_decay=1e-3)
        training.optimizer(optimizer)
        for step in training.steps(self.steps):
            if self.done == self.fail_at:
                raise InterruptedRunError
            self.done += 1
            batch = torch.randint(64, (16,), generator=training.generator)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(F.dropout(X[batch], 0.1)), Y[batch])
            loss.backward()
            optimizer.step()
            if (step + 1) % 3 == 0:
                with torch.no_grad():
                    training.record(validation_loss=F.cross_entropy(model(X), Y))


def masked(masks, name, value):
    return torch.where(masks[name], value, 0) if name in masks else value


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def lottery(folder, train=None, **options):
    return LotteryRun(build, train or Trainer(), folder, **{"rounds": 3, **options})


def test_the_protocol(tmp_path):
    train = Trainer()
    run = lottery(tmp_path, train, controls=ALL, rates={"*": 0.2, "3": 0.1}, keep_trained=True)
    result = run.run()
    assert [(t.kind, t.round, t.replicate) for t in result.trials] == run.planned
    assert [kind for kind, number, _ in run.planned if number == 2] == [
        "ticket", "reinit", "reinit", "random-mask", "one-shot", "dense",
    ]  # fmt: skip
    # Exact counts in every round.
    alive = {"0.weight": 77, "3.weight": 22}
    for number in range(4):
        masks = result.masks(number)
        assert {name: masks.alive_of(name) for name in masks} == alive
        assert result.of("ticket", number)[0].alive == sum(alive.values())
        if number:
            # What went was the least of what the ticket of the round before had at its end.
            trained, before = result.trained(number - 1), result.masks(number - 1)
            for name in masks:
                gone = before[name] & ~masks[name]
                assert not bool((masks[name] & ~before[name]).any())
                if gone.any():
                    largest = trained[name][gone].abs().max()
                    assert largest <= trained[name][masks[name]].abs().min()
                # and pruned weights are zero in what was trained
                assert bool((trained[name][~before[name]] == 0).all())
        alive["0.weight"] -= count_to_prune(0.2, alive["0.weight"])
        alive["3.weight"] -= count_to_prune(0.1, alive["3.weight"])
    # Every ticket starts from the dense network's first weights, its buffers too.
    first = train.seen[0]
    starts = dict(zip(run.planned, train.seen, strict=True))
    for number in (1, 2, 3):
        masks = result.masks(number)
        for name, value in starts["ticket", number, 0].items():
            assert torch.equal(value, masked(masks, name, first[name]))
    # Controls of round 2.
    masks = result.masks(2)
    for kind, replicate in [("random-mask", 0), ("one-shot", 0)]:
        start = starts[kind, 2, replicate]
        for name in masks:
            kept = start[name] != 0
            assert kept.sum() == masks.alive_of(name)
            assert torch.equal(start[name][kept], first[name][kept])
            assert not torch.equal(kept, masks[name]) or kind == "one-shot"
    scores = {name: result.trained(0)[name].abs() for name in masks}
    for name in masks:
        kept = starts["one-shot", 2, 0][name] != 0
        assert scores[name][kept].min() >= scores[name][~kept].max()
    draws = [starts["reinit", 2, replicate] for replicate in (0, 1)]
    for draw in draws:
        for name in masks:
            assert torch.equal(draw[name] != 0, masks[name])
    assert not torch.equal(draws[0]["0.weight"], draws[1]["0.weight"])
    assert not bool((draws[0]["0.weight"] == first["0.weight"])[masks["0.weight"]].any())
    [dense] = result.of("dense", 2)
    ticket = result.of("ticket", 2)[0]
    assert ticket.parameters == 77 + 22 + 11 + 22 + 2 - ticket.total + ticket.alive
    width = ticket.parameters // 10
    assert dense.parameters == 7 * width + width + 2 * width + 2
    assert (dense.alive, dense.total) == (ticket.alive, ticket.total)


def test_tickets_are_what_was_trained_from(tmp_path):
    train = Trainer()
    result = lottery(tmp_path, train, rounds=2).run()
    for number in range(3):
        ticket = result.ticket(number)
        for name, value in train.seen[number].items():
            assert torch.equal(ticket.state[name], value), name
        assert ticket.masks == result.masks(number)
    said = ticket.provenance
    assert (said["round"], said["step"], said["seed"], said["rates"]["0.weight"]) == (
        2,
        0,
        0,
        "1/5",
    )
    assert [parent["alive"] for parent in said["parents"]] == [99, 80]
    assert said["made_by"]["torch"] == torch.__version__
    ticket.save(tmp_path / "ticket.safetensors")
    again = LotteryResult.read(tmp_path).ticket(2)
    assert Ticket.load(tmp_path / "ticket.safetensors").provenance == again.provenance


@pytest.mark.parametrize("every", [0, 2])
def test_late_rewinding_with_the_state_of_the_optimizer(tmp_path, every):
    states = []

    class Watching(Trainer):
        def __call__(self, model, training):
            watched = training.steps

            def steps(total):
                for step in watched(total):
                    [optimizer] = training.optimizers
                    state = optimizer.state.get(model[0].weight, {}).get("exp_avg")
                    kept = None if state is None else state.clone()
                    states.append((step, kept, training.generator.get_state()))
                    yield step

            training.steps = steps
            super().__call__(model, training)

    run = lottery(
        tmp_path, Watching(), rounds=1, rewind_to=5, optimizer_state="rewound",
        data_order="same", checkpoint_every=every, controls=Controls(reinit=1, random_mask=1),
    )  # fmt: skip
    result = run.run()
    assert [step for step, *_ in states] == [
        *range(12),
        *range(5, 12),
        *range(5, 12),
        *range(5, 12),
    ]
    _, momentum, generator = states[5]  # of the dense network
    _, of_ticket, order = states[12]
    assert torch.equal(of_ticket, torch.where(result.masks(1)["0.weight"], momentum, 0))
    assert momentum.count_nonzero() > of_ticket.count_nonzero() > 0
    assert torch.equal(order, generator)  # the same batches as the dense network had from there
    assert states[19][1] is None  # a network drawn anew has no history
    ticket = result.ticket(1)
    assert ticket.provenance["step"] == 5
    assert not torch.equal(ticket.state["0.bias"], result.ticket(0).state["0.bias"])
    assert int(ticket.state["1.num_batches_tracked"]) == 5 + 1  # step 3 evaluates in training mode


def test_learning_rate_rewinding_keeps_the_weights(tmp_path):
    train = Trainer()
    result = lottery(tmp_path, train, rounds=2, rewind_to=4, after_pruning="keep").run()
    for number in (1, 2):
        trained, masks = result.trained(number - 1), result.masks(number)
        for name, value in train.seen[number].items():
            kept = masked(masks, name, trained[name])
            assert torch.equal(value, kept)
            assert torch.equal(result.ticket(number).state[name], kept)
    assert [entry["step"] for entry in result.of("ticket", 1)[0].history] == [6, 9, 12]


def test_the_order_of_data(tmp_path):
    class Noting(Trainer):
        def __call__(self, model, training):
            self.seen.append(training.seed)
            super().__call__(model, training)

    orders = {}
    for order in ("fresh", "same"):
        train = Noting()
        lottery(tmp_path / order, train, rounds=2, data_order=order).run()
        orders[order] = [seed for seed in train.seen if isinstance(seed, int)]
    assert len(set(orders["fresh"])) == 3
    assert len(set(orders["same"])) == 1


def test_two_runs_of_one_seed_are_the_same_bytes_and_another_seed_is_not(tmp_path):
    before = torch.get_rng_state()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        lottery(tmp_path / name, seed=seed, controls=ALL).run()
    assert torch.equal(torch.get_rng_state(), before)  # nobody's random numbers are used up
    a, b, c = (content(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[p] != c[p] for p in a if p.parts[0] in ("trials", "masks", "drawn.safetensors"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"checkpoint_every": 4, "rewind_to": 3, "optimizer_state": "rewound"},
        {"checkpoint_every": 5, "after_pruning": "keep", "data_order": "same", "rewind_to": 7},
    ],
)
def test_interrupted_anywhere_it_ends_with_the_same_bytes(tmp_path, options, monkeypatch):
    options |= {"controls": Controls(reinit=1, one_shot=True, rounds=[1]), "rounds": 2}
    expected = lottery(tmp_path / "whole", **options).run()
    whole = content(tmp_path / "whole")
    train = Trainer()
    for fail_at in range(0, 70, 11):  # in the middle of trainings
        train.fail_at = train.done + fail_at % 13
        try:
            lottery(tmp_path / "often", train, **options).run()
        except InterruptedRunError:
            continue
    train.fail_at = None
    result = lottery(tmp_path / "often", train, **options).run()
    assert content(tmp_path / "often") == whole
    assert result.trials == expected.trials
    # And between any two writes.
    writes = 0

    def failing(method):
        def wrapper(self, *arguments):
            nonlocal writes
            writes -= 1
            if writes == 0:
                raise InterruptedRunError
            result = method(self, *arguments)
            (self.path / ".left.123.tmp").write_bytes(b"half")  # as a kill leaves it
            return result

        return wrapper

    for name in ("begin", "write_masks", "write_tensors", "write_trial", "write_state"):
        monkeypatch.setattr(RunDirectory, name, failing(getattr(RunDirectory, name)))
    for count in (1, 2, 3, 5, 4, 2, 3, 4):
        writes = count
        try:
            lottery(tmp_path / "writes", **options).run()
        except InterruptedRunError:
            continue
    monkeypatch.undo()
    lottery(tmp_path / "writes", **options).run()
    assert content(tmp_path / "writes") == whole


def test_checkpoints_save_work(tmp_path):
    train = Trainer(fail_at=10)
    with pytest.raises(InterruptedRunError):
        lottery(tmp_path, train, rounds=1, checkpoint_every=4).run()
    assert (tmp_path / "unfinished" / "ticket-00.pt").exists()
    train = Trainer()
    lottery(tmp_path, train, rounds=1, checkpoint_every=4).run()
    assert train.done == (STEPS - 8) + STEPS
    assert not (tmp_path / "unfinished").exists()


def test_a_finished_run_is_read_and_may_grow(tmp_path):
    lottery(tmp_path, rounds=2).run()
    train = Trainer()
    assert len(lottery(tmp_path, train, rounds=2).run().trials) == 3
    assert train.done == 0
    result = lottery(tmp_path, train, rounds=3, controls=Controls(one_shot=True, rounds=[1])).run()
    assert train.done == 2 * STEPS
    lottery(tmp_path / "at-once", rounds=3, controls=Controls(one_shot=True, rounds=[1])).run()
    at_once = content(tmp_path / "at-once")
    assert {p: c for p, c in content(tmp_path).items() if p.parts[0] != "at-once"} == at_once
    read = LotteryResult.read(tmp_path)
    assert read.trials == result.trials
    lines = read.table().splitlines()
    assert lines[0].split() == ["round", "alive", "network", "stopped", "at", "validation_loss"]
    assert [line.split()[0] for line in lines[1:]] == ["0", "1", "1", "2", "3"]
    assert "80.8 %  one-shot" in lines[3]
    assert (tmp_path / "plan.txt").read_text().startswith("pruned")


def test_trials_come_one_by_one(tmp_path):
    train = Trainer()
    trials = lottery(tmp_path, train, rounds=2).trials()
    assert next(trials).name == "ticket-00"
    assert train.done == STEPS
    assert next(trials).density == 80 / 99


def test_early_stop_is_the_first_least_value():
    history = [
        {"step": 1, "loss": math.nan},
        {"step": 2, "loss": 0.5},
        {"step": 3, "accuracy": 1.0},
        {"step": 4, "loss": 0.25, "accuracy": 0.5},
        {"step": 5, "loss": 0.25},
    ]
    assert early_stop(history, "loss") == history[3]
    assert early_stop(history, "loss", higher_is_better=True) == history[1]
    with pytest.raises(ValueError, match=r"loss is NaN wherever it was recorded: .*Controls\(rou"):
        early_stop(history[:1], "loss")
    with pytest.raises(ValueError, match=r"never recorded 'error' \(only accuracy, loss\)"):
        early_stop(history, "error")


def test_trials_as_json_keep_what_is_not_finite():
    history = ({"step": 1, "loss": math.inf}, {"step": 2, "loss": -math.inf})
    trial = Trial("ticket", 1, 0, 5, 9, 7, history, 2, history[1], history[1])
    assert Trial.from_json(trial.to_json()) == trial
    json.loads(trial.to_json(), parse_constant=lambda name: pytest.fail(name))  # strict JSON
    with pytest.raises(ValueError, match="not a trial"):
        Trial.from_json("[]")


def test_another_configuration_is_refused(tmp_path):
    lottery(tmp_path, rounds=1).run()
    for options, said in (
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"rates": 0.3}, r"parameters\.0\.weight\.rate is '1/5' there and '3/10' here\n  .*"),
        ({"exclude": ["3"]}, r"parameters\.3\.weight is \{.*\} there and None here"),
        ({"scope": "global"}, "scope is 'layer' there and 'global' here"),
        ({"rewind_to": 2}, "rewind_to is 0 there and 2 here"),
    ):
        with pytest.raises(ValueError, match=f"holds another run:\n  {said}\ngo on with"):
            lottery(tmp_path, rounds=1, **options).run()
    other = LotteryRun(lambda: nn.Linear(7, 2), Trainer(), tmp_path)
    with pytest.raises(ValueError, match="holds another run"):
        other.run()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    (tmp_path / "other" / "deep").mkdir()
    (tmp_path / "other" / "deep" / ".mine.tmp").write_text("half written, by somebody else")
    with pytest.raises(ValueError, match="has files of something else and no config"):
        lottery(tmp_path / "other").run()
    with pytest.raises(ValueError, match="is not the folder of a LotteryRun"):
        LotteryResult.read(tmp_path / "other")
    assert (tmp_path / "other" / "deep" / ".mine.tmp").exists()


def test_damaged_files_say_what_to_do(tmp_path):
    lottery(tmp_path, rounds=1).run()
    path = tmp_path / "trials" / "ticket-01.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"ticket-01\.json is damaged .*delete it to train again"):
        lottery(tmp_path, rounds=1).run()
    path.unlink()
    lottery(tmp_path, rounds=1).run()
    for name, maker in (("masks/01", 0), ("drawn", None), ("dense-scores", 0)):
        file = tmp_path / f"{name}.safetensors"
        whole = file.read_bytes()
        remedy = (
            r"drawn\.safetensors and run" if maker is None else rf"ticket-0{maker}\.json and run"
        )
        for content_, said in ((whole[:9], "is damaged"), (None, "not there")):
            file.unlink() if content_ is None else file.write_bytes(content_)
            for trial in ("ticket-01", "one-shot-01-0"):
                (path.parent / f"{trial}.json").unlink(missing_ok=True)
            controls = Controls(one_shot=True)
            if content_ is None and maker is None:  # drawn again
                lottery(tmp_path, rounds=1, controls=controls).run()
                continue
            with pytest.raises(ValueError, match=rf"{said}.*delete .*{remedy}"):
                lottery(tmp_path, rounds=1, controls=controls).run()
        file.write_bytes(whole)
    for text in ("[]", "{}"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"config\.json is not one of this package; name ano"):
            lottery(tmp_path, rounds=1).run()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is damaged .*use another folder"):
        lottery(tmp_path, rounds=1).run()


def test_what_a_run_cannot_do(tmp_path):
    for options, said in (
        ({"rounds": 0}, "expected rounds as an int of 1 or more, got 0"),
        ({"rewind_to": -1}, "expected rewind_to as an int of 0 or more, got -1"),
        ({"scope": "all"}, "expected scope to be 'layer' or 'global', got 'all'"),
        ({"after_pruning": "x"}, "expected after_pruning to be 'rewind' or 'keep'"),
        ({"optimizer_state": "x"}, "expected optimizer_state to be 'fresh' or 'rewound'"),
        ({"data_order": "x"}, "expected data_order to be 'fresh' or 'same'"),
        ({"rates": 1.5}, "expected a rate from 0 to 1"),
        ({"rates": {"fc": 0.1}}, "nothing called 'fc'"),
        ({"exclude": ["*"]}, "has nothing to prune"),
        ({"controls": Controls(reinit=1, rounds=[4])}, "asked for in round 4, of 3 rounds"),
        ({"scope": "global", "rates": {"0": 0.1, "3": 0.2}}, "takes one rate"),
        ({"scope": {"0.weight": "a"}}, "every pruned parameter in scope, got none for 3.weight"),
        ({"scope": {"fc": "a"}}, "scope: there is nothing called 'fc' in the pruned parameters"),
        (
            {"scope": {"0.weight": "a", "3.weight": "a"}, "rates": {"0": 0.1, "3": 0.2}},
            "group 'a' of scope has 0.weight at the rate 1/10 and 3.weight at 1/5; a group takes",
        ),
        ({"seed": -1}, "expected seed as an int of 0 or more, got -1"),
        ({"seed": True}, "expected seed as an int of 0 or more, got True"),
        ({"metric": "val_acc"}, "would be stopped where it is lowest; write higher_is_better=True"),
    ):
        with pytest.raises(ValueError, match=said):
            lottery(tmp_path, **options)
    for options, said in (
        ({"criterion": Magnitude}, r"got the class Magnitude; write Magnitude\(\)"),
        ({"criterion": "magnitude"}, r"a method scores\(model, masks\), .* got 'magnitude'"),
        ({"keep_trained": 1}, "expected keep_trained to be True or False, got 1"),
        ({"higher_is_better": None}, "expected higher_is_better to be True or False, got None"),
        ({"controls": {"reinit": 1}}, r"expected controls as Controls\(…\), got \{"),
        ({"metric": 3}, "expected metric as a name, got 3"),
    ):
        with pytest.raises(TypeError, match=said):
            lottery(tmp_path, **options)
    with pytest.raises(
        TypeError, match=r"got a network: Sequential; write lambda: Sequential\(…\)"
    ):
        LotteryRun(build(), Trainer(), tmp_path)
    with pytest.raises(TypeError, match="expected train as a function, got None"):
        LotteryRun(build, None, tmp_path)
    for options, said in (
        ({"rounds": 2}, r"expected rounds as a list such as \[1, 5\], got 2"),
        ({"dense": 3}, "expected dense as a function of a number of parameters .* got 3"),
        ({"one_shot": 1}, "expected one_shot to be True or False, got 1"),
    ):
        with pytest.raises(TypeError, match=said):
            Controls(**options)
    (tmp_path / "file").write_text("")
    for folder, said in (
        (None, "expected the folder of a run as a path, got None"),
        ("", r"got an empty path; '\.' is this folder"),
        (tmp_path / "file", "file is a file"),
        (tmp_path / "file" / "run", "file is a file"),
    ):
        with pytest.raises((TypeError, ValueError), match=said):
            lottery(folder)
    with pytest.raises(ValueError, match="expected reinit as a count from 0, got -1"):
        Controls(reinit=-1)
    with pytest.raises(ValueError, match="round 0 is the dense network itself"):
        Controls(rounds=[0])
    with pytest.raises(ValueError, match="rewind_to=12 is not before the end of the training"):
        lottery(tmp_path / "late", rewind_to=12).run()
    with pytest.raises(ValueError, match=r"never recorded 'loss' \(only validation_loss\)"):
        lottery(tmp_path / "metric", metric="loss").run()
    with pytest.raises(TypeError, match=r"expected build\(\) to return a module, got int"):
        LotteryRun(lambda: 3, Trainer(), tmp_path)
    sizes = iter((11, 12))
    changing = LotteryRun(lambda: nn.Linear(7, next(sizes)), Trainer(), tmp_path / "changing")
    with pytest.raises(ValueError, match=r"another architecture than before: bias has shape"):
        changing.run()
    result = lottery(tmp_path / "short", rounds=1).run()
    with pytest.raises(ValueError, match=r"no ticket of round 5; there are those of \[0, 1\]"):
        result.ticket(5)
    with pytest.raises(ValueError, match="was it kept, and is its training finished"):
        result.trained(0)


def test_a_network_that_diverges_is_refused(tmp_path):
    def diverge(model, training):
        optimizer = training.optimizer(torch.optim.SGD(model.parameters(), 1.0))
        for _ in training.steps(2):
            optimizer.zero_grad()
            (model(X).sum() * math.nan).backward()
            optimizer.step()
            training.record(validation_loss=1.0)

    with pytest.raises(ValueError, match=r"the network of round 0 cannot be pruned: .*NaN"):
        lottery(tmp_path, diverge).run()

    def diverge_late(model, training):
        Trainer()(model, training)
        if bool((model[0].weight == 0).any()):
            model[0].weight.data[model[0].weight != 0] = math.nan

    with pytest.raises(ValueError, match=r"round 1 cannot be pruned: 0\.weight has NaN after"):
        lottery(tmp_path / "late", diverge_late, rounds=1).run()
    assert not (tmp_path / "late" / "trials" / "ticket-01.json").exists()


def test_a_criterion_that_watches_the_training(tmp_path):
    from contextlib import contextmanager

    watched = []

    class Watching:
        @contextmanager
        def observe(self, model, masks):
            watched.append(masks.alive)
            yield

        def scores(self, model, masks):
            return {name: -model.get_parameter(name).detach().abs() for name in masks}

    result = lottery(tmp_path, criterion=Watching(), rounds=2, keep_trained=True).run()
    assert watched == [99, 80, 65]
    gone = ~result.masks(1)["0.weight"]
    trained = result.trained(0)["0.weight"].abs()
    assert trained[gone].min() >= trained[~gone].max()  # the largest went
    assert json.loads((tmp_path / "config.json").read_text())["criterion"] == "Watching"
    with pytest.raises(ValueError, match="watches the training and cannot go on in the middle"):
        lottery(tmp_path / "x", criterion=Watching(), checkpoint_every=2)


def test_networks_that_are_not_drawn_anew(tmp_path):
    model = build()
    with pytest.raises(ValueError, match=r"returned a network that it returned before.*a new one"):
        lottery_of(lambda: model, tmp_path / "same").run()

    def reseeding():
        torch.manual_seed(3)
        return build()

    with pytest.raises(ValueError, match=r"drew the same 0\.weight for another seed.*no seed in"):
        lottery_of(reseeding, tmp_path / "seeded", controls=Controls(reinit=1)).run()
    lottery_of(reseeding, tmp_path / "without").run()  # tickets need no other draw
    with pytest.raises(
        ValueError, match=r"dense\(115\) returned .* 1,002 .* expected 115 within 10"
    ):
        lottery_of(build, tmp_path / "dense", controls=Controls(dense=lambda n: small(1000))).run()
    dtypes = iter((torch.float32, torch.float64))
    with pytest.raises(ValueError, match=r"0\.bias has shape \(11,\) of torch\.float64, expected"):
        lottery_of(lambda: build().to(next(dtypes)), tmp_path / "dtype").run()


def lottery_of(build, folder, **options):
    return LotteryRun(build, Trainer(), folder, rounds=1, **options)


def test_a_changed_build_is_refused_when_a_run_goes_on(tmp_path):
    lottery_of(build, tmp_path).run()

    def changed():
        model = build()
        nn.init.normal_(model[0].weight)
        return model

    for other in (changed, lambda: build().double()):
        with pytest.raises(ValueError, match=r"other weights than this folder began with: 0\."):
            lottery_of(other, tmp_path).run()


def test_tied_weights_are_pruned_in_tickets(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(7, 7), nn.Linear(7, 7), nn.Linear(7, 2)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))

    result = lottery_of(Tied, tmp_path).run()
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["tied"] == {"b.weight": "a.weight"}
    ticket = result.ticket(1)
    model = ticket.into(Tied())
    assert model.b.weight.count_nonzero() == ticket.masks.alive_of("a.weight") < 49
    assert torch.equal(ticket.state["b.weight"], ticket.state["a.weight"])
    del config["tied"]  # as in the folder of an earlier version
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = lottery_of(Tied, tmp_path).run()
    assert again.ticket(1).into(Tied()).b.weight.count_nonzero() == model.b.weight.count_nonzero()


def test_higher_may_be_better(tmp_path):
    def train(model, training):
        optimizer = training.optimizer(torch.optim.SGD(model.parameters(), 0.1))
        for step in training.steps(4):
            optimizer.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            optimizer.step()
            training.record(accuracy=[0.1, 0.5, 0.7, 0.6][step])

    options = {"rounds": 1, "metric": "accuracy", "higher_is_better": True}
    result = lottery(tmp_path, train, **options).run()
    assert [trial.early_stop_step for trial in result.trials] == [3, 3]
    assert json.loads((tmp_path / "config.json").read_text())["higher_is_better"] is True
    assert result.ticket(1).provenance["higher_is_better"] is True
    lottery(tmp_path / "lower", rounds=1).run()
    assert "higher_is_better" not in json.loads((tmp_path / "lower" / "config.json").read_text())


def test_the_rewind_point_must_have_been_reached(tmp_path):
    def train(model, training):
        optimizer = training.optimizer(torch.optim.SGD(model.parameters(), 0.1))
        for _ in training.steps(9):
            model(X).sum().backward()
            optimizer.step()
            training.record(validation_loss=1.0)
            training.stop()
            return

    with pytest.raises(ValueError, match=r"ended before step 5, to which rewind_to=5 resets tick"):
        lottery(tmp_path, train, rewind_to=5).run()
    assert not (tmp_path / "trials").exists()
    options = {"rounds": 1, "rewind_to": 5, "optimizer_state": "rewound"}
    lottery(tmp_path / "lost", **options).run()
    (tmp_path / "lost" / "rewind-training.pt").unlink()
    (tmp_path / "lost" / "trials" / "ticket-01.json").unlink()
    with pytest.raises(ValueError, match=r"rewind-training\.pt is not there; delete .*ticket-00\."):
        lottery(tmp_path / "lost", **options).run()


def test_a_ticket_without_weights_is_warned_of(tmp_path):
    with pytest.warns(LayerCollapseWarning, match=r"round 1 trains a ticket without .* 3\.weight;"):
        lottery(tmp_path, rounds=1, rates={"0": 0.2, "3": 1}).run()


def test_runs_results_and_trials_say_what_they_are(tmp_path):
    controls = Controls(dense=small)
    run = lottery(tmp_path, rounds=1, controls=controls)
    assert repr(run) == f"LotteryRun({str(tmp_path)!r}, rounds=1, seed=0)"
    result = run.run()
    assert repr(result) == f"LotteryResult({str(tmp_path)!r}, 3 trials)"
    assert "dense of 112 parameters" in result.table()
    text = str(result.of("ticket", 1)[0])
    assert text.startswith("ticket-01: 80.8 % alive, stopped at ")
    assert ", validation_loss 0." in text
    assert "\n" not in text


def test_what_a_kill_after_the_last_write_of_a_trial_leaves(tmp_path, monkeypatch):
    """The trial is written and its unfinished state still there: the next run removes it."""
    lottery(tmp_path / "whole", rounds=1, checkpoint_every=4).run()

    def killed(*_):
        raise InterruptedRunError

    monkeypatch.setattr(RunDirectory, "_forget", killed)
    with pytest.raises(InterruptedRunError):
        lottery(tmp_path / "killed", rounds=1, checkpoint_every=4).run()
    monkeypatch.undo()
    lottery(tmp_path / "killed", rounds=1, checkpoint_every=4).run()
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
