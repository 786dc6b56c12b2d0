"""The models of one level and horizon: champion and challengers over the same accounts, and the outcomes they wait for.

Five models stand for every forecast:

- ``structural``: the distance of passage alone, calibrated;
- ``ratio``: the margin ratio alone through the same calibration;
- ``full``: the distance with concentration, margin trend, deposits, order rate and earlier breaches;
- ``pool``: the mean of the log-odds of the three. A pool errs less than its members where they err differently (Genest
  and Zidek 1986, the logarithmic opinion pool);
- ``record``: the pool times the account's own record (``record``), where the champion begins.

A forecast that was made at t waits until t + horizon is past; only then is it scored and learned from.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import Columns
from seawall.operators.core.foresight.calibration import Logistic, probability
from seawall.operators.core.foresight.record import Record
from seawall.operators.core.foresight.scores import BOUNDS, Scores

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
TERMS: Final = ("constant", "distance", "concentration", "margin_trend", "deposits", "order_rate", "earlier_breaches")
RATIO_TERM: Final = len(TERMS)
MODELS: Final = ("structural", "ratio", "full", "pool", "record")
INTERCEPT: Final = -1.2  # log-odds of first passage one deviation away (t(4): 0.23)
SLOPE: Final = 1.5  # per e-fold of the distance: what t(4) has near it, less than it has far off, where books change
PRECISION: Final = 4.0
EVERY_S: Final = 3600.0  # between two looks at one account
SAMPLE_MAX: Final = 256  # forecasts kept per hour and level to learn from
REASONS: Final = 3


class Layout(NamedTuple):
    """Names of the terms, the constant first, and of the models; which terms each member uses, with its prior.

    Behind the members stand their pool and the pool with its record; the last member tells why.
    """

    terms: tuple[str, ...]
    names: tuple[str, ...]
    used: tuple[list[int], ...]
    priors: tuple[tuple[float, ...], ...]


ACCOUNTS: Final = Layout(
    (*TERMS, "margin_ratio"),
    MODELS,
    ([0, 1], [0, RATIO_TERM], list(range(len(TERMS)))),
    ((INTERCEPT, SLOPE), (0.0, 1.0), (INTERCEPT, SLOPE, 0.0, 0.0, 0.0, 0.0, 0.0)),
)


class Models:
    """Forecasts of one level within one horizon."""

    def __init__(self, horizon_s: int, layout: Layout = ACCOUNTS) -> None:
        self.horizon_s, self.horizon_us = horizon_s, horizon_s * 1_000_000
        self.layout = layout
        self.weight = min(1.0, EVERY_S / horizon_s)
        self.members = [Logistic(prior, PRECISION) for prior in layout.priors]
        self.scores = Scores(len(layout.names), len(layout.names) - 1)
        self.record = Record()
        names = [*(f"t{at}" for at in range(len(layout.terms))), *(f"p{at}" for at in range(len(layout.names)))]
        names.append("weight")
        self.pending = Columns({"account": "i8", "made_us": "i8"} | dict.fromkeys(names, "f8"))
        self._names = names

    def forecast(self, terms: F8, accounts: I8) -> F8:
        """Return the probabilities of all models, shape (models, accounts)."""
        odds = [member.log_odds(terms[used]) for member, used in zip(self.members, self.layout.used, strict=True)]
        pooled = np.zeros(terms.shape[1])
        for one in odds:
            pooled += one
        pooled /= len(odds)
        return probability(np.stack([*odds, pooled, pooled + self.record.log_odds(accounts)]))

    def expect(self, accounts: I8, said: F8, as_of_us: int) -> None:
        """Note what is forecast of all accounts, shape (models, accounts): their record is held against it."""
        self.record.expect(accounts, said[-2] / self.horizon_s, as_of_us)

    def contributions(self, terms: F8, accounts: I8) -> F8:
        """Return what each term of the full model adds to the log-odds, the record last: (terms + 1, accounts)."""
        own = self.members[-1].weights[:, None] * terms[self.layout.used[-1]]
        return np.concatenate([own, self.record.log_odds(accounts)[None]])

    @property
    def state(self) -> str:
        """Return ``warming``, ``ready``, or ``lost`` where the champion has come apart from what happens."""
        if not self.scores.ready:
            return "warming"
        return "lost" if bool(self.scores.lost()[self.scores.champion]) else "ready"

    def wait(self, accounts: I8, as_of_us: int, terms: F8, said: F8, weights: F8) -> None:
        """Remember forecasts until their outcome is known; ``weights`` undo the choice of accounts."""
        values = dict(zip(self._names, [*terms, *said, weights], strict=True))
        self.pending.append(len(accounts), account=accounts, made_us=as_of_us, **values)

    def resolve(self, before_us: int, crossed_us: I8) -> bool:
        """Score and learn from forecasts whose horizon ended before a time; return whether the champion changed.

        Parameters
        ----------
        crossed_us
            By account: when it last crossed the level, 0 never.
        """
        rows = self.pending
        if not rows.size or rows["made_us"].item(0) + self.horizon_us >= before_us:
            return False
        due = rows["made_us"] + self.horizon_us < before_us
        known = {name: rows[name][due] for name in ("account", "made_us", *self._names)}
        rows.keep(~due)
        outcomes = (crossed_us[known["account"]] > known["made_us"]).astype(np.float64)
        terms = np.stack([known[f"t{at}"] for at in range(len(self.layout.terms))])
        weights = self.weight * known["weight"]
        changed = self.scores.learn(
            np.stack([known[f"p{at}"] for at in range(len(self.layout.names))]), outcomes, weights
        )
        for member, used in zip(self.members, self.layout.used, strict=True):
            member.learn(terms[used], outcomes, weights)
        return changed

    def row(self, measure: str, level: str) -> dict[str, Any]:
        """Return how good forecasts have been, as it is published."""
        scores = self.scores
        figures = zip(
            self.layout.names, scores.log_loss().tolist(), scores.brier().tolist(), scores.lost(), strict=True
        )
        return {
            "measure": measure,
            "level": level,
            "horizon_s": self.horizon_s,
            "state": self.state,
            "champion": self.layout.names[scores.champion],
            "outcomes": int(scores.count),
            "breaches": int(scores.hits),
            "models": {n: {"log_loss": a, "brier": b, "lost": bool(c)} for n, a, b, c in figures},
            "bounds": list(BOUNDS),
            "table": scores.tables[scores.champion].tolist(),
        }

    def snapshot(self) -> list[Any]:
        """Return the state as arrays."""
        members = [member.snapshot() for member in self.members]
        return [members, self.scores.snapshot(), self.pending.snapshot(), self.record.snapshot()]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        for member, one in zip(self.members, state[0], strict=True):
            member.restore(one)
        self.scores.restore(state[1])
        self.pending.restore(state[2])
        self.record.restore(state[3])


def sampled(said: F8) -> tuple[I8, F8]:
    """Return the forecasts to keep, and how many each stands for.

    All, or the most endangered half of a bounded number and some of the others.
    """
    count = len(said)
    if count <= SAMPLE_MAX:
        return np.arange(count), np.ones(count)
    order = np.argsort(-said, kind="stable")
    top, rest = order[: SAMPLE_MAX // 2], np.sort(order[SAMPLE_MAX // 2 :])
    some = rest[:: -(-len(rest) // (SAMPLE_MAX // 2))]
    weights = np.append(np.ones(len(top)), np.full(len(some), len(rest) / len(some)))
    return np.append(top, some), weights


def reasons(layout: Layout, added: F8) -> list[dict[str, float]]:
    """Return by column of ``added`` the terms that move the log-odds most, largest first; the constant is none."""
    names = [*(layout.terms[at] for at in layout.used[-1]), "own_record"][1:]
    by_name = sorted(range(len(names)), key=names.__getitem__)  # of terms that move alike the first by name
    labels, rows = [names[at] for at in by_name], added[1:][by_name]
    order = np.argsort(-np.abs(rows), axis=0, kind="stable")[:REASONS]
    largest = np.take_along_axis(rows, order, axis=0)
    return [
        {labels[at]: value for at, value in zip(*pair, strict=True)}
        for pair in zip(order.T.tolist(), largest.T.tolist(), strict=True)
    ]
