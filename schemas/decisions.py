"""Types of the topics ``alerts``, ``breaches``, ``commands``, ``rejects``, ``audit`` (contract.md, "Output records").

Records of ``audit`` are told apart by ``kind``; each holds one decision as it was emitted, and the sequence that it
belongs to.
"""

from typing import Literal

from msgspec import UNSET, UnsetType

from seawall.schemas.errors import Reason
from seawall.schemas.exposures import Output

# Records of the topics ``alerts``, ``breaches``, ``commands`` and ``rejects`` as types (see ``outputs``).

Level = Literal["none", "warning", "soft", "hard"]
Shard = int | Literal["all"]
Sha256 = str
CommandKind = Literal[
    "HALT_TRADING",
    "SUSPEND",
    "REINSTATE",
    "REDUCE_ONLY",
    "CANCEL_ORDERS",
    "SET_LIMIT",
    "SET_HAIRCUT",
    "REROUTE",
    "HEDGE",
    "REDUCE_POSITION",
    "CALL_MARGIN",
    "RECALL_COLLATERAL",
    "BLOCK_COUNTERPARTY",
    "WITHDRAW_FUNDS",
    "SWITCH_STRATEGY_PROFILE",
    "ENTER_DEGRADED_MODE",
]
ScopeKind = Literal[
    "account",
    "netting_set",
    "counterparty",
    "group",
    "underlying",
    "venue",
    "firm",
    "instrument",
    "asset",
    "issuer",
    "strategy",
]


class Alert(Output):
    """Something to look at: a rule fired (score 1, no contributions) or, later, a detector."""

    shard: Shard
    seq: int
    as_of_us: int
    kind: str
    scope: str
    score: float
    severity: int
    text: str
    contributions: dict[str, float]


class Breach(Output):
    """A change of level of one limit and scope.

    ``cause`` is ``active`` when fills of the slice moved the scope; ``evidence`` names the slice or second, and fills.
    It is ``unvalued`` where an account has measures that nothing bounds. ``certain`` is the highest level that holds at
    the better end too of prices that are in doubt, where that is below ``level``.
    ``factors`` explain the effective bound of a limit that scales with the market: ``base`` times the ratios, clamped.
    """

    shard: Shard
    seq: int
    as_of_us: int
    limit: str
    version: int
    scope: str
    measure: str
    value: float
    bound: float
    utilisation: float
    level: Level
    previous_level: Level
    cause: Literal["active", "passive", "unvalued"]
    evidence: list[str]
    factors: dict[str, float | str | None] | UnsetType = UNSET
    certain: Level | UnsetType = UNSET


class RejectSource(Output):
    """Source of a rejected record: ``file`` and ``line``, or ``topic``, ``partition`` and ``offset``."""

    file: str | UnsetType = UNSET
    line: int | UnsetType = UNSET
    topic: str | UnsetType = UNSET
    partition: int | UnsetType = UNSET
    offset: int | UnsetType = UNSET
    fill: int | UnsetType = UNSET
    transfer: int | UnsetType = UNSET


class Reject(Output):
    """A record that was not accepted, with its original bytes; of one over the size limit the first 64 KiB."""

    reason: Reason
    detail: str
    source: RejectSource
    original: str | UnsetType = UNSET
    original_base64: str | UnsetType = UNSET
    truncated: Literal[True] | UnsetType = UNSET
    bytes: int | UnsetType = UNSET
    sha256: Sha256 | UnsetType = UNSET


class Target(Output):
    """Target of a command."""

    scope: ScopeKind
    id: str


class Why(Output):
    """The rule of the playbook and, where a limit broke, the breach; values are decimal texts."""

    rule: str
    limit: str | UnsetType = UNSET
    scope: str | UnsetType = UNSET
    measure: str | UnsetType = UNSET
    level: Level | UnsetType = UNSET
    observed: str | UnsetType = UNSET
    bound: str | UnsetType = UNSET


class Policy(Output):
    """The playbook in force."""

    version: int
    sha256: Sha256


class CommandEvidence(Output):
    """Cause of a command: the breach's record and its causes, or the id of the news.

    ``plan`` says what a computed action was worked out from.
    """

    id: str
    as_of_us: int
    causes: list[str]
    topic: str | UnsetType = UNSET
    sha256: Sha256 | UnsetType = UNSET
    plan: dict[str, str] | UnsetType = UNSET


