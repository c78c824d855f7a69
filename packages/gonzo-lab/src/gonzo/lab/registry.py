"""The recipes that the installed packages bring along."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gonzo.lab.errors import LabError, did_you_mean
from gonzo.lab.recipe import Preset, Recipe

if TYPE_CHECKING:
    from gonzo.lab.run import Run

_GROUP = "gonzo.recipes"


@dataclass(frozen=True)
class Registered:
    """A loaded recipe.

    Args:
        name: `<package>.<recipe>`, as in `ssm.sequential-mnist`.
        recipe: its description.
        main: its experiment.
        source: the file it was loaded from.
        description: its docstring.
    """

    name: str
    recipe: Recipe
    main: "Callable[[Any, Run], Mapping[str, float]]"
    source: Path
    description: str

    def preset(self, name: str) -> Preset:
        """Return a preset.

        Raises:
            LabError: there is none of that name; the message lists those there are.
        """
        if name not in self.recipe.presets:
            raise LabError(
                f"{self.name} has no preset {name!r}.{did_you_mean(name, self.recipe.presets)} "
                f"It has: {', '.join(self.recipe.presets)}."
            )
        return self.recipe.presets[name]


def names() -> list[str]:
    """Return the names of all installed recipes, without importing any."""
    return sorted({entry.name for entry in entry_points(group=_GROUP)})


def load_all(wanted: Iterable[str]) -> tuple[list[Registered], list[str]]:
    """Load the recipes called `wanted`; return those that load, and why the others do not."""
    loaded, problems = [], []
    for name in wanted:
        try:
            loaded.append(load(name))
        except LabError as error:
            problems.append(str(error))
    return loaded, problems


def load(name: str) -> Registered:
    """Import and check the recipe called `name`.

    Raises:
        LabError: no such recipe (the message lists those there are), or something it imports
            is not installed (the message says how to get it).
        TypeError: the module does not have the form described in `gonzo.lab.recipe`.
    """
    found = {entry.name: entry for entry in entry_points(group=_GROUP)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none (install a package that brings some)"
        raise LabError(
            f"There is no recipe {name!r}.{did_you_mean(name, found)} Installed recipes: {known}."
        )
    try:
        module = importlib.import_module(found[name].value)
    except ImportError as error:
        brought_by = found[name].dist
        package = brought_by.name if brought_by else f"gonzo-{name.partition('.')[0]}"
        raise LabError(
            f"{name} cannot be loaded: {error}. What it needs comes with: "
            f"pip install '{package}[recipes]'"
        ) from error
    recipe, main = getattr(module, "RECIPE", None), getattr(module, "main", None)
    if not isinstance(recipe, Recipe) or not callable(main):
        raise TypeError(f"{module.__name__}: expected RECIPE = Recipe(...) and main(config, run)")
    return Registered(
        name, recipe, main, Path(str(module.__file__)), (module.__doc__ or "").strip()
    )
