"""Mappings: records of other people's topics and files, mapped onto input records by a TOML file.

A mapping says, per kind of foreign record, which input record (contract.md, "Input records") it becomes and where each
field comes from. No code: ``[inputs] mappings = { "oms.trades" = "oms.toml" }`` and the producers stay as they are. One
foreign record becomes one input record, or none where a ``[[skip]]`` says so. What cannot be mapped is rejected with
its own bytes.

Examples
--------
>>> from seawall.connectors.mapping import read_mapping
>>> mapping = read_mapping({"record": [{"type": "mark", "fields": {
...     "event_time_us": {"from": "ts", "time": "ms"}, "instrument": "sym", "price": "px"}}]}, "prices.toml")
>>> mark, _ = mapping.read(b'{"ts":1700000000123,"sym":"ETH-PERP","px":1634.250}')
>>> mark.event_time_us, mark.price
(1700000000123000, '1634.250')
"""

from seawall.connectors.mapping._mapping import RecordMapping, load_mappings, read_mapping

__all__ = ["RecordMapping", "load_mappings", "read_mapping"]
