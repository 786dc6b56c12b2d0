"""Records of the topic ``audit`` as types (see ``outputs``), told apart by ``kind``."""

from typing import Literal

from msgspec import UNSET, UnsetType

from seawall.schemas.decisions import Policy, Sha256, Shard
from seawall.schemas.exposures import Output


class Audit(Output, tag_field="kind"):
    """One link of a partition's chain: ``prev`` is the RFC 6962 leaf hash of the one before, or ``genesis``."""

    shard: Shard
    seq: int
    n: int
    prev: str


class SliceBody(Output):
    """What went in (``[seq, sha256]`` or ``[shard, seq, sha256]``) and out (``topic: [count, sha256]``)."""

    as_of_us: int
    inputs: list[list[int | str]]
    topics: dict[str, tuple[int, Sha256]]


class RecordBody(Output):
    """A record of another topic: its id and hash, what caused it, the versions that shaped it."""

    topic: str
    id: str
    sha256: Sha256
    causes: list[str] | UnsetType = UNSET
    versions: dict[str, int] | UnsetType = UNSET


class ConfigurationBody(Output):
    """The configuration from here on."""

    version: int
    code: str
    limits: Policy
    playbook: Policy


class RepeatedBody(Output):
    """A fill or transfer that came again with the same content and changed nothing."""

    record: Literal["fill", "transfer"]
    id: str
    rule: Literal["REPEATED"]


class CorrectionBody(Output):
    """A correction or a bust, and the fill that it changed."""

    id: str
    ref: str


class SettledBody(Output):
    """An instrument that expired and was settled."""

    instrument: str
    price: float


class AcknowledgementBody(Output):
    """A subscriber's answer to a command."""

    command_id: str
    outcome: str


class AuditSlice(Audit, tag="slice"):
    """A slice of a shard."""

    body: SliceBody


class AuditSecond(Audit, tag="second"):
    """A second of event time, across shards."""

    body: SliceBody


class AuditConfiguration(Audit, tag="configuration"):
    """A change of configuration."""

    body: ConfigurationBody


class AuditAlert(Audit, tag="alert"):
    """An alert."""

    body: RecordBody


class AuditReject(Audit, tag="reject"):
    """A reject."""

    body: RecordBody


class AuditBreach(Audit, tag="breach"):
    """A breach."""

    body: RecordBody


class AuditCommand(Audit, tag="command"):
    """A command."""

    body: RecordBody


class AuditRepeated(Audit, tag="repeated"):
    """A repetition."""

    body: RepeatedBody


class AuditCorrect(Audit, tag="correct"):
    """A correction."""

    body: CorrectionBody


class AuditBust(Audit, tag="bust"):
    """A bust."""

    body: CorrectionBody


class AuditSettled(Audit, tag="settled"):
    """A settlement."""

    body: SettledBody


class AuditAcknowledgement(Audit, tag="acknowledgement"):
    """An acknowledgement."""

    body: AcknowledgementBody


AuditRecord = (
    AuditSlice
    | AuditSecond
    | AuditConfiguration
    | AuditAlert
    | AuditReject
    | AuditBreach
    | AuditCommand
    | AuditRepeated
    | AuditCorrect
    | AuditBust
    | AuditSettled
    | AuditAcknowledgement
)
