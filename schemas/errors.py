"""Three kinds of failure, three routes (architecture.md, "Failure").

::

    a record we cannot accept   Rejected(reason, detail)    caught by the sequencer, kept on the topic `rejects`
    the world failed            SeawallError                raised: the worker stops, recovery replays
      ├── UsageError            configuration, arguments or input files; exit 2, one line that says what to do next
      ├── BusError              the bus could not do what was asked
      │     ├── PartitionLocked another process writes here
      │     ├── Gap             records are missing in between
      │     └── Divergence      what stands on a topic is not what the journal gives
      ├── VersionMismatch       another version of Seawall decides here: it stops before it emits anything
      ├── SnapshotError         a saved state cannot be read: it is set aside and the journal replayed
      ├── StoreError            a recovery store failed while a run used it: the next run sets aside what is unsound
      └── VerificationError     evidence is bad; exit 1
            └── CouldNotVerify  evidence could not be checked, which is something else; exit 2
    we are wrong                InvariantError              raised by `invariant`: stop before emitting
"""

import enum


class SeawallError(Exception):
    """Base of everything that Seawall raises on purpose; ``exit_code`` is that of the command line."""

    exit_code = 2


class UsageError(SeawallError):
    """A configuration, an argument or an input file is wrong; the message is one line that says what to do next."""


class BusError(SeawallError):
    """The bus could not do what was asked."""


class PartitionLocked(BusError):
    """Another process holds the partition; the message names it."""


class Gap(BusError):
    """Records are missing between what stands and what comes next."""


class Divergence(BusError):
    """Difference between a stored record and the one that the journal gives."""


class BackupError(SeawallError):
    """A backup is incomplete or was changed."""


class InvariantError(SeawallError):
    """Seawall itself is wrong; nothing was emitted."""


class SnapshotError(SeawallError):
    """A saved state cannot be read by this version."""


class StoreError(SeawallError):
    """A recovery store failed while a run used it; the message names it and says what to do."""


class ClockError(SeawallError):
    """The clock of this machine cannot be right; the message says by how much it is off, and what to do."""


class VersionMismatch(SeawallError):
    """Another version of Seawall decides here; the message says which, and what to install or stop."""


class VerificationError(SeawallError):
    """Evidence is bad."""

    exit_code = 1


class CouldNotVerify(VerificationError):
    """Evidence could not be checked: nothing is said about whether it is good."""

    exit_code = 2


