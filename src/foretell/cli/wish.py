"""Wish: what is asked of the plan command, flag by flag."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from .flags import Words


def _help(text: str) -> Parameter:
    return Parameter(help=text, negative=())


@dataclass(frozen=True)
class Wish:
    """What is to be planned."""

    target: Annotated[str, _help("column of revenue or sales")]
    controls: Annotated[
        Words, _help("columns of spend with their bounds a step: tv:0..50000,search:0..20000; a name alone: 0 to the most it ever was; tv:900 fixed")
    ] = ()
    budget: Annotated[float | None, _help("most to spend over all steps; left out: the mean spend of the last year, every step")] = None
    goal: Annotated[Literal["revenue", "profit", "roas"], _help("what is made large")] = "revenue"
    margin: Annotated[float, _help("profit a unit of the target brings, for --goal profit")] = 1.0
    roas: Annotated[float | None, _help("least attributable target per unit spent, for --goal roas")] = None
    risk: Annotated[float, _help("0: plan for the mean; 0.1: for the gain that nine of ten members exceed")] = 0.0
    least_change: Annotated[float, _help("a control whose total would change by less stays as written")] = 0.0
    follows: Annotated[Words, _help("columns that a control causes: clicks=search")] = ()
    known: Annotated[Words, _help("other columns known ahead, such as holidays or prices")] = ()
    future: Annotated[Path | None, _help("file with the known columns after the last target; spend written there is the plan to compare with")] = None
    horizon: Annotated[int | None, _help("steps to plan; left out: 13 weeks, 28 days, 3 months")] = None
    context: Annotated[int | None, _help("steps the nets look back; left out: as many as are planned")] = None
    scenario: Annotated[Words, _help('a named what-if beside the plan, as often as wanted: "more tv: tv=+20%, search=0"')] = ()
    discount: Annotated[float | None, _help("plan a promotion instead of a budget: the share taken off, as in 0.2")] = None
    channel: Annotated[str, _help("column of the discount as a share; with --price of the price itself")] = "discount"
    price: Annotated[bool, _help("--channel holds prices, which the promotion lowers")] = False
    first: Annotated[int, _help("first promoted step ahead, from 1 on")] = 1
    days: Annotated[int, _help("promoted steps")] = 7
    use: Annotated[Literal["response", "flexible"], _help("the net to plan with; the other one gives its opinion")] = "response"
    rehearse: Annotated[
        int, _help("worlds with a known answer in which each net plans once more, to see what its promises are worth; 0: none, in a third of the time")
    ] = 6
    members: Annotated[int, _help("nets of an ensemble")] = 12
    epochs: Annotated[int, _help("passes of the response net over the data")] = 120
    seed: Annotated[int, _help("of every random number")] = 0
