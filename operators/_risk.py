"""Operators that measure risk: ``aggregate_exposure`` with the steps inside it, and ``enforce_limits``.

``aggregate_exposure`` turns slices of the journal into measures, events and outputs, one item per slice and one per
second. The watch over accounts and the forecasts are steps inside it; ``enforce_limits`` adds breaches to each item.
"""

import hashlib

import bytewax.operators as op
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream

from seawall.operators.core.base import MeasuredSlice, ShardSummary
from seawall.operators.core.detection import AccountBehaviourState
from seawall.operators.core.forecasts import FirmForecastState, ForecastState
from seawall.operators.core.limits import LimitsState, peak_utilisations
from seawall.operators.core.portfolio import FIRM_KEY, ExposureState, FirmState
from seawall.operators.stateful import keep_state, single_output
from seawall.schemas.records import decode_slice

# ``watch_counterparties``: measured slices in, the same with alerts of accounts that behave unlike themselves out.


@operator
def watch_counterparties(step_id: str, up: KeyedStream[MeasuredSlice]) -> KeyedStream[MeasuredSlice]:
    """Compare what every touched account does with what is usual for it; alert where it differs and why.

    ``aggregate_exposure`` has this step inside, between a shard's slices and the sums across shards: what it finds must
    reach both, and a playbook rule may address the firm. Its thresholds are ``[conduct]`` of the configuration, which
    arrives with the journal; ``enabled = false`` leaves every slice as it is.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        Measured slices of shards, keyed by shard.

    Returns
    -------
    KeyedStream[MeasuredSlice]
        The same slices; those with alerts hold their records (``alerts``, kind ``unusual_conduct``) and events.
    """
    return keep_state(
        "accounts", up, _new_conduct_state, AccountBehaviourState.restore, single_output(AccountBehaviourState.step)
    )


def _new_conduct_state(measured: MeasuredSlice) -> AccountBehaviourState:
    return AccountBehaviourState(measured.measures.moment.partition)


# ``forecast_breaches`` and ``forecast_systemic``: measured slices in, the same with what may come out.
#
# The first forecasts the accounts of a shard, the second, behind the sums of all shards, what a fall would set off.


@operator
def forecast_breaches(step_id: str, up: KeyedStream[MeasuredSlice]) -> KeyedStream[MeasuredSlice]:
    """Forecast for every account how likely it comes to its margin level within a minute, ten, an hour and a day.

    ``aggregate_exposure`` has this step inside. It does nothing unless the journal's configuration has ``[forecasts]
    enabled = true``; then slices carry their book once a second, and it adds records of the topic ``forecasts`` and,
    where limits are on them, measures.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        Measured slices of shards, keyed by shard.

    Returns
    -------
    KeyedStream[MeasuredSlice]
        The same slices, those with forecasts with their records and measures.
    """
    return keep_state("books", up, _new_forecast_state, ForecastState.restore, single_output(ForecastState.step))


def _new_forecast_state(measured: MeasuredSlice) -> ForecastState:
    return ForecastState(measured.measures.moment.partition)


@operator
def forecast_systemic(step_id: str, up: KeyedStream[MeasuredSlice]) -> KeyedStream[MeasuredSlice]:
    """Forecast once a minute of event time what moves of prices would force all books to, and what would follow.

    ``aggregate_exposure`` has this step inside. It does nothing unless the journal's configuration has ``[forecasts]
    enabled = true``.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        Seconds across shards, keyed ``all``, of slices that have passed ``forecast_breaches``.

    Returns
    -------
    KeyedStream[MeasuredSlice]
        The same seconds with measures of the firm and of underlyings, once a minute with records of ``forecasts``.
    """
    return keep_state("firm", up, _new_systemic_state, FirmForecastState.restore, single_output(FirmForecastState.step))


def _new_systemic_state(measured: MeasuredSlice) -> FirmForecastState:
    return FirmForecastState(measured.measures.moment.partition)


# ``aggregate_exposure``: slices of the journal in, their measures out, one item per slice and one per second.


@operator
def aggregate_exposure(step_id: str, up: KeyedStream[bytes]) -> KeyedStream[MeasuredSlice]:
    """Aggregate slices into exposures of accounts, netting sets, counterparties and, once per second, of the firm.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        ``(key, value)``: the records of the ``journal`` topic, in order per shard; any key that is one per shard.

    Returns
    -------
    KeyedStream[MeasuredSlice]
        One item per slice, keyed by its shard, and one per second that all shards have passed, keyed ``all``: its
        measures, its events, and as outputs the records of ``exposures``, ``alerts`` and ``rejects``.

    Raises
    ------
    InvariantError
        A slice is missing or comes twice: the state and the journal do not join.
    VersionMismatch
        Another version of Seawall decides on a slice.
    """
    slices = keep_state("shard", up, _new_exposure_state, ExposureState.restore, _measure_slice)
    measured = forecast_breaches("forecast", watch_counterparties("conduct", slices))
    summaries = op.flat_map("partial", measured, _summaries)
    wide = keep_state("firm", summaries, _new_firm_state, FirmState.restore, FirmState.step)
    return op.merge("frames", measured, forecast_systemic("systemic", wide))


def _new_exposure_state(value: bytes) -> ExposureState:
    return ExposureState(decode_slice(value).shard)


def _measure_slice(state: ExposureState, value: bytes) -> list[MeasuredSlice]:
    piece = decode_slice(value)
    state.check_version(piece)
    return [state.step(piece, hashlib.sha256(value).hexdigest())]


def _summaries(item: tuple[str, MeasuredSlice]) -> list[tuple[str, ShardSummary]]:
    return [] if item[1].summary is None else [(FIRM_KEY, item[1].summary)]


def _new_firm_state(_: ShardSummary) -> FirmState:
    return FirmState()


# ``enforce_limits``: measured slices in, the same with their breaches out.


@operator
def enforce_limits(step_id: str, up: KeyedStream[MeasuredSlice]) -> KeyedStream[MeasuredSlice]:
    """Compare every measure with its limits, once per slice; report each change of level.

    Limits arrive with the journal's ``configuration`` events, inside the items.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        Items of ``aggregate_exposure``, keyed by shard or ``all``.

    Returns
    -------
    KeyedStream[MeasuredSlice]
        Each with its breaches, as values and as records of the ``breaches`` topic.
    """
    return keep_state("levels", up, _new_limits_state, LimitsState.restore, _enforce, look=_limit_utilisation)


def _new_limits_state(measured: MeasuredSlice) -> LimitsState:
    return LimitsState(measured.measures.moment.key, measured.measures.moment.partition)


def _enforce(state: LimitsState, measured: MeasuredSlice) -> list[MeasuredSlice]:
    return [measured._replace(breaches=state.step(measured.measures, measured.events))]


def _limit_utilisation(state: LimitsState, measured: MeasuredSlice) -> tuple[str, dict[str, float]]:
    return state.key, peak_utilisations(state, measured.measures)
