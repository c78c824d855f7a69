"""The places that list every package, with a new one added to them.

A checker names a package that is missing from any of them; this adds it to all at once, as text, so
that comments and layout stay. A place that does not look as expected is an error, never a guess.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

_WIDTH = 100


def with_package(root: Path, name: str, summary: str) -> dict[Path, str]:
    """Return the text of every file that lists packages, with `name` in it.

    Raises:
        ValueError: a file does not look as expected; the message says what was looked for.
    """
    slug = name.removeprefix("gonzo-")
    part = slug.replace("-", "_")
    texts = {
        path: (root / path).read_text(encoding="utf-8")
        for path in ("pyproject.toml", "README.md", "docs/index.md", "mkdocs.yml")
    }
    texts["pyproject.toml"] = _workspace(texts["pyproject.toml"], name, part)
    for path, core, link in (
        ("README.md", "packages/gonzo-core/README.md", f"packages/{name}/README.md"),
        ("docs/index.md", "api/core.md", f"api/{slug}.md"),
    ):
        row = rf"^\| \[gonzo-core\]\({re.escape(core)}\) \|.*\n"
        texts[path] = _before(path, texts[path], row, f"| [{name}]({link}) | {summary} |\n")
    site = texts["mkdocs.yml"]
    papers = r"(^ +- ).*: papers/.*\n"
    site = _after_last("mkdocs.yml", site, papers, f"{slug}: papers/{slug}.md\n")
    core = r"(^ +- )gonzo\.core: api/core\.md\n"
    texts["mkdocs.yml"] = _before("mkdocs.yml", site, core, f"gonzo.{part}: api/{slug}.md\n")
    return {root / path: text for path, text in texts.items()}


def _workspace(text: str, name: str, part: str) -> str:
    """The root pyproject.toml; that the text came out as meant is checked by parsing it."""
    where, wanted = "pyproject.toml", tomllib.loads(text)
    try:
        dependencies = wanted["project"]["dependencies"]
        imports = wanted["tool"]["importlinter"]
        modules, layers = imports["root_packages"], imports["contracts"][0]["layers"]
        wanted["tool"]["uv"]["sources"][name] = {"workspace": True}
    except (KeyError, IndexError) as missing:
        raise ValueError(f"{where}: expected to find {missing}") from None
    dependencies.append(name)
    modules.append(f"gonzo.{part}")
    layers[0] += f" | gonzo.{part}"

    text = _with_list(where, text, "dependencies", dependencies)
    text = _with_list(where, text, "root_packages", modules)
    text = _with_list(where, text, "layers", layers)
    members = r"()^gonzo-.* = \{ workspace = true \}\n"
    text = _after_last(where, text, members, f"{name} = {{ workspace = true }}\n")
    if tomllib.loads(text) != wanted:
        raise ValueError(f"{where}: expected the first dependencies and layers to be the packages'")
    return text


def _with_list(where: str, text: str, key: str, items: list[Any]) -> str:
    """Write a list of strings anew, the first of that key, in one line where it fits."""
    quoted = [f'"{item}"' for item in items]
    line = f"{key} = [{', '.join(quoted)}]"
    if len(line) > _WIDTH:
        line = f"{key} = [\n" + "".join(f"  {item},\n" for item in quoted) + "]"
    found = re.search(rf'^{key} = \[(?:\s*"[^"]*",?)*\s*\]', text, re.MULTILINE)
    if found is None:
        raise ValueError(f"{where}: expected a list of plain strings, {key} = […]")
    return text[: found.start()] + line + text[found.end() :]


def _before(where: str, text: str, pattern: str, line: str) -> str:
    """Insert a line before the one that matches, with what the pattern's group found before it."""
    found = list(re.finditer(pattern, text, re.MULTILINE))
    if len(found) != 1:
        raise ValueError(f"{where}: expected one line like {pattern}, found {len(found)}")
    indent = found[0][1] if found[0].re.groups else ""
    return text[: found[0].start()] + indent + line + text[found[0].start() :]


def _after_last(where: str, text: str, pattern: str, line: str) -> str:
    """Insert a line after the last one that matches, with what the group found before it."""
    *_, last = [None, *re.finditer(pattern, text, re.MULTILINE)]
    if last is None:
        raise ValueError(f"{where}: expected a line like {pattern}, found none")
    return text[: last.end()] + last[1] + line + text[last.end() :]
