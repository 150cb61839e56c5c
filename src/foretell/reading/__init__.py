"""From files and frames to a Panel: read, check what was read, derive channels."""

from .checking import Check, check
from .derive import derive
from .m5 import read_m5
from .options import Reading
from .panels import read

__all__ = ["Check", "Reading", "check", "derive", "read", "read_m5"]
