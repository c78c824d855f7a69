"""Weights on disk: ``config.json`` and ``model.safetensors``, never a pickle.

The weights file carries its own copy of the configuration, so one rename publishes both and no
interruption can pair new weights with an old configuration. ``config.json`` is the copy for people;
when it is there, it must agree.

Nothing named in a file is imported: a class is found only if a package that defines it is loaded.
"""

import contextlib
import inspect
import json
import os
import tempfile
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

__all__ = ["Pretrained"]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
FORMAT = 1

# Where a module lives and how precise it is belong to the moment, not to the architecture.
_NOT_STORED = frozenset({"device", "dtype"})


class Pretrained(nn.Module):
    """A module that can be saved to a folder and rebuilt from it.

    Constructor arguments are recorded as they are passed, so a subclass writes nothing for it. They
    may be None, numbers, strings, other ``Pretrained`` modules, and sequences of these (which come
    back as tuples); anything else is reported by `save_pretrained`. ``device`` and ``dtype``
    are not recorded: precision comes back from the stored tensors.
    """

    _arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the constructor's arguments."""
        module = super().__new__(cls)
        signature = inspect.signature(cls.__init__)
        with contextlib.suppress(
            TypeError
        ):  # __init__ reports wrong arguments better than we could
            bound = signature.bind(module, *args, **kwargs)
            bound.apply_defaults()
            stored = list(bound.arguments.items())[1:]
            # copy and pickle come here without arguments and restore the record afterwards.
            object.__setattr__(
                module,
                "_arguments",
                {name: _encode(value) for name, value in stored if name not in _NOT_STORED},
            )
        return module

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write ``config.json`` and ``model.safetensors``, replacing those already there.

        Interrupted at any moment, the folder still holds one complete model, old or new. Parameters
        that are one object under several names are stored once and come back tied.

        Args:
            directory: The folder, made if it does not exist.

        Raises:
            TypeError: A constructor argument cannot be written as data.
        """
        config = {"format": FORMAT, **_describe(self)}
        text = json.dumps(config, indent=2) + "\n"
        tensors, ties = _tensors(self)
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        with _replacing(folder / WEIGHTS) as temporary:
            save_file(tensors, temporary, {"config": text, "ties": json.dumps(ties)})
            # Until its new version stands, no config.json is better than a wrong one.
            (folder / CONFIG).unlink(missing_ok=True)
        with _replacing(folder / CONFIG) as temporary:
            temporary.write_text(text, encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls, directory: str | os.PathLike[str], *, device: torch.device | str | None = None
    ) -> Self:
        """Rebuild the model saved in ``directory``.

        The random state of the process is left as it was, and no code stored in the folder runs,
        since none can be.

        Args:
            directory: A folder written by `save_pretrained`.
            device: Where to put the model; by default the CPU.

        Raises:
            FileNotFoundError: The folder or its weights are missing.
            ValueError: The file is damaged, was written by a newer version, holds another class, or
                its tensors do not fit the model; the message lists what differs.
        """
        folder = Path(directory)
        config, ties, tensors = _read(folder)
        with torch.random.fork_rng(devices=[]):
            model = _build(config, folder)
        if not isinstance(model, cls):
            raise ValueError(f"{folder} holds a {_name(type(model))}, not a {_name(cls)}")
        tensors |= {name: tensors[source] for name, source in ties.items() if source in tensors}
        _load(model, tensors, folder)
        _tie(model, ties)
        return model if device is None else model.to(device)


class _Unstorable:
    """Stands for a constructor argument that cannot be written as data."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


def _encode(value: Any) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list | tuple | nn.ModuleList):
        return [_encode(item) for item in value]
    if isinstance(value, Pretrained):
        return {"class": _name(type(value)), "arguments": value._arguments}
    return _Unstorable(type(value).__name__)


def _describe(module: Pretrained) -> dict[str, Any]:
    def check(path: str, value: Any) -> None:
        if isinstance(value, _Unstorable):
            raise TypeError(
                f"{type(module).__name__}: the constructor argument {path} is a {value.kind}, "
                "which save_pretrained cannot store; it stores None, numbers, strings, gonzo "
                "modules and sequences of these"
            )
        if isinstance(value, list):
            for index, item in enumerate(value):
                check(f"{path}[{index}]", item)
        if isinstance(value, dict):
            for name, item in value["arguments"].items():
                check(f"{path}.{name}", item)

    for name, value in module._arguments.items():
        check(name, value)
    return {"class": _name(type(module)), "arguments": module._arguments}


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _loaded_classes(root: type[Pretrained] = Pretrained) -> Iterator[type[Pretrained]]:
    yield root
    for cls in root.__subclasses__():
        yield from _loaded_classes(cls)


