"""Check what is inside wheels: pure Python, typed, licensed, described, and nothing else.

python tools/check_wheel.py dist/*.whl
"""

import email
import sys
import zipfile
from pathlib import Path

_STRAY = (".pyc", ".so", ".pyd", ".dylib", ".ipynb", ".pkl", ".pickle", ".pt")
_MAX_BYTES = 10 * 2**20


def problems(wheel: Path) -> list[str]:
    """Return what is wrong with a wheel, in words."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        distribution, version = wheel.name.split("-")[:2]
        info = f"{distribution}-{version}.dist-info"
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
    package = f"gonzo/{distribution.removeprefix('gonzo_')}"
    found = []
    if not wheel.name.endswith("-py3-none-any.whl"):
        found.append("not pure Python: expected py3-none-any")
    if wheel.stat().st_size > _MAX_BYTES:
        found.append(f"{wheel.stat().st_size:,} bytes, more than {_MAX_BYTES:,}")
    if "gonzo/__init__.py" in names:
        found.append("gonzo/__init__.py hides every other package of the namespace")
    found += [
        f"without {needed}"
        for needed in (
            f"{package}/__init__.py",
            f"{package}/py.typed",
            f"{info}/licenses/LICENSE",
        )
        if needed not in names
    ]
    found += [f"{name} is outside {package}" for name in names if _outside(name, package, info)]
    found += [f"{name} does not belong in a wheel" for name in names if _stray(name)]
    expected = {"License-Expression": "Apache-2.0", "Requires-Python": ">=3.11"}
    found += [
        f"metadata: expected {key}: {value}, got {metadata[key]}"
        for key, value in expected.items()
        if metadata[key] != value
    ]
    body = str(metadata.get_payload()).strip()
    if not metadata["Summary"] or len(body.splitlines()) < 10:
        found.append("metadata: without a summary, or without the README")
    return [f"{wheel.name}: {problem}" for problem in found]


def _outside(name: str, package: str, info: str) -> bool:
    return not name.startswith((f"{package}/", f"{info}/")) and name not in ("gonzo/",)


def _stray(name: str) -> bool:
    parts = Path(name).parts
    return name.endswith(_STRAY) or "tests" in parts or "benchmarks" in parts


if __name__ == "__main__":
    found = [problem for wheel in sys.argv[1:] for problem in problems(Path(wheel))]
    print("\n".join(found) or f"{len(sys.argv) - 1} wheel(s) as they should be")
    sys.exit(bool(found))
