"""Foresight: what is about to break, as probabilities that are scored when their outcome is known (decision 0011)."""
