"""Check, with `python -I` inside an environment, that it holds exactly the gonzo packages named.

Each must come from that environment and not from a checkout, import without a warning, and find
nothing else under the namespace `gonzo`.

    python -I tools/check_alone.py gonzo-core gonzo-ssm
"""

import importlib
import pkgutil
import sys
import warnings
from pathlib import Path


def problems(packages: list[str]) -> list[str]:
    """Return what is wrong, in words."""
    import gonzo

    if gonzo.__file__ is not None:
        return [f"gonzo is not a namespace: {gonzo.__file__}"]
    here = Path(sys.prefix).resolve()
    found = [
        f"gonzo is also found in {path}, outside the environment"
        for path in gonzo.__path__
        if here not in Path(path).resolve().parents
    ]
    wanted = {package.removeprefix("gonzo-").replace("-", "_") for package in packages}
    there = {module.name for module in pkgutil.iter_modules(gonzo.__path__)}
    found += [f"gonzo.{name} should not be here" for name in sorted(there - wanted)]
    found += [f"gonzo.{name} is missing" for name in sorted(wanted - there)]
    for name in sorted(wanted & there):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                importlib.import_module(f"gonzo.{name}")
            except Warning as warning:
                found.append(f"importing gonzo.{name} warns: {warning}")
    return found


if __name__ == "__main__":
    found = problems(sys.argv[1:])
    print("\n".join(found) or f"exactly {', '.join(sys.argv[1:])}")
    sys.exit(bool(found))
