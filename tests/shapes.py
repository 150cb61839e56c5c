"""What checks annotations at every call while the tests run: beartype, with what it cannot know inside one function left out.

`Self` means nothing to it outside a class that it decorates itself, and it cannot ask whether a value follows a protocol
that is not `runtime_checkable`. Such an annotation counts as `Any`; every other one of the same function is checked.
Of a sequence beartype looks at one item, drawn at random: here every array in it is looked at, so that a test that fails always fails.
"""

import inspect
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from types import UnionType
from typing import Annotated, Any, Self, Union, get_args, get_origin

from beartype import beartype
from beartype.vale import Is
from jaxtyping import AbstractArray

calls: Counter[tuple[str, str]] = Counter()
most = math.inf


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Used as `--jaxtyping-packages=foretell,shapes.checked`."""
    if not inspect.isfunction(function):
        return beartype(function)
    function.__annotations__ = {name: Any if unknowable(hint) else whole(hint) for name, hint in function.__annotations__.items()}
    return sparing(function)


def sparing(function: Callable[..., Any]) -> Callable[..., Any]:
    """The check of a function, written when it is first called, as many never are; it lets the function alone after `most` calls in
    one test: a training loop makes the same call thousands of times, and the checks would take as long as the arithmetic."""
    place, inner = (function.__module__, function.__qualname__), "<locals>" in function.__qualname__
    check: Callable[..., Any] | None = None

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal check
        check = check or beartype(function)
        calls[place] += not inner
        if calls[place] == most and not inner:
            alone(place, True)
        return check(*args, **kwargs)

    return counted


def alone(place: tuple[str, str], let: bool) -> None:
    """Tells jaxtyping's wrapper of a function, which reads this mark at every call, whether to check."""
    found: Any = sys.modules[place[0]]
    for name in place[1].split("."):
        found = vars(found).get(name)
        if found is None:
            return
    found = getattr(found, "fget", None) or getattr(found, "__func__", found)
    if inspect.isfunction(found):
        found.__no_type_check__ = let  # type: ignore[attr-defined]  # any function takes one


def afresh(limit: float) -> None:
    """Before each test: every function is checked again, up to `limit` calls (each has two checks, before and after)."""
    global most
    for place, count in calls.items():
        if count >= most:
            alone(place, False)
    calls.clear()
    most = 2 * limit


def unknowable(hint: object) -> bool:
    if isinstance(hint, type) and getattr(hint, "_is_protocol", False) and not getattr(hint, "_is_runtime_protocol", False):
        return True
    return hint is Self or any(unknowable(part) for part in get_args(hint))


def whole(hint: Any) -> Any:
    """The annotation, with every array of a sequence to be looked at."""
    args = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(whole(one) for one in args)]  # noqa: UP007 - of a computed tuple
    of_arrays = get_origin(hint) in (Sequence, list) or (get_origin(hint) is tuple and args[1:] == (...,))
    if not of_arrays or not (isinstance(args[0], type) and issubclass(args[0], AbstractArray)):
        return hint
    array = args[0]
    return Annotated[get_origin(hint), Is[lambda items: all(isinstance(one, array) for one in items)]]
