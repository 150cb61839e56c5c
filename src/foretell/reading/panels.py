"""Read: any file or frame as a Panel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import TaskError, nearest
from ..panel import Panel
from .derive import derive as derived
from .m5 import ENDINGS, read_m5
from .options import Reading, combined
from .rows import laid_out, resampled, rows_of
from .tables import Log, Source, open_table
from .wide import find_steps, from_wide

PEEK = 8


@dataclass(frozen=True, eq=False)
class Draft:
    """A panel read, with what was noticed on the way."""

    panel: Panel
    name: str
    encoding: str
    wide: bool


def read(
    source: Source,
    reading: Reading | None = None,
    *,
    id: str | Sequence[str] | None = "auto",
    time: str | Sequence[str] | None = "auto",
    channels: Sequence[str] | None = None,
    step: str | None = None,
    zone: str | None = None,
    resample: str | None = None,
    derive: Mapping[str, str] | None = None,
) -> Panel:
    """A Panel from a .csv, .tsv, .txt, .parquet or .tsf file (packed or not), a list of files, a pandas, polars or arrow frame, a dict
    of arrays, or the folder of M5 (`read_m5`). `unique_id, ds, y` and their usual synonyms are found. Rows come in any order; missing steps are NaN.

    The keywords are the options most used; `Reading` explains them and has the rest.
    """
    given: dict[str, object] = {"id": id, "time": time, "channels": channels, "step": step, "zone": zone, "resample": resample}
    given |= {"derive": derive} if derive else {}
    return draft(source, combined(reading, given), Log()).panel


def draft(source: Source, reading: Reading, log: Log) -> Draft:
    """What `read` and `check` share: with a strict log the first problem is raised, with another it is noted."""
    folder = m5_folder(source)
    if folder is not None:
        return Draft(_kept(derived(read_m5(folder, reading.hierarchy, sales=reading.sales), reading.derive), reading), folder.name, "utf-8", True)
    table = open_table(source, reading.encoding, log)
    if reading.step is None and table.step is not None and reading.resample is None:
        reading = reading.model_copy(update={"step": table.step})
    steps = find_steps(table, reading)
    if steps is not None and reading.resample is None:
        panel = from_wide(table, steps, reading, log)
    elif steps is not None:
        raise TaskError(f'resample="{reading.resample}" needs a long file, one row a series and step; this one has a column a step')
    else:
        rows = rows_of(table, reading, log)
        if reading.resample:
            rows = resampled(rows, reading.resample, reading.how, log)
        panel = laid_out(rows, reading.resample or reading.step, reading.dtype, log)
    panel = derived(panel, reading.derive)
    return Draft(shared(_kept(panel, reading)), table.name, table.encoding, steps is not None)


def m5_folder(source: object) -> Path | None:
    """The folder, if the source is one that holds M5's calendar."""
    path = Path(source) if isinstance(source, str | Path) else None
    return path if path is not None and path.is_dir() and any((path / f"calendar{ending}").is_file() for ending in ENDINGS) else None


def _kept(panel: Panel, reading: Reading) -> Panel:
    """Only the series and channels asked for, and those made by `derive`."""
    panel = panel if reading.series is None else panel.pick(*reading.series)
    if reading.channels is None:
        return panel
    wanted = [*reading.channels, *(n for n in reading.derive if n not in reading.channels and n in panel.channels)]
    for name in wanted:
        if name not in panel.channels:
            raise TaskError(f'channels= names "{name}"; {nearest(name, panel.channels)}')
    keep = [n for n in panel.channels if n in wanted or any(r.argument == n for r in panel.calendar)]
    return replace(panel, values=panel.values[..., [panel.channels.index(n) for n in keep]], channels=tuple(keep))


def shared(panel: Panel) -> Panel:
    """What is the same for all series at each time (weather of one place, events) is held once.

    A channel moves if no two series ever differ in it, and two or more have it at half of its times; one at least stays.
    """
    if len(panel) < 2 or len(panel.own) < 2:
        return panel
    found = {at: once for at in range(len(panel.own)) if (once := _once(panel, at)) is not None}
    if len(found) == len(panel.own):
        return panel
    keep = [at for at in range(len(panel.own)) if at not in found]
    if not found:
        return panel
    names = [panel.own[at] for at in (*keep, *found)]
    return replace(panel, values=panel.values[..., keep].contiguous(), shared=torch.stack(list(found.values()), 1), channels=tuple(names))


def _once(panel: Panel, at: int) -> Tensor | None:
    """The channel's one value a clock step, NaN where no series has it; None if series differ."""
    if len(panel) > PEEK and _common(panel.values[:PEEK, :, at], panel.start[:PEEK]) is None:
        return None
    return _common(panel.values[..., at], panel.start)


def _common(values: Tensor, start: Tensor) -> Tensor | None:
    size = int(start.max()) + values.shape[1]
    if size > values.numel():
        return None  # series of far apart times: one column for the whole clock would be longer than all of them
    seen = values.isfinite()
    place = (start[:, None] + torch.arange(values.shape[1])).clamp(max=size - 1)[seen]
    flat = values[seen]
    low = torch.full((size,), torch.inf, dtype=values.dtype).scatter_reduce(0, place, flat, "amin")
    high = torch.full((size,), -torch.inf, dtype=values.dtype).scatter_reduce(0, place, flat, "amax")
    count = torch.bincount(place, minlength=size)
    if (low < high).any() or 2 * int((count > 1).sum()) < int((count > 0).sum()) or not count.any():
        return None
    return torch.where(count > 0, low, torch.nan)
