"""Children: every measurement in a process of its own, every peer in an environment of its own."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
ENVS = HERE / ".envs"
Answer = Mapping[str, Any]


class ChildError(RuntimeError):
    """A child that gave no answer; the message is the last thing it said."""


def ask(python: Path, script: str, **options: object) -> Answer:
    """Runs a script of peers/ and returns what it answers: the JSON object on its last line. Options become --name value."""
    words = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    # What a peer writes to disk on the way (logs, checkpoints) stays in the folder that git ignores.
    ENVS.mkdir(exist_ok=True)
    done = subprocess.run([python, HERE / "peers" / script, *words], capture_output=True, text=True, cwd=ENVS, env=_around(python), check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise ChildError(f"{script} ended with {done.returncode}: {(done.stderr.strip().splitlines() or ['nothing said'])[-1]}")
    answer: Answer = json.loads(lines[-1])
    return answer


def _around(python: Path) -> dict[str, str]:
    """No graphics card for anyone, no chatter, and foretell for our own children alone."""
    rest = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = {**rest, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    return found | {"PYTHONPATH": str(HERE.parent / "src")} if python == ours() else found


def ours() -> Path:
    """The Python that runs this."""
    return Path(sys.executable)


def peers(names: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """The Pythons of these peers, and a sentence for each that is not to be had."""
    found, missing = {}, []
    for name in names:
        try:
            found[name] = environment(name)
        except ChildError as error:
            missing.append(f"{name}: {error}")
    return found, missing


def environment(name: str) -> Path:
    """The Python of a peer's own environment, made from requirements/<name>.txt if it is not there or the file has changed."""
    home, wanted = ENVS / name, HERE / "requirements" / f"{name}.txt"
    mark, digest = home / "made-from", hashlib.sha256(wanted.read_bytes()).hexdigest()
    python = home / "bin" / "python"
    if python.exists() and mark.exists() and mark.read_text() == digest:
        return python
    print(f"making the environment of {name}: minutes, once", file=sys.stderr)
    ENVS.mkdir(exist_ok=True)
    (ENVS / ".gitignore").write_text("*\n")
    for step in ([sys.executable, "-m", "venv", home], [python, "-m", "pip", "install", "-q", "-r", wanted]):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ChildError(f"its environment could not be made: {(done.stderr.strip().splitlines() or ['nothing said'])[-1]}")
    mark.write_text(digest)
    return python
