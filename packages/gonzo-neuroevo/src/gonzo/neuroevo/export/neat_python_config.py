"""neat-python's configuration files, read into a `NEATConfig` and written from one.

What belongs to a run and not to the algorithm is not in a `NEATConfig`: numbers of inputs and
outputs, fitness threshold and criterion, seed.

Deviation: neat-python's "median" of an even number of fitnesses is the upper of the middle two,
here it is their mean, which neat-python calls "median2".

Source:
    neat-python 2.0.0: ``config.py``, ``genome.py`` and ``attributes.py`` define the options.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..config import Choice, NEATConfig, Number
from .neat_python import our_activation, our_aggregation, their_activation
from .neat_python_options import Section
from .strict_json import read_text
from .whole_file import write_whole

__all__ = ["read_neat_python_config", "write_neat_python_config"]

_ATTRIBUTES = ("weight", "bias", "response", "time_constant")
_NUMBERS = {
    "mean": "init_mean",
    "std": "init_stdev",
    "replace": "replace_rate",
    "mutate": "mutate_rate",
    "power": "mutate_power",
    "high": "max_value",
    "low": "min_value",
}
# What says how a run ends is not read.
_RUN = (
    "fitness_criterion",
    "fitness_threshold",
    "reset_on_extinction",
    "no_fitness_termination",
    "seed",
)
_SECTIONS = {
    "NEAT": {"population": "pop_size"},
    "DefaultGenome": {
        "initial_hidden": "num_hidden",
        "excess": "compatibility_disjoint_coefficient",
        "difference": "compatibility_weight_coefficient",
        "add_connection": "conn_add_prob",
        "delete_connection": "conn_delete_prob",
        "add_node": "node_add_prob",
        "delete_node": "node_delete_prob",
        "enabled_mutate": "enabled_mutate_rate",
        "single_structural_mutation": "single_structural_mutation",
    },
    "DefaultSpeciesSet": {"threshold": "compatibility_threshold"},
    "DefaultStagnation": {"stagnation": "max_stagnation", "protected_species": "species_elitism"},
    "DefaultReproduction": {
        "elitism": "elitism",
        "survival": "survival_threshold",
        "min_species_size": "min_species_size",
    },
}
# Written in another form, or left to a neat-python user's own code.
_SPECIAL = {
    *_ATTRIBUTES,
    "activation",
    "aggregation",
    "enable_existing",
    "initial_connections",
    "initial_direct",
    "initial_fraction",
    "kind",
    "species_fitness",
    "ticks",
    "time_step",
}
_DEFAULT = {f.name: f.default for f in fields(NEATConfig)}


def read_neat_python_config(path: str | os.PathLike[str]) -> NEATConfig:
    """Read the ini file of a ``neat.Config`` with neat-python's default classes.

    Activations become those of the same shape: sigmoid is ``steep_sigmoid``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no such ini file, a missing, unknown or malformed option, a function of the
            user's own, or an option for which a `NEATConfig` has no field; the message names it.
    """
    name = os.fspath(path)
    parser = configparser.ConfigParser()
    try:
        parser.read_string(read_text(path, "read_neat_python_config"))
        found = {section: dict(parser.items(section)) for section in parser.sections()}
    except configparser.Error as error:
        raise ValueError(f"{name}: {error}") from None
    if set(found) != set(_SECTIONS):
        raise ValueError(
            f"{name}: expected the sections {list(_SECTIONS)}, got {list(found)}; other classes "
            "than neat-python's default ones cannot be converted"
        )
    sections = {title: Section(found[title], f"{name} [{title}]") for title in _SECTIONS}
    values: dict[str, Any] = {}
    for title, options in _SECTIONS.items():
        for field, option in options.items():
            values[field] = sections[title].like(_DEFAULT[field], option)
    values["species_fitness"] = sections["DefaultStagnation"].word("species_fitness_func")
    if values["species_fitness"] == "median2":
        values["species_fitness"] = "median"
    values |= _genome_fields(sections["DefaultGenome"])
    for option in _RUN:
        sections["NEAT"].skip(option)
    for section in sections.values():
        section.finish()
    try:
        return NEATConfig(**values)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def write_neat_python_config(
    config: NEATConfig,
    path: str | os.PathLike[str],
    *,
    inputs: int,
    outputs: int,
    fitness_threshold: float | None = None,
) -> Path:
    """Write an ini file that ``neat.Config`` reads.

    Args:
        config: rules that neat-python has; ``ticks`` and ``time_step`` are not written.
        path: of the file, written whole or not at all.
        inputs: of the networks.
        outputs: of the networks.
        fitness_threshold: at which neat-python stops; None: never.

    Returns:
        The path.

    Raises:
        ValueError: the configuration differs from `NEATConfig.neat_python` in a field for which
            neat-python has no option, or names a function it lacks; all such fields are named.
        FileNotFoundError: the folder does not exist.
    """
    _check_writable(config)
    sections: dict[str, dict[str, object]] = {
        title: {option: getattr(config, field) for field, option in options.items()}
        for title, options in _SECTIONS.items()
    }
    sections["NEAT"] |= {
        "fitness_criterion": "max",
        "fitness_threshold": 0.0 if fitness_threshold is None else float(fitness_threshold),
        "no_fitness_termination": fitness_threshold is None,
        "reset_on_extinction": False,
    }
    genome = sections["DefaultGenome"]
    genome |= {
        "num_inputs": inputs,
        "num_outputs": outputs,
        "feed_forward": config.kind == "feed-forward",
        "structural_mutation_surer": config.enable_existing,
        "enabled_default": True,
        "initial_connection": _initial_option(config),
    }
    for name in _ATTRIBUTES:
        number = getattr(config, name)
        genome |= {f"{name}_{option}": getattr(number, f) for f, option in _NUMBERS.items()}
        genome[f"{name}_init_type"] = "gaussian" if number.distribution == "normal" else "uniform"
    for name in ("activation", "aggregation"):
        choice = getattr(config, name)
        theirs = {option: their_activation(option) or option for option in choice.options}
        genome |= {
            f"{name}_default": theirs.get(choice.initial, "random"),
            f"{name}_options": " ".join(theirs.values()),
            f"{name}_mutate_rate": choice.mutate,
        }
    fitness = "median2" if config.species_fitness == "median" else config.species_fitness
    sections["DefaultStagnation"]["species_fitness_func"] = fitness
    return write_whole(path, "\n".join(_lines(title, sections[title]) for title in sections))


def _check_writable(config: NEATConfig) -> None:
    written = {field for options in _SECTIONS.values() for field in options} | _SPECIAL
    theirs = NEATConfig.neat_python()
    wrong = [
        f"{f.name}={getattr(config, f.name)!r} (has {getattr(theirs, f.name)!r})"
        for f in fields(config)
        if f.name not in written and getattr(config, f.name) != getattr(theirs, f.name)
    ]
    wrong += [
        f"activation {name!r} (has its own {', '.join(['steep_sigmoid', 'steep_tanh'])} …)"
        for name in config.activation.options
        if their_activation(name) is None
    ]
    if wrong:
        raise ValueError(
            "write_neat_python_config: neat-python has no option for " + "; ".join(wrong)
        )


def _lines(title: str, options: dict[str, object]) -> str:
    width = max(map(len, options))
    return "".join([f"[{title}]\n", *(f"{k:{width}} = {v}\n" for k, v in options.items())])


def _initial_option(config: NEATConfig) -> str:
    direct = "direct" if config.initial_direct else "nodirect"
    return {
        "unconnected": "unconnected",
        "one-input": "fs_neat_hidden",
        "full": f"full_{direct}",
        "partial": f"partial_{direct} {config.initial_fraction}",
    }[config.initial_connections]


def _genome_fields(section: Section) -> dict[str, Any]:
    section.skip("num_inputs")
    section.skip("num_outputs")
    values: dict[str, Any] = {name: _number(section, name) for name in _ATTRIBUTES}
    values["activation"] = _choice(section, "activation", our_activation)
    values["aggregation"] = _choice(section, "aggregation", our_aggregation)
    values["kind"] = "feed-forward" if section.flag("feed_forward") else "recurrent"
    surer = section.word("structural_mutation_surer").lower() != "default"
    option = "structural_mutation_surer" if surer else "single_structural_mutation"
    values["enable_existing"] = section.flag(option)
    if not section.flag("enabled_default"):
        section.refuse("enabled_default", "True; connections start enabled")
    for option in ("enabled_rate_to_true_add", "enabled_rate_to_false_add"):
        if section.like(0.0, option) != 0:
            section.refuse(option, "0.0; a coin enables or disables")
    return values | _initial(section)


def _number(section: Section, name: str) -> Number:
    def value(option: str) -> float:
        return section.like(0.0, f"{name}_{option}")

    kind = section.word(f"{name}_init_type").lower()
    normal = "gauss" in kind or "normal" in kind
    if not normal and "uniform" not in kind:
        section.refuse(f"{name}_init_type", "gaussian or uniform")
    try:
        return Number(
            distribution="normal" if normal else "uniform",
            **{field: value(option) for field, option in _NUMBERS.items()},
        )
    except ValueError as error:
        raise ValueError(f"{section.where} {name}_…: {error}") from None


def _choice(section: Section, name: str, convert: Callable[[str, str], str]) -> Choice:
    where = f"{section.where} {name}_options"
    options = tuple(convert(word, where) for word in section.word(f"{name}_options").split())
    initial = section.word(f"{name}_default")
    random = initial.lower() in ("none", "random")
    initial = "random" if random else convert(initial, f"{section.where} {name}_default")
    mutate = section.like(0.0, f"{name}_mutate_rate")
    try:
        return Choice(options, initial, mutate)
    except ValueError as error:
        raise ValueError(f"{section.where} {name}_…: {error}") from None


def _initial(section: Section) -> dict[str, Any]:
    kind, _, fraction = section.word("initial_connection").partition(" ")
    family, _, direct = kind.partition("_")
    if kind in ("fs_neat", "fs_neat_nohidden", "fs_neat_hidden"):
        if kind != "fs_neat_hidden" and section.like(0, "num_hidden"):
            section.refuse("initial_connection", "fs_neat_hidden, since there are hidden nodes")
        return {"initial_connections": "one-input"}
    if kind == "unconnected":
        return {"initial_connections": "unconnected"}
    if family not in ("full", "partial") or direct not in ("", "direct", "nodirect"):
        section.refuse("initial_connection", "one that neat-python knows")
    values: dict[str, Any] = {
        "initial_connections": family,
        "initial_direct": direct == "direct",
    }
    if family == "partial":
        try:
            values["initial_fraction"] = float(fraction)
        except ValueError:
            section.refuse("initial_connection", f"{kind} and a fraction")
    return values
