"""Account behaviour: alerts on accounts that behave unlike themselves, ``step(frame) -> frame`` with alerts added."""

from dataclasses import replace
from math import isfinite
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from seawall.operators.core.base import NO_ACCOUNTS, AccountActivity, ExternalEvent, Frame, MeasureTable, pack, unpack
from seawall.operators.core.detection import _account_features as cr
from seawall.schemas.measures import ACCOUNT
from seawall.schemas.records import Record

# Alerts on account behaviour: the score, each feature's share of it, and why in one sentence.

ALERT_KIND = "unusual_conduct"
ALERT_SEVERITY = 2
SHARE_MIN = 0.15  # a contribution below it is not worth a clause


def behaviour_alert(frame: Frame, name: str, row: list[float], squares: list[float], window_s: float) -> bytes:
    """Return the value of an alert.

    Parameters
    ----------
    frame
        The slice in which the account rang.
    name, row
        The account, and its numbers after it was judged.
    squares
        What each feature adds to the sum that is scored.
    window_s
        The window of the sums.
    """
    total = 0.0
    for square in squares:
        total += square
    score = total / (total + cr.HALF)
    shares = {feature: square / total for feature, square in zip(cr.FEATURES, squares, strict=True) if square > 0.0}
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    said = [feature_clause(feature, row, frame.as_of_us, share) for feature, share in ranked if share >= SHARE_MIN]
    value = {
        "shard": frame.partition,
        "seq": frame.seq,
        "as_of_us": frame.as_of_us,
        "kind": ALERT_KIND,
        "scope": f"account:{name}",
        "score": score,
        "severity": ALERT_SEVERITY,
        "text": f"{name} behaves unlike itself (score {score:.2f}, window {window_s} s): {'; '.join(said)}",
        "contributions": shares,
    }
    return orjson.dumps(value)


def feature_clause(feature: str, row: list[float], now_us: int, share: float) -> str:
    """Say what was seen of one feature and what is usual."""
    at = cr.FEATURES.index(feature)
    usual = row[cr.MEAN + at]
    if at == cr.DELAY:
        said = f"collateral is {(now_us - row[cr.SINCE]) / 1e6:.0f} s overdue, usually {usual:.0f} s"
    else:
        seen = row[cr.SUM + at]
        said = {
            "exposure_velocity": f"gross notional grew by {seen:.2f} times the account, usually {usual:.2f}",
            "utilisation_jump": f"the margin ratio rose by {seen:.3f}, usually {usual:.3f}",
            "fill_rate": f"{seen:.0f} fills, usually {usual:.1f}",
            "cancel_rate": f"{seen:.0f} cancelled orders, usually {usual:.1f}",
            "concentration_change": f"concentration rose by {seen:.2f}, usually {usual:.2f}",
        }[feature]
    return f"{said} ({share:.0%} of the score)"


# Account behaviour: which account behaves unlike itself.
#
# Every account that a slice touches is compared with what is usual for this very account, feature by feature
# (`judge_account`); an account that owes collateral under a margin call is looked at once a second, too, since its
# silence is the sign. An account is *warming* until it was touched ``warm_up`` times: it learns and says nothing. A
# score of at least ``level`` in ``persistence`` looks in a row is an alert of the kind ``unusual_conduct``, at most one
# per account and ``refractory_s``.
#
# Alerts stand on the topic ``alerts`` behind those of the exposure operator: ids and counts go on from theirs, so their
# counts are written anew here. News goes with them, so that playbook rules fire, in the shard and once a second for
# what spans shards.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

SCHEMA = "conduct/1"
MANY_MIN = 12  # accounts from which arrays are faster than a loop
CALLS_MAX = 10_000  # open margin calls remembered per shard; the oldest go first
EQUITY, GROSS, RATIO = (ACCOUNT.index(name) for name in ("equity", "gross_notional", "margin_ratio"))


