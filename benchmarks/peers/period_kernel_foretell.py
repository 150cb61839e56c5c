"""Seconds of one epoch of foretell's PeriodKernel, several items side by side, as JSON; run by benchmarks/per_item.py."""

import argparse
import json

import numpy as np
import torch
from item_shared import BATCH, CHANNELS, CONTEXT, KERNELS, made_up

import foretell as ft
from foretell import Task, Training
from foretell.feed import Feed
from foretell.nets import PeriodKernel, Shape
from foretell.nets.bank import Bank
from foretell.nets.period_kernel import presets
from foretell.noise import streams
from foretell.supervised import train
from foretell.task import Source, Span, Split, fit_scaling, roles_of


def main() -> None:
    """The second epoch of the training loop, on windows gathered from the panel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, required=True)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--default", type=int, default=0, help="1: the default configuration, four weeks ahead, instead of the notebook's")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    windows = asked.windows // BATCH * BATCH
    net, options = (PeriodKernel(), {}) if asked.default else presets()["notebook"]
    context, horizon, levels = (56, 28, (0.1, 0.5, 0.9)) if asked.default else (CONTEXT, 1, ())
    names = tuple(str(item) for item in range(asked.items))
    panel = ft.from_array(np.stack([made_up(item, windows + context + horizon - 1) for item in range(asked.items)]), CHANNELS, names, step="D")
    known = CHANNELS[1:] if asked.default else ()
    task = Task(target="y", known=known, context=context, horizon=horizon, levels=levels)
    source = Source(panel, roles_of(task, panel), fit_scaling(panel, task.target, "identity"), context, horizon)
    last = torch.full((len(panel),), panel.values.shape[1] - 1)
    parts = Split(Span(torch.full_like(last, -1), last), Span(last, last), Span(last, last))
    feed = Feed.of(source, parts, len(panel), apart=True)
    shape = Shape(len(panel), context, len(CHANNELS), horizon, len(known), 1, len(levels), 0)
    lengths = torch.tensor([k for k in KERNELS if k <= context][-net.kernels :]).expand(len(panel), -1).clone()
    bank = Bank(lengths, torch.ones(lengths.shape), torch.full((len(panel),), context))
    training = Training.model_validate({**options, "scale": "identity", "epochs": 2, "stop": 0, "calibrate": 0, "device": asked.device})
    done = train(net.build(shape, streams(0, names), bank), feed, training, names=names, levels=levels)
    told = {"items": len(panel), "windows": int(feed.counts[0]), "seconds": float(done.curves.seconds[-1]), "versions": f"foretell {ft.__version__}"}
    print(json.dumps(told | {"weights": sum(w[0].numel() for w in done.weights.values())}))


if __name__ == "__main__":
    main()
