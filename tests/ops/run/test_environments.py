"""dev, test and prod side by side, each with its own keys, folder and bus: what is of one is refused by the others.

The same people sign in all three, so that nothing is refused only because somebody is a stranger.
"""

import json
import re
import sqlite3
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import pytest

from seawall.connectors.keys import SEALER_KEYS_FILE, new_key, read_key_sets, write_limit_document
from seawall.connectors.subscriber import headers_of, sqlite_subscriber
from seawall.dataflows import market, risk, seal
from seawall.ops.demo.order_gateway import OrderGateway
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import UsageError
from seawall.schemas.evidence import AcceptancePolicy, KeySet
from seawall_testing.command_line import Contents, bus_contents, differences, run_command
from seawall_testing.desk import SECOND, T0, account, fill, instrument, lines, mark
from seawall_testing.pipeline import toml_tables
from seawall_testing.signing import (
    CHECKER,
    MAKER,
    SIGNED,
    key_set_entry,
    limit_document,
    signed_limit_document,
    write_key_set,
)

ENVIRONMENTS = ("dev", "test", "prod")
PAIRS = list(permutations(ENVIRONMENTS, 2))
BOOK = [instrument(), account("a"), mark(T0 + 1, "100"), fill(T0 + 2, "f", "a", quantity="1.1"),
        fill(T0 + 2 * SECOND, "g", "a", quantity="0.1")]  # fmt: skip
RULE = {"id": "reduce", "when": {"limit": "cover", "level": "soft"},
        "commands": [{"kind": "REDUCE_ONLY", "target": "account"}]}  # fmt: skip


class Desk(NamedTuple):
    """One environment after its run."""

    name: str
    path: Path

    @property
    def keys(self) -> KeySet:
        return read_key_sets(load_configuration(self.path))[-1]

    def contents(self) -> Contents:
        return bus_contents(self.path.parent, url=f"sqlite:{self.name}.db")

    def commands(self) -> list[str]:
        done = run_command("dump", self.path, "commands")
        assert done.returncode == 0
        return done.stdout.splitlines()

    def mistaken(self, **settings: str) -> Path:
        """Write a configuration beside this one in which some settings are another's; return its path."""
        text = self.path.read_text()
        for name, value in settings.items():
            text, count = re.subn(f'(?m)^{name} = ".*"$', f'{name} = "{value}"', text)
            assert count == 1
        (self.path.parent / "mistake.toml").write_text(text)
        return self.path.parent / "mistake.toml"


def write_desk(folder: Path, environment: str) -> Path:
    """Write a desk with a key set of its environment, and limits that its maker and checker signed for it."""
    issuer, sealer = new_key(folder / "keys/issuer.pem"), new_key(folder / "keys/sealer.pem", SEALER_KEYS_FILE)
    entries = key_set_entry(issuer, "issuer", SIGNED), key_set_entry(sealer, "sealer")
    pinned = write_key_set(folder / "keyset.jsonl", environment, entries)
    document = signed_limit_document(limit_document(iss=f"risk/{environment}", env=environment), MAKER, CHECKER)
    (folder / "limits").mkdir()
    write_limit_document(folder / "limits/0001.json", document)
    (folder / "events.jsonl").write_bytes(lines(*BOOK))
    (folder / "playbook.toml").write_text(toml_tables("rule", [RULE]))
    path = folder / "desk.toml"
    path.write_text(
        f'bus = "sqlite:{environment}.db"\nenvironment = "{environment}"\nissuer = "risk/{environment}"\nshards = 1\n'
        'price_max_age_s = 3600\n[inputs]\nevents = ["events.jsonl"]\n[limits]\ndocuments = ["limits"]\n'
        '[mitigation]\nplaybook = "playbook.toml"\n[keys]\nsigner = "file:keys/issuer.pem"\n'
        f'sealer = "file:keys/sealer.pem"\nset = "keyset.jsonl"\nset_sha256 = "{pinned}"\n'
    )
    return path


@pytest.fixture(scope="module")
def desks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Desk]:
    folder = tmp_path_factory.mktemp("firm")
    found = {name: Desk(name, write_desk(folder / name, name)) for name in ENVIRONMENTS}
    for desk in found.values():
        done = run_command("run", desk.path)
        assert done.returncode == 0, done.stderr
    return found