class AccountBehaviourState:
    """The watch over one shard's accounts: ``step(frame) -> frame``, with its alerts added.

    Parameters
    ----------
    partition
        The shard, also the partition of its alerts. Thresholds come with the journal's configuration.
    """

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self._settings: dict[str, Any] = {"enabled": False}
        self._rows: F8 = np.zeros((0, cr.WIDTH))  # a row lies together: a slice touches a part of them
        self._owes = False  # whether any account did when it was last looked at
        self._filled: I8 = NO_ACCOUNTS  # what slices brought that do not decide yet
        self._ended: list[int] = []
        self._touched: list[int] = []
        self._calls: dict[str, list[int]] = {}  # open margin calls: counterparty, since when
        self._before = 0  # alerts of the exposure operator so far
        self._written = 0  # alerts written here so far
        self._second_news: list[list[str]] = []

    def step(self, frame: Frame) -> Frame:
        """Judge the accounts of one frame."""
        if frame.configuration is not None:
            self._configure(frame.configuration.get("conduct"))
        alerts = self._alerts(frame) if self._settings["enabled"] and frame.activity is not None else []
        standing = frame.records.get("alerts", [])
        if standing:
            self._before = standing[-1].n + 1
        if alerts or (standing and self._written):
            frame = self._with(frame, standing, alerts)
        if frame.summary is not None and self._second_news:
            news = [*frame.summary.news, *(ExternalEvent(*item) for item in self._second_news)]
            frame, self._second_news = replace(frame, summary=msgspec.structs.replace(frame.summary, news=news)), []
        return frame

    def _configure(self, settings: dict[str, Any] | None) -> None:
        """Take settings; a journal without them is older than the watch."""
        self._settings = settings or {"enabled": False}
        if self._settings["enabled"]:
            self._rule = cr.BehaviourRule(
                level=float(self._settings["level"]),
                persistence=float(self._settings["persistence"]),
                refractory_us=float(self._settings["refractory_s"]) * 1e6,
                warm_up=float(self._settings["warm_up"]),
                window_us=float(self._settings["window_s"]) * 1e6,
            )

    # --- judging ------------------------------------------------------------------------------------------------------

    def _alerts(self, frame: Frame) -> list[tuple[str, bytes]]:
        """Return scope and value of the alerts of one frame."""
        activity = frame.activity
        assert activity is not None
        for call in activity.calls:
            self._take_call(call.obligation, call.counterparty, call.since_us, call.open)
        if len(self._filled) or self._touched or not frame.decides:
            activity = self._together(activity)
        if not frame.decides:
            self._filled, self._ended, self._touched = activity.filled, activity.ended, activity.touched
            return []
        self._filled, self._ended, self._touched = NO_ACCOUNTS, [], []
        table = frame.tables["account"]
        self._grow(table.values.shape[1])
        if activity.concentration is not None:
            self._rows[: len(activity.concentration), cr.NOW] = activity.concentration
        busy = len(activity.filled) + len(activity.touched)
        if self._calls or self._owes:
            return self._many(frame, table, activity, self._owing(activity)) if busy or frame.second else []
        if busy >= MANY_MIN:
            return self._many(frame, table, activity, None)
        return self._few(frame, table, activity) if busy else []

    def _together(self, activity: AccountActivity) -> AccountActivity:
        """Return the activity of this slice and of those before that did not decide."""
        return activity._replace(
            filled=np.concatenate([self._filled, activity.filled]),
            ended=self._ended + activity.ended,
            touched=self._touched + activity.touched,
        )

    def _take_call(self, obligation: str, counterparty: int, since_us: int, is_open: bool) -> None:
        if not is_open:
            self._calls.pop(obligation, None)
            return
        self._calls[obligation] = [counterparty, since_us]
        if len(self._calls) > CALLS_MAX:
            del self._calls[next(iter(self._calls))]

    def _grow(self, count: int) -> None:
        if len(self._rows) < count:
            grown = np.zeros((count, cr.WIDTH))
            grown[: len(self._rows)] = self._rows
            self._rows = grown

    def _owing(self, activity: AccountActivity) -> F8:
        """Return since when each account owes collateral, 0 where it does not."""
        since: dict[int, int] = {}
        for counterparty, since_us in self._calls.values():
            since[counterparty] = min(since.get(counterparty, since_us), since_us)
        by_party = np.zeros(int(activity.counterparty.max(initial=0)) + 1)
        for counterparty, since_us in since.items():
            if counterparty < len(by_party):
                by_party[counterparty] = since_us
        return by_party[activity.counterparty][: len(self._rows)]

    def _few(self, frame: Frame, table: MeasureTable, activity: AccountActivity) -> list[tuple[str, bytes]]:
        """Judge the touched accounts one by one, in order of number."""
        found = []
        filled = activity.filled.tolist()
        for account in sorted({*filled, *activity.touched}):
            fills = filled.count(account)
            cancels = max(activity.ended.count(account) - fills, 0)
            equity, gross = table.values.item(EQUITY, account), table.values.item(GROSS, account)
            ratio = min(table.values.item(RATIO, account), cr.RATIO_MAX)
            finite = isfinite(equity + gross + ratio)
            given = cr.AccountObservation(finite, equity, gross, ratio, float(fills), float(cancels), 0.0)
            row = self._rows[account].tolist()
            squares, due = cr.judge_account(row, given, float(frame.as_of_us), self._rule)
            self._rows[account] = row
            if due:
                found.append(self._alert(frame, table, account, squares))
        return found

    def _many(
        self, frame: Frame, table: MeasureTable, activity: AccountActivity, owing: F8 | None
    ) -> list[tuple[str, bytes]]:
        """Judge the touched accounts, and at the end of a second those that owe or did, as arrays."""
        count = len(self._rows)
        fills = np.bincount(activity.filled, minlength=count)
        touched = fills > 0
        if activity.touched:
            touched[_numbers(activity.touched)] = True
        looked = touched
        if owing is not None and frame.second:
            looked = touched | (owing > 0.0) | (self._rows[:, cr.SINCE] > 0.0)
        at = looked.nonzero()[0]
        filled = fills[at].astype(np.float64)
        cancels: F8 = np.zeros(len(at))
        if activity.ended:
            ended = np.bincount(_numbers(activity.ended), minlength=count)[at]
            cancels = np.maximum(ended - filled, 0.0)
        equity, gross, ratio = (table.values[measure].take(at) for measure in (EQUITY, GROSS, RATIO))
        ratio = np.minimum(ratio, cr.RATIO_MAX)
        since = np.zeros(len(at)) if owing is None else owing[at]
        rows = np.ascontiguousarray(self._rows.take(at, axis=0).T)
        finite = np.isfinite(equity + gross + ratio)
        if owing is not None:
            finite &= touched[at]
        given = cr.AccountObservations(finite, equity, gross, ratio, filled, cancels, since)
        squares, due = cr.judge_accounts(rows, given, float(frame.as_of_us), self._rule)
        self._rows[at] = rows.T
        if owing is not None:
            self._owes = bool(self._rows[:, cr.SINCE].any())
        ringing = due.nonzero()[0].tolist()
        return [self._alert(frame, table, int(at[place]), squares[:, place].tolist()) for place in ringing]

    # --- telling ------------------------------------------------------------------------------------------------------

    def _alert(self, frame: Frame, table: MeasureTable, account: int, squares: list[float]) -> tuple[str, bytes]:
        name, row = table.names[account], self._rows[account].tolist()
        value = behaviour_alert(frame, name, row, squares, self._settings["window_s"])
        return f"account:{name}", value

    def _with(self, frame: Frame, standing: list[Record], alerts: list[tuple[str, bytes]]) -> Frame:
        """Return the frame with the alerts behind those that stand in it, all counted anew."""
        records = [record._replace(n=record.n + self._written) for record in standing]
        news = list(frame.news)
        for scope, value in alerts:
            record = Record(scope, value, f"{frame.partition}-{frame.seq}-{len(records)}", self._before + self._written)
            records.append(record)
            self._written += 1
            news.append(ExternalEvent("alert", scope, ALERT_KIND, record.id))
            self._second_news.append(list(news[-1]))
        return replace(frame, records={**frame.records, "alerts": records}, news=news)

    # --- state --------------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        state = {
            "partition": self.partition,
            "settings": self._settings,
            "rows": self._rows.copy(),
            "pending": [self._filled, self._ended, self._touched],
            "calls": [[name, *call] for name, call in self._calls.items()],
            "counts": [self._before, self._written],
            "news": self._second_news,
        }
        return pack(SCHEMA, state)

    @classmethod
    def restore(cls, data: bytes) -> "AccountBehaviourState":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SCHEMA, data)
        self = cls(state["partition"])
        self._configure(state["settings"])
        self._rows = state["rows"]
        self._owes = bool(self._rows[:, cr.SINCE].any())
        self._filled, self._ended, self._touched = state["pending"]
        self._calls = {name: [counterparty, since_us] for name, counterparty, since_us in state["calls"]}
        self._before, self._written = state["counts"]
        self._second_news = state["news"]
        return self


def _numbers(accounts: list[int]) -> I8:
    return np.fromiter(accounts, np.int64, len(accounts))
