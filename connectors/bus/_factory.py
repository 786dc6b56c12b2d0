"""Factory of buses: from the URL of a configuration to the bus that it names."""

from pathlib import Path

from seawall.connectors.bus import kafka
from seawall.connectors.bus._backup import BackupBus
from seawall.connectors.bus._protocol import Bus
from seawall.connectors.bus._sqlite import SqliteBus
from seawall.schemas.errors import UsageError


def open_bus(url: str, base: Path) -> Bus:
    """Return the bus that ``url`` names.

    Parameters
    ----------
    url
        ``sqlite:PATH`` and ``backup:FOLDER`` (read only), relative to ``base``, or
        ``kafka://HOST:PORT[/PREFIX][?settings=FILE]``.
    base
        The folder of the configuration.

    Raises
    ------
    UsageError
        The URL names no bus that this version has.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest:
        return SqliteBus(base / rest)
    if scheme == "kafka":
        return kafka.KafkaBus(url, base)  # loads librdkafka, which other buses do without
    if scheme == "backup" and rest:
        return BackupBus(base / rest)
    raise UsageError(f'bus = "{url}" names no bus; use "sqlite:seawall.db" or "kafka://host:9092/desk"')
