"""Seconds in which foretell explains all steps of one window, as JSON; run by benchmarks/explanations.py."""

import json

from explained import asked, timed

from foretell.attribution.deeplift import deeplift
from foretell.attribution.gradients import integrated_gradients
from foretell.attribution.types import Attribution, baseline


def main() -> None:
    """By the engine, or by integrated gradients with 50 nodes."""
    net, x, base, method = asked(__doc__)

    def why() -> Attribution:
        if method == "engine":
            return deeplift(lambda blocks: net(blocks["x"]), {"x": x}, baseline({"x": base}))
        return integrated_gradients(lambda blocks: net(blocks["x"]), {"x": x}, baseline({"x": base}), nodes=50)

    print(json.dumps({"seconds": timed(why), "residual": why().gap, "versions": []}))


if __name__ == "__main__":
    main()
