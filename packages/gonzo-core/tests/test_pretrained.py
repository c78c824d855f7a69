import copy
import json
import os
import pickle
import re

import pytest
import safetensors.torch
import torch
from torch import nn

import gonzo.core.pretrained
from gonzo.core.nn import CausalAttention, FeedForward, ResidualStack, SequenceClassifier
from gonzo.core.pretrained import Pretrained


class Toy(Pretrained):
    def __init__(self, d, *, name="toy", sizes=(1, 2), inner=None, device=None, dtype=None):
        super().__init__()
        self.d, self.name, self.sizes, self.inner = d, name, sizes, inner
        self.weight = nn.Parameter(torch.randn(d, d, device=device, dtype=dtype))
        self.register_buffer("steps", torch.tensor(3))
        self.register_buffer("derived", torch.ones(d, device=device, dtype=dtype), persistent=False)


class Other(Toy):
    pass


def classifier():
    layers = [CausalAttention(8, 2), CausalAttention(8, 1, window=3)]
    return SequenceClassifier(1, 10, ResidualStack(layers, feed_forward=16), pool="last")


def test_a_nested_model_comes_back(tmp_path):
    model = classifier()
    model.save_pretrained(tmp_path / "deep" / "folder")
    loaded = SequenceClassifier.from_pretrained(tmp_path / "deep" / "folder")
    assert str(loaded) == str(model)
    x = torch.randn(2, 5, 1)
    assert torch.equal(loaded(x), model(x))
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_the_folder_holds_two_readable_files(tmp_path):
    Toy(3, inner=Toy(2)).save_pretrained(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors"]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["format"] == 1
    assert config["class"].endswith("test_pretrained:Toy")
    assert config["arguments"]["d"] == 3
    assert config["arguments"]["name"] == "toy"
    assert config["arguments"]["inner"]["arguments"]["d"] == 2
    assert not {"device", "dtype"} & config["arguments"].keys()
    names = set(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    assert names == {"weight", "steps", "inner.weight", "inner.steps"}


@pytest.mark.parametrize(
    "change",
    [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: torch.compile(model, backend="eager"),
    ],
    ids=["deepcopy", "pickle", "compile"],
)
def test_the_record_survives(tmp_path, change):
    model = Toy(3, name="kept", sizes=[4, (5,)])
    change(model).save_pretrained(tmp_path)
    loaded = Toy.from_pretrained(tmp_path)
    assert loaded.name == "kept"
    assert loaded.sizes == (4, (5,))
    assert torch.equal(loaded.weight, model.weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_precision_comes_from_the_tensors(tmp_path, dtype):
    Toy(3).to(dtype).save_pretrained(tmp_path)
    loaded = Toy.from_pretrained(tmp_path)
    assert loaded.weight.dtype == dtype
    assert loaded.derived.dtype == dtype
    assert loaded.steps.dtype == torch.int64


def test_mixed_precision_comes_back_mixed(tmp_path):
    model = Toy(3, inner=Toy(2).double())
    model.save_pretrained(tmp_path)
    loaded = Toy.from_pretrained(tmp_path)
    assert (loaded.weight.dtype, loaded.inner.weight.dtype) == (torch.float32, torch.float64)


def test_the_random_state_is_left_alone(tmp_path):
    Toy(3).save_pretrained(tmp_path)
    before = torch.get_rng_state()
    Toy.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_base_class_loads_what_is_derived_from_it(tmp_path):
    Other(3).save_pretrained(tmp_path)
    assert type(Pretrained.from_pretrained(tmp_path)) is Other
    assert type(Toy.from_pretrained(tmp_path, device="cpu")) is Other


def test_tied_parameters_come_back_tied(tmp_path):
    layer = CausalAttention(8, 2)
    stack = ResidualStack([layer, layer])
    stack.save_pretrained(tmp_path)
    stored = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert "layers.1.project_in.weight" not in stored
    loaded = ResidualStack.from_pretrained(tmp_path)
    assert loaded.layers[0].project_in.weight is loaded.layers[1].project_in.weight
    x = torch.randn(2, 3, 8)
    assert torch.equal(loaded(x), stack(x))


def test_views_and_strides_are_stored_as_they_read(tmp_path):
    model = Toy(3)
    whole = torch.randn(5, 3)
    model.weight = nn.Parameter(whole[1:4].T)
    model.save_pretrained(tmp_path)
    assert torch.equal(Toy.from_pretrained(tmp_path).weight, whole[1:4].T)


def test_an_argument_that_is_not_data_is_named(tmp_path):
    model = Toy(3, inner=Toy(2, sizes=[1, nn.Linear(1, 1)]))
    message = (
        "Toy: the constructor argument inner.sizes[1] is a Linear, which save_pretrained cannot "
        "store; it stores None, numbers, strings, gonzo modules and sequences of these"
    )
    with pytest.raises(TypeError, match=re.escape(message)):
        model.save_pretrained(tmp_path)
    assert os.listdir(tmp_path) == []


def test_wrong_constructor_arguments_are_reported_by_the_constructor():
    with pytest.raises(TypeError, match=r"__init__\(\) missing 1 required positional argument"):
        Toy()


def test_saving_again_replaces(tmp_path):
    Toy(3).save_pretrained(tmp_path)
    model = Toy(4)
    model.save_pretrained(tmp_path)
    assert torch.equal(Toy.from_pretrained(tmp_path).weight, model.weight)


@pytest.mark.parametrize("call", range(1, 9))
def test_a_save_interrupted_anywhere_leaves_one_whole_model(tmp_path, monkeypatch, call):
    old, new = Toy(3, name="old"), Toy(4, name="new")
    old.save_pretrained(tmp_path)
    calls = 0

    def interrupted(function):
        def run(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == call:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return run

    module = gonzo.core.pretrained
    monkeypatch.setattr(module, "save_file", interrupted(module.save_file))
    for name in ("replace", "fsync"):
        monkeypatch.setattr(os, name, interrupted(getattr(os, name)))
    for name in ("unlink", "write_text"):
        monkeypatch.setattr(module.Path, name, interrupted(getattr(module.Path, name)))
    try:
        new.save_pretrained(tmp_path)
        finished = True
    except KeyboardInterrupt:
        finished = False
    monkeypatch.undo()
    loaded = Toy.from_pretrained(tmp_path)
    expected = new if loaded.name == "new" else old
    assert torch.equal(loaded.weight, expected.weight)
    assert loaded.name == "new" or not finished


@pytest.fixture
def saved(tmp_path):
    Toy(3).save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder, *, tensors=None, **config):
    """Change the configuration or the tensors of a saved model, in both files alike."""
    path = folder / "model.safetensors"
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    text = json.dumps(json.loads(metadata["config"]) | config)
    kept = safetensors.torch.load_file(path) if tensors is None else tensors
    safetensors.torch.save_file(kept, path, {**metadata, "config": text})
    (folder / "config.json").write_text(text)


def fails(folder, error, message, cls=Toy):
    with pytest.raises(error, match=re.escape(message)):
        cls.from_pretrained(folder)


def test_a_missing_folder(tmp_path):
    fails(tmp_path / "none", FileNotFoundError, f"there is no folder {tmp_path / 'none'}")


def test_missing_weights(saved):
    (saved / "model.safetensors").unlink()
    fails(
        saved, FileNotFoundError, "has no model.safetensors; expected a folder of save_pretrained"
    )


def test_a_missing_config_is_no_loss(saved):
    (saved / "config.json").unlink()
    assert Toy.from_pretrained(saved).d == 3


@pytest.mark.parametrize("text", ['{"format": 1}', "not json"])
def test_an_edited_config(saved, text):
    (saved / "config.json").write_text(text)
    fails(saved, ValueError, "config.json does not belong to model.safetensors (was it edited?)")


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_damaged_weights(saved, keep):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    fails(saved, ValueError, "model.safetensors is damaged: ")


def test_weights_of_something_else(saved):
    safetensors.torch.save_file({"weight": torch.zeros(1)}, saved / "model.safetensors")
    fails(saved, ValueError, "was not written by save_pretrained: it has no configuration")


def test_another_class(saved):
    fails(saved, ValueError, f"holds a {Toy.__module__}:Toy, not a {Other.__module__}:Other", Other)


def test_a_class_that_is_not_loaded(saved):
    rewrite(saved, **{"class": "os:system"})
    message = "names the class os:system, which is not loaded; import the package that defines it"
    fails(saved, ValueError, message)


def test_a_newer_format(saved):
    rewrite(saved, format=2)
    message = "has format 2 and this version reads up to 1; pip install --upgrade gonzo-core"
    fails(saved, ValueError, message)


def test_arguments_of_another_version(saved):
    rewrite(saved, arguments={"d": 3, "depth": 2})
    fails(saved, ValueError, "does not fit this version of")


def test_tensors_that_do_not_fit_are_all_listed(saved):
    rewrite(saved, tensors={"weight": torch.zeros(2, 3), "wait": torch.zeros(1)})
    fails(
        saved,
        ValueError,
        "do not fit Toy:\n  missing: steps\n  unexpected: wait\n"
        "  weight: expected shape (3, 3), got (2, 3)",
    )


def test_a_module_that_is_not_a_layer_is_pretrained_too(tmp_path):
    FeedForward(4, 8, activation="swiglu").save_pretrained(tmp_path)
    assert FeedForward.from_pretrained(tmp_path).activation == "swiglu"
