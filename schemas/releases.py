"""Releases: how those who decide learn that people gave a target back.

A release is the REINSTATE command itself, as a maker and a checker signed it for the subscribers (DSSE, with its
payload). It is accepted into the journal by the rules by which a subscriber accepts it: so nobody releases here who
could not release there, and both count the same commands of a target.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from seawall.schemas.errors import Reason, Rejected
from seawall.schemas.evidence.acceptance import HEADER, Policy, Refused, accept
from seawall.schemas.evidence.documents import COMMAND, Command
from seawall.schemas.evidence.keyset import KeySet
from seawall.schemas.evidence.strict import Malformed, parse_envelope

KIND = "REINSTATE"


def release_of(envelope: Mapping[str, Any]) -> tuple[Command, bytes]:
    """Return the command of an envelope and its bytes, nothing verified.

    Raises
    ------
    Malformed
        It is no envelope of a REINSTATE command.
    """
    try:
        header, value = parse_envelope(msgspec.json.encode(dict(envelope)))
        command = msgspec.json.decode(value, type=Command)
    except (TypeError, msgspec.MsgspecError) as error:
        raise Malformed(f"not an envelope of a command: {error}") from error
    if header.payload_type != COMMAND or command.type != KIND:
        raise Malformed(f"the envelope holds {command.type[:40]!r}, only {KIND} releases")
    return command, value


def check_release(
    envelope: Mapping[str, Any], keys: KeySet | None, issuer: str, environment: str, as_of_us: int
) -> Command:
    """Return the REINSTATE command of an envelope that may be taken at ``as_of_us``.

    Raises
    ------
    Rejected
        With the rule that it breaks.
    """
    if keys is None:
        raise Rejected(
            Reason.DOCUMENT_MUST_BE_EXPECTED, "this run knows no key set, so it knows nobody who may release"
        )
    try:
        command, value = release_of(envelope)
    except Malformed as error:
        raise Rejected(Reason.DOCUMENT_MUST_BE_WELL_FORMED, str(error)) from error
    header = msgspec.json.encode({name: part for name, part in envelope.items() if name != "payload"})
    audience = next(iter(command.aud), "*")
    try:
        accept(value, [(HEADER, header)], keys, Policy(audience, environment, (issuer,)), as_of_us)
    except Refused as refused:
        raise Rejected(Reason.RELEASE_MUST_BE_ONE_THAT_SUBSCRIBERS_ACCEPT, str(refused)) from refused
    return command
