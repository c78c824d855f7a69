"""The original code's weights give the original code's numbers; data/SOURCE.md says whose."""

import json
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

from gonzo.core.testing import TOLERANCE, assert_close
from gonzo.ssm import H3, S4, S4D, S4DKernel, S4Kernel
from gonzo.ssm.originals import from_h3, from_s4, from_s4_kernel, from_s4d, from_s4d_kernel

DATA = Path(__file__).parent / "data"
F32, F64 = torch.float32, torch.float64
BOTH = pytest.mark.parametrize("dtype", [F32, F64])

DPLR = [
    "s4-kernel-legs",
    "s4-kernel-legs-64",
    "s4-kernel-legt",
    "s4-kernel-fout",
    "s4-kernel-shared",
    "s4-kernel-two-shared-channels",
    "s4-kernel-transforms",
]
DIAGONAL = [
    "s4d-kernel-lin",
    "s4d-kernel-legs",
    "s4d-kernel-bilinear",
    "s4d-kernel-two-shared-channels",
    "s4d-kernel-sigmoid",
    "s4d-kernel-relu",
    "s4d-kernel-none",
    "s4d-kernel-softplus",
]
BLOCKS = ["s4-block", "s4-block-channels", "s4d-block", "s4d-block-channels"]
H3S = ["h3", "h3-heads", "h3-zoh"]
READERS = {"s4-kernel": from_s4_kernel, "s4d-kernel": from_s4d_kernel}
READERS |= {"s4-block": from_s4, "s4d-block": from_s4d, "h3": from_h3}
RENAMED = {"disc": "discretization"}
READ = ("disc", "dt_transform", "real_transform", "imag_transform")

# The original's recurrence subtracts Ā^L from I to undo C̃. Fourier has modes of which that leaves
# ten digits; ours agrees with its kernel to twelve.
OWN_STEPS = {"s4-kernel-fout": {"tolerance": 1e-8, "because": "the original's steps lose digits"}}


