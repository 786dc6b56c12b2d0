"""Mitigation: a playbook turns breaches, news and answers into commands; ``plan`` reads first."""

from seawall.operators.core.mitigation.plan import MitigationState

__all__ = ["MitigationState"]
