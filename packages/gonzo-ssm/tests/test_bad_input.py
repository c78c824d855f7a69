import json
import re

import pytest
import torch

from gonzo.core import backend
from gonzo.ssm import S4, S4D, Bidirectional, S4DKernel, S4Kernel

KINDS = [S4, S4D, S4Kernel, S4DKernel]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d_state", [0, 1, 7, -2])
def test_d_state_is_even(kind, d_state):
    message = (
        f"expected an even d_state of at least 2, got {d_state}; it counts real dimensions, and "
        "conjugate pairs are stored once"
    )
    with pytest.raises(ValueError, match=message):
        kind(4, d_state)


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_and_steps(kind):
    with pytest.raises(ValueError, match="expected d_model of at least 1, got 0"):
        kind(0)
    with pytest.raises(ValueError, match=r"expected 0 < dt_min <= dt_max, got 0.2 and 0.1"):
        kind(4, dt_min=0.2, dt_max=0.1)
    with pytest.raises(ValueError, match=r"expected 0 < dt_min <= dt_max, got 0 and 0.1"):
        kind(4, dt_min=0)


@pytest.mark.parametrize("kind", [S4D, S4DKernel])
def test_inits_and_discretizations(kind):
    with pytest.raises(ValueError, match="init 'lin' or 'inv' or 'legs' or 'real', got 'hippo'"):
        kind(4, init="hippo")
    with pytest.raises(ValueError, match="discretization 'zoh' or 'bilinear', got 'euler'"):
        kind(4, discretization="euler")


@pytest.mark.parametrize("kind", [S4, S4Kernel])
def test_hippo_matrices(kind):
    with pytest.raises(ValueError, match="S4: expected init 'legs' or 'legt' or 'fout', got 'lin'"):
        kind(4, init="lin")


@pytest.mark.parametrize("kind", KINDS)
def test_channels_and_models(kind):
    with pytest.raises(ValueError, match="expected channels of at least 1, got 0"):
        kind(4, channels=0)
    for n_ssm in (0, 3, 8):
        with pytest.raises(ValueError, match=f"expected n_ssm to divide d_model=4, got {n_ssm}"):
            kind(4, n_ssm=n_ssm)


@pytest.mark.parametrize("kind", [S4, S4D])
def test_gates_and_bottlenecks(kind):
    with pytest.raises(ValueError, match="expected gate of at least 1, or None, got 0"):
        kind(4, gate=0)
    for bottleneck in (0, 3):
        message = f"expected bottleneck to divide d_model=4, got {bottleneck}"
        with pytest.raises(ValueError, match=message):
            kind(4, bottleneck=bottleneck)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs(kind):
    layer = kind(4, 2)
    name = kind.__name__
    wrong = f"{name}: expected x of shape (batch, time, 4), got (2, 4, 9); did you mean "
    with pytest.raises(ValueError, match=re.escape(wrong + "x.transpose(1, 2)?")):
        layer(torch.zeros(2, 4, 9))
    with pytest.raises(ValueError, match=r"did you mean x.unsqueeze\(0\), a batch of one\?"):
        layer(torch.zeros(9, 4))
    with pytest.raises(TypeError, match=f"{name}: expected x to be floating point, got int64"):
        layer(torch.zeros(2, 9, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match=f"{name}: expected at least one time step"):
        layer(torch.zeros(2, 0, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_kernel_lengths(kind):
    operator = getattr(kind(4, 2), "operator", None) or kind(4, 2)
    with pytest.raises(ValueError, match="expected a length of at least 1, got 0"):
        operator.kernel(0)


@pytest.mark.parametrize("kind", KINDS)
def test_states_of_another_batch_or_device(kind):
    layer = kind(4, 2)
    state = layer.init_state(3)
    message = rf"{kind.__name__}: the state is of a batch of 3 .* of 2; use init_state\(2\)"
    with pytest.raises(ValueError, match=message):
        layer.scan(torch.zeros(2, 5, 4), state)
    with pytest.raises(ValueError, match=message):
        layer.step(torch.zeros(2, 4), state)
    with pytest.raises(ValueError, match="the state is on meta and the input on cpu"):
        layer.step(torch.zeros(2, 4), layer.init_state(2, device="meta"))


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in KINDS for name in ("log_dt", "a_imag", "b", "c")]
    + [(S4, "p"), (S4Kernel, "p")],
)
def test_parameters_that_diverged(kind, name):
    layer = kind(4, 8)
    operator = getattr(layer, "operator", layer)
    with torch.no_grad():
        getattr(operator, name).flatten()[1] = float("nan")
    message = "(holds|hold) NaN or infinite values; a parameter of the layer has diverged"
    with pytest.raises(ValueError, match=message):
        layer(torch.randn(2, 9, 4))
    with pytest.raises(ValueError, match=message):
        layer.init_state(2)


def test_an_unknown_backend():
    message = "unknown backend 'cuda'; expected one of reference, cpu, triton"
    with pytest.raises(ValueError, match=message), backend("cuda"):
        S4(4, 2)(torch.zeros(2, 9, 4))


@pytest.mark.parametrize("other", [S4D, S4Kernel, Bidirectional])
def test_a_checkpoint_of_another_class(tmp_path, other):
    S4(4, 2).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"holds a gonzo.ssm.s4:S4, not a \S+:{other.__name__}"):
        other.from_pretrained(tmp_path)


def test_a_damaged_checkpoint(tmp_path):
    S4(4, 2).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        S4.from_pretrained(tmp_path)


def test_a_changed_configuration(tmp_path):
    S4(4, 2).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace(" 2", " 4"))
    json.loads(path.read_text())
    with pytest.raises(ValueError, match=r"does not belong to model\.safetensors"):
        S4.from_pretrained(tmp_path)
