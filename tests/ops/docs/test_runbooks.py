"""Every runbook is followed to the letter, by real processes, while fills and prices go on arriving.

After each, whatever was killed, removed or changed on the way: every fill that was sent stands in the journal exactly
once, and the run verifies and replays.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from seawall.ops.kafka.cluster import Cluster
from seawall_testing.clusters import kafka_broker
from seawall_testing.clusters.kafka_broker import require_broker
from seawall_testing.command_line import wait_for
from seawall_testing.doc_blocks import follow_pages
from seawall_testing.live_runs import LiveDesk, check_verifies, free_port
from seawall_testing.paths import DOCS, ROOT

RUNBOOKS = DOCS / "runbooks"


def page(name: str) -> Path:
    return RUNBOOKS / f"{name}.md"


def test_a_desk_is_started_and_stopped_as_the_pages_say(live_desk: LiveDesk) -> None:
    follow_pages([page("start"), page("stop")], live_desk.root, live_desk.env)
    live_desk.check_nothing_lost()


@pytest.mark.soak
def test_a_desk_is_rescaled_and_what_it_loses_comes_back(live_desk: LiveDesk) -> None:
    losses = ("lost-recovery-store", "corrupt-snapshot", "rescale", "lost-worker")
    follow_pages([page(name) for name in ("start", *losses, "stop")], live_desk.root, live_desk.env)
    live_desk.check_nothing_lost()


@pytest.mark.soak
def test_a_stand_in_takes_over_from_a_killed_sequencer(live_desk: LiveDesk) -> None:
    follow_pages([page("sequencer-failover")], live_desk.root, live_desk.env)
    live_desk.check_nothing_lost()


@pytest.mark.soak
def test_a_region_that_is_gone_is_brought_back_from_a_backup_and_then_from_a_mirror(live_desk: LiveDesk) -> None:
    follow_pages([page("start"), page("region-failover")], live_desk.root, live_desk.env)
    assert live_desk.journaled(live_desk.root / "other") < set(live_desk.feed.sent)
    check_verifies(live_desk.root / "other")


@pytest.mark.soak
def test_a_regulator_gets_a_copy_that_proves_what_was_decided(live_desk: LiveDesk) -> None:
    follow_pages([page("start"), page("stop"), page("replay-for-a-regulator")], live_desk.root, live_desk.env)
    assert not list((live_desk.root / "evidence").rglob("*.pem"))
    live_desk.check_nothing_lost()


@pytest.mark.soak
def test_a_venue_is_added_to_a_desk_that_runs(live_desk: LiveDesk) -> None:
    follow_pages([page("start"), page("adding-a-venue"), page("stop")], live_desk.root, live_desk.env)
    live_desk.check_nothing_lost("nova/1")


@pytest.mark.soak
def test_another_slice_length_has_the_same_book(live_desk: LiveDesk) -> None:
    wait_for(lambda: len(live_desk.feed.sent) > 100)
    live_desk.feed.finish()  # the page says that producers stop
    follow_pages([page("start"), page("changing-slice-length")], live_desk.root, live_desk.env)
    assert live_desk.journaled(live_desk.root / "desk-50") == set(live_desk.feed.sent)
    check_verifies(live_desk.folder)


@pytest.mark.soak
def test_a_stolen_key_signs_nothing_that_counts_any_more(live_desk: LiveDesk) -> None:
    live_desk.vouch()
    follow_pages([page("start"), page("key-compromise")], live_desk.root, live_desk.env)
    live_desk.check_nothing_lost()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The wheel of a version after this one."""
    source, left_out = tmp_path / "source", shutil.ignore_patterns(".*", "build", "*.egg-info", "tests", "__pycache__")
    shutil.copytree(ROOT, source, symlinks=True, ignore=left_out)
    for name in ("pyproject.toml", "ops/package/seawall/__init__.py"):
        text = (source / name).read_text()
        assert '"0.2.0"' in text
        (source / name).write_text(text.replace('"0.2.0"', '"0.2.1"'))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path / "wheel")]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True)
    return next((tmp_path / "wheel").glob("*.whl"))


@pytest.mark.soak
def test_a_new_version_goes_on_where_the_old_one_stopped(live_desk: LiveDesk, release: Path) -> None:
    # What both depend on is installed already; Seawall itself is not found there, being installed from its sources.
    env = {
        "RELEASE": str(release),
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PYTHONPATH": sysconfig.get_path("purelib"),
    }
    follow_pages([page("start"), page("upgrade"), page("stop")], live_desk.root, {**live_desk.env, **env})
    versions = {piece.configuration["code"] for piece in live_desk.slices() if piece.configuration is not None}
    assert versions == {"0.2.0", "0.2.1"}
    check_verifies(live_desk.folder)


@pytest.mark.kafka
def test_one_of_three_brokers_is_lost_and_the_desk_goes_on(tmp_path: Path) -> None:
    require_broker()
    cluster = Cluster(tmp_path / "cluster", 3)
    cluster.start()
    url = f"kafka://{cluster.address()}/desk"
    path = kafka_broker.write_kafka_desk(tmp_path / "desk", url)
    listen = f"127.0.0.1:{free_port()}"
    path.write_text(f'{path.read_text()}[health]\nlisten = "{listen}"\ncheck_s = 0.5\n')
    feed = kafka_broker.Feed(url, per_second=20)
    feed.start()
    try:
        env = {"ADDRESS": listen, "BROKER_PID": str(cluster.pids()[2])}
        follow_pages([page("start"), page("lost-broker")], tmp_path, env)
        feed.finish()
        assert set(kafka_broker.journaled_fills(url, path.parent).values()) == {1}
        check_verifies(path)
    finally:
        feed.finish()
        cluster.stop()
