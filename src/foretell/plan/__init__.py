"""Plan: what-if, response curves, promotions, and the budget that pays."""

from .ahead import usual
from .allocation import allocate, judge
from .curves import Curve, response
from .fitting import fit_flexible, fit_media, fit_promotion
from .limits import limits, promotion_limits
from .plans import Goal, Plan
from .promoting import Promotion, promotion
from .rehearsing import rehearse
from .scenarios import WhatIf, what_if

__all__ = [
    "Curve",
    "Goal",
    "Plan",
    "Promotion",
    "WhatIf",
    "allocate",
    "fit_flexible",
    "fit_media",
    "fit_promotion",
    "judge",
    "limits",
    "promotion",
    "promotion_limits",
    "rehearse",
    "response",
    "usual",
    "what_if",
]
