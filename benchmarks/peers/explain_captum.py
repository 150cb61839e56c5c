"""Seconds in which captum's integrated gradients explain all steps of one window, as JSON; run by benchmarks/explanations.py."""

import json
from importlib import metadata

import torch
from captum.attr import IntegratedGradients
from explained import AHEAD, asked, timed


def main() -> None:
    """One target a call, as captum's interface has it, looped over the steps."""
    net, x, base, _ = asked(__doc__)
    how = IntegratedGradients(net)

    def why() -> torch.Tensor:
        return torch.stack([how.attribute(x, base, target=step, n_steps=50) for step in range(AHEAD)], 1)

    print(json.dumps({"seconds": timed(why), "versions": [f"captum {metadata.version('captum')}"]}))


if __name__ == "__main__":
    main()
