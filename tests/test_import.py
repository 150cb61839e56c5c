"""`import foretell` is light, and everything it names is there."""

import importlib
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SRC = Path(__file__).resolve().parent.parent / "src"
ALLOWED = ("torch", "numpy", "pydantic", "jaxtyping")
HEAVY = {"pandas", "polars", "plotly", "scipy", "sklearn", "holidays", "rich", "cyclopts", "narwhals", "utilsforecast", "pyarrow", "pmdarima"}


def loaded(what: str = "foretell") -> set[str]:
    """Top-level modules in a fresh interpreter after importing that."""
    code = f"import {what}, json, sys; sys.stdout.write(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SRC)}, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout))


def with_their_own(names: tuple[str, ...]) -> set[str]:
    found, asked = set[str](), list(names)
    while asked:
        name = canonicalize_name(asked.pop())
        if name in found:
            continue
        found.add(name)
        try:
            needs = [Requirement(r) for r in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue  # for another platform
        asked += [r.name for r in needs if not r.marker or r.marker.evaluate({"extra": ""})]
    return found


def test_import_loads_only_what_is_promised() -> None:
    modules, owners = loaded(), metadata.packages_distributions()
    assert not modules & HEAVY, f"import foretell loads {sorted(modules & HEAVY)}; import them where they are used"
    allowed = {*with_their_own(ALLOWED), "foretell", "setuptools"}
    # What those four load where it is installed (torch takes tqdm, if it is there) is theirs to answer for.
    own = modules - loaded(", ".join(ALLOWED)) - sys.stdlib_module_names
    others = {m for m in own if m in owners and not allowed & {canonicalize_name(o) for o in owners[m]}}
    assert not others, f"import foretell loads {sorted(others)}, which belong to none of {', '.join(ALLOWED)}"


def test_every_listed_name_is_there() -> None:
    foretell = importlib.import_module("foretell")
    assert foretell.__all__ == sorted(set(foretell.__all__))
    missing = [name for name in foretell.__all__ if name not in vars(foretell)]
    assert not missing, missing


def test_every_file_can_be_imported() -> None:
    for file in sorted((SRC / "foretell").rglob("*.py")):
        parts = file.relative_to(SRC).with_suffix("").parts
        if parts[-1] != "__main__":
            importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
