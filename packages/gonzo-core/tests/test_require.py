import pytest

from gonzo.core.require import MissingExtraError, require


def test_returns_the_module():
    import json

    assert require("json", extra="gonzo-core[x]") is json
    assert require("os.path", extra="gonzo-core[x]").join("a", "b") == "a/b"


@pytest.mark.parametrize("module", ["no_such_library", "no_such_library.part"])
def test_names_the_exact_command(module):
    with pytest.raises(MissingExtraError) as caught:
        require(module, extra="gonzo-neuroevo[gym]")
    assert 'pip install "gonzo-neuroevo[gym]"' in str(caught.value)
    assert isinstance(caught.value, ImportError)
    assert caught.value.name == "no_such_library"


def test_a_library_that_misses_something_itself_says_so(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import its_own_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="its_own_dependency") as caught:
        require("half_installed", extra="gonzo-core[x]")
    assert not isinstance(caught.value, MissingExtraError)
