"""An option in coin says so: one whose quote is its base has no currency for its strike, and is rejected."""

from pathlib import Path

from seawall_testing.desk import SECOND, T0, lines, rejects, sequence
from seawall_testing.pipeline import MemoryBus, write_configuration
from seawall_testing.risk_desk import option, spot


def test_an_option_whose_quote_is_its_base_is_rejected_and_told_what_to_say(tmp_path: Path) -> None:
    """Read as it stands, a strike of 60,000 would be 60,000 coins: a mark of 0.05 showed a delta of a billion."""
    terms = ("60000", "call", T0 + 86_400 * SECOND)
    records = (
        spot(),
        option("WRONG", *terms, quote="BTC", settlement="BTC"),
        option("RIGHT", *terms, inverse=True, settlement="BTC"),
    )
    bus = MemoryBus()
    sequence(write_configuration(tmp_path, {"events.jsonl": lines(*records)}, shards=1), bus)
    found = rejects(bus, 1)
    assert ["WRONG" in one["original"] for one in found] == [True]
    assert found[0]["reason"] == "FIELDS_MUST_GO_TOGETHER"
    assert "inverse = true, and as quote the currency of its strike" in found[0]["detail"]
