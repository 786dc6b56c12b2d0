"""Credit: netting sets with their collateral terms, SA-CCR, wrong-way risk, obligations and working orders."""

from seawall.operators.core.credit._credit_book import CreditBook
from seawall.operators.core.credit._obligations import HOUSE, ORDERS_MAX, WorkingOrders
from seawall.operators.core.credit._saccr import exposure_at_default

__all__ = ["HOUSE", "ORDERS_MAX", "CreditBook", "WorkingOrders", "exposure_at_default"]
