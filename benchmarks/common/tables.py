"""Tables: what a script measured as Markdown, with the command, the versions and the machine it was measured on."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

import foretell

RESULTS = Path(__file__).resolve().parent.parent / "results"
HOME = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Table:
    """A heading, the columns and the rows under it; the first column is text, the rest are aligned right."""

    heading: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[object]]

    def __str__(self) -> str:
        rule = [":--", *["--:"] * (len(self.columns) - 1)]
        lines = [self.columns, rule, *self.rows]
        body = "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
        return f"## {self.heading}\n\n{body}" if self.heading else body


@dataclass(frozen=True)
class Page:
    """A question, how it was asked, and the tables that answer it. `load` is the load average when the script began."""

    name: str
    question: str
    protocol: str
    load: float

    def publish(self, tables: Sequence[Table], *, quick: bool, missing: Sequence[str] = (), versions: Sequence[str] = (), folder: Path = RESULTS) -> None:
        """Prints the page, and unless it was a smoke run writes it to results/, or another folder. What is missing is said on top of the tables."""
        parts = [f"# {self.question}", self.protocol]
        parts += [f"**Missing here:** {line}" for line in missing]
        parts += [str(table) for table in tables]
        parts += [self._measured(versions)]
        text = "\n\n".join(parts) + "\n"
        print(text)
        if quick:
            print("(a smoke run: results/ is left as it is)")
            return
        folder.mkdir(exist_ok=True)
        (folder / f"{self.name}.md").write_text(text, encoding="utf-8")

    def _measured(self, versions: Sequence[str]) -> str:
        script = Path(sys.argv[0]).name
        command = shlex.join(["benchmarks/" + script, *sys.argv[1:]])
        ours = [f"foretell {foretell.__version__}{commit()}", f"torch {torch.__version__}", f"numpy {metadata.version('numpy')}"]
        ours = [f"Python {platform.python_version()}", *ours]
        place = f"{processor()}, {os.cpu_count()} cores, load average {self.load:.1f} when it began and {os.getloadavg()[0]:.1f} at the end"
        return f"Command: `{command}`  \nVersions: {', '.join([*ours, *versions])}  \nMachine: {place}"


def page(name: str, question: str, protocol: str) -> Page:
    """To be made before anything is measured: it notes the load."""
    return Page(name, question, " ".join(protocol.split()), os.getloadavg()[0])


def processor() -> str:
    """What the system calls the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def commit() -> str:
    """Which state of the repository was measured, if git can tell."""
    try:
        told = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HOME, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return f" ({told.stdout.strip()})" if told.returncode == 0 else ""
