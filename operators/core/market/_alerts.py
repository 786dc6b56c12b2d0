"""Alert rules of a market group: deterministic rules decide, scores add to them, and no alert repeats itself at once.

Persistence: venues must be apart for ``gap_s``, a price must leave its reference for 15 seconds, several records of a
feed must have gone backwards. Refractory: an instrument's alert of a kind is not repeated for ``refractory_s``.

Kinds, for a playbook's ``when = { alert = "KIND" }``: "circuit_breaker", "price_band", "premium_band", "venue_gap",
"anomaly", "model_drift", "stale_feed", "dead_feed", "feed_back", "time_backwards", "notice".
"""

from seawall.operators.core.detection import Judgement, LookBackBand, PremiumBand, ReferenceBand
from seawall.operators.core.market._instrument import Instrument
from seawall.schemas import events as ev
from seawall.schemas.configuration import MarketTerms

SEVERITY = {
    "circuit_breaker": 3,
    "price_band": 3,
    "premium_band": 2,
    "venue_gap": 2,
    "anomaly": 1,
    "stale_feed": 2,
    "dead_feed": 3,
    "feed_back": 0,
    "model_drift": 1,
    "time_backwards": 1,
}
BACKWARDS_MIN = 3
SHARES_TOLD = 3
SHARE_MIN = 0.15


class InstrumentBreakers:
    """The circuit breakers of one instrument."""

    def __init__(self, terms: MarketTerms) -> None:
        self._look_back = LookBackBand(terms.look_back_fraction)
        self._reference = ReferenceBand(terms.reference_fraction)
        self._premium = PremiumBand()

    def check(self, time_us: int, price: float, index: float) -> list[tuple[str, str]]:
        """Return kind and reason of each rule that a price trips; ``index`` is 0 where there is none."""
        found = [
            ("circuit_breaker", self._look_back.check(time_us, price)),
            ("price_band", self._reference.check(time_us, price)),
            ("premium_band", self._premium.check(time_us, price, index) if index > 0.0 else None),
        ]
        return [(kind, reason) for kind, reason in found if reason is not None]

    def snapshot(self) -> list[list[float]]:
        """Return the state of each rule."""
        return [self._look_back.numbers(), self._reference.numbers(), self._premium.numbers()]

    def restore(self, state: list[list[float]]) -> None:
        """Take over what ``snapshot`` returned."""
        self._look_back.take(state[0])
        self._reference.take(state[1])
        self._premium.take(state[2])


def admit_alert(said: dict[str, int], kind: str, as_of_us: int, refractory_us: int) -> bool:
    """Tell whether an alert of a kind may be given now, and note that it is."""
    last = said.get(kind)
    if last is not None and as_of_us - last < refractory_us:
        return False
    said[kind] = as_of_us
    return True


def notice_alert(record: ev.Notice, scope: str) -> ev.SignalAlert:
    """Return the alert of a notice, whose severity is the notice's own."""
    text = f"{scope.partition(':')[2]}: notice {record.notice_id} of {record.kind}, severity {record.severity}"
    text += f", on {record.subject}" if not scope.endswith(f":{record.subject}") else ""
    text += f": {record.detail}" if record.detail else ""
    return ev.SignalAlert(kind="notice", scope=scope, score=1.0, severity=record.severity, text=text)


def signal_alert(
    kind: str, scope: str, text: str, score: float = 1.0, why: dict[str, float] | None = None
) -> ev.SignalAlert:
    """Return an alert of a kind."""
    return ev.SignalAlert(
        kind=kind, scope=scope, score=score, severity=SEVERITY[kind], text=text, contributions=why or {}
    )


def venue_gap_text(
    instrument: Instrument, fresh: list[ev.SignalVenue], price: float, as_of_us: int, terms: MarketTerms
) -> str | None:
    """Say which venues are further apart than they may be, once that has lasted."""
    if len(fresh) < 2:
        instrument.apart_since_us = 0
        return None
    low, high = min(fresh, key=lambda mark: mark.price), max(fresh, key=lambda mark: mark.price)
    gap_bp = (high.price - low.price) / price * 10_000.0
    if gap_bp <= terms.gap_bp:
        instrument.apart_since_us = 0
        return None
    instrument.apart_since_us = instrument.apart_since_us or as_of_us
    if as_of_us - instrument.apart_since_us < terms.gap_s * 1_000_000:
        return None
    return (
        f"{instrument.name} at {high.venue} {high.price:g} and at {low.venue} {low.price:g} are {gap_bp:.0f} bp apart, "
        f"more than {terms.gap_bp:g}"
    )


def time_backwards_text(instrument: Instrument) -> str | None:
    """Say that a feed's time went backwards, where that is no single late record."""
    if instrument.backwards < BACKWARDS_MIN or 2 * instrument.backwards < instrument.events:
        return None
    return f"time went backwards in {instrument.backwards} of {instrument.events} records of {instrument.name}"


def model_drift_text(instrument: Instrument, models: list[ev.SignalModel]) -> str | None:
    """Say which models of an instrument no longer describe it, of what has just happened to models."""
    mine = (model for model in models if model.instrument == instrument.name and model.event == "drifted")
    families = [model.family for model in mine]
    return f"{instrument.name}: the model of {', '.join(families)} has drifted" if families else None


def anomaly_text(name: str, family: str, judgement: Judgement, features: dict[str, float]) -> str:
    """Say in one sentence what is unusual.

    Examples
    --------
    >>> judgement = Judgement(0.7, True, {"spread_bp": 0.9, "book_imbalance": 0.1})
    >>> anomaly_text("BTC-PERP", "book", judgement, {"spread_bp": 80.0})
    'BTC-PERP: unusual book, score 0.70: spread_bp 80 (90 %)'
    """
    order = sorted(judgement.contributions.items(), key=lambda pair: (-pair[1], pair[0]))[:SHARES_TOLD]
    reported = [
        f"{feature} {features[feature]:.4g} ({100 * share:.0f} %)" for feature, share in order if share >= SHARE_MIN
    ]
    return f"{name}: unusual {family}, score {judgement.value:.2f}: {', '.join(reported) or 'many small deviations'}"
