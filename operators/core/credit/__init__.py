"""Credit: netting sets with their collateral terms, SA-CCR, wrong-way risk and obligations."""

from seawall.operators.core.credit._collateral_terms import HOUSE
from seawall.operators.core.credit._credit_book import CreditBook
from seawall.operators.core.credit._saccr import exposure_at_default

__all__ = ["HOUSE", "CreditBook", "exposure_at_default"]
