"""Import order: a file imports only from rows above its own, and inside the package only by relative names."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src" / "foretell"

# Names in one row do not know each other. A name here is a file or a whole folder; files of one folder may import each other.
ROWS = (
    ("errors",),
    ("spec",),
    ("clock",),
    ("frames", "smooth"),
    ("panel",),
    ("calendar", "metrics", "periods", "label", "nets", "attribution", "optim", "files", "examples", "noise", "outcome", "words", "device"),
    ("transform", "loss", "schedule", "worlds", "graph"),
    ("task",),
    ("halves",),
    ("train", "solve", "feed", "periodic", "workers"),
    ("supervised",),
    ("baseline", "interval", "neighbours"),
    ("function",),
    ("mixture",),
    ("forecaster", "scoreboard"),
    ("learning", "hierarchy"),
    ("forecast",),
    ("detect",),
    ("backtesting", "explanation"),
    ("tuning", "plan"),
    ("choosing", "selecting"),
    ("reading", "storage", "plotting", "page", "diagnosis", "weighing"),
    ("portraits", "sketch", "standings"),
    ("pictures", "alarmdossier"),
    ("alarmpage", "reporting", "packs", "dossier"),
    ("planreport",),
    ("cli", "studio"),
    ("__init__", "__main__"),
)
ROW = {name: row for row, names in enumerate(ROWS) for name in names}


def home(file: Path) -> str:
    """The name in ROWS that a file belongs to."""
    return file.relative_to(SRC).with_suffix("").parts[0]


def imports(file: Path, text: str) -> Iterator[tuple[int, str]]:
    """Line and name of everything a file takes from the package; "foretell" for an import that is not relative."""
    folder = file.relative_to(SRC).parts[:-1]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, "foretell") for name in node.names if name.name.split(".")[0] == "foretell")
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.lineno, "foretell") for _ in [0] if (node.module or "").split(".")[0] == "foretell")
        elif isinstance(node, ast.ImportFrom):
            base = (*folder[: len(folder) + 1 - node.level], *(node.module.split(".") if node.module else ()))
            yield from ((node.lineno, base[0] if base else name.name) for name in node.names)


def offences(file: Path, text: str) -> list[str]:
    mine, at = home(file), file.relative_to(SRC.parent)
    if mine not in ROW:
        return [f"{at}: {mine} has no row yet; give it one in tests/test_order.py and docs/decisions.md"]
    found = []
    for line, name in imports(file, text):
        if name == "foretell":
            found.append(f"{at}:{line}: inside the package, import by a relative name")
        elif name not in ROW:
            found.append(f"{at}:{line}: takes {name} from the package itself; import it from the file that defines it")
        elif name != mine and ROW[name] >= ROW[mine]:
            found.append(f"{at}:{line}: {mine} (row {ROW[mine]}) may not import {name} (row {ROW[name]})")
    return found


def test_files_import_only_from_the_rows_above() -> None:
    found = [line for file in sorted(SRC.rglob("*.py")) for line in offences(file, file.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("where", "line", "allowed"),
    [
        ("panel.py", "from .clock import Clock", True),
        ("clock.py", "from .panel import Panel", False),
        ("calendar.py", "from .periods import find", False),
        ("nets/ridge.py", "from .layers import Shape", True),
        ("nets/ridge.py", "from ..errors import TaskError", True),
        ("nets/ridge.py", "from ..forecast import fit", False),
        ("nets/ridge.py", "from .. import panel", True),
        ("nets/ridge.py", "from .. import cli", False),
        ("forecast.py", "def f():\n    from . import backtesting", False),
        ("forecast.py", "from foretell.panel import Panel", False),
        ("forecast.py", "import foretell.panel", False),
        ("forecast.py", "from . import __version__", False),
        ("forecast.py", "import torch.nn\nfrom torch import Tensor", True),
        ("__init__.py", "from .cli import main", True),
        ("stranger.py", "import torch", False),
    ],
)
def test_the_rule_itself(where: str, line: str, allowed: bool) -> None:
    assert (not offences(SRC / where, line)) == allowed
