"""The same inputs and key give the same topics on Kafka as on the embedded bus: values, keys, headers, offsets."""

import importlib.util
import os
from pathlib import Path

import pytest

from seawall_testing import crisis
from seawall_testing.kafka import Broker, on_kafka
from seawall_testing.runs import contents, differences, seawall

pytestmark = pytest.mark.kafka
SHARED = Path(__file__).resolve().parents[2] / "shared"
HYPERLIQUID = SHARED / "tools" / "acceptance" / "hyperliquid.py"


def same_on_kafka(folder: Path, broker: Broker, tmp_path: Path, *options: str) -> Path:
    """Run what ran in a folder on Kafka too and compare every record; return the configuration on Kafka."""
    path = on_kafka(folder, tmp_path / "kafka", broker.url())
    done = seawall("run", path, *options, timeout=600)
    assert done.returncode == 0, done.stderr
    url = path.read_text().splitlines()[0].split('"')[1]
    found, wanted = contents(path.parent, url=url), contents(folder)
    assert differences(found, wanted) == []
    assert {"journal", "audit", "checkpoints"} <= {topic for topic, _ in found}
    return path


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on the embedded bus."""
    path = crisis.write_crisis(tmp_path_factory.mktemp("embedded") / "run", 20, per_second=30, shards=4)
    assert seawall("run", path).returncode == 0
    return path.parent


def test_a_run_on_kafka_equals_the_run_on_the_embedded_bus_and_a_second_run_changes_nothing(
    embedded: Path, broker: Broker, tmp_path: Path
) -> None:
    path = same_on_kafka(embedded, broker, tmp_path)
    for command in ("verify", "replay", "run"):
        done = seawall(command, path)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    url = path.read_text().splitlines()[0].split('"')[1]
    assert differences(contents(path.parent, url=url), contents(embedded)) == []


@pytest.mark.parametrize("options", [("--workers", "2"), ("--processes", "2")], ids=["2 workers", "2 processes"])
def test_workers_and_processes_change_no_byte_on_kafka(
    embedded: Path, broker: Broker, tmp_path: Path, options: tuple[str, str]
) -> None:
    same_on_kafka(embedded, broker, tmp_path, *options)


@pytest.mark.soak
def test_the_demo_through_kafka_equals_the_demo(broker: Broker, tmp_path: Path) -> None:
    done = seawall("demo", "--dir", tmp_path / "demo", timeout=280)
    assert done.returncode == 0, done.stderr
    same_on_kafka(tmp_path / "demo", broker, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not HYPERLIQUID.exists(), reason="the account data of Hyperliquid is not here")
def test_the_hyperliquid_accounts_through_kafka_equal_the_embedded_run(broker: Broker, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("hyperliquid", HYPERLIQUID)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path / "embedded"
    folder.mkdir()
    fills = None if os.environ.get("SEAWALL_ACCOUNTS") else 5_000  # the whole export takes minutes
    module.write(folder, fills)
    done = seawall("run", folder / "desk.toml", timeout=900)
    assert done.returncode == 0, done.stderr
    same_on_kafka(folder, broker, tmp_path)
