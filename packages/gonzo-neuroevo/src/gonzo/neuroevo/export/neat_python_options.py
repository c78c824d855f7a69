"""One section of a neat-python configuration, whose options are asked for by type.

Source:
    neat-python 2.0.0; the defaults are of the options that it does not demand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = ["Section"]

_DEFAULTS = {
    "time_constant_init_mean": "1.0",
    "time_constant_init_stdev": "0.0",
    "time_constant_replace_rate": "0.0",
    "time_constant_mutate_rate": "0.0",
    "time_constant_mutate_power": "0.0",
    "time_constant_max_value": "10.0",
    "time_constant_min_value": "0.01",
    "weight_init_type": "gaussian",
    "bias_init_type": "gaussian",
    "response_init_type": "gaussian",
    "time_constant_init_type": "gaussian",
    "activation_default": "random",
    "aggregation_default": "random",
    "enabled_rate_to_true_add": "0.0",
    "enabled_rate_to_false_add": "0.0",
    "single_structural_mutation": "false",
    "structural_mutation_surer": "default",
    "initial_connection": "unconnected",
    "species_fitness_func": "mean",
    "max_stagnation": "15",
    "species_elitism": "0",
    "elitism": "0",
    "survival_threshold": "0.2",
    "min_species_size": "1",
}
_FLAGS = {
    **dict.fromkeys(("1", "yes", "true", "on"), True),
    **dict.fromkeys(("0", "no", "false", "off"), False),
}


class Section:
    """Options as text.

    Args:
        options: of the section.
        where: file and section, for messages.
    """

    def __init__(self, options: Mapping[str, str], where: str) -> None:
        self.options = options
        self.where = where
        self.used: set[str] = set()

    def word(self, option: str) -> str:
        """Return an option's text, or neat-python's default."""
        self.used.add(option)
        value = self.options.get(option, _DEFAULTS.get(option))
        if value is None:
            raise ValueError(f"{self.where}: the option {option} is missing")
        return value

    def flag(self, option: str) -> bool:
        """Return whether an option is true."""
        word = self.word(option).lower()
        if word not in _FLAGS:
            self.refuse(option, "True or False")
        return _FLAGS[word]

    def like(self, example: Any, option: str) -> Any:
        """Return an option's value, of the type of ``example``: bool, int or float."""
        if isinstance(example, bool):
            return self.flag(option)
        word = self.word(option)
        try:
            value = type(example)(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.refuse(option, "a whole number" if isinstance(example, int) else "a number")
        return value

    def skip(self, option: str) -> None:
        """Allow an option without reading it."""
        self.used.add(option)

    def refuse(self, option: str, expected: str) -> NoReturn:
        """Raise the error that says what an option should have been."""
        raise ValueError(
            f"{self.where}: expected {option} to be {expected}, got "
            f"{self.options.get(option, '')[:40]!r}"
        )

    def finish(self) -> None:
        """Raise ValueError if an option was never asked for."""
        if unknown := sorted(set(self.options) - self.used):
            raise ValueError(f"{self.where}: unknown options {', '.join(unknown[:5])}")
