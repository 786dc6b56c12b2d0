"""Findings of verification: the record that is wrong, why, and what to do next."""

from dataclasses import dataclass, field
from typing import NamedTuple

FINDINGS_MAX = 1000

RULES: dict[str, tuple[str, str]] = {
    "JOURNAL": (
        "slices of a shard are numbered from 0 without gaps, and everything else is derived from them",
        "bring the journal back from a backup; until then nothing derived from it can be judged",
    ),
    "CHAIN": (
        "each audit record carries the hash of the one before it and follows from the journal and the other topics",
        "compare with a copy kept elsewhere; seawall replay derives what belongs here",
    ),
    "CONTENT": (
        "the audit states id and hash of every record, and no record stands outside it",
        "do not use the record; seawall replay derives the one that belongs here",
    ),
    "PLACE": (
        "ids and counts of a partition run without gaps, and a record's key and headers follow from its content",
        "a record was removed, added or moved; compare with a copy kept elsewhere",
    ),
    "SIGNATURE": (
        "a command or state counts only with the signature of an issuer's key over exactly these bytes",
        "do not obey it; find out who wrote to the topic, and whether the key is still its owner's alone",
    ),
    "LIMITS": (
        "limits change by documents that a maker and, to loosen, a checker signed, each on its predecessor",
        "do not rely on the limits from this slice on; find out who wrote to the journal, and whose key it was",
    ),
    "TAKEN": (
        "slices name every signal, acknowledgement and redrive that was taken, with its hash; signals run on",
        "the journal holds what was decided from it; compare with a copy kept elsewhere",
    ),
    "STRANGER": (
        "every topic and partition has one writer, and these have none",
        "find out who can write to the bus besides the run",
    ),
    "STATE": (
        "the states of an engine on snapshots stand whole, one after another, each with its checksum",
        "do not go on from it with another engine; find out who can write to the bus besides the run",
    ),
    "SEALED": (
        "a signed checkpoint is the root over all audit records before it; only their very bytes give that root",
        "the audit is not the one that was sealed; prove it to others with the checkpoint and the tiles",
    ),
    "CHECKPOINT": (
        "checkpoints stand where the audit says, signed by the sealer's key, each once",
        "compare with what witnesses cosigned; ask who holds the sealer's key",
    ),
    "TILES": (
        "the files of a log hold the hashes and records of the audit partition, byte for byte",
        "move the folder recovery-seal away and run again: tiles are written anew from the audit",
    ),
    "BEHIND": (
        "each topic goes as far as the journal, and the journal to the end of bounded inputs",
        "run again: what is unfinished is finished; what was cut is written again and must come out the same",
    ),
}
"""Per rule: why it holds, and what to do where it does not."""


class Finding(NamedTuple):
    """Something that is not as it was written."""

    topic: str
    partition: int
    offset: int | None
    what: str
    rule: str = "CONTENT"

    def __str__(self) -> str:
        place = f"{self.topic}/{self.partition}"
        return f"{place}: {self.what}" if self.offset is None else f"{place} offset {self.offset}: {self.what}"

    def explained(self) -> dict[str, object]:
        """Return the finding with the why and the next step of its rule."""
        why, next_step = RULES[self.rule]
        return {**self._asdict(), "why": why, "next": next_step}


@dataclass
class Report:
    """Report of a verification: counts per topic, findings, and whether outputs are merely behind the journal."""

    records: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    behind: list[Finding] = field(default_factory=list)
    earlier: int = 0  # slices that an earlier version decided, which were not derived again

    def stranger(self, topic: str, partition: int, what: str) -> None:
        """Note, once however often it is read, a record that somebody else wrote."""
        if Finding(topic, partition, None, what, "STRANGER") not in self.findings:
            self.add(topic, partition, None, what, "STRANGER")

    def add(self, topic: str, partition: int, offset: int | None, what: str, rule: str = "CONTENT") -> None:
        """Note a finding."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(topic, partition, offset, what, rule))

    def lag(self, topic: str, partition: int, offset: int | None, what: str) -> None:
        """Note that a topic is behind the journal."""
        if len(self.behind) < FINDINGS_MAX:
            self.behind.append(Finding(topic, partition, offset, what, "BEHIND"))

    def count(self, topic: str, records: int = 1) -> None:
        """Count records that were looked at."""
        self.records[topic] = self.records.get(topic, 0) + records

    @property
    def good(self) -> bool:
        """Return whether nothing was found and nothing is behind."""
        return not self.findings and not self.behind
