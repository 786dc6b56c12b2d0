"""Output records as types: documentation, and the source of the JSON Schemas for subscribers.

See contract.md, "Output records".

Nothing is encoded through them: ``operators/core`` writes the records, and a test holds every record of a run against
these types. A subscriber should accept fields that it does not know, since later versions may add some; the generated
schemas allow them.
"""

import msgspec

from seawall.schemas.audits import AuditRecord
from seawall.schemas.decisions import Alert, Breach, Command, Reject
from seawall.schemas.evidence.documents import STATE, Heartbeat, State, state_type
from seawall.schemas.exposures import Exposures, WideExposures
from seawall.schemas.forecasts import Forecasts

OUTPUTS: dict[str, tuple[object, ...]] = {
    "exposures": (Exposures, WideExposures),
    "alerts": (Alert,),
    "breaches": (Breach,),
    "commands": (Command,),
    "audit": (AuditRecord,),
    "rejects": (Reject,),
    "forecasts": (Forecasts,),
    "state": (State, Heartbeat),
}
"""The types of each topic: ``exposures`` has two forms, told apart by ``shard``, ``state`` by its ``targets``."""


def decode_output(topic: str, value: bytes) -> object:
    """Return the typed record of an output topic.

    Raises
    ------
    msgspec.DecodeError
        The value is none of the topic's types, or has a field that they do not have.

    Examples
    --------
    >>> value = b'{"shard":0,"seq":7,"as_of_us":1,"accounts":[],"netting_sets":[],"counterparties":[]}'
    >>> decode_output("exposures", value).seq
    7
    """
    types = OUTPUTS[topic]
    second = state_type(value) != STATE if topic == "state" else value.startswith(b'{"shard":"all"')
    try:
        return msgspec.json.decode(value, type=types[-1] if second else types[0])
    except (UnicodeDecodeError, RecursionError) as error:  # which the decoder lets through
        raise msgspec.DecodeError(str(error)) from None
