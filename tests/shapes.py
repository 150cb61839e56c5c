"""What checks annotations at every call while the tests run: beartype, with what it cannot know inside one function left out.

`Self` means nothing to it outside a class that it decorates itself, and it cannot ask whether a value follows a protocol
that is not `runtime_checkable`. Such an annotation counts as `Any`; every other one of the same function is checked.
"""

import inspect
from collections.abc import Callable
from typing import Any, Self, get_args

from beartype import beartype


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Used as `--jaxtyping-packages=foretell,shapes.checked`."""
    if inspect.isfunction(function):
        function.__annotations__ = {name: Any if unknowable(hint) else hint for name, hint in function.__annotations__.items()}
    return beartype(function)


def unknowable(hint: object) -> bool:
    if isinstance(hint, type) and getattr(hint, "_is_protocol", False) and not getattr(hint, "_is_runtime_protocol", False):
        return True
    return hint is Self or any(unknowable(part) for part in get_args(hint))
