"""Extras: packages that only the neighbours need; one that is missing says how to install it."""

from importlib import import_module
from types import ModuleType

from ..errors import TaskError


def needed(name: str, what: str, extra: str = "baselines") -> ModuleType:
    """A package of an extra. TaskError with the command that installs it."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise TaskError(f'{what} needs the package {name}: pip install "foretell[{extra}]"') from None
