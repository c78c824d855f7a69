"""Every job of the project.

`uv run nox` runs all but the benchmarks, `uv run nox -l` lists them, `uv run nox -s lint` runs one,
and `uv run nox -s "test(gonzo-ssm)" -- -k step` hands what follows `--` to the tool.

Jobs without an environment of their own run in the workspace's, where `uv run` put them. The others
install the built wheels, with everything else at the versions that the workspace is locked to.
"""

import functools
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
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
nox.options.sessions = [
    "lint",
    "types",
    "tests",
    "docs",
    "triton",
    "aot",
    "release_check",
    "together",
    "new_package",
]

each_package = nox.parametrize("package", list(PROJECTS), ids=list(PROJECTS))


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Style, import contracts, the shape of the tree, generated tables, changelog, workflows.

    What follows `--` is the commit or branch to compare with for the changelog.
    """
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-logo", "--cache-dir", ".import_linter_cache")
    session.run("python", "tools/check_tree.py")
    session.run("python", "tools/results_table.py", "--check")
    session.run("python", "tools/check_changes.py", *session.posargs)
    workflows = [str(path) for path in sorted(ROOT.glob(".github/workflows/*.yml"))]
    schema = ("check-jsonschema", "--builtin-schema")
    session.run(*schema, "vendor.github-workflows", *workflows)
    session.run(*schema, "vendor.dependabot", ".github/dependabot.yml")
    session.run("zizmor", "--offline", "--pedantic", "--strict-collection", "--quiet", ".github")


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


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """The documentation's site, in site/; a broken reference or link fails."""
    # The notice that it silences says who succeeds the theme; warnings about pages stay.
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(venv_backend="none")
def triton(session: nox.Session) -> None:
    """Every Triton kernel against its reference, in Triton's interpreter."""
    folders = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("packages/*/triton_tests"))
    session.run("pytest", "-n", "2", *folders, *session.posargs, env={"TRITON_INTERPRET": "1"})


@nox.session(venv_backend="none")
def aot(session: nox.Session) -> None:
    """Compile every Triton kernel for GPUs that are not here; a spilled register fails."""
    session.run("pytest", "-o", "pythonpath=tools", "tools/tests")
    session.run("python", "tools/compile_kernels.py", "--write", "docs/kernels.md")


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
def new_package(session: nox.Session) -> None:
    """What tools/new_package.py makes passes too; `-- "bench(gonzo-demo)"` for other sessions.

    It is made in a copy of the tree with an environment of its own, out of uv's cache.
    """
    first = "gonzo-demo"
    chosen = session.posargs or ["lint", "types", "docs", f"wheel({first})"]
    # As if a person had typed it: without this session's environment.
    typed = {"VIRTUAL_ENV": None, "UV_PROJECT_ENVIRONMENT": None, **_find_links()}
    (ROOT / ".nox").mkdir(exist_ok=True)  # hard links from uv's cache work inside the checkout
    with tempfile.TemporaryDirectory(dir=ROOT / ".nox") as folder, session.chdir(folder):
        _copy_tree(Path(folder))
        for name in (first, "gonzo-a2-b"):  # the second sorts before core and has a hyphen
            session.run("uv", "run", "tools/new_package.py", name, env=typed, external=True)
        session.run("uv", "run", "nox", "--session", *chosen, env=typed, external=True)


@nox.session
@each_package
def release_check(session: nox.Session, package: str) -> None:
    """What would be published, in build/release/: rebuilt, looked into, tested as users get it."""
    out = ROOT / "build" / "release" / package
    _tool(session, "release_check.py", package, "--out-dir", str(out))
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    needed = [package, *_required_packages(package)]
    _install(session, needed, wheels={package: wheel})
    session.run("python", "-I", "tools/check_alone.py", *needed)
    with tempfile.TemporaryDirectory() as unpacked:
        with tarfile.open(sdist) as files:
            files.extractall(unpacked, filter="data")
        source = Path(unpacked, sdist.name.removesuffix(".tar.gz"))
        _pytest_elsewhere(session, "tests", "-m", "not recipe", "-n", "2", root=source)


@nox.session
@each_package
def oldest(session: nox.Session, package: str) -> None:
    """One package on the oldest gonzo-core that it allows, built from that release's tag."""
    out = ROOT / "build" / "oldest" / package
    said = _tool(session, "release_floor.py", package, "--out-dir", str(out), silent=True)
    wheels = list(out.glob("*.whl"))
    if not wheels:
        session.skip(said.strip())
    session.log(said.strip())
    needed = [package, *_required_packages(package)]
    _install(session, needed, wheels={"gonzo-core": wheels[0]})
    session.run("python", "-I", "tools/check_alone.py", *needed)
    _pytest_elsewhere(session, f"packages/{package}/tests", "-m", "not recipe")


