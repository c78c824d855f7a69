"""Genomes as JSON, our own format: every gene, every digit, nothing that runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..genome import ConnectionGene, Genome, NodeGene
from .strict_json import Fields, kind_of, parse, read_text
from .whole_file import write_whole

__all__ = ["FORMAT", "VERSION", "from_json", "load", "save", "to_json"]

FORMAT = "gonzo-genome"
VERSION = 1


def to_json(genome: Genome) -> str:
    """Write a genome as JSON, one gene a line; `from_json` gives back an equal genome."""
    head = {
        "format": FORMAT,
        "version": VERSION,
        "inputs": genome.inputs,
        "outputs": genome.outputs,
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for name in ("nodes", "connections"):
        genes = [
            "    " + json.dumps(gene._asdict(), allow_nan=False) for gene in getattr(genome, name)
        ]
        lines.append(f'  "{name}": [' + ("\n" + ",\n".join(genes) + "\n  ]" if genes else "]"))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def from_json(text: str) -> Genome:
    """Read what `to_json` wrote; `load` reads a file.

    Raises:
        TypeError: ``text`` is no string.
        ValueError: larger than 16 MiB, more than 100,000 genes of a kind, deeply nested, no JSON,
            NaN or infinite numbers, missing or unknown keys, values of another type, a newer
            version, or genes that form no genome; the message says what and where.
    """
    return _genome(parse(text, "from_json"))


def save(genome: Genome, path: str | os.PathLike[str]) -> Path:
    """Write the genome to a JSON file, whole or not at all, and return its path.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    return write_whole(path, to_json(genome))


def load(path: str | os.PathLike[str]) -> Genome:
    """Read a file that `save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `from_json`, with the path.
    """
    return _genome(parse(read_text(path, "load"), os.fspath(path)))


def _genome(fields: Fields) -> Genome:
    if fields.value.get("format") != FORMAT:
        raise ValueError(
            f"{fields.where}: expected the format {FORMAT!r}, got "
            f"{kind_of(fields.value.get('format'))}"
        )
    if (version := fields.whole("version")) != VERSION:
        raise ValueError(
            f"{fields.where}: has version {version}, and this package reads version {VERSION}; "
            "pip install --upgrade gonzo-neuroevo"
        )
    fields.only(("format", "version", "inputs", "outputs", "nodes", "connections"))
    try:
        return Genome(
            fields.size("inputs"),
            fields.size("outputs"),
            tuple(_node(part) for part in fields.parts("nodes")),
            tuple(_connection(part) for part in fields.parts("connections")),
        )
    except ValueError as error:
        if str(error).startswith("Genome"):
            raise ValueError(f"{fields.where}: {error}") from None
        raise


def _node(fields: Fields) -> NodeGene:
    fields.only(NodeGene._fields)
    return NodeGene(
        fields.whole("key"),
        fields.number("bias"),
        fields.number("response"),
        fields.word("activation"),
        fields.word("aggregation"),
        fields.number("time_constant"),
    )


def _connection(fields: Fields) -> ConnectionGene:
    fields.only(ConnectionGene._fields)
    return ConnectionGene(
        fields.whole("source"),
        fields.whole("target"),
        fields.number("weight"),
        fields.truth("enabled"),
        fields.whole("innovation"),
    )