class Reason(enum.StrEnum):
    """Reason for which a record was rejected; each name states the rule that it broke."""

    JSON_MUST_BE_VALID = "JSON_MUST_BE_VALID"
    TEXT_MUST_BE_UTF_8 = "TEXT_MUST_BE_UTF_8"
    RECORD_MUST_BE_AN_OBJECT = "RECORD_MUST_BE_AN_OBJECT"
    RECORD_MUST_NOT_EXCEED_256_KIB = "RECORD_MUST_NOT_EXCEED_256_KIB"
    TYPE_MUST_BE_KNOWN = "TYPE_MUST_BE_KNOWN"
    FIELD_MUST_BE_KNOWN = "FIELD_MUST_BE_KNOWN"
    FIELD_MUST_BE_PRESENT = "FIELD_MUST_BE_PRESENT"
    FIELD_MUST_HAVE_ITS_TYPE = "FIELD_MUST_HAVE_ITS_TYPE"
    FIELD_MUST_HAVE_A_KNOWN_VALUE = "FIELD_MUST_HAVE_A_KNOWN_VALUE"
    FIELD_MUST_BE_IN_ITS_RANGE = "FIELD_MUST_BE_IN_ITS_RANGE"
    FIELDS_MUST_GO_TOGETHER = "FIELDS_MUST_GO_TOGETHER"
    NUMBER_MUST_BE_FINITE = "NUMBER_MUST_BE_FINITE"
    DECIMAL_MUST_BE_WELL_FORMED = "DECIMAL_MUST_BE_WELL_FORMED"
    PRICE_MUST_BE_POSITIVE = "PRICE_MUST_BE_POSITIVE"
    QUANTITY_MUST_BE_POSITIVE = "QUANTITY_MUST_BE_POSITIVE"
    QUANTITY_MUST_BE_A_MULTIPLE_OF_THE_INCREMENT = "QUANTITY_MUST_BE_A_MULTIPLE_OF_THE_INCREMENT"
    QUANTITY_MUST_FIT_IN_64_BITS = "QUANTITY_MUST_FIT_IN_64_BITS"
    AMOUNT_MUST_NOT_BE_NEGATIVE = "AMOUNT_MUST_NOT_BE_NEGATIVE"
    IDENTIFIER_MUST_MATCH_THE_CHARSET = "IDENTIFIER_MUST_MATCH_THE_CHARSET"
    EVENT_TIME_MUST_NOT_BE_NEGATIVE = "EVENT_TIME_MUST_NOT_BE_NEGATIVE"
    EVENT_TIME_MUST_NOT_BE_IN_THE_FUTURE = "EVENT_TIME_MUST_NOT_BE_IN_THE_FUTURE"
    ACCOUNT_MUST_BE_KNOWN = "ACCOUNT_MUST_BE_KNOWN"
    INSTRUMENT_MUST_BE_KNOWN = "INSTRUMENT_MUST_BE_KNOWN"
    COUNTERPARTY_MUST_BE_KNOWN = "COUNTERPARTY_MUST_BE_KNOWN"
    FILL_MUST_BE_KNOWN = "FILL_MUST_BE_KNOWN"
    ID_MUST_NOT_BE_REUSED = "ID_MUST_NOT_BE_REUSED"
    REFERENCE_MUST_NOT_CHANGE_ITS_NATURE = "REFERENCE_MUST_NOT_CHANGE_ITS_NATURE"
    OPENING_MUST_COME_FIRST = "OPENING_MUST_COME_FIRST"
    DOCUMENT_MUST_BE_EXPECTED = "DOCUMENT_MUST_BE_EXPECTED"
    DOCUMENT_MUST_BE_WELL_FORMED = "DOCUMENT_MUST_BE_WELL_FORMED"
    DOCUMENT_MUST_BE_FOR_THIS_ISSUER_AND_ENVIRONMENT = "DOCUMENT_MUST_BE_FOR_THIS_ISSUER_AND_ENVIRONMENT"
    DOCUMENT_MUST_BE_VALID_AT_ITS_TIME = "DOCUMENT_MUST_BE_VALID_AT_ITS_TIME"
    DOCUMENT_MUST_BE_THE_NEXT_VERSION = "DOCUMENT_MUST_BE_THE_NEXT_VERSION"
    DOCUMENT_MUST_NAME_ITS_PREDECESSOR = "DOCUMENT_MUST_NAME_ITS_PREDECESSOR"
    DOCUMENT_MUST_NAME_MEASURES_THAT_ARE_COMPUTED = "DOCUMENT_MUST_NAME_MEASURES_THAT_ARE_COMPUTED"
    DOCUMENT_MUST_BE_SIGNED_BY_A_MAKER = "DOCUMENT_MUST_BE_SIGNED_BY_A_MAKER"
    DOCUMENT_MUST_BE_SIGNED_BY_A_CHECKER = "DOCUMENT_MUST_BE_SIGNED_BY_A_CHECKER"
    MAKER_MUST_NOT_BE_CHECKER = "MAKER_MUST_NOT_BE_CHECKER"
    SIGNATURE_MUST_BE_GOOD = "SIGNATURE_MUST_BE_GOOD"
    SIGNATURE_MUST_NOT_BE_REPEATED = "SIGNATURE_MUST_NOT_BE_REPEATED"
    SIGNER_MUST_BE_KNOWN = "SIGNER_MUST_BE_KNOWN"
    RELEASE_MUST_BE_ONE_THAT_SUBSCRIBERS_ACCEPT = "RELEASE_MUST_BE_ONE_THAT_SUBSCRIBERS_ACCEPT"
    RECORD_MUST_FIT_A_SLICE = "RECORD_MUST_FIT_A_SLICE"
    RECORD_MUST_MATCH_THE_MAPPING = "RECORD_MUST_MATCH_THE_MAPPING"
    FRAME_MUST_BE_VALID = "FRAME_MUST_BE_VALID"
    SCHEMA_MUST_BE_KNOWN = "SCHEMA_MUST_BE_KNOWN"
    AVRO_MUST_FOLLOW_ITS_SCHEMA = "AVRO_MUST_FOLLOW_ITS_SCHEMA"
    PROTOBUF_MUST_FOLLOW_ITS_SCHEMA = "PROTOBUF_MUST_FOLLOW_ITS_SCHEMA"
    REDRIVE_MUST_BE_WELL_FORMED = "REDRIVE_MUST_BE_WELL_FORMED"


class Rejected(Exception):
    """A record that cannot be accepted: a value in transit to the topic ``rejects``, not a failure of the run."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def invariant(condition: object, text: str) -> None:
    """Stop before emitting when ``condition`` does not hold; always on.

    Raises
    ------
    InvariantError
        When ``condition`` is false; ``text`` states what should have held.
    """
    if not condition:
        raise InvariantError(f"invariant broken: {text}")
