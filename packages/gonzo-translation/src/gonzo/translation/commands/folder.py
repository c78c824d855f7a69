"""The folder of an alignment, and the two vocabularies it was made with.

run.json, loops, metrics, figures   of `gonzo.lab.Run`
alignment/                          `Alignment.save_pretrained`
alignment/vocabularies.json         where the vectors came from
result.json                         there when all of it is done
report.html                         the same for people
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from gonzo.lab.atomic import read_json, write_json
from gonzo.lab.terminal import remark
from gonzo.translation.commands.reading import fingerprint, read_vectors

if TYPE_CHECKING:
    from torch import Tensor

    from gonzo.translation.embeddings import Embeddings
    from gonzo.translation.mapping import Alignment

ALIGNMENT, MEMORY, RESULT = "alignment", "vocabularies.json", "result.json"
_OPTION = {"source": "--src", "target": "--tgt"}
_USUAL_WORDS = 200_000


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Options that name an alignment and its vocabularies.

    Args:
        directory: A folder that gonzo-translation align made.
        src: Vectors of the source language, in any format; by default the file that the alignment
            was made with.
        tgt: Likewise of the target language.
        max_words: Read the first so many words of each; 0 reads all; by default as many as align.
        lowercase: Lower-case the words, as align does if it was told so.
    """

    directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    src: Path | None = None
    tgt: Path | None = None
    max_words: int | None = None
    lowercase: bool = False


@dataclass(frozen=True)
class Opened:
    """An alignment with its vocabularies.

    Args:
        alignment: the maps.
        source: the words and their vectors as they were read.
        target: likewise.
        names: of the two languages, for people.
        files: that the vocabularies were read from.
    """

    alignment: Alignment
    source: Embeddings
    target: Embeddings
    names: tuple[str, str]
    files: tuple[Path, ...] = ()

    def mapped(self) -> tuple[Tensor, Tensor]:
        """Return both sides' vectors in the shared space."""
        return (
            self.alignment.map_source(self.source.vectors),
            self.alignment.map_target(self.target.vectors),
        )


def opened(options: Chosen, *, all_words: bool = False) -> Opened:
    """Load what the options name.

    Args:
        options: of the command.
        all_words: read whole files, unless the options say how much.

    Raises:
        ValueError: the folder is no alignment, is not finished, or does not fit the files.
        OSError: a file cannot be read.
    """
    from gonzo.translation.mapping import Alignment

    folder = _alignment_folder(options.directory)
    alignment = Alignment.from_pretrained(folder)
    file = folder / MEMORY
    way_out = "Remove it, and name the vectors with --src and --tgt."
    memory = read_json(file, way_out=way_out) if file.exists() else {}
    read, files = [], []
    for side, given in (("source", options.src), ("target", options.tgt)):
        path = _path(side, given, memory, options.directory)
        known = memory.get(side, {})
        usual = 0 if all_words else known.get("max_words", _USUAL_WORDS)
        read.append(
            read_vectors(
                path,
                usual if options.max_words is None else options.max_words,
                options.lowercase or known.get("lowercase", False),
                known.get("partial", False),
                known=given is None,
            )
        )
        files.append(path)
    for side, mapping, vocabulary in zip(
        _OPTION, (alignment.source_map, alignment.target_map), read, strict=True
    ):
        if vocabulary.dim != mapping.shape[1]:
            raise ValueError(
                f"{options.directory} maps {side} vectors of {mapping.shape[1]} numbers, and "
                f"{_OPTION[side]} has {vocabulary.dim}; give the vectors that it was made with"
            )
    names = files[0].name, files[1].name
    return Opened(alignment, read[0], read[1], names, tuple(files))


def remember(folder: Path, sides: dict[str, Path], reading: dict[str, Any]) -> None:
    """Write down which files an alignment was made with, and how they were read."""
    memory = {
        side: {**fingerprint(path), "path": str(path.resolve()), **reading}
        for side, path in sides.items()
    }
    write_json(folder / MEMORY, memory)


def _alignment_folder(directory: Path) -> Path:
    if not directory.is_dir():
        raise ValueError(f"there is no folder {directory}; gonzo-translation align makes one")
    if (directory / "model.safetensors").exists():
        return directory
    if not (directory / "run.json").exists():
        raise ValueError(
            f"{directory} is no alignment: expected a folder that gonzo-translation align or "
            "Alignment.save_pretrained made"
        )
    result = directory / RESULT
    if not result.exists():
        progress, far = directory / "progress.json", ""
        if progress.exists():
            found = read_json(progress, way_out="Start over with align --fresh.")
            far = f" ({found['loop']}, step {found['done']} of {found['total']})"
        raise ValueError(
            f"{directory} is not finished{far}; the same gonzo-translation align command goes on"
        )
    if not (directory / ALIGNMENT).is_dir():
        raise ValueError(
            f"{directory} holds no mapping, because no seed found one; align again, with other "
            "seeds or another --method, and --fresh or another --out"
        )
    return directory / ALIGNMENT


def _path(side: str, given: Path | None, memory: dict[str, Any], directory: Path) -> Path:
    option, known = _OPTION[side], memory.get(side)
    if given is None:
        if known is None:
            raise ValueError(
                f"{directory} does not say which vectors it was made with; name them with --src "
                "and --tgt"
            )
        path = Path(known["path"])
        if not path.exists():
            raise ValueError(
                f"{directory} was made with {path}, which is gone; name the {side} vectors with "
                f"{option}"
            )
        if not _same(fingerprint(path), known):
            remark(f"warning: {path} has changed since {directory} was made with it")
        return path
    found = fingerprint(given)
    other = memory.get("target" if side == "source" else "source")
    if other is not None and known is not None and _same(found, other) and not _same(found, known):
        raise ValueError(
            f"{option} {given} are the vectors of the other language: {directory} maps "
            f"{memory['source']['file']} (--src) to {memory['target']['file']} (--tgt)"
        )
    if known is not None and not _same(found, known):
        remark(
            f"{given} is another file than {known['file']}, which {directory} was made with; its "
            "vectors must be of the same training"
        )
    return given


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return (one["bytes"], one["digest"]) == (other["bytes"], other["digest"])
