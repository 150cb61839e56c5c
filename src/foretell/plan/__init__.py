"""Plan: what-if, response curves, promotions, the budget that pays, and a rule that spends it."""

from .ahead import usual
from .allocation import allocate, judge
from .curves import Curve, response
from .episodes import Simulator
from .fitting import fit_flexible, fit_media, fit_promotion
from .limits import limits, promotion_limits
from .plans import Goal, Plan
from .policy import Policy, learn, replanned
from .promoting import Promotion, promotion
from .rehearsing import rehearse
from .scenarios import WhatIf, what_if

__all__ = [
    "Curve",
    "Goal",
    "Plan",
    "Policy",
    "Promotion",
    "Simulator",
    "WhatIf",
    "allocate",
    "fit_flexible",
    "fit_media",
    "fit_promotion",
    "judge",
    "learn",
    "limits",
    "promotion",
    "promotion_limits",
    "rehearse",
    "replanned",
    "response",
    "usual",
    "what_if",
]
