"""Derive: channels computed from channels, row by row, from a formula such as "clicks / impressions"."""

import ast
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import DataError, TaskError, nearest
from ..panel import Panel

Column = Float[Tensor, "series time"]
OPERATIONS: Mapping[type, Callable[[Any, Any], Any]] = {ast.Add: torch.add, ast.Sub: torch.sub, ast.Mult: torch.mul, ast.Div: torch.div}
GRAMMAR = "a formula has channel names (with spaces: in `backquotes`), numbers, + - * /, parentheses and log(…); or it is index(channel) alone"


def derive(panel: Panel, formulas: Mapping[str, str]) -> Panel:
    """Adds a channel a formula, in their order, so that a later one may use an earlier one. What divides by 0 is not observed; the log of
    0 or less is refused. "index(sales)" adds the seasonal index `index_sales`, fitted on the training cut."""
    for name, formula in formulas.items():
        tree = parsed(name, formula)
        if isinstance(tree, ast.Call) and _called(tree) == "index":
            panel = panel.with_seasonal_index(_index_of(tree, name, formula))
            continue
        if name in panel.every_channel:
            raise TaskError(f'derive= makes a channel "{name}" but there is one already: give it another name')
        column = _value(tree, panel, f"{name} = {formula}")
        column = torch.where(column.isfinite(), column, torch.nan).to(panel.values.dtype).expand(panel.values.shape[:2])
        at = len(panel.own)
        channels = (*panel.channels[:at], name, *panel.channels[at:])
        panel = replace(panel, values=torch.cat([panel.values, column[..., None]], -1), channels=channels)
    return panel


def parsed(name: str, formula: str) -> ast.expr:
    """The formula's tree; a name in backquotes becomes a text constant."""
    try:
        return ast.parse(re.sub(r"`([^`]*)`", lambda m: repr(m[1]), formula).strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise TaskError(f'derive= cannot read "{name} = {formula}": {GRAMMAR}') from None


def names_in(formulas: Mapping[str, str]) -> set[str]:
    """Every name the formulas mention."""
    nodes = [node for name, formula in formulas.items() for node in ast.walk(parsed(name, formula))]
    texts = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return texts | {n.id for n in nodes if isinstance(n, ast.Name)}


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _index_of(call: ast.Call, name: str, formula: str) -> str:
    argument = call.args[0] if len(call.args) == 1 else None
    if isinstance(argument, ast.Name):
        return argument.id
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return argument.value
    raise TaskError(f'"{name} = {formula}": index() takes the name of one channel')


def _value(node: ast.expr, panel: Panel, whole: str) -> Tensor:
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float() as number):
            return torch.tensor(float(number), dtype=torch.float64)
        case ast.Constant(value=str() as name):
            return _channel(name, panel, whole)
        case ast.Name(id=name):
            return _channel(name, panel, whole)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner, panel, whole)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in OPERATIONS:
            return torch.as_tensor(OPERATIONS[type(sign)](_value(left, panel, whole), _value(right, panel, whole)))
        case ast.Call(args=[inner], keywords=[]) if _called(node) == "log":
            return _log(_value(inner, panel, whole), panel, whole)
    raise TaskError(f'"{ast.unparse(node)}" in "{whole}" is not understood: {GRAMMAR}')


def _channel(name: str, panel: Panel, whole: str) -> Column:
    # Python's parser folds look-alike letters (NFKC), so the panel's names are folded to be compared.
    folded = {unicodedata.normalize("NFKC", c): c for c in panel.channels}
    if name not in panel.channels and name not in folded:
        raise TaskError(f'"{whole}" names a channel "{name}" that is not there; {nearest(name, panel.channels)}')
    return panel.channel(name if name in panel.channels else folded[name]).double()


def _log(value: Tensor, panel: Panel, whole: str) -> Tensor:
    low = value <= 0
    if low.any() and value.ndim == 2:
        series, row = (int(i) for i in low.nonzero()[0])
        when = panel.clock.local(int(panel.start[series]) + row)
        where = f'series "{panel.series[series]}", {when}; {int(low.sum())} such rows'
        raise DataError(f'"{whole}" takes the log of {value[series, row]:g} ({where}): a log needs values above 0')
    return value.log()
