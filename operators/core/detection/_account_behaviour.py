"""Account behaviour: alerts on accounts that behave unlike themselves, added to what was measured of a slice."""

from math import isfinite
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import (
    NO_ACCOUNTS,
    AccountActivity,
    ExternalEvent,
    MeasuredSlice,
    Measures,
    MeasureTable,
    Moment,
    int_array,
    pack,
    unpack,
)
from seawall.operators.core.detection import _account_features as cr
from seawall.schemas.measures import ACCOUNT
from seawall.schemas.records import Record

# Account behaviour: which account behaves unlike itself.
#
# Every account that a slice touches is compared with what is usual for this very account, feature by feature
# (`judge_account`, of many `judge_accounts`); an account that owes collateral under a margin call is looked at once a
# second, too, since its silence is the sign. An account is *warming* until it was touched ``warm_up`` times: it learns
# and says nothing. A score of at least ``level`` in ``persistence`` looks in a row is an alert of the kind
# ``unusual_conduct``, at most one per account and ``refractory_s``.
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
    """The watch over one shard's accounts: ``step(measured) -> MeasuredSlice``, with its alerts added.

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

    def step(self, measured: MeasuredSlice) -> MeasuredSlice:
        """Judge the accounts of one slice."""
        configuration, activity = measured.events.configuration, measured.events.activity
        if configuration is not None:
            self._configure(configuration.get("conduct"))
        alerts: list[tuple[str, bytes]] = []
        if activity is not None and self._settings["enabled"]:
            alerts = self._alerts(measured.measures, activity)
        standing = measured.outputs.records.get("alerts", [])
        if standing:
            self._before = standing[-1].n + 1
        if alerts or (standing and self._written):
            measured = self._with(measured, standing, alerts)
        if measured.summary is not None and self._second_news:
            news = [*measured.summary.news, *(ExternalEvent(*item) for item in self._second_news)]
            measured = measured._replace(summary=msgspec.structs.replace(measured.summary, news=news))
            self._second_news = []
        return measured

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

    def begin_after(self, alerts: int) -> None:
        """Go on after so many alerts of the partition, whoever wrote them."""
        self._before, self._written = alerts, 0

    # --- judging ------------------------------------------------------------------------------------------------------

    def _alerts(self, measures: Measures, activity: AccountActivity) -> list[tuple[str, bytes]]:
        """Return scope and value of the alerts of one slice."""
        moment = measures.moment
        for call in activity.calls:
            self._take_call(call.obligation, call.counterparty, call.since_us, call.open)
        if len(self._filled) or self._touched or not moment.decides:
            activity = self._together(activity)
        if not moment.decides:
            self._filled, self._ended, self._touched = activity.filled, activity.ended, activity.touched
            return []
        self._filled, self._ended, self._touched = NO_ACCOUNTS, [], []
        table = measures.tables["account"]
        if len(self._rows) < table.values.shape[1]:
            self._grow(table.values.shape[1])
        if activity.concentration is not None:
            self._rows[: len(activity.concentration), cr.NOW] = activity.concentration
        busy = len(activity.filled) + len(activity.touched)
        if self._calls or self._owes:
            return self._many(moment, table, activity, self._owing(activity)) if busy or moment.second else []
        if busy >= MANY_MIN:
            return self._many(moment, table, activity, None)
        return self._few(moment, table, activity) if busy else []

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

    def _few(self, moment: Moment, table: MeasureTable, activity: AccountActivity) -> list[tuple[str, bytes]]:
        """Judge the touched accounts one by one, in order of number."""
        found = []
        filled = activity.filled.tolist()
        for account in sorted({*filled, *activity.touched}):
            fills = filled.count(account)
            cancels = max(activity.ended.count(account) - fills, 0)
            equity, gross = table.values.item(EQUITY, account), table.values.item(GROSS, account)
            ratio = min(table.values.item(RATIO, account), cr.RATIO_MAX)
            finite = isfinite(equity + gross + ratio)
            given = cr.AccountObservations(finite, equity, gross, ratio, float(fills), float(cancels), 0.0)
            row = self._rows[account].tolist()
            squares, due = judge_account(row, given, float(moment.as_of_us), self._rule)
            self._rows[account] = row
            if due:
                found.append(self._alert(moment, table, account, squares))
        return found

    def _many(
        self, moment: Moment, table: MeasureTable, activity: AccountActivity, owing: F8 | None
    ) -> list[tuple[str, bytes]]:
        """Judge the touched accounts, and at the end of a second those that owe or did, as arrays."""
        count = len(self._rows)
        fills = np.bincount(activity.filled, minlength=count)
        touched = fills > 0
        if activity.touched:
            touched[int_array(activity.touched)] = True
        looked = touched
        if owing is not None and moment.second:
            looked = touched | (owing > 0.0) | (self._rows[:, cr.SINCE] > 0.0)
        at = looked.nonzero()[0]
        filled = fills[at].astype(np.float64)
        cancels: F8 = np.zeros(len(at))
        if activity.ended:
            ended = np.bincount(int_array(activity.ended), minlength=count)[at]
            cancels = np.maximum(ended - filled, 0.0)
        equity, gross, ratio = (table.values[measure].take(at) for measure in (EQUITY, GROSS, RATIO))
        ratio = np.minimum(ratio, cr.RATIO_MAX)
        since = np.zeros(len(at)) if owing is None else owing[at]
        rows = np.ascontiguousarray(self._rows.take(at, axis=0).T)
        finite = np.isfinite(equity + gross + ratio)
        if owing is not None:
            finite &= touched[at]
        given = cr.AccountObservations(finite, equity, gross, ratio, filled, cancels, since)
        squares, due = cr.judge_accounts(rows, given, float(moment.as_of_us), self._rule)
        self._rows[at] = rows.T
        if owing is not None:
            self._owes = bool(self._rows[:, cr.SINCE].any())
        ringing = due.nonzero()[0].tolist()
        return [self._alert(moment, table, int(at[place]), squares[:, place].tolist()) for place in ringing]

    # --- telling ------------------------------------------------------------------------------------------------------

    def _alert(self, moment: Moment, table: MeasureTable, account: int, squares: list[float]) -> tuple[str, bytes]:
        name, row = table.names[account], self._rows[account].tolist()
        value = cr.behaviour_alert(moment, name, row, squares, self._settings["window_s"])
        return f"account:{name}", value

    def _with(self, measured: MeasuredSlice, standing: list[Record], alerts: list[tuple[str, bytes]]) -> MeasuredSlice:
        """Return the slice with the alerts behind those that stand in it, all counted anew."""
        moment, outputs = measured.measures.moment, measured.outputs
        records = [record._replace(n=record.n + self._written) for record in standing]
        external = list(measured.events.external)
        for scope, value in alerts:
            record = Record(
                scope, value, f"{moment.partition}-{moment.seq}-{len(records)}", self._before + self._written
            )
            records.append(record)
            self._written += 1
            external.append(ExternalEvent("alert", scope, cr.ALERT_KIND, record.id))
            self._second_news.append(list(external[-1]))
        return measured._replace(
            events=measured.events._replace(external=external),
            outputs=outputs._replace(records={**outputs.records, "alerts": records}),
        )

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


def judge_account(
    row: list[float], given: cr.AccountObservations, now_us: float, rule: cr.BehaviourRule
) -> tuple[list[float], bool]:
    """Judge one account and learn from it, in its row; return its squares by feature and whether it rings."""
    squares = [0.0] * len(cr.FEATURES)
    if given.touched:
        known, warm = row[cr.COUNT] > 0.0, row[cr.COUNT] >= rule.warm_up
        growth = (given.gross - row[cr.GROSS]) / max(given.equity, row[cr.GROSS], 1.0) if known else 0.0
        rise = given.ratio - row[cr.RATIO] if known else 0.0
        spread = row[cr.NOW] - row[cr.SEEN] if known else 0.0
        keep = rule.window_us / (rule.window_us + (now_us - row[cr.LAST]))
        row[cr.COUNT] += 1.0
        rate = max(1.0 / row[cr.COUNT], cr.LEARN_RATE)
        for feature, move in enumerate((growth, rise, given.fills, given.cancels, spread)):
            row[cr.SUM + feature] = value = row[cr.SUM + feature] * keep + move
            gap, variance = value - row[cr.MEAN + feature], row[cr.VARIANCE + feature]
            square, weight = gap * gap / max(variance, cr.FLOORS[feature]), rate
            if warm and gap > 0.0:  # less than usual is never unusual
                squares[feature] = min(square, cr.SQUARE_MAX)
            if warm and square > cr.ORDINARY:
                weight = rate * (cr.ORDINARY / square)
            row[cr.MEAN + feature] += weight * gap
            row[cr.VARIANCE + feature] = (1.0 - weight) * (variance + weight * (gap * gap))
        row[cr.LAST], row[cr.GROSS], row[cr.RATIO], row[cr.SEEN] = now_us, given.gross, given.ratio, row[cr.NOW]
    if given.since_us > 0.0 or row[cr.SINCE] > 0.0:
        squares[cr.DELAY] = _judge_delay(row, given.since_us, now_us)
    total = 0.0
    for square in squares:
        total += square
    row[cr.RUN] = row[cr.RUN] + 1.0 if total / (total + cr.HALF) >= rule.level else 0.0
    due = row[cr.RUN] >= rule.persistence and now_us >= row[cr.QUIET]
    if due:
        row[cr.QUIET] = now_us + rule.refractory_us
    return squares, due


def _judge_delay(row: list[float], since_us: float, now_us: float) -> float:
    """Return how unusual it is that an account owes for so long; learn from one that has just delivered."""
    owing, mean, variance = since_us > 0.0, row[cr.MEAN + cr.DELAY], row[cr.VARIANCE + cr.DELAY]
    gap = max((now_us - (since_us if owing else row[cr.SINCE])) / 1e6, 0.0) - mean
    square = gap * gap / max(variance, cr.FLOORS[cr.DELAY])
    row[cr.SINCE] = since_us if owing else 0.0
    if owing:
        return min(square, cr.SQUARE_MAX) if gap > 0.0 else 0.0
    row[cr.LATE] += 1.0
    weight = max(1.0 / row[cr.LATE], cr.LEARN_RATE)
    if row[cr.LATE] > 1.0 and square > cr.ORDINARY:
        weight = weight * (cr.ORDINARY / square)
    row[cr.MEAN + cr.DELAY] += weight * gap
    row[cr.VARIANCE + cr.DELAY] = (1.0 - weight) * (variance + weight * (gap * gap))
    return 0.0
