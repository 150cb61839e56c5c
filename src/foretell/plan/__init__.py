"""Plan: what-if, response curves, promotions, and the budget that pays."""
