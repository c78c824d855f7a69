"""Build the oldest gonzo-core that a package allows, from the tag of that release.

The lowest release that satisfies the package's requirement is taken out of git and built, to be
installed by path. By name, an installer brings the newest core that it finds, even when it is told
to take the lowest of the direct requirements: who installs a wheel does not require core directly.
Nothing is built where no release satisfies the requirement, or where the package requires no core.

    python tools/release_floor.py gonzo-ssm --out-dir build/oldest/gonzo-ssm
"""

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from release_tag import ours, released

ROOT = Path(__file__).resolve().parents[1]
CORE = "gonzo-core"


def requirement_on_core(root: Path, package: str) -> Requirement | None:
    """What a package requires of core, without extras."""
    path = root / "packages" / package / "pyproject.toml"
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    return next((r for r in ours(project, extras=False) if r.name == CORE), None)


def oldest_tag(root: Path, requirement: Requirement) -> str | None:
    """The tag of the oldest release of core that satisfies a requirement."""
    tags = released(root, CORE)
    return next((tag for version, tag in tags.items() if version in requirement.specifier), None)


def build(root: Path, tag: str, out: Path) -> Path:
    """Build core's wheel from a tag, in an empty folder."""
    archive = subprocess.run(
        ["git", "archive", "--format=tar", tag, f"packages/{CORE}"],
        cwd=root,
        capture_output=True,
        check=True,
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        source = Path(folder, "packages", CORE)
        build = ["uv", "build", "--quiet", "--wheel", "--clear", "--out-dir", str(out)]
        subprocess.run([*build, str(source)], check=True)
    (wheel,) = out.glob("*.whl")
    return wheel


def main() -> int:
    """Build the wheel, or say why there is none; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("package")
    parser.add_argument("--out-dir", type=Path, required=True)
    arguments = parser.parse_args()
    for stale in arguments.out_dir.glob("*.whl"):
        stale.unlink()
    requirement = requirement_on_core(ROOT, arguments.package)
    if requirement is None:
        print(f"{arguments.package} requires no {CORE}")
        return 0
    tag = oldest_tag(ROOT, requirement)
    if tag is None:
        known = ", ".join(released(ROOT, CORE).values()) or "none"
        print(f"no release yet: no tag of this clone satisfies {requirement} (tags: {known})")
        return 0
    print(f"{arguments.package} requires {requirement}; the oldest release is {tag}")
    print(build(ROOT, tag, arguments.out_dir))
    return 0


if __name__ == "__main__":
    sys.exit(main())