@nox.session(venv_backend="none")
def release(session: nox.Session) -> None:
    """All that a tag must pass before it is published: `-- gonzo-ssm-v0.1.0`."""
    if len(session.posargs) != 1:
        session.error("name the tag: nox -s release -- gonzo-ssm-v0.1.0")
    (tag,) = session.posargs
    _tool(session, "release_tag.py", tag, "--notes", "build/release/notes.md")
    package = tag.rpartition("-v")[0]
    session.notify(f"release_check({package})", posargs=[])
    session.notify(f"oldest({package})", posargs=[])


@nox.session(venv_backend="none")
@each_package
def bench(session: nox.Session, package: str) -> None:
    """One package beside its peers; a missed bar fails."""
    _benchmark(session, f"packages/{package}/benchmarks")


@nox.session(venv_backend="none")
def gpu_tests(session: nox.Session) -> None:
    """Kernels, layers and a recipe on a GPU; without one there is nothing to do."""
    _need_gpu(session)
    folders = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("packages/*/triton_tests"))
    session.run("pytest", *folders, *session.posargs, env={"TRITON_INTERPRET": None})
    with tempfile.TemporaryDirectory() as runs:
        where = ("--device", "cuda", "--run-dir", str(Path(runs, "run")))
        session.run("gonzo", "run", "ssm.sequential-mnist", "--preset", "quick", *where)


@nox.session(venv_backend="none")
@each_package
def gpu_bench(session: nox.Session, package: str) -> None:
    """One package beside its peers on a GPU; without one there is nothing to do."""
    _need_gpu(session)
    _benchmark(session, f"packages/{package}/benchmarks/gpu")


def _need_gpu(session: nox.Session) -> None:
    found = session.run(
        *("python", "-c", "import torch; print(torch.cuda.is_available())"), silent=True
    )
    if "True" not in str(found):
        session.skip("torch finds no GPU here")


def _benchmark(session: nox.Session, folder: str) -> None:
    scripts = sorted((ROOT / folder).glob("bench_*.py"))
    if not scripts:
        session.skip(f"{folder} has no benchmarks")
    failed = []
    for script in scripts:
        try:
            session.run("python", str(script), *session.posargs, env={"TRITON_INTERPRET": None})
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


def _tool(session: nox.Session, script: str, *arguments: str, silent: bool = False) -> str:
    """Run a script of the project in the environment that nox is in, whatever the session's is.

    Returns:
        What it printed, if it was to do so silently.
    """
    command = (sys.executable, f"tools/{script}", *arguments)
    return str(session.run(*command, external=True, silent=silent))


def _install(
    session: nox.Session,
    packages: Iterable[str],
    *,
    extras: bool = False,
    wheels: Mapping[str, Path] | None = None,
) -> None:
    """Install built wheels and the test tools, at the workspace's versions.

    The wheels are those of the tree, but for those given. They are named by path: by name, an index
    could offer another build of the same version.
    """
    wanted = []
    for package in packages:
        brought = ",".join(PROJECTS[package].get("optional-dependencies", {})) if extras else ""
        name = f"{package}[{brought}]" if brought else package
        built = (wheels or {}).get(package) or _wheel(package)
        wanted.append(f"{name} @ {built.as_uri()}")
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


def _copy_tree(to: Path) -> None:
    """Commit what git would commit of this tree, to a new repository beside the same lock file."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in [*filter(None, listed.split("\0")), "uv.lock"]:
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)
    author = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "-m", "copy"]):
        subprocess.run(["git", *command], cwd=to, check=True)


def _find_links() -> dict[str, str]:
    """The folders of local wheels, which may hold the torch that the workspace is locked to."""
    links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS", "")
    return {"UV_FIND_LINKS": ",".join(links.replace(",", " ").split())} if links else {}


def _pytest_elsewhere(session: nox.Session, tests: str, *options: str, root: Path = ROOT) -> None:
    """Run tests from an empty folder, so that only what is installed can be imported."""
    with tempfile.TemporaryDirectory() as elsewhere, session.chdir(elsewhere):
        session.run(
            *("python", "-I", "-m", "pytest", "-c", str(ROOT / "pyproject.toml")),
            *("--rootdir", str(root), str(root / tests)),
            *options,
            *session.posargs,
        )
