"""The toy recipes: a tiny installed distribution, put on the path."""

from collections.abc import Callable
from pathlib import Path

import pytest

TOY = Path(__file__).parent / "toy"


@pytest.fixture
def gonzo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a `gonzo` command line in this process; return exit code, output and remarks."""
    from gonzo.lab.cli import run_command

    monkeypatch.syspath_prepend(TOY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GONZO_DATA_DIR", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            code = run_command(list(arguments))
        except SystemExit as error:
            code = int(error.code or 0)
        said = capfd.readouterr()
        return code, said.out, said.err

    return call
