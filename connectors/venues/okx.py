"""OKX's instrument lists (``GET /api/v5/public/instruments``): every kind becomes ``instrument`` records.

Quantities are contracts of ``ctVal`` times ``ctMult``, of the base asset or, for inverse ones, of USD. Options are
quoted and settled in the coin. A list that was fetched again says nothing new and is counted as repeated.
"""

from typing import Any

from seawall.connectors.venues.messages import Unreadable, decimal, listed, milliseconds, product, text
from seawall.connectors.venues.reader import Reader
from seawall.schemas import events as ev

KINDS: dict[str, Any] = {"SPOT": "spot", "SWAP": "perpetual", "FUTURES": "future", "OPTION": "option"}
OPTION_TYPES = {"C": "call", "P": "put"}


class Okx(Reader):
    """Reader of OKX's instrument lists."""

    venue = "okx"
    title = "OKX"

    def handle(self, body: Any) -> None:
        """Take an answer with a list of instruments."""
        if isinstance(body, dict) and "event" in body:
            self.skip(f"control: {str(body['event'])[:40]}")
        elif isinstance(body, dict) and "code" in body:
            if body["code"] not in ("0", 0):
                self.skip(f"control: error {str(body['code'])[:20]}")
            else:
                self.each(listed(body, "data"), self._instrument)
        else:
            self.skip("unknown: message that is no list of instruments")

    def _instrument(self, item: Any) -> None:
        name = text(item, "instType")
        if name not in KINDS:
            self.skip(f"instrument: type {name[:40]} that no record of the contract describes")
            return
        kind = KINDS[name]
        terms = self._spot(item) if kind == "spot" else self._contract(item, kind)
        self.describe(
            ev.Instrument(
                instrument=self.instrument(text(item, "instId")),
                kind=kind,
                quantity_increment=decimal(item, "lotSz"),
                status="closed" if item.get("state") == "expired" else "active",
                **terms,
            )
        )

    def _spot(self, item: Any) -> dict[str, Any]:
        quote = text(item, "quoteCcy")
        return {"base": text(item, "baseCcy"), "quote": quote, "settlement": quote}

    def _contract(self, item: Any, kind: str) -> dict[str, Any]:
        base, dash, quote = text(item, "uly").partition("-")
        if not dash or not base or not quote:
            raise Unreadable("uly is no pair of assets")
        settlement = text(item, "settleCcy")
        terms: dict[str, Any] = {"base": base, "quote": quote, "settlement": settlement}
        terms["contract_size"] = product(decimal(item, "ctVal"), decimal(item, "ctMult"))
        if kind == "option":
            if item.get("optType") not in OPTION_TYPES:
                raise Unreadable("optType is neither C nor P")
            terms |= {"quote": settlement, "strike": decimal(item, "stk"), "option_type": OPTION_TYPES[item["optType"]]}
        elif item.get("ctType") not in ("linear", "inverse"):
            raise Unreadable("ctType is neither linear nor inverse")
        else:
            terms["inverse"] = item["ctType"] == "inverse"
        if kind in ("future", "option"):
            terms["expiry_us"] = milliseconds(item, "expTime")
        return terms
