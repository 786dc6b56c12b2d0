"""Records of the topics ``alerts``, ``breaches``, ``commands`` and ``rejects`` as types (see ``outputs``)."""

from typing import Literal

from msgspec import UNSET, UnsetType

from seawall.schemas.errors import Reason
from seawall.schemas.exposures import Output

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
    cause: Literal["active", "passive"]
    evidence: list[str]
    factors: dict[str, float | str | None] | UnsetType = UNSET


class RejectSource(Output):
    """Where a rejected record stood: ``file`` and ``line``, or ``topic``, ``partition`` and ``offset``."""

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
    """What a command is about."""

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
    """What caused a command: the breach's record and its causes, or the id of the news.

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
