"""What every test may ask for: real data, golden values, a digest; one thread a worker, random examples that repeat."""

import dataclasses
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

import shapes

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FORETELL_DATA") or ROOT.parent / "shared" / "data")

CHECKED = 5  # calls of one function in one test; `make check` looks at every call

settings.register_profile("short", deadline=None, max_examples=25, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=400)
settings.load_profile("short")

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # read once, when polars is first imported


def pytest_configure(config: pytest.Config) -> None:
    """Workers share the cores: one thread each, which also makes sums come out the same everywhere."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        import torch

        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def each_checks_anew(pytestconfig: pytest.Config) -> None:
    """Annotations are checked at the first calls of every function in every test; with the long profile, at every call."""
    shapes.afresh(math.inf if pytestconfig.getoption("--hypothesis-profile") == "long" else CHECKED)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data; never part of the repository."""
    if not DATA.is_dir():
        pytest.skip("real data absent: set FORETELL_DATA, or put it in ../shared/data")
    return DATA


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of values recorded from the original notebooks, beside the real data."""
    folder = DATA.parent / "golden"
    if not folder.is_dir():
        pytest.skip("golden values absent: put them in golden/ beside FORETELL_DATA (default ../shared/golden)")
    return folder


@pytest.fixture(scope="session")
def digest() -> Callable[[object], str]:
    """digest(value) is the same as long as every number, name and option inside the value is."""
    return fingerprint


def fingerprint(value: object) -> str:
    total = hashlib.sha256()
    for piece in _pieces(value):
        total.update(len(piece).to_bytes(8, "little") + piece)
    return total.hexdigest()


def _pieces(value: Any) -> Iterator[bytes]:
    import torch
    from pydantic import BaseModel

    from foretell.frames import is_frame, to_columns

    yield type(value).__qualname__.encode()
    if isinstance(value, torch.Tensor):
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype}{value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, torch.nn.Module):
        yield from _pieces(dict(value.state_dict()))
    elif isinstance(value, BaseModel):
        yield value.model_dump_json().encode()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _pieces({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield repr(name).encode()
            yield from _pieces(item)
    elif isinstance(value, list | tuple | set | frozenset | np.ndarray):
        for item in value:
            yield from _pieces(item)
    elif is_frame(value):
        yield from _pieces(to_columns(value)[0])
    else:
        yield repr(value).encode()
