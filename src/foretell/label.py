"""Label: a static fact of every series, as a net reads it; the series' own name may be one."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .errors import TaskError, nearest
from .panel import Panel

SERIES = "(series)"  # the label that is a series' own name; a panel whose series go by other names carries it as a fact


class Label(NamedTuple):
    """A static fact as a net reads it: the number of its category from 1 on, 0 for one never seen; or, without categories, a
    number in standard deviations."""

    name: str
    categories: tuple[str, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0

    def read(self, panel: Panel) -> Float[Tensor, " series"]:
        """The fact of every series of a panel."""
        if self.name not in panel.labels and self.name != SERIES:
            raise TaskError(f'the model knows the label "{self.name}" of every series: {nearest(self.name, panel.labels)}; give it, as labels= of ft.read does')
        facts = panel.labels.get(self.name, panel.series)
        if self.categories:
            place = {category: number + 1 for number, category in enumerate(self.categories)}
            return torch.tensor([place.get(str(f), 0) for f in facts], dtype=panel.values.dtype)
        return (torch.tensor(facts, dtype=panel.values.dtype) - self.mean) / self.deviation


def named_label(panel: Panel) -> Label:
    """The series' own name as a label."""
    return Label(SERIES, panel.series)


def labels_of(panel: Panel, *, named: bool = False) -> tuple[Label, ...]:
    """Every label of a panel, learned from the series that it has; `named` puts the series themselves before them."""
    found = [named_label(panel)] if named else []
    for name, facts in panel.labels.items():
        if all(isinstance(f, int | float) for f in facts):
            numbers = torch.tensor(facts, dtype=torch.float64)
            spread = float(numbers.std(correction=0))
            found.append(Label(name, (), float(numbers.mean()), spread if spread > 0 else 1.0))
        else:
            found.append(Label(name, tuple(sorted({str(f) for f in facts}))))
    return tuple(found)
