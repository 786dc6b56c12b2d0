"""One visible proof that tampering is found: one digit of a signed command, changed in a copy of a finished run."""

import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from seawall.connectors.bus import open_bus
from seawall.ops.verification.findings import Finding
from seawall.ops.verification.verify import verify
from seawall.schemas.configuration import Configuration
from seawall.schemas.dsse import PublicKey

TOPIC = "commands"
READ = 'select "partition", "offset", value from records where topic = ? order by "partition", "offset"'
CHANGE = 'update records set value = ? where topic = ? and "partition" = ? and "offset" = ?'
AMOUNT = re.compile(rb'"amount":"(\d)[^,}]*')
EXPIRY = re.compile(rb'"exp_us":(\d)\d*')


class Tampering(NamedTuple):
    """What was changed in the copy, and what ``verify`` says of it.

    Attributes
    ----------
    place
        ``topic/partition offset n`` of the changed record.
    before, after
        The text around the change.
    findings
        Of ``verify`` on the copy.
    named
        Whether one of them names topic, partition and offset of the record.
    """

    place: str
    before: str
    after: str
    findings: list[Finding]
    named: bool


def tamper(configuration: Configuration, keys: dict[str, PublicKey]) -> Tampering:
    """Change one digit in a copy of a run's bus, verify the copy, remove it."""
    with _copied(configuration) as folder:
        file = folder / "seawall.db"
        partition, offset, before, after = _change(file)
        bus = open_bus("sqlite:seawall.db", folder)
        report = verify(bus, keys, configuration.environment, configuration.issuer)
        bus.close()
    named = any(finding[:3] == (TOPIC, partition, offset) for finding in report.findings)
    return Tampering(f"{TOPIC}/{partition} offset {offset}", before, after, report.findings, named)


@contextmanager
def _copied(configuration: Configuration) -> Iterator[Path]:
    """Copy the bus to a folder that is removed afterwards."""
    source = configuration.directory / configuration.bus.partition(":")[2]
    with tempfile.TemporaryDirectory(prefix="seawall-tampering-") as name:
        with closing(sqlite3.connect(source)) as bus, closing(sqlite3.connect(Path(name) / "seawall.db")) as copy:
            bus.backup(copy)
        yield Path(name)


def _change(file: Path) -> tuple[int, int, str, str]:
    """Change one digit: of the first amount that is called, or of the first expiry where none is."""
    with closing(sqlite3.connect(file)) as bus:
        rows = [(partition, offset, bytes(value)) for partition, offset, value in bus.execute(READ, (TOPIC,))]
        chosen = next((row for row in rows if AMOUNT.search(row[2])), rows[0])
        partition, offset, value = chosen
        found = AMOUNT.search(value) or EXPIRY.search(value)
        assert found is not None, "every command expires"
        at = found.start(1)
        changed = value[:at] + str((int(value[at : at + 1]) + 1) % 10).encode() + value[at + 1 :]
        bus.execute(CHANGE, (changed, TOPIC, partition, offset))
        bus.commit()
    around = slice(*found.span())
    return partition, offset, value[around].decode(), changed[around].decode()