def data(name, dtype=F64):
    """The options of a file and its tensors, those of its weights in a state dict of `dtype`."""
    with safe_open(DATA / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        options = json.loads(file.metadata()["options"])
    for group in ("weights", "longer"):
        names = [key for key in tensors if key.startswith(f"{group}/")]
        tensors[group] = {
            key.removeprefix(f"{group}/"): cast(tensors.pop(key), dtype) for key in names
        }
    return options, tensors


def cast(tensor, dtype):
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def converted(name, options, weights, **more):
    (reader,) = [reader for start, reader in READERS.items() if name.startswith(start)]
    wanted = {RENAMED.get(key, key): options[key] for key in READ if key in options}
    return reader(weights, **wanted, **more)


def agree(actual, expected, **own):
    """By the house's measure, and in the worst element."""
    assert_close(actual, expected, **own)
    limit = own.get("tolerance", TOLERANCE[actual.dtype])
    assert (actual - expected).abs().max() <= limit * expected.abs().max()


def stepped(module, x):
    state, outputs = module.init_state(len(x)), []
    for x_t in x.unbind(1):
        y_t, state = module.step(x_t, state)
        outputs.append(y_t)
    return torch.stack(outputs, 1)


def all_ways(module, x):
    """As a convolution, in chunks, and step by step."""
    cut = x.shape[1] // 3
    first, state = module.scan(x[:, :cut], module.init_state(len(x)))
    second, _ = module.scan(x[:, cut:], state)
    return module(x), torch.cat([first, second], 1), stepped(module, x)


@pytest.mark.parametrize("name", [*DPLR, *DIAGONAL])
@BOTH
@torch.no_grad()
def test_kernels(name, dtype):
    options, numbers = data(name, dtype)
    operator = converted(name, options, numbers["weights"])
    assert type(operator) is (S4Kernel if name in DPLR else S4DKernel)
    assert {p.dtype for p in operator.parameters()} == {dtype}
    expected = numbers["kernel"].flatten(0, 1)
    agree(operator.kernel(expected.shape[1], dtype=dtype), expected)
    expected = numbers["steps"].flatten(2)
    for y in all_ways(operator, numbers["x"].to(dtype)):
        agree(y, expected, **OWN_STEPS.get(name, {}) if dtype == F64 else {})


@pytest.mark.parametrize("name", DPLR)
@BOTH
@torch.no_grad()
def test_the_length_that_a_kernel_was_tuned_to_makes_no_difference(name, dtype):
    options, numbers = data(name, dtype)
    short, longer = (converted(name, options, numbers[w]) for w in ("weights", "longer"))
    lengths = [int(numbers[w]["l_kernel"]) for w in ("weights", "longer")]
    assert lengths == [options["l_max"], 2 * options["l_max"]]
    agree(longer.c, short.c.to(F64), **({"tolerance": 1e-4, "because": "C̃ has seven digits"}
          if dtype == F32 else {}))  # fmt: skip
    agree(longer.kernel(40, dtype=dtype), numbers["kernel"].flatten(0, 1))
    agree(short.kernel(lengths[0], dtype=dtype), numbers["short"].flatten(0, 1))


@torch.no_grad()
def test_a_length_for_weights_that_do_not_hold_it():
    _, numbers = data("s4-kernel-legs")
    weights = dict(numbers["weights"])
    length = int(weights.pop("l_kernel"))
    agree(from_s4_kernel(weights, l_kernel=length).kernel(40, dtype=F64), numbers["kernel"][0])
    assert torch.equal(from_s4_kernel(weights, l_kernel=0).c, weights["C"][0])


@pytest.mark.parametrize("name", BLOCKS)
@BOTH
@torch.no_grad()
def test_blocks(name, dtype):
    options, numbers = data(name, dtype)
    layer = converted(name, options, numbers["weights"], dropout=0.3).eval()
    assert type(layer) is (S4D if "s4d" in name else S4)
    assert {p.dtype for p in layer.parameters()} == {dtype}
    assert layer.dropout.p == 0.3
    for y in all_ways(layer, numbers["x"].to(dtype)):
        agree(y, numbers["y"])
        agree(y, numbers["steps"])


@BOTH
@torch.no_grad()
def test_the_kernel_of_a_block_that_has_no_layer_here(dtype):
    """final_act=None: what is around the kernel is a skip and GELU."""
    _, numbers = data("s4-block-no-output", dtype)
    x, weights = numbers["x"].to(dtype), numbers["weights"]
    operator = from_s4_kernel(weights, prefix="layer.kernel.")
    agree(F.gelu(operator(x) + weights["layer.D"][0] * x), numbers["y"])


@pytest.mark.parametrize("name", H3S)
@BOTH
@torch.no_grad()
def test_h3(name, dtype):
    options, numbers = data(name, dtype)
    layer = converted(name, options, numbers["weights"])
    assert type(layer) is H3
    assert layer.head_dim == options.get("head_dim", 1)
    assert {p.dtype for p in layer.parameters()} == {dtype}
    for y in all_ways(layer, numbers["x"].to(dtype)):
        agree(y, numbers["y"])
        agree(y, numbers.get("steps", numbers["y"]))


@pytest.mark.parametrize("name", [DPLR[2], DPLR[5], DIAGONAL[3], *BLOCKS, *H3S])
@torch.no_grad()
def test_they_are_modules_like_any_other(tmp_path, name):
    options, numbers = data(name, F32)
    module = converted(name, options, numbers["weights"]).eval()
    module.save_pretrained(tmp_path)
    x = numbers["x"].float()
    assert torch.equal(type(module).from_pretrained(tmp_path)(x), module(x))
    assert all(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("name", [DPLR[0], BLOCKS[0], H3S[0]])
@torch.no_grad()
def test_the_weights_and_the_random_state_stay_as_they_were(name):
    options, numbers = data(name)
    weights = {key: tensor.clone() for key, tensor in numbers["weights"].items()}
    before = torch.get_rng_state()
    module = converted(name, options, weights, dtype=F32)
    assert torch.equal(torch.get_rng_state(), before)
    assert {p.dtype for p in module.parameters()} == {F32}
    module = converted(name, options, weights)
    for parameter in module.parameters():
        parameter.zero_()
    for key, tensor in weights.items():
        assert torch.equal(tensor, numbers["weights"][key]), key


@pytest.mark.parametrize("name", [DPLR[0], DIAGONAL[0], BLOCKS[0], BLOCKS[2], H3S[0]])
@torch.no_grad()
def test_a_module_inside_a_model(name):
    options, numbers = data(name)
    model = {f"layers.1.mixer.{key}": tensor for key, tensor in numbers["weights"].items()}
    model |= {"layers.1.norm.weight": torch.ones(4), "head.weight": torch.ones(4)}
    inside = converted(name, options, model, prefix="layers.1.mixer.")
    alone = converted(name, options, numbers["weights"])
    assert torch.equal(inside(numbers["x"]), alone(numbers["x"]))
    with pytest.raises(ValueError, match=r"did you mean prefix='layers\.1\.mixer\.'\?"):
        converted(name, options, model)


def refuses(reader, weights, message, kind=ValueError, **options):
    with pytest.raises(kind, match=re.escape(message)):
        reader(weights, **options)


def changed(name, **new):
    """Weights with some put in ("__" for a dot), or left out (None)."""
    weights = data(name)[1]["weights"] | {k.replace("__", "."): v for k, v in new.items()}
    return {key: value for key, value in weights.items() if value is not None}


def test_names():
    missing = "of the names under the prefix '', missing: B; unknown: w"
    weights = changed("s4-kernel-legs", B=None, w=torch.ones(1))
    refuses(from_s4_kernel, weights, f"from_s4_kernel: {missing}")
    weights = changed("s4d-kernel-lin", B=None, w=torch.ones(1))
    refuses(from_s4d_kernel, weights, f"from_s4d_kernel: {missing}")
    weights = changed("h3", D=None, q_proj__bias=None)
    refuses(from_h3, weights, "from_h3: of the names under the prefix '', missing: q_proj.bias, D;")
    weights = changed("s4-block", layer__D=None)
    refuses(from_s4, weights, "from_s4: of the names under the prefix '', missing: layer.D;")
    weights = changed("s4-block", layer__kernel__inv_dt=None)
    refuses(from_s4, weights, "under the prefix 'layer.kernel.', missing: inv_dt;")
    many = {f"old{i}": torch.ones(1) for i in range(14)}
    refuses(from_h3, many, "and 5 more; unknown: old0, old1, ")
    refuses(from_h3, many, ", old11 and 2 more")
    refuses(from_h3, {}, "missing: q_proj.weight, ")


def test_a_length_is_known_once():
    length = "from_s4_kernel: found no l_kernel, the L of C̃; pass l_kernel=…, or 0 if the kernel "
    refuses(from_s4_kernel, changed("s4-kernel-legs", l_kernel=None), length)
    weights = changed("s4-kernel-legs")
    refuses(from_s4_kernel, weights, "got l_kernel=7, and 24 in the weights", l_kernel=7)
    from_s4_kernel(weights, l_kernel=24)
    weights = changed("s4-kernel-legs", l_kernel=None)
    refuses(from_s4_kernel, weights, "expected l_kernel of at least 0, got -1", l_kernel=-1)


def test_what_is_not_offered():
    linear = {"input_linear.weight": torch.ones(4, 4)}
    gate = {"input_gate.0.weight": torch.ones(4, 4)}
    for reader, name in ((from_s4, "s4-block"), (from_s4d, "s4d-block")):
        own = f"{reader.__name__}_kernel and prefix='layer.kernel.' read the kernel alone"
        weights = changed(name)
        bottleneck = f"found input_linear.weight: the option bottleneck is not read; {own}"
        refuses(reader, weights | linear, bottleneck)
        refuses(reader, weights | gate, "found input_gate.0.weight: the option gate is not read")
        bare = changed(name, output_linear__0__weight=None, output_linear__0__bias=None)
        refuses(reader, bare, "found no output_linear.0.weight: as with final_act=None, not")
        other = {"output_linear.0.weight": torch.ones(4, 4), "output_linear.0.bias": torch.ones(4)}
        refuses(reader, weights | other, 'as with a final_act other than "glu"')
        twice = {"layer.kernel.C": torch.cat([weights["layer.kernel.C"]] * 2)}
        refuses(reader, weights | twice, "C has twice the channels of D, as with bidirectional")
        half = {"layer.D": torch.ones(2, 4)}
        refuses(reader, weights | twice | half, 'the channels of C, as with activation="glu"')
    for reader, name in ((from_s4_kernel, DPLR[0]), (from_s4d_kernel, DIAGONAL[0])):
        refuses(reader, changed(name, A_imag=None), "found no A_imag: as with is_real=True")
        steps = {"inv_dt": torch.ones(4, 4)}
        refuses(reader, changed(name) | steps, "inv_dt (4, 4), as with dt_tie=False")
    third = torch.ones(3, 4, 4, 2)
    refuses(from_s4_kernel, changed(DPLR[0], P=third), "expected P of rank 1 or 2, got 3")
    dss = "got 'dss'"
    refuses(from_s4d_kernel, changed(DIAGONAL[0]), dss, discretization="dss")
    ema = changed("h3", kernel__kernel__delta=torch.ones(4, 2, 1))
    refuses(from_h3, ema, 'found kernel.kernel.delta: it is of mode="ema"')


def test_the_other_kind():
    use = "found no P: the kernel is that of an S4D, use from_s4d_kernel"
    refuses(from_s4_kernel, changed("s4d-kernel-lin"), use)
    use = "found P: the kernel is that of an S4, use from_s4_kernel"
    refuses(from_s4d_kernel, changed("s4-kernel-legs"), use)
    refuses(from_s4, changed("s4d-block"), "found no layer.kernel.P: the kernel is that of an S4D")
    refuses(from_s4d, changed("s4-block"), "an S4, use from_s4")


def test_sizes():
    shape = "beside the other sizes, expected {} of shape {}, got {}"
    for reader, name in ((from_s4_kernel, DPLR[0]), (from_s4d_kernel, DIAGONAL[0])):
        wrong = changed(name, A_imag=torch.ones(4, 3))
        refuses(reader, wrong, shape.format("A_imag", "(4, 4)", "(4, 3)"))
        wrong = changed(name, C=torch.ones(4, 4, 2))
        refuses(reader, wrong, "expected C (channels, d_model, d_state/2, 2), got (4, 4, 2)")
        weights = changed(name)
        fewer = {
            k: v[:, :3] if k in ("C", "B", "P") else v[:3] for k, v in weights.items() if v.ndim
        }
        fewer = weights | fewer | {"C": weights["C"], "inv_dt": weights["inv_dt"]}
        refuses(reader, fewer, "expected the 3 models of A_real to divide the 4 of C")
    wrong = changed("s4-kernel-legs", P=torch.ones(1, 4, 3, 2))
    refuses(from_s4_kernel, wrong, shape.format("P", "(1, 4, 4, 2)", "(1, 4, 3, 2)"))
    wrong = changed("s4-block", layer__D=torch.ones(3, 4))
    refuses(from_s4, wrong, shape.format("layer.D", "(1, 4)", "(3, 4)"))
    wrong = changed("h3", k_proj__weight=torch.ones(4, 3))
    refuses(from_h3, wrong, shape.format("k_proj.weight", "(4, 4)", "(4, 3)"))
    wrong = changed("h3", D=torch.ones(3))
    refuses(from_h3, wrong, "to be as long as some divisor of d_model=4 that the 4 models of A")


def test_transforms():
    weights = changed("s4d-kernel-lin")
    names = "expected real_transform 'none', 'exp', 'relu', 'sigmoid' or 'softplus', got 'tanh'"
    refuses(from_s4d_kernel, weights, names, real_transform="tanh")
    wrong = "real_transform='none' makes -"
    refuses(from_s4d_kernel, weights, wrong, real_transform="none")


@pytest.mark.parametrize("reader", [*READERS.values()])
def test_nothing_is_unpickled(tmp_path, reader):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "it ran",)

    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps(Trap()))
    name = reader.__name__
    wanted = f"{name}: expected a mapping of names to tensors, as safetensors.torch.load_file or "
    refuses(reader, path, wanted, TypeError)
    refuses(reader, str(path), wanted, TypeError)
    refuses(reader, path.read_bytes(), wanted, TypeError)
    whole = {"state_dict": {"D": torch.ones(1)}}
    refuses(reader, whole, "did you mean weights['state_dict']?", TypeError)
    epoch = {"epoch": 3}
    wrong = f"{name}: expected tensors, got an object of type int under 'epoch'"
    refuses(reader, epoch, wrong, TypeError)
    assert not (tmp_path / "it ran").exists()
