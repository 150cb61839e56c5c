"""Same step: channels given as known ahead that tell the target of the very step, as clicks tell sales: who knows them ahead?"""

import torch
from jaxtyping import Float
from torch import Tensor

from ..panel import Panel
from ..task import Task

ALMOST = 0.75  # share of the target's movement from which a channel is called almost a function of it
LEAST = 20  # steps that a share must rest on

Moves = Float[Tensor, " row"]


def giveaways(panel: Panel, task: Task) -> tuple[str, ...]:
    """A sentence for every known channel, or for all of them together, whose changes over a season tell almost all of the
    target's in the same step. Changes, because a season or a level that both share gives nothing away."""
    known = [k for k in task.known if k in panel.channels]
    found = []
    for target in (t for t in task.target if t in panel.channels):
        shares = {name: told_by(panel, target, [name]) for name in known}
        alone = [name for name, share in shares.items() if share >= ALMOST]
        found += [_sentence(f'known channel "{name}" is', target, shares[name], panel) for name in alone]
        together = told_by(panel, target, known) if len(known) > 1 and not alone else 0.0
        if together >= ALMOST:
            listed = ", ".join(f'"{name}"' for name in known)
            found.append(_sentence(f"known channels {listed} are together", target, together, panel))
    return tuple(found)


def _sentence(what: str, target: str, share: float, panel: Panel) -> str:
    season = _season(panel)
    over = f"over {season} steps" if season > 1 else "from one step to the next"
    return (
        f'{what} almost a function of "{target}" in the same step: {share:.0%} of its change {over} is told. '
        "Leave it as known only if it is planned; otherwise take it out of known=, and it informs up to the origin"
    )


def told_by(panel: Panel, target: str, channels: list[str]) -> float:
    """Share (adjusted R²) of the target's changes over a season that the channels' changes in the same steps explain: of
    values, of their ranks if there is one channel, or of logarithms if all are above zero; the largest of these."""
    values = [panel.channel(name).double() for name in (target, *channels)]
    seen = torch.stack([v.isfinite() for v in values]).all(0)
    shares = [_explained(*_moves(values, seen, panel))]
    if bool(torch.stack(values)[:, seen].gt(0).all()):
        shares.append(_explained(*_moves([v.log() for v in values], seen, panel)))
    if len(channels) == 1:
        goal, beside = _moves(values, seen, panel)
        shares.append(_explained(_ranks(goal), _ranks(beside[:, 0])[:, None]))
    return max(shares)


def _season(panel: Panel) -> int:
    """A season of the clock, or one step where the data hold no three of them."""
    season = panel.clock.season
    return season if panel.values.shape[1] >= 3 * season else 1


def _moves(values: list[Float[Tensor, "series time"]], seen: Tensor, panel: Panel) -> tuple[Moves, Float[Tensor, "row channel"]]:
    """Changes over a season, each series' in its own standard deviations."""
    gap = _season(panel)
    both = seen[:, gap:] & seen[:, :-gap]
    moved = []
    for value in values:
        change = (value[:, gap:] - value[:, :-gap]).masked_fill(~both, torch.nan)
        change = change - change.nanmean(1, keepdim=True)
        spread = change.square().nanmean(1, keepdim=True).sqrt()
        moved.append(torch.where(spread > 0, change / spread, 0.0)[both])
    return moved[0], torch.stack(moved[1:], 1)


def _explained(goal: Moves, beside: Float[Tensor, "row channel"]) -> float:
    rows, count = beside.shape
    total = float((goal - goal.mean()).square().sum()) if rows else 0.0
    if rows < LEAST + count or not total > 0 or not bool(beside.isfinite().all()):
        return 0.0
    inputs = torch.cat([beside, torch.ones(rows, 1, dtype=beside.dtype)], 1)
    rest = goal - inputs @ (torch.linalg.pinv(inputs) @ goal)
    return 1 - float(rest.square().sum()) / total * (rows - 1) / (rows - count - 1)


def _ranks(values: Moves) -> Moves:
    return values.argsort().argsort().to(values.dtype)
