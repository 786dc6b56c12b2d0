"""Who may do what on a cluster with authentication and access control: each role with what is granted, and no more."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from seawall.connectors.bus import cluster_of, open_bus
from seawall.connectors.bus.kafka import read_secret
from seawall.connectors.bus.kafka._provision import Grant
from seawall.ops.kafka.cluster import Cluster
from seawall.schemas.configuration import KafkaTerms
from seawall.schemas.errors import BusError
from seawall_testing import crisis
from seawall_testing.clusters.kafka_broker import USERS, Broker, on_kafka
from seawall_testing.command_line import CLI, bus_contents, differences, seawall

pytestmark = pytest.mark.kafka


def settings(cluster: Cluster, user: str, **changes: str) -> str:
    """Return a table [kafka] that authenticates by name over TLS, the password in the environment."""
    table = {"ca": str(cluster.folder / "tls" / "ca.pem"), "sasl": "SCRAM-SHA-256", "username": user}
    table |= {"password": "env:SEAWALL_TEST_PASSWORD", **changes}
    return "[kafka]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items())


def mutual(cluster: Cluster, name: str) -> str:
    """Return a table [kafka] that authenticates by certificate."""
    tls = cluster.folder / "tls"
    return f'[kafka]\nca = "{tls / "ca.pem"}"\ncertificate = "{tls / f"{name}.pem"}"\nkey = "{tls / f"{name}.key"}"\n'


def grant(broker: Broker, listed: str, principal: str, only: set[str]) -> None:
    """Carry out what `seawall topics acl --json` lists for some roles."""
    admin = AdminClient({"bootstrap.servers": broker.address})
    grants = [{k: v for k, v in entry.items() if k != "principal"} for entry in json.loads(listed)]
    bindings = [Grant(**entry).binding(principal) for entry in grants if entry["role"] in only]
    for made in admin.create_acls(bindings).values():
        made.result(30)


def use(path: Path, address: str, table: str) -> None:
    """Let a configuration talk to another listener."""
    text = path.read_text().split("[kafka]")[0].splitlines(keepends=True)
    prefix = text[0].split('"')[1].rpartition("/")[2]
    path.write_text(f'bus = "kafka://{address}/{prefix}"\n' + "".join(text[1:]) + table)


def test_each_role_runs_with_what_topics_acl_lists_for_it_over_mutual_tls_and_scram(
    broker: Broker, tmp_path: Path
) -> None:
    cluster = broker.own()
    embedded = crisis.write_crisis(tmp_path / "embedded", 10, per_second=20, shards=2)
    assert seawall("run", embedded).returncode == 0
    url = broker.url("roles")
    path = on_kafka(embedded.parent, tmp_path / "kafka", url)
    assert "made " in seawall("topics", "create", path).stdout
    listed = seawall("topics", "acl", path, "--json").stdout
    tls, sasl = cluster.address("TLS"), cluster.address("SASL")
    environment = {"SEAWALL_TEST_PASSWORD": USERS["risk"]}
    grant(broker, listed, "stranger", {"verify"})
    for role, address, table in (
        ("market", tls, mutual(cluster, "market")),
        ("sequence", tls, mutual(cluster, "sequence")),
        ("risk", sasl, settings(cluster, "risk")),
    ):
        use(path, tls, mutual(cluster, "stranger"))  # who may read everything, and write nothing
        done = seawall("run", path, "--only", role)
        assert done.returncode == 2 and "Traceback" not in done.stderr, f"{role}: {done.stderr}"
        assert "AUTHORIZATION_FAILED" in done.stderr and "seawall topics acl" in done.stderr
        grant(broker, listed, role, {role})
        use(path, address, table)
        done = seawall("run", path, "--only", role, env=environment)
        assert done.returncode == 0, f"{role}: {done.stderr}"
        assert USERS["risk"] not in done.stdout + done.stderr + path.read_text()
    use(path, broker.address, "")
    assert seawall("run", path, "--only", "seal").returncode == 0
    assert differences(bus_contents(path.parent, url=url), bus_contents(embedded.parent)) == []


def test_a_mirror_writes_with_what_topics_acl_lists_for_it_and_not_with_less(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = broker.own()
    embedded = crisis.write_crisis(tmp_path / "embedded", 3, shards=2)
    assert seawall("run", embedded).returncode == 0
    url = broker.url("mirror")
    path = on_kafka(embedded.parent, tmp_path / "kafka", url)
    assert "made " in seawall("topics", "create", path).stdout
    listed = seawall("topics", "acl", path, "--json").stdout
    (embedded.parent / "east.toml").write_text(settings(cluster, "stranger"))
    to = f"kafka://{cluster.address('SASL')}/{url.rpartition('/')[2]}?settings=east.toml"
    environment = {"SEAWALL_TEST_PASSWORD": USERS["stranger"]}
    grant(broker, listed, "stranger", {"verify"})
    done = seawall("mirror", embedded, "--to", to, env=environment)
    assert done.returncode == 2 and "authorization" in done.stderr.lower() and "Traceback" not in done.stderr
    assert "seawall topics acl" in done.stderr
    monkeypatch.setenv("SEAWALL_TEST_PASSWORD", USERS["stranger"])
    writer = cluster_of(open_bus(to, embedded.parent)).copier([("acknowledgements", 0)])
    writer.append("acknowledgements", 0, "key", b"{}", {})  # so few that nothing waits for the cluster before `flush`
    with pytest.raises(BusError, match="seawall topics acl"):
        writer.flush()
    writer.close()
    assert "mirror" not in {entry["role"] for entry in json.loads(listed)}  # on a run's own cluster it has no place
    grant(broker, seawall("topics", "acl", path, "--role", "mirror", "--json").stdout, "stranger", {"mirror"})
    done = seawall("mirror", embedded, "--to", to, env=environment)
    assert done.returncode == 0, done.stderr
    assert differences(bus_contents(path.parent, url=url), bus_contents(embedded.parent)) == []


@pytest.mark.parametrize(
    ("listener", "table", "says"),
    [
        ("SASL", {"username": "risk", "password": "wrong"}, "correct username, password or certificate"),
        ("SASL", {"username": "nobody", "password": "wrong"}, "correct username, password or certificate"),
        ("TLS", {"sasl": ""}, "correct ca, certificate and key"),
        ("PLAIN", {"sasl": ""}, "correct ca, certificate and key"),
    ],
    ids=["wrong password", "unknown user", "no certificate", "TLS where there is none"],
)
def test_who_cannot_authenticate_is_told_so_in_one_line(
    broker: Broker, tmp_path: Path, listener: str, table: dict[str, str], says: str
) -> None:
    cluster = broker.own()
    (tmp_path / "password").write_text(table.pop("password", "") + "\n")
    extra = {"ca": str(cluster.folder / "tls" / "ca.pem"), **table}
    if table.get("sasl", "yes"):
        extra |= {"sasl": "SCRAM-SHA-256", "password": "file:password"}
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in extra.items() if value)
    (tmp_path / "client.toml").write_text(f"[kafka]\noutage_s = 5\n{lines}")
    bus = open_bus(f"kafka://{cluster.address(listener)}/x?settings=client.toml", tmp_path)
    with pytest.raises(BusError) as failure:
        bus.topics()
    assert says in str(failure.value) and "\n" not in str(failure.value)
    assert "wrong" not in str(failure.value)


def test_unsafe_topics_are_named_with_what_to_do(broker: Broker, tmp_path: Path) -> None:
    url = broker.url("unsafe")
    path = crisis.write_crisis(tmp_path, 1, per_second=1, shards=2)
    path.write_text(f'bus = "{url}"\n{path.read_text()}')
    found = seawall("topics", "check", path)
    assert found.returncode == 1 and ".journal does not exist" in found.stdout
    assert seawall("topics", "create", path).returncode == 0
    assert seawall("topics", "check", path).returncode == 0
    name = f"{url.rpartition('/')[2]}.journal"
    alter(broker, name, {"cleanup.policy": "compact", "retention.ms": "1000", "max.message.bytes": "1000"})
    found = seawall("topics", "check", path, "--json")
    assert found.returncode == 1
    said = [entry["what"] for entry in json.loads(found.stdout) if entry["topic"] == name]
    assert said == [
        "is compacted: records would vanish from the middle; set cleanup.policy=delete",
        "loses records: set retention.ms=-1",
        "is too narrow for our records: set max.message.bytes=1048576",
    ]


def alter(broker: Broker, topic: str, changed: dict[str, str]) -> None:
    """Change settings of a topic."""
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

    admin = AdminClient({"bootstrap.servers": broker.address})
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in changed.items()]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    for made in admin.incremental_alter_configs([resource]).values():
        made.result(30)


def test_a_line_end_is_no_part_of_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAWALL_TEST_PASSWORD", " p w \n")
    (tmp_path / "password").write_text("p w\n")
    terms = [KafkaTerms(directory=tmp_path, password=name) for name in ("env:SEAWALL_TEST_PASSWORD", "file:password")]
    assert [read_secret(one, "password") for one in terms] == [" p w ", "p w"]


def test_a_secret_is_taken_from_a_file_or_the_environment_and_never_from_the_configuration(tmp_path: Path) -> None:
    path = crisis.write_crisis(tmp_path, 1, per_second=1, shards=2)
    plain: dict[str, Any] = {"sasl": "SCRAM-SHA-256", "username": "u"}
    for password, says in (
        ("hunter2", "password must be"),
        ("env:SEAWALL_NOT_SET", "environment variable SEAWALL_NOT_SET is not set"),
        ("file:not-there", "not-there cannot be read"),
    ):
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in {**plain, "password": password}.items())
        (tmp_path / "desk2.toml").write_text(f'bus = "kafka://127.0.0.1:1/x"\n{path.read_text()}[kafka]\n{lines}')
        done = subprocess.run([*CLI, "run", str(tmp_path / "desk2.toml")], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert says in done.stderr and "hunter2" not in done.stdout + done.stderr and "Traceback" not in done.stderr
