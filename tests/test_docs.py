"""The documentation runs: every ```python block, every `foretell ...` line of a ```console block, every >>> in a docstring.

Blocks of one file share a namespace and run in an empty folder. A comment on the line before a block says what it needs
beyond an installation, and the block is skipped, visibly, where that is absent:

    <!-- needs: power/tetuan_power/hourly.csv -->   a file of the real data; it is put into the folder by its last name
    <!-- needs: optuna -->                          a package of an extra
    <!-- never run: sends a mail -->                 a reason
"""

import doctest
import importlib
import importlib.util
import os
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from laws import slow

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
DATA = Path(os.environ.get("FORETELL_DATA") or ROOT.parent / "shared" / "data")
FENCE = re.compile(r"(?:^<!-- (?P<word>needs|never run): (?P<what>[^>\n]+?) -->\n\n?)?^```(?P<kind>python|console)\b[^\n]*\n(?P<code>.*?)^```", re.M | re.S)


class Block(NamedTuple):
    """One fenced block: `line` is that of its first line of code in the file."""

    kind: str
    code: str
    line: int
    needs: tuple[str, ...]
    never: str


def blocks(text: str) -> list[Block]:
    found = []
    for match in FENCE.finditer(text):
        word, what = match["word"], match["what"] or ""
        needs = tuple(what.replace(",", " ").split()) if word == "needs" else ()
        found.append(Block(match["kind"], match["code"], text.count("\n", 0, match.start("code")) + 1, needs, what if word == "never run" else ""))
    return found


def lacking(block: Block, folder: Path) -> str:
    """Why a block cannot run here; empty if it can. Files it needs are linked into the folder."""
    for need in block.needs:
        if "/" not in need:
            if importlib.util.find_spec(need) is None:
                return f"package {need} is not installed"
        elif not (DATA / need).is_file():
            return f"real data absent: {need}"
        elif not (folder / Path(need).name).exists():
            (folder / Path(need).name).symlink_to(DATA / need)
    return block.never


def commands(code: str) -> list[list[str]]:
    """The words of every line `foretell ...` or `$ foretell ...`; a backslash joins lines; the rest is output."""
    lines = code.replace("\\\n", " ").splitlines()
    return [shlex.split(line.removeprefix("$ "), comments=True)[1:] for line in lines if line.removeprefix("$ ").startswith("foretell ")]


def command(words: list[str]) -> None:
    from foretell.cli import main

    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    assert code in (None, 0), f"foretell {shlex.join(words)} ended with {code}"


def run(block: Block, name: str, space: dict[str, Any]) -> None:
    if block.kind == "python":
        exec(compile("\n" * (block.line - 1) + block.code, name, "exec"), space)
    for words in commands(block.code) if block.kind == "console" else []:
        command(words)


PAGES = [file for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))) if file.is_file() and blocks(file.read_text(encoding="utf-8"))]


WHOLE = [page if page.name == "README.md" else slow(page) for page in PAGES]


@pytest.mark.parametrize("page", WHOLE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page.read_text(encoding="utf-8")):
        if why := lacking(block, tmp_path):
            with subtests.test(f"{page.name}:{block.line}"):
                pytest.skip(f"{page.name}:{block.line}: {why}")
        else:
            run(block, str(page), space)


def test_the_readme_has_examples() -> None:
    assert ROOT / "README.md" in PAGES, "README.md has no block that runs"


@pytest.mark.parametrize("name", [".".join(f.relative_to(SRC).with_suffix("").parts) for f in sorted(SRC.rglob("*.py")) if ">>>" in f.read_text()])
def test_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name.removesuffix(".__init__")), optionflags=doctest.ELLIPSIS)
    assert result.attempted, "its examples were not found"
    assert not result.failed


PAGE = """
```python
x = 1
```

<!-- needs: power/a.csv, optuna -->
```python
y = x
```
<!-- never run: a reason -->

```console
$ foretell demo --quiet \\
  --out here
and what it prints
foretell check a.csv  # a remark
```

```bash
foretell not run
```
"""


def test_blocks_are_found() -> None:
    first, second, third = blocks(PAGE)
    assert (first.kind, first.code, first.line) == ("python", "x = 1\n", 3)
    assert second.needs == ("power/a.csv", "optuna")
    assert third.never == "a reason"
    assert commands(third.code) == [["demo", "--quiet", "--out", "here"], ["check", "a.csv"]]


def test_what_is_lacking_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "DATA", tmp_path / "data")
    _, second, third = blocks(PAGE)
    assert lacking(second, tmp_path) == "real data absent: power/a.csv"
    assert lacking(second._replace(needs=("no_such_package",)), tmp_path) == "package no_such_package is not installed"
    assert lacking(third, tmp_path) == "a reason"
    (tmp_path / "data" / "power").mkdir(parents=True)
    (tmp_path / "data" / "power" / "a.csv").write_text("a")
    assert lacking(second._replace(needs=("power/a.csv",)), tmp_path) == ""
    assert (tmp_path / "a.csv").read_text() == "a"


def test_a_broken_example_fails_at_its_line() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run(Block("python", "x = 1\n1 / 0\n", 40, (), ""), "page.md", {})
    assert caught.traceback[-1].lineno + 1 == 41
