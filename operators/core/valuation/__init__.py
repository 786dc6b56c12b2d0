"""Valuation and margin: deterministic arithmetic, options, margin models, collateral terms, limit scaling."""