def refused(path: Path, *options: str) -> str:
    """Run what must not run; return the line that says why."""
    done = run_command("run", path, *options)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


class Heard(NamedTuple):
    """What an order gateway made of commands: why it refused each of them (None: it did not), and what took effect."""

    reasons: set[str | None]
    effects: list[str]


def heard(sender: Desk, receiver: Desk, keys: KeySet) -> Heard:
    """Give the commands of one environment to a gateway of another that knows both issuers."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    policy = AcceptancePolicy("oms", receiver.name, (f"risk/{sender.name}", f"risk/{receiver.name}"))
    subscriber, receipts = sqlite_subscriber(database, policy, keys, OrderGateway(database)), []
    for line in sender.commands():
        record = json.loads(line)
        now_us = json.loads(record["value"])["iat_us"]
        receipts += subscriber.receive(record["value"].encode(), headers_of(record["headers"]), now_us)
    assert receipts
    effects = [kind for (kind,) in database.execute("select type from gateway_effect")]
    return Heard({receipt.reason for receipt in receipts}, effects)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_each_environment_verifies_with_its_own_keys_and_its_commands_take_effect_there(
    desks: dict[str, Desk], name: str
) -> None:
    done = run_command("verify", desks[name].path)
    assert done.returncode == 0, done.stdout
    assert heard(desks[name], desks[name], desks[name].keys) == ({None}, ["REDUCE_ONLY"])


@pytest.mark.parametrize(("sender", "receiver"), PAIRS)
def test_a_command_of_one_environment_has_no_effect_in_another_whosever_keys_it_was_given(
    desks: dict[str, Desk], sender: str, receiver: str
) -> None:
    one, other = desks[sender], desks[receiver]
    assert heard(one, other, other.keys) == ({"KEY_UNKNOWN"}, [])
    assert heard(one, other, one.keys) == ({"WRONG_ENVIRONMENT"}, [])


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_run_refuses_the_key_and_the_key_set_of_another_environment(
    desks: dict[str, Desk], one: str, other: str
) -> None:
    path, configuration = desks[one].path, load_configuration(desks[other].path)
    key = desks[one].mistaken(signer=f"file:../{other}/keys/issuer.pem")
    assert "is no active issuer of the key set: it is not in it" in refused(key)
    pinned = configuration.key_set_sha256
    whole = desks[one].mistaken(set=f"../{other}/keyset.jsonl", set_sha256=pinned)
    assert f"is for {other}, {whole.name} for {one}; environments never mix" in refused(whole)
    assert run_command("run", path).returncode == 0


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_no_dataflow_runs_on_the_bus_of_another_environment_or_changes_a_record_of_it(
    desks: dict[str, Desk], one: str, other: str
) -> None:
    path, before = desks[one].mistaken(bus=f"sqlite:../{other}/{other}.db"), desks[other].contents()
    for dataflow in (market, risk, seal):  # as somebody's own engine starts them
        with pytest.raises(UsageError, match=f"environment is '{one}' but the journal was begun with '{other}'"):
            dataflow.flow(str(path))
    for only in ((), ("--only", "market"), ("--only", "sequence"), ("--only", "risk"), ("--only", "seal")):
        assert f"environment is '{one}' but the journal was begun with '{other}'" in refused(path, *only)
    assert differences(desks[other].contents(), before) == []
    assert run_command("verify", path).returncode == 1
    assert not list(path.parent.glob("*.unsound-*"))


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_limits_that_people_of_both_signed_for_one_environment_are_refused_in_the_other(
    desks: dict[str, Desk], one: str, other: str, tmp_path: Path
) -> None:
    path = write_desk(tmp_path / one, one)
    (path.parent / "limits/0001.json").write_bytes((desks[other].path.parent / "limits/0001.json").read_bytes())
    told = refused(path)
    assert "0001.json: DOCUMENT_MUST_BE_FOR_THIS_ISSUER_AND_ENVIRONMENT" in told
    assert f"it is for risk/{other} in {other}, this is risk/{one} in {one}" in told
