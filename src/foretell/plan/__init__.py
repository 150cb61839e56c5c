"""Plan: what-if, response curves, promotions, and the budget that pays."""

from .allocation import allocate
from .curves import Curve, response
from .plans import Goal, Plan
from .scenarios import WhatIf, what_if

__all__ = ["Curve", "Goal", "Plan", "WhatIf", "allocate", "response", "what_if"]
