"""Data: the real files, read where FORETELL_DATA says; never part of the repository."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = Path(os.environ.get("FORETELL_DATA") or ROOT.parent / "shared" / "data")


def find(name: str) -> Path | None:
    """A data file by its path under the data folder; None if it is not there."""
    path = DATA / name
    return path if path.is_file() else None
