import threading

import pytest
import torch

from gonzo.core import backends
from gonzo.core.backends import BACKENDS, backend, choose, explain, recorded
from gonzo.core.ops.linear_scan import linear_scan

CPU, META, CUDA = torch.device("cpu"), torch.device("meta"), torch.device("cuda")


@pytest.fixture
def with_triton(monkeypatch):
    """Whether Triton is installed, as the test says."""
    exists = backends._exists

    def pretend(installed):
        monkeypatch.setattr(
            backends, "_exists", lambda name: installed if name == "triton" else exists(name)
        )

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    return pretend


def test_a_gpu_runs_triton_where_it_is_installed(with_triton):
    with_triton(True)
    assert choose("linear_scan", "", CUDA) == ("triton", "the default for this device")
    assert choose("linear_scan", "triton", CUDA)[0] == "triton"
    with_triton(False)
    name, why = choose("linear_scan", "", CUDA)
    assert name == "reference"
    assert "pip install triton" in why
    with pytest.raises(ValueError, match="linear_scan: Triton is not installed"):
        choose("linear_scan", "triton", CUDA)


def test_triton_runs_on_the_cpu_only_when_it_is_interpreted(with_triton, monkeypatch):
    with_triton(True)
    with pytest.raises(ValueError, match=r"needs tensors on a GPU, got cpu; .* TRITON_INTERPRET=1"):
        choose("linear_scan", "triton", CPU)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose("linear_scan", "triton", CPU)[0] == "triton"
    assert choose("linear_scan", "", CPU)[0] == "cpu"


def test_the_argument_beats_the_context_and_the_context_beats_the_device():
    assert choose("linear_scan", "", CPU)[0] == "cpu"
    with backend("reference"):
        assert choose("linear_scan", "", CPU)[0] == "reference"
        assert choose("linear_scan", "cpu", CPU)[0] == "cpu"
        with backend("cpu"):
            assert choose("linear_scan", "", CPU)[0] == "cpu"
        assert recorded("linear_scan", "", CPU) == "reference"
    assert recorded("linear_scan", "", CPU) == "cpu"


def test_the_context_ends_with_its_block_even_after_an_error():
    with pytest.raises(RuntimeError, match="inside"), backend("reference"):
        raise RuntimeError("inside")
    assert choose("linear_scan", "", CPU)[0] == "cpu"


def test_the_context_is_that_of_one_thread():
    seen = []
    with backend("reference"):
        thread = threading.Thread(target=lambda: seen.append(choose("linear_scan", "", CPU)[0]))
        thread.start()
        thread.join()
    assert seen == ["cpu"]


def test_explain_says_which_and_why():
    x = torch.zeros(1, 2, 3)
    assert explain(linear_scan, x) == "linear_scan on cpu: 'cpu', the default for this device"
    assert explain("linear_scan") == explain(linear_scan, x)
    with backend("reference"):
        assert explain(linear_scan, x) == (
            "linear_scan on cpu: 'reference', "
            "the enclosing `with gonzo.core.backend(...)` asks for it"
        )
    assert explain(linear_scan, x.to(META)) == (
        "linear_scan on meta: 'reference', there are kernels for cpu and cuda, not for meta"
    )


@pytest.mark.parametrize("op", ["no_such_op", torch.add, 3])
def test_explain_knows_ops_only(op):
    with pytest.raises(ValueError, match=r"is not an op of gonzo\.core\.ops"):
        explain(op)


def test_an_unknown_backend_is_named_beside_those_that_exist():
    message = "unknown backend 'gpu'; expected one of reference, cpu, triton"
    with pytest.raises(ValueError, match=message), backend("gpu"):
        pass
    with pytest.raises(ValueError, match=message):
        choose("linear_scan", "gpu", CPU)


def test_a_backend_that_cannot_run_says_why():
    with pytest.raises(ValueError, match="'cpu' needs tensors on the CPU, got meta"):
        choose("linear_scan", "cpu", META)
    with pytest.raises(ValueError, match="linear_scan: there are kernels for cpu and cuda, not"):
        choose("linear_scan", "triton", META)
    with backend("cpu"), pytest.raises(ValueError, match="got meta"):
        choose("linear_scan", "", META)
    assert BACKENDS == ("reference", "cpu", "triton")