class Command(Output):
    """The signed payload; the signature stands in the header ``dsse``, over these very bytes.

    ``seq`` and ``prev_id`` chain the commands of one target; a subscriber keeps the highest (epoch, seq) it obeyed.
    """

    v: Literal[1]
    type: CommandKind
    id: Sha256
    iss: str
    aud: list[str]
    env: Literal["dev", "test", "prod"]
    target: Target
    epoch: int
    seq: int
    prev_id: Sha256 | None
    supersedes: Sha256 | None
    iat_us: int
    nbf_us: int
    exp_us: int
    effect_until_us: int | None
    action: dict[str, str]
    reason: Why
    policy: Policy
    evidence: CommandEvidence


# Records of the topic ``audit`` as types (see ``outputs``), told apart by ``kind``.


class Audit(Output, tag_field="kind"):
    """One link of a partition's chain: ``prev`` is the RFC 6962 leaf hash of the one before, or ``genesis``."""

    shard: Shard
    seq: int
    n: int
    prev: str


class SliceBody(Output):
    """Input (``[seq, sha256]`` or ``[shard, seq, sha256]``) and output (``topic: [count, sha256]``) of a slice.

    ``cut_us`` is the sequencer's clock at the cut, where it was read: in live runs. ``end`` marks the last one of a
    bounded run. Both decide where the log gets a checkpoint.
    """

    as_of_us: int
    inputs: list[list[int | str]]
    topics: dict[str, tuple[int, Sha256]]
    cut_us: int | UnsetType = UNSET
    end: Literal[True] | UnsetType = UNSET


class RecordBody(Output):
    """A record of another topic: its id and hash, what caused it, the versions that shaped it."""

    topic: str
    id: str
    sha256: Sha256
    causes: list[str] | UnsetType = UNSET
    versions: dict[str, int] | UnsetType = UNSET
    factors: dict[str, float | str | None] | UnsetType = UNSET


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


class MovedLimit(Output):
    """One effective bound and what explains it."""

    limit: str
    scope: str
    factors: dict[str, float | str | None]


class LimitsBody(Output):
    """Bounds that moved with the market by 1 % of their base since last told; ``sha256`` is of all effective ones."""

    version: int
    moved: int
    sha256: Sha256
    examples: list[MovedLimit]


class LimitDocumentBody(Output):
    """A signed limit document that was taken; ``tightened`` waits for a checker."""

    version: int
    sha256: Sha256
    outcome: Literal["approved", "tightened", "ratified"]
    reason: str
    keys: list[str]


class WithheldBody(Output):
    """A command that a playbook asks for and that may not be given; ``action`` is what was worked out for it."""

    rule: str
    kind: str
    target: str
    breach: str
    why: str
    action: dict[str, str] | UnsetType = UNSET


class ReleaseBody(Output):
    """A target that people released; ``stale``: commands came after the one that they answered, which stand."""

    target: str
    id: Sha256
    outcome: Literal["released", "stale"]


class ShadowedBody(Output):
    """A command that was decided and not given: its rule only watches, or the playbook runs dry."""

    rule: str
    kind: str
    target: str
    id: Sha256
    action: dict[str, str]
    evidence: str


class CommandStateBody(Output):
    """State of a command after an answer, a deadline that passed or a contradiction; ``evidence`` names its source."""

    command_id: Sha256
    kind: str
    target: str
    state: Literal[
        "accepted", "completed", "partial", "rejected", "unknown", "silent", "late", "expired", "contradicted"
    ]
    evidence: str


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


class AuditLimits(Audit, tag="limits"):
    """Limits that moved with the market."""

    body: LimitsBody


class AuditLimitDocument(Audit, tag="limit_document"):
    """A change of limits."""

    body: LimitDocumentBody


class AuditWithheld(Audit, tag="withheld"):
    """A command withheld: a passive breach never forces trading in our own books."""

    body: WithheldBody


class AuditRelease(Audit, tag="release"):
    """A release."""

    body: ReleaseBody


class AuditShadowed(Audit, tag="shadowed"):
    """A command that was not given."""

    body: ShadowedBody


class AuditCommandState(Audit, tag="command_state"):
    """A step in the life of a command."""

    body: CommandStateBody


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
    | AuditLimits
    | AuditLimitDocument
    | AuditWithheld
    | AuditRelease
    | AuditShadowed
    | AuditCommandState
    | AuditAcknowledgement
)
