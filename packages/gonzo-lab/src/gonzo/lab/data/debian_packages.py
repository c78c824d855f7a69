"""Debian packages by name: found in folders, or fetched with apt-get into the cache."""

import shutil
import subprocess
import tempfile
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gonzo.lab import console
from gonzo.lab.errors import LabError

_LAST_LINES = 3


class DebianPackage(NamedTuple):
    """A package on this machine.

    Attributes:
        name: such as `manpages-fr`.
        version: such as `4.18.1-1`.
        path: its `.deb`.
    """

    name: str
    version: str
    path: Path


def find_packages(names: Sequence[str], folder: Path) -> dict[str, DebianPackage]:
    """Return those of `names` that lie in `folder`, told by file names `name_version_*.deb`.

    Raises:
        LabError: one of them lies there in two versions.
    """
    found: dict[str, DebianPackage] = {}
    for path in sorted(folder.glob("*.deb")):
        name, _, rest = path.name.removesuffix(".deb").partition("_")
        version = urllib.parse.unquote(rest.partition("_")[0])  # apt-get writes : as %3a
        if name in names:
            if name in found:
                raise LabError(
                    f"{folder}: {found[name].path.name} and {path.name} are one package in two "
                    "versions. Remove one."
                )
            found[name] = DebianPackage(name, version, path)
    return found


def fetch_packages(names: Sequence[str], folder: Path) -> dict[str, DebianPackage]:
    """Download packages with `apt-get download`, which checks their signatures, into `folder`.

    Each appears there when it is whole, so that what was fetched before an interruption stays.
    Nothing is installed.

    Raises:
        LabError: there is no apt-get, or it failed; the message says how to do without.
    """
    by_hand = (
        f"To do without, download {', '.join(names)} from any Debian mirror, and put the files "
        "into the folder debian_docs of a folder that you name with --data-dir or GONZO_DATA_DIR."
    )
    program = shutil.which("apt-get")
    if program is None:
        raise LabError(
            "debian_docs: the packages are fetched with apt-get, which is not on this machine. "
            f"{by_hand}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, 1):
        console.remarks().print(f"Downloading {name} with apt-get ({number} of {len(names)})")
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as part:
            done = subprocess.run(
                [program, "download", "-q", name],
                cwd=part,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=False,
            )
            files = list(Path(part).glob(f"{name}_*.deb"))
            if done.returncode or len(files) != 1:
                said = done.stderr.decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
                raise LabError(
                    f"debian_docs: apt-get download {name} failed: {' '.join(said) or 'no file'}\n"
                    "If its lists are missing or old, run apt-get update first (as root); the "
                    f"packages that came are kept, and starting again goes on. {by_hand}"
                )
            files[0].replace(folder / files[0].name)
    return find_packages(names, folder)
