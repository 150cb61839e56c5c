"""House style as budgets and bans: what a reader may count on in every file of the product."""

import ast
import math
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from torch import Tensor

import shapes
from shapes import checked

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "foretell"

FILE_LINES, FUNCTION_LINES, ARGUMENTS, FILE_BYTES = 350, 45, 9, 300_000
CALLS = {"print", "eval", "exec", "compile", "__import__", "hasattr", "breakpoint", "torch.load", "torch.save"}
MODULES = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
MACHINE = re.compile(r"(?<![\w.])/(?:work|tmp|farm|root|home|opt|Users|mnt)/|\b[A-Z]:\\\\?Users|\bpypi\.org|pythonhosted\.|npmjs\.(?:com|org)")

Offences = Iterator[tuple[int, str]]


def sources() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def tree() -> list[Path]:
    """Every file that is or could be committed; without git, every file outside the hidden folders and build output."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    skip = re.compile(r"(^|/)(\.venv|\.\w+_cache|\.hypothesis|__pycache__|build|runs|[^/]*\.egg-info)/")
    return [file for file in ROOT.rglob("*") if file.is_file() and not skip.search(file.relative_to(ROOT).as_posix())]


def size(text: str) -> Offences:
    lines = sum(1 for line in text.splitlines() if line.strip())
    if lines > FILE_LINES:
        yield 1, f"{lines} non-blank lines, at most {FILE_LINES}"
    module = ast.parse(text)
    if module.body and not (ast.get_docstring(module) or "").strip():
        yield 1, "no first line that says what the file is"
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _function(node)


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Offences:
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
    if lines > FUNCTION_LINES:
        yield node.lineno, f"{node.name} has {lines} lines, at most {FUNCTION_LINES}"
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    count = len([n for n in names if n not in ("self", "cls")]) + (node.args.vararg is not None)
    if count > ARGUMENTS:
        yield node.lineno, f"{node.name} has {count} arguments, at most {ARGUMENTS}"
    if node.args.kwarg:
        yield node.lineno, f"{node.name} takes **{node.args.kwarg.arg}; name what it takes"


def bans(text: str) -> Offences:
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=func) if (name := ast.unparse(func)) in CALLS:
                yield node.lineno, f"calls {name}"
            case ast.Call(func=ast.Name("getattr"), args=[_, ast.expr() as computed, *_]) if not isinstance(computed, ast.Constant):
                yield node.lineno, "getattr by a computed name"
            case ast.Import(names=names) if found := MODULES & {n.name.split(".")[0] for n in names}:
                yield node.lineno, f"imports {', '.join(sorted(found))}"
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in MODULES or module == "__future__":
                yield node.lineno, f"imports from {module}"
            case ast.ExceptHandler(type=kind) if kind is None or ast.unparse(kind) in ("Exception", "BaseException"):
                yield node.lineno, "catches everything; name the exception"
            case ast.Name("NotImplementedError"):
                yield node.lineno, "NotImplementedError: a class is abstract or finished"
            case ast.ClassDef(decorator_list=marks):
                yield from ((node.lineno, f"{node.name} is not frozen") for m in marks if _thawed(ast.unparse(m)))


def _thawed(decorator: str) -> bool:
    return decorator.split("(")[0].split(".")[-1] == "dataclass" and "frozen=True" not in decorator


def notes(text: str) -> Offences:
    for number, line in enumerate(text.splitlines(), 1):
        if found := re.search(r"\b(TODO|FIXME|XXX)\b", line):
            yield number, f"{found[1]}: do it or file an issue"
        if "type: ignore" in line and not re.search(r"# type: ignore\[[\w-]+(, ?[\w-]+)*\]  # \w", line):
            yield number, "type: ignore without [code] and a reason after it"


def machine(text: str) -> Offences:
    for number, line in enumerate(text.splitlines(), 1):
        if found := MACHINE.search(line):
            yield number, f"{found[0]} belongs to one machine"


def names(text: str) -> Offences:
    """__all__ of an __init__ file is sorted and lists every public name the file binds."""
    module = ast.parse(text)
    bound, listed = set(), None
    for node in module.body:
        if isinstance(node, ast.ImportFrom):
            bound |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            bound |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id == "__all__":
                listed = list(ast.literal_eval(node.value))
            bound.add(node.targets[0].id)
    public = {name for name in bound if not name.startswith("_")}
    if listed is None:
        yield from [(1, "binds names without __all__")] if public else []
    elif listed != sorted(set(listed)):
        yield 1, "__all__ is not sorted, or has a name twice"
    elif set(listed) - {"__version__"} != public:
        yield 1, f"__all__ and the names bound differ: {sorted(public ^ (set(listed) - {'__version__'}))}"


def report(rule: Callable[[str], Offences], files: list[Path]) -> str:
    found = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        found += [f"{file.relative_to(ROOT)}:{line}: {what}" for line, what in rule(text)]
    return "\n".join(found)


@pytest.mark.parametrize("rule", [size, bans, notes], ids=lambda rule: rule.__name__)
def test_sources(rule: Callable[[str], Offences]) -> None:
    assert not (found := report(rule, sources())), found


def test_every_init_lists_its_names() -> None:
    files = [file for file in sources() if file.name == "__init__.py"]
    assert files, "the package has no __init__.py"
    assert not (found := report(names, files)), found


def test_no_machine_in_the_tree() -> None:
    assert not (found := report(machine, tree())), found


def test_no_large_file_in_the_tree() -> None:
    large = [f"{file.relative_to(ROOT)}: {file.stat().st_size} bytes, at most {FILE_BYTES}" for file in tree() if file.stat().st_size > FILE_BYTES]
    assert not large, "\n".join(large)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (size, "x = 1"),
        (size, '"""A."""\n' + "x = 1\n" * 350),
        (size, '"""A."""\ndef f():\n' + "    x = 1\n" * 46),
        (size, '"""A."""\ndef f(a, b, c, d, *, e, f, g, h, i, j): ...'),
        (size, '"""A."""\ndef f(**kwargs): ...'),
        (bans, "print(1)"),
        (bans, "import torch\ntorch.load('x')"),
        (bans, "eval('1')"),
        (bans, "def f():\n    import pickle"),
        (bans, "from joblib import dump"),
        (bans, "from __future__ import annotations"),
        (bans, "try: ...\nexcept: ..."),
        (bans, "try: ...\nexcept Exception as error: ..."),
        (bans, "hasattr(x, 'y')"),
        (bans, "getattr(x, name)"),
        (bans, "raise NotImplementedError"),
        (bans, "@dataclass\nclass A: ..."),
        (bans, "@dataclasses.dataclass(eq=False)\nclass A: ..."),
        (notes, "x = 1  # TO" + "DO later"),
        (notes, "x = 1  # type: ignore"),
        (notes, "x = 1  # type: ignore[arg-type]"),
        (machine, "path = '/ro" + "ot/x'"),
        (machine, "see /wo" + "rk/main"),
        (names, "from .a import b, c\n__all__ = ['c', 'b']"),
        (names, "from .a import b, c\n__all__ = ['b']"),
        (names, "from .a import b\n__all__ = ['b', 'c']"),
        (names, "from .a import b"),
    ],
)
def test_a_planted_offence_is_found(rule: Callable[[str], Offences], text: str) -> None:
    assert list(rule(text))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (size, '"""A."""\ndef f(self, a, b, c, d, e, f, g, h):\n    """Long.\n' + "\n" * 50 + '    """\n    return 1'),
        (bans, "module.eval()\nf(**options)\ngetattr(x, 'y')\n@dataclass(frozen=True, eq=False)\nclass A: ..."),
        (notes, "x = 1  # type: ignore[arg-type]  # the stub is wrong"),
        (machine, "../shared/data and https://example.org/home/x and docs/root/x"),
        (names, "from .a import B, c\n__version__ = '1'\n__all__ = ['B', 'c']"),
        (names, '"""Nothing here."""'),
    ],
)
def test_a_clean_file_passes(rule: Callable[[str], Offences], text: str) -> None:
    assert not list(rule(text))


def pins() -> dict[str, str]:
    """name → version of everything the two locks install."""
    lines = [line for name in ("requirements.lock", "requirements-test.lock") for line in (ROOT / name).read_text().splitlines()]
    split = [line.split("==") for line in lines if line and not line.startswith(("#", "-r"))]
    assert all(len(part) == 2 for part in split), [part for part in split if len(part) != 2]
    return {canonicalize_name(name): version for name, version in split}


def test_the_lock_holds_all_that_is_needed_and_nothing_else() -> None:
    """Walks from pyproject's requirements through what is installed. What torch adds on a machine with a GPU may be missing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [
        Requirement(r)
        for r in (*project["dependencies"], *extras["demo"], *extras["baselines"], *extras["tune"], *extras["plan"], *extras["test"], "setuptools")
    ]
    locked, needed = pins(), set[str]()
    while asked:
        one = asked.pop()
        name = canonicalize_name(one.name)
        if name in needed or (one.marker and not one.marker.evaluate({"extra": ""})) or name.startswith(("nvidia-", "cuda-", "triton")):
            continue
        needed.add(name)
        assert name in locked, f"{name} is needed but not in a lock"
        assert one.specifier.contains(locked[name]), f"{one} does not admit {locked[name]} of the lock"
        asked += [Requirement(r) for r in metadata.requires(name) or []]
    assert not locked.keys() - needed, f"in a lock but not needed: {sorted(locked.keys() - needed)}"


