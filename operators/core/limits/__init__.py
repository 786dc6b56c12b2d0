"""Limits: the policy in force, its bounds as markets move, and the levels that measures have reached."""

from seawall.operators.core.limits._rules import LEVELS, Policy
from seawall.operators.core.limits._state import LimitsState, LimitStatus, limit_statuses, peak_utilisations

__all__ = ["LEVELS", "LimitStatus", "LimitsState", "Policy", "limit_statuses", "peak_utilisations"]