def _build(config: Any, folder: Path) -> Pretrained:
    # A class defined again, in a notebook cell say, replaces its earlier self: the last one wins.
    classes = {_name(cls): cls for cls in _loaded_classes()}

    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return tuple(decode(item) for item in value)
        return build(value) if isinstance(value, dict) else value

    def build(description: Mapping[str, Any]) -> Pretrained:
        name = description["class"]
        if name not in classes:
            raise ValueError(
                f"{folder / CONFIG} names the class {name}, which is not loaded; import the "
                "package that defines it first"
            )
        arguments = {key: decode(value) for key, value in description["arguments"].items()}
        try:
            inspect.signature(classes[name]).bind(**arguments)
        except TypeError as error:
            raise ValueError(
                f"{folder / CONFIG} does not fit this version of {name}: {error}"
            ) from None
        return classes[name](**arguments)

    return build(config)


def _tensors(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors to store, and for every further name of a tensor the name it is stored under."""
    tensors: dict[str, Tensor] = {}
    ties: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        stored = first.setdefault(id(tensor), name)
        if stored != name:
            ties[name] = stored
            continue
        data = tensor.detach().cpu().contiguous()
        # A view into a larger buffer would be refused by safetensors as memory shared with others.
        whole = data.untyped_storage().nbytes() == data.nbytes
        tensors[name] = data if whole else data.clone()
    return tensors, ties


@contextlib.contextmanager
def _replacing(path: Path) -> Generator[Path]:
    """A temporary file that takes the name ``path`` when the block ends, or never existed."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes private files; a checkpoint has the permissions any new file would have.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, str], dict[str, Tensor]]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise FileNotFoundError(f"{folder} has no {WEIGHTS}; expected a folder of save_pretrained")
    try:
        with safe_open(weights, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{weights} is damaged: {error}") from None
    if "config" not in metadata:
        raise ValueError(f"{weights} was not written by save_pretrained: it has no configuration")
    config = json.loads(metadata["config"])
    if config["format"] > FORMAT:
        raise ValueError(
            f"{folder} has format {config['format']} and this version reads up to {FORMAT}; "
            "pip install --upgrade gonzo-core"
        )
    readable = folder / CONFIG
    if readable.exists() and not _agrees(readable, config):
        raise ValueError(
            f"{readable} does not belong to {WEIGHTS} (was it edited?); remove it to load the "
            "model as it was saved"
        )
    return config, json.loads(metadata["ties"]), tensors


def _agrees(path: Path, config: dict[str, Any]) -> bool:
    try:
        return json.loads(path.read_text(encoding="utf-8")) == config
    except ValueError:
        return False


def _load(model: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    expected = model.state_dict(keep_vars=True)
    problems = [f"missing: {name}" for name in expected if name not in tensors]
    problems += [f"unexpected: {name}" for name in tensors if name not in expected]
    problems += [
        f"{name}: expected shape {tuple(expected[name].shape)}, got {tuple(tensor.shape)}"
        for name, tensor in tensors.items()
        if name in expected and expected[name].shape != tensor.shape
    ]
    if problems:
        raise ValueError(
            f"the tensors in {folder / WEIGHTS} do not fit {type(model).__name__}:\n  "
            + "\n  ".join(problems)
        )
    floating = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(floating) == 1:
        model.to(floating.pop())  # brings along the buffers that are not stored
    for name, tensor in model.state_dict(keep_vars=True).items():
        tensor.data = tensor.data.to(tensors[name].dtype)
    model.load_state_dict(tensors)


def _tie(model: nn.Module, ties: Mapping[str, str]) -> None:
    """Make parameters that were one object one object again."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, source in ties.items():
        if name in parameters and parameters[name] is not parameters[source]:
            owner, _, leaf = name.rpartition(".")
            model.get_submodule(owner).register_parameter(leaf, parameters[source])
