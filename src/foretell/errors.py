"""What can go wrong, as the user sees it.

ForetellError
├── DataError   the file or frame: its columns, its times, its values
├── TaskError   the question asked of it: names, context, horizon, options
└── FileError   a model or checkpoint file that cannot be read or written
"""

from collections.abc import Iterable
from difflib import get_close_matches


class ForetellError(Exception):
    """A sentence the user can act on: what is wrong, the value got, what is valid."""


class DataError(ForetellError):
    """The data cannot be read as series on one clock."""


class TaskError(ForetellError):
    """The question does not fit the data, or an option has no such value."""


class FileError(ForetellError):
    """A saved file is missing, damaged, or from a newer version."""


def nearest(name: str, valid: Iterable[str], limit: int = 8) -> str:
    """The end of an error sentence: the likely typo and what there is.

    >>> nearest("Usgae", ["Usage", "Temperature"])
    'did you mean "Usage"? There are: Usage, Temperature'
    """
    names = [str(v) for v in valid]
    folded = {n.lower(): n for n in names}
    close = get_close_matches(name.lower(), folded, n=1)
    listed = ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
    guess = f'did you mean "{folded[close[0]]}"? ' if close else ""
    return f"{guess}There are: {listed}" if names else "there are none"
