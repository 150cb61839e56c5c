"""Seconds of one epoch of foretell's adversarial loop, as JSON; run by benchmarks/tadgan_speed.py."""

import argparse
import json

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
    found = train_gans(net, [normal] * asked.members, training, names=names)
    seconds = float(found.curves.seconds[-1])
    print(json.dumps({"windows": asked.windows * asked.members, "seconds": seconds, "versions": f"foretell {ft.__version__}"}))


if __name__ == "__main__":
    main()
