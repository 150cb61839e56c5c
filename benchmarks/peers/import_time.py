"""Seconds to import torch, and then one package on top of it, as JSON; run by benchmarks/latency.py in each environment."""

import argparse
import importlib
import json
import time

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--package", required=True)
package = parser.parse_args().package
times = [time.perf_counter()]
for name in ("torch", package):
    importlib.import_module(name)
    times.append(time.perf_counter())
print(json.dumps({"torch": times[1] - times[0], "package": times[2] - times[1]}))
