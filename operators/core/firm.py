"""The second operator: what spans shards, once per second of event time.

Every shard ends every second with a slice, and with it sends its sums. When all shards have passed a second the sums are
added in order of shard, so the result does not depend on which arrived first, and become a frame of the key ``all``.
"""

from typing import Any

import numpy as np
import orjson

from seawall.operators.core.frames import Frame, News, Table
from seawall.operators.core.rows import Numbering
from seawall.operators.core.snapshot import pack, unpack
from seawall.schemas.errors import invariant
from seawall.schemas.measures import RATIOS, WIDE_SCOPES

SCHEMA = "firm/1"
KEY = "all"
PLURAL = {"group": "groups", "underlying": "underlyings", "venue": "venues"}


class FirmState:
    """The firm-wide aggregation: ``step(partial) -> [Frame]``, empty until every shard has passed the second."""

    def __init__(self) -> None:
        self.seq = -1
        self.configuration: dict[str, Any] = {}
        self._pending: dict[int, list[dict[str, Any]]] = {}
        self._last: dict[str, list[float]] = {}
        self._numbering = Numbering(-1)

    def step(self, partial: dict[str, Any]) -> list[Frame]:
        """Take the sums of one shard at the end of a second; return the frames that became complete."""
        if partial["shard"] == 0 and partial["configuration"] is not None and not self.configuration:
            self.configuration = partial["configuration"]
            self._numbering.partition = self.configuration["shards"]
        self._pending.setdefault(partial["as_of_us"], []).append(partial)
        frames = []
        while self.configuration and self._pending:
            as_of_us = min(self._pending)
            parts = self._pending[as_of_us]
            if len(parts) < self.configuration["shards"]:
                break
            del self._pending[as_of_us]
            frames.append(self._frame(sorted(parts, key=lambda part: int(part["shard"]))))
        return frames

    def _frame(self, parts: list[dict[str, Any]]) -> Frame:
        self.seq += 1
        changed = parts[0]["configuration"]
        if changed is not None:
            self.configuration = changed
        invariant([p["shard"] for p in parts] == list(range(len(parts))), "a second holds each shard once")
        tables = {kind: _sum(kind, parts) for kind in WIDE_SCOPES}
        head = parts[0]
        records = self._exposures(tables, head["as_of_us"])
        fills = [fill for part in parts for fill in part["fills"]]
        return Frame(
            key=KEY,
            partition=self._numbering.partition,
            seq=self.seq,
            as_of_us=head["as_of_us"],
            cut_us=max(part["cut_us"] for part in parts),
            decides=True,
            inputs=[[part["shard"], part["seq"], part["digest"]] for part in parts],
            configuration=changed,
            tables=tables,
            changed=True,
            second=True,
            causes=_SecondCauses(fills) if fills else None,
            news=[News(*item) for part in parts for item in part["news"]],
            records={"exposures": records} if records else {},
        )

    def _exposures(self, tables: dict[str, Table], as_of_us: int) -> list[Any]:
        """Return the record of what moved, in the form of CONTRACT §4; none where nothing did."""
        change_min = float(self.configuration["exposure_change_min"])
        value: dict[str, Any] = {"shard": KEY, "seq": self.seq, "as_of_us": as_of_us}
        value |= {"accounts": [], "netting_sets": [], "counterparties": []}
        firm = self._moved("firm", tables["firm"], change_min)
        value["firm"] = {k: v for k, v in firm[0].items() if k != "firm"} if firm else {}
        found = bool(firm)
        for kind, plural in PLURAL.items():
            value[plural] = rows = self._moved(kind, tables[kind], change_min)
            found = found or bool(rows)
        if not found:
            return []
        return [self._numbering.record("exposures", self.seq, 0, KEY, orjson.dumps(value))]

    def _moved(self, kind: str, table: Table, change_min: float) -> list[dict[str, Any]]:
        rows = []
        for name, values in zip(table.names, table.values.T.tolist(), strict=True):
            last = self._last.get(f"{kind}:{name}", [0.0] * len(values))
            pairs = zip(table.measures, values, last, strict=True)
            if any(abs(v - w) > change_min * max(abs(w), 0.01 if m in RATIOS else 1.0) for m, v, w in pairs):
                self._last[f"{kind}:{name}"] = values
                rows.append({kind: name, **dict(zip(table.measures, values, strict=True))})
        return rows

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        state = {
            "seq": self.seq,
            "configuration": self.configuration,
            "pending": [[k, v] for k, v in sorted(self._pending.items())],
            "last": self._last,
            "counts": self._numbering.counts,
            "partition": self._numbering.partition,
        }
        return pack(SCHEMA, state)

    @classmethod
    def restore(cls, data: bytes) -> "FirmState":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SCHEMA, data)
        self = cls()
        self.seq, self.configuration, self._last = state["seq"], state["configuration"], state["last"]
        self._pending = {int(k): v for k, v in state["pending"]}
        self._numbering.counts, self._numbering.partition = state["counts"], state["partition"]
        return self


class _SecondCauses:
    """The fills of one second; whatever moved in it may be due to any of them."""

    def __init__(self, fills: list[str]) -> None:
        self._fills = [f"fill:{fill}" for fill in fills[:10]]

    def of(self, kind: str, name: str) -> list[str]:
        """Return the fills of the second."""
        return self._fills


def _sum(kind: str, parts: list[dict[str, Any]]) -> Table:
    """Add the sums of all shards, in order of shard; names in order of first mention."""
    total: dict[str, list[float]] = {}
    for part in parts:
        for name, values in part[kind].items():
            have = total.get(name)
            total[name] = list(values) if have is None else [a + b for a, b in zip(have, values, strict=True)]
    measures = WIDE_SCOPES[kind]
    if not total:
        return Table([], measures, np.zeros((len(measures), 0)))
    return Table(list(total), measures, np.array(list(total.values())).T)