def test_the_digest_sees_every_change(digest: Callable[[object], str]) -> None:
    before = {"a": np.arange(3.0), "b": ("x", 1)}
    same = {"a": np.arange(3.0), "b": ("x", 1)}
    assert digest(before) == digest(same)
    same["a"][1] = np.nan
    assert digest(before) != digest(same)
    assert digest(before) != digest({"a": np.arange(3.0), "b": ("x", 2)})
    assert digest([b"ab", b"c"]) != digest([b"a", b"bc"])


class Anything(Protocol):
    """A protocol that cannot be asked for at run time."""

    def keep(self) -> int: ...


def test_shapes_are_checked_beside_annotations_that_cannot_be() -> None:
    @jaxtyped(typechecker=checked)
    def square(matrix: Float[Tensor, "side side"], friend: Anything | None, built: Callable[[Any], Self] | None) -> Self:
        return matrix

    square(torch.zeros(2, 2), None, None)
    with pytest.raises(TypeCheckError):
        square(torch.zeros(2, 3), None, None)


def doubled(x: Float[Tensor, " time"]) -> Float[Tensor, " time"]:
    return x[None] if len(x) > 2 else x  # wrong for three and more


def test_checks_spare_a_function_called_often_and_begin_anew_in_each_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "doubled", jaxtyped(typechecker=checked)(doubled))
    try:
        for _ in range(2):
            shapes.afresh(5)
            for _ in range(4):
                doubled(torch.zeros(2))
            with pytest.raises(TypeCheckError):
                doubled(torch.zeros(3))
            assert doubled(torch.zeros(3)).shape == (1, 3)  # the sixth call
    finally:
        shapes.afresh(math.inf)


def test_every_array_of_a_sequence_is_checked_every_time() -> None:
    """Beartype alone draws one of them at random: lengths that differ were refused in one run of three."""

    @jaxtyped(typechecker=checked)
    def joined(parts: Sequence[Float[Tensor, " time"]] | None) -> list[Float[Tensor, " time"]]:
        return list(parts or ())

    assert len(joined([torch.zeros(3), torch.ones(3)])) == 2
    for _ in range(20):
        with pytest.raises(TypeCheckError):
            joined([torch.zeros(3)] * 9 + [torch.zeros(2)])
