"""Every job of the project.

`uv run nox` runs all but the benchmarks, `uv run nox -l` lists them, `uv run nox -s lint` runs one,
and `uv run nox -s "test(gonzo-ssm)" -- -k step` hands what follows `--` to the tool.

Jobs without an environment of their own run in the workspace's, where `uv run` put them. The others
install the built wheels, with everything else at the versions that the workspace is locked to.
"""

import functools
import os
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nox
from nox.command import CommandFailed, run

ROOT = Path(__file__).parent
DIST = ROOT / "dist"
PROJECTS: dict[str, dict[str, Any]] = {
    path.parent.name: tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    for path in sorted(ROOT.glob("packages/*/pyproject.toml"))
}

nox.needs_version = ">=2026.4.10"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["lint", "types", "tests", "wheel", "together"]

each_package = nox.parametrize("package", list(PROJECTS), ids=list(PROJECTS))


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Style, import contracts, the shape of the tree, generated tables."""
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-logo", "--cache-dir", ".import_linter_cache")
    session.run("python", "tools/check_tree.py")
    session.run("python", "tools/results_table.py", "--check")


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """The type checker; warnings are errors."""
    session.run("ty", "check", *session.posargs)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """The tests of all packages, in the workspace; those of recipes are left to `together`."""
    session.run("pytest", "packages", "-m", "not recipe", *session.posargs)


@nox.session(venv_backend="none")
@each_package
def test(session: nox.Session, package: str) -> None:
    """All tests of one package, in the workspace."""
    session.run("pytest", f"packages/{package}", *session.posargs)


@nox.session
@each_package
def wheel(session: nox.Session, package: str) -> None:
    """One package as users have it: its wheel and what it needs, tested away from the sources."""
    needed = [package, *_required_packages(package)]
    _install(session, needed)
    session.run("python", "-I", "tools/check_wheel.py", str(_wheel(package)))
    session.run("python", "-I", "tools/check_alone.py", *needed)
    _pytest_elsewhere(session, f"packages/{package}", "-m", "not recipe")


@nox.session
def together(session: nox.Session) -> None:
    """All wheels in one environment: the recipes, and what holds between packages."""
    _install(session, PROJECTS, extras=True)
    session.run("python", "-I", "tools/check_alone.py", *PROJECTS)
    _pytest_elsewhere(session, "packages", "-m", "recipe")
    _pytest_elsewhere(session, "integration_tests")


@nox.session(venv_backend="none")
@each_package
def bench(session: nox.Session, package: str) -> None:
    """One package beside its peers; a missed bar fails."""
    scripts = sorted((ROOT / "packages" / package / "benchmarks").glob("bench_*.py"))
    if not scripts:
        session.skip(f"{package} has no benchmarks")
    failed = []
    for script in scripts:
        try:
            session.run("python", str(script), *session.posargs)
        except CommandFailed:
            failed.append(script.name)
    if failed:
        session.error(f"bars missed, or rows refused, in {', '.join(failed)}")


def _required_packages(package: str) -> list[str]:
    """The workspace's packages that `package` needs without extras, directly or not."""
    found: list[str] = []
    waiting = [package]
    while waiting:
        requirements = " ".join(PROJECTS[waiting.pop()].get("dependencies", []))
        new = [p for p in PROJECTS if p in requirements and p not in [package, *found]]
        found += new
        waiting += new
    return sorted(found)


def _install(session: nox.Session, packages: Iterable[str], *, extras: bool = False) -> None:
    """Install built wheels and the test tools, at the workspace's versions.

    The wheels are named by path: by name, an index could offer another build of the same version.
    """
    wanted = []
    for package in packages:
        brought = ",".join(PROJECTS[package].get("optional-dependencies", {})) if extras else ""
        name = f"{package}[{brought}]" if brought else package
        wanted.append(f"{name} @ {_wheel(package).as_uri()}")
    session.install(
        *wanted,
        *("--group", "test"),
        *("--constraint", str(_constraints())),
        # Unchanged versions: without this, uv may take an older build of them from its cache.
        *(f"--reinstall-package={package}" for package in PROJECTS),
        env=_find_links(),
    )


def _wheel(package: str) -> Path:
    _build_all()
    (path,) = DIST.glob(f"{package.replace('-', '_')}-*.whl")
    return path


@functools.cache
def _build_all() -> None:
    """Build every wheel, once in a run of nox."""
    _uv("build", "--quiet", "--all-packages", "--wheel", "--clear", "--out-dir", str(DIST))


@functools.cache
def _constraints() -> Path:
    """The versions in uv.lock, as a constraints file."""
    path = ROOT / ".nox" / "constraints.txt"
    everything = ("--all-packages", "--all-extras", "--all-groups", "--no-emit-workspace")
    plain = ("--no-hashes", "--no-annotate", "--no-header", "--quiet")
    _uv("export", "--frozen", *everything, *plain, "--output-file", str(path))
    return path


def _uv(*arguments: str) -> None:
    run(["uv", *arguments], env={**os.environ, **_find_links()}, external=True)


def _find_links() -> dict[str, str]:
    """The folders of local wheels, which may hold the torch that the workspace is locked to."""
    links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS", "")
    return {"UV_FIND_LINKS": ",".join(links.replace(",", " ").split())} if links else {}


def _pytest_elsewhere(session: nox.Session, tests: str, *options: str) -> None:
    """Run tests from an empty folder, so that only what is installed can be imported."""
    with tempfile.TemporaryDirectory() as elsewhere, session.chdir(elsewhere):
        session.run(
            *("python", "-I", "-m", "pytest", "-c", str(ROOT / "pyproject.toml")),
            *("--rootdir", str(ROOT), str(ROOT / tests)),
            *options,
            *session.posargs,
        )
