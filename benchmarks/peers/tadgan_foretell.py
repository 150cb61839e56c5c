"""Seconds of one epoch of foretell's adversarial loop, as JSON; run by benchmarks/tadgan_speed.py."""

import argparse
import json
import time

import torch
from guidebook import run

import foretell as ft
from foretell import Training
from foretell.detect.adversarial import train_gans
from foretell.detect.sampling import Normal
from foretell.nets import TadGAN


def main() -> None:
    """The second epoch of the guidebook's net, for one detector or for several members, all with the same windows."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, required=True)
    parser.add_argument("--members", type=int, default=1)
    asked = parser.parse_args()
    net, _, options = TadGAN.guidebook()
    runs = [torch.from_numpy(run(asked.windows))]
    rows = torch.arange(asked.windows)
    normal = Normal(runs, torch.stack([torch.zeros_like(rows), rows], 1))
    training = Training(**{**options, "epochs": 2})
    names = [f"detector {member}" for member in range(asked.members)]
    busy = list[float]()  # processor time at the end of each epoch
    found = train_gans(net, [normal] * asked.members, training, names=names, watch=lambda progress: busy.append(time.process_time()))
    seconds = float(found.curves.seconds[-1])
    told = {"windows": asked.windows * asked.members, "seconds": seconds, "processor": busy[1] - busy[0], "versions": f"foretell {ft.__version__}"}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
