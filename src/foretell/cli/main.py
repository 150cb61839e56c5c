"""main: the program. Reads the words, runs the command, turns what goes wrong into a sentence and an exit code."""

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import ForetellError, nearest
from .runs import TYPED, release

WRONG, STOPPED = 2, 130
EPILOGUE = "`foretell COMMAND --help` lists the options of a command. First steps: foretell demo, then foretell check FILE."


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0; 1 if `check` found something wrong; 2 after an error, told in a
    sentence; 130 after Ctrl-C."""
    from cyclopts import CycloptsError

    typed = tuple(sys.argv[1:] if words is None else words)
    TYPED.set(typed)
    try:
        code = program()(typed, exit_on_error=False, print_error=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except ForetellError as error:
        return _said(in_flags(str(error)))
    except CycloptsError as error:
        return _said(_sentence(error))
    except KeyboardInterrupt:
        _said("stopped; nothing was written")
        return STOPPED
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def program() -> Any:
    """The commands."""
    from cyclopts import App, Group, Parameter

    from . import commands, explaining, planner

    app = App(
        name="foretell",
        help="Forecast operational time series, with bands, an honest test of accuracy and a report.",
        help_epilogue=EPILOGUE,
        help_format="plaintext",
        version=lambda: f"foretell {release('foretell')}",
        default_parameter=Parameter(consume_multiple=True, negative=()),
        group_parameters=Group("Options", sort_key=0),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for command in (
        commands.forecast, commands.predict, commands.backtest, commands.detect,
        planner.plan, commands.tune, commands.check, commands.report, explaining.explain, commands.demo,
    ):  # fmt: skip
        app.command(command)
    return app


def _said(sentence: str) -> int:
    sys.stderr.write(f"foretell: {sentence}\n")
    return WRONG


def in_flags(sentence: str) -> str:
    """Options named as in Python, named as they are typed here.

    >>> in_flags('say time=None, step="h", or channels=("A", "B")')
    'say --time none, --row-step h, or --channels A B'
    """
    from .flags import ASKS, READS, RENAMED, TRAINS

    names = "|".join((*READS, *ASKS, *TRAINS, "test", "windows", "holidays", "future", "members"))
    value = r"""(?P<value>"[^"]*"|'[^']*'|\([^()]*\)|[\w.]+)?"""
    option = rf"(?<![\w:,(=\"'-])(?P<name>{names})={value}"
    return re.sub(option, lambda found: _flag(RENAMED.get(found["name"], f"--{found['name']}"), found["value"] or ""), sentence)


def _flag(name: str, value: str) -> str:
    words = value.strip("()").replace('"', "").replace("'", "").replace(",", " ").split()
    told = " ".join("none" if word == "None" else word for word in words)
    return f"{name} {told}".rstrip()


def _sentence(error: Any) -> str:
    """cyclopts' message as one sentence that says where to look."""
    from cyclopts import MissingArgumentError, UnknownCommandError, UnusedCliTokensError

    chain = " ".join(("foretell", *(error.command_chain or ())))
    if isinstance(error, UnknownCommandError):
        word = str(error.unused_tokens[0]) if error.unused_tokens else ""
        return f'no command "{word}": {nearest(word, ("forecast", "predict", "backtest", "detect", "plan", "tune", "check", "report", "explain", "demo"))}'
    if isinstance(error, UnusedCliTokensError):
        left = " ".join(map(str, error.unused_tokens or ()))
        return f'"{left}" is one word too many: the file comes first, then the options; see {chain} --help'
    if isinstance(error, MissingArgumentError) and error.argument is not None and not error.argument.name.startswith("-"):
        return f"{chain} needs {error.argument.name}, the file to read, right after the command; see {chain} --help"
    return f"{' '.join(str(error).split()).rstrip('.')}; see {chain} --help"
