"""The command line: the same verbs as in Python, one run folder a command."""

from .main import main

__all__ = ["main"]
