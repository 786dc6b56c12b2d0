"""Desks that are small files under ``fixtures/desks``: run over the command line, read back from what it dumps."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from seawall_testing.command_line import CommandResult, run_command
from seawall_testing.desk import Json
from seawall_testing.paths import FIXTURES

DESKS = FIXTURES / "desks"
SCOPES = {
    "account": "accounts", "netting_set": "netting_sets", "counterparty": "counterparties", "group": "groups",
    "underlying": "underlyings", "venue": "venues", "instrument": "instruments", "asset": "assets",
}  # fmt: skip


class DeskRun(NamedTuple):
    """A finished run of a desk's files."""

    folder: Path
    done: CommandResult

    def topic(self, name: str) -> list[Json]:
        """Return the values of a topic, in order, as `seawall dump` prints them."""
        dumped = run_command("dump", self.folder, name)
        assert dumped.returncode == 0, dumped.stderr
        return [json.loads(json.loads(line)["value"]) for line in dumped.stdout.splitlines()]

    def commands(self) -> list[tuple[str, str]]:
        """Return kind and target of every signed command."""
        return [(one["type"], f"{one['target']['scope']}:{one['target']['id']}") for one in self.topic("commands")]

    def last(self) -> dict[str, Json]:
        """Return by scope, as ``account:NAME``, the last row that was written, with its ``as_of_us``."""
        found: dict[str, Json] = {}
        for value in self.topic("exposures"):
            at = {"as_of_us": value["as_of_us"]}
            for kind, plural in SCOPES.items():
                found |= {f"{kind}:{row[kind]}": row | at for row in value.get(plural, [])}
            if value.get("firm"):
                found["firm"] = value["firm"] | at
        return found


def read_records(desk: str) -> list[Json]:
    """Return the records of a desk's file of events."""
    return [json.loads(line) for line in (DESKS / desk / "events.jsonl").read_text().splitlines()]


def write_records(path: Path, records: Iterable[Json]) -> None:
    """Write records as JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def run_desk(folder: Path, desk: str, *files: Iterable[Json], settings: str = "") -> DeskRun:
    """Run a desk in a folder that does not exist, with its own events or those of ``files``, and return what it did."""
    shutil.copytree(DESKS / desk, folder)
    names = [f"events{number or ''}.jsonl" for number in range(len(files))] or ["events.jsonl"]
    for name, records in zip(names, files, strict=False):
        write_records(folder / name, records)
    text = (folder / "seawall.toml").read_text().replace('["events.jsonl"]', json.dumps(names))
    (folder / "seawall.toml").write_text(settings + text)
    done = run_command("run", folder / "seawall.toml", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return DeskRun(folder, done)


def without(records: Iterable[Json], *ids: Any) -> list[Json]:
    """Return records without the fills and transfers of these ids."""
    return [one for one in records if one.get("fill_id") not in ids and one.get("transfer_id") not in ids]
