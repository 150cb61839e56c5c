"""example: a real data set that needs no file, from a package the demo extra installs."""

import numpy as np

from .errors import ForetellError
from .panel import Panel, from_array

START = "2000-06-05T00:00"


def example() -> Panel:
    """Half-hourly electricity demand of England and Wales in MW, 12 weeks, 4,032 steps, one series "England and Wales",
    channel "demand" (Taylor 2003, doi:10.1057/palgrave.jors.2601589, as pmdarima carries it).

    The package gives no dates with the values: the clock starts where its documentation says they do, at midnight of
    Monday, 5 June 2000, on local time without a zone. ForetellError if pmdarima is not installed.
    """
    try:
        from pmdarima.datasets import load_taylor
    except ImportError:
        raise ForetellError('the example data come with pmdarima: pip install "foretell[demo]"') from None
    values = np.asarray(load_taylor(), dtype=np.float32)
    return from_array(values, ("demand",), ("England and Wales",), start=START, step="30min")
