"""Cascades: what follows from a failure, through claims, prices, liquidations and shared collateral."""
