"""Workers: independent jobs in processes of their own, one thread each. The one seam at which a cluster could take over."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from queue import Queue
from threading import Thread
from typing import Any, NamedTuple, TextIO

from .errors import TaskError

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
# A training step makes and frees the same megabytes again and again: glibc is told to keep them instead of handing them back to the system.
KEPT = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**30)}


class Answer(NamedTuple):
    """What a worker said of a job; `error` is why it said nothing."""

    job: str
    told: Mapping[str, Any]
    error: str = ""


def run(module: str, arguments: Sequence[str], jobs: Sequence[str], processes: int) -> Iterator[Answer]:
    """Runs `python -m module arguments` in so many processes, hands each one job after another, a line on its standard input,
    and yields the answers, a line of JSON each, as they come.

    A process that dies answers for its job with an error, and another takes its place. When the caller stops asking, or is
    interrupted, all processes are ended.
    """
    waiting, answers = list(reversed(jobs)), Queue[Answer]()
    alive: list[subprocess.Popen[str]] = []
    command = [sys.executable, "-m", module, *arguments]
    try:
        for _ in range(processes):
            Thread(target=_lane, args=(command, waiting, answers, alive), daemon=True).start()
        for _ in jobs:
            yield answers.get()
    finally:
        for one in alive:
            one.kill()


def _lane(command: Sequence[str], waiting: list[str], answers: "Queue[Answer]", alive: list[subprocess.Popen[str]]) -> None:
    """One process at a time, from job to job. It imports what this process imports."""
    worker: subprocess.Popen[str] | None = None
    around = {**KEPT, **os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryFile("w+") as cries:
        while waiting:
            try:
                job = waiting.pop()
            except IndexError:  # another lane took the last one
                break
            if worker is not None and worker.poll() is not None:
                worker.communicate()
                worker = None
            if worker is None:
                worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=cries, text=True, bufsize=1, env=around)
                alive.append(worker)
            line = _asked(worker, job)
            answers.put(Answer(job, json.loads(line)) if line else Answer(job, {}, _end(worker, cries)))
        if worker is not None:
            worker.communicate()


def _asked(worker: subprocess.Popen[str], job: str) -> str:
    """The answer; nothing if the process has ended."""
    assert worker.stdin is not None and worker.stdout is not None
    try:
        worker.stdin.write(f"{job}\n")
        return worker.stdout.readline()
    except OSError:
        return ""


def _end(worker: subprocess.Popen[str], cries: TextIO) -> str:
    code = worker.wait()
    cries.seek(0)
    last = next((line.strip() for line in reversed(cries.readlines()) if line.strip()), "nothing said")
    return f"a worker process ended with code {code} before it had an answer: {last}"


def serve(answers: Iterator[Mapping[str, Any]]) -> None:
    """A worker's side: a line of JSON for each job done."""
    for told in answers:
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def cores(asked: int | None) -> int:
    """How many processes: as asked, or one a core that this process may use."""
    if asked is not None and asked < 1:
        raise TaskError(f"processes must be at least 1, got {asked}")
    return asked or (len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
