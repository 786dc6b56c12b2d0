"""Sealed runs: what the command line seals, proves and finds, on real runs in processes of their own."""

import contextlib
import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest

from seawall.connectors.bus import open_bus
from seawall.connectors.keys import _key_files
from seawall.connectors.transparency_log import LogFolder
from seawall.connectors.witness import Witness, serve
from seawall.ops.verify import read_log_keys
from seawall.schemas.evidence import decode_base64url
from seawall.schemas.transparency import COSIGNATURE, Checkpoint, Note, NoteKey, leaf_hash
from seawall_testing import crisis
from seawall_testing.command_line import CLI, bus_contents, differences, run_command, seawall, wait_for
from seawall_testing.trees import tree_root

SHARDS = 2
PARTITIONS = range(SHARDS + 1)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of which one log has more than 256 records."""
    path = crisis.write_crisis(tmp_path_factory.mktemp("sealed") / "run", 30, per_second=40, shards=SHARDS)
    done = seawall("run", path)
    assert done.returncode == 0, done.stderr
    (path.parent / "logs.vkeys").write_text(seawall("audit", "keys", path.parent).stdout)
    return path.parent


@pytest.fixture
def copy(sealed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sealed, tmp_path / "copy"))


def audit(folder: Path, partition: int) -> list[bytes]:
    return [value for *_, value in bus_contents(folder, ["audit"])["audit", partition]]


def change(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "seawall.db")) as db:
        db.execute(statement, values)
        db.commit()


def test_each_checkpoint_is_the_root_over_all_audit_records_before_it(sealed: Path) -> None:
    trusted = read_log_keys((sealed / "logs.vkeys").read_text())
    for partition in PARTITIONS:
        hashes = [leaf_hash(value) for value in audit(sealed, partition)]
        records = bus_contents(sealed, ["checkpoints"])["checkpoints", partition]
        found = [Checkpoint.parse(Note.open(value, trusted).text) for *_, value in records]
        assert [one.root for one in found] == [tree_root(hashes[: one.size]) for one in found]
        assert found[-1].size == len(hashes)
        assert LogFolder.of_partition(sealed, partition).checkpoint() == records[-1][3]


def test_one_log_spans_several_tiles(sealed: Path) -> None:
    assert max(len(audit(sealed, partition)) for partition in PARTITIONS) > 256


def test_a_command_is_proven_offline_with_the_public_keys_alone(sealed: Path, tmp_path: Path) -> None:
    proof, trusted = tmp_path / "command.tlog-proof", tmp_path / "logs.vkeys"
    shutil.copy(sealed / "logs.vkeys", trusted)
    dumped = [json.loads(line) for line in seawall("dump", sealed, "commands").stdout.splitlines()]
    for give, record in zip((seawall, run_command, run_command), dumped, strict=False):  # the first in processes
        name = f"commands:{record['headers']['seawall-id']}"
        assert give("audit", "prove", name, sealed, "--out", proof).returncode == 0
        told = json.loads(give("audit", "check", proof, "--keys", trusted, "--json").stdout)
        assert told["record"]["body"]["id"] == record["headers"]["seawall-id"]
        digest = json.loads(record["value"])["id"]
        assert give("audit", "prove", digest, sealed).stdout == proof.read_text()


def test_a_proof_of_a_changed_record_or_under_another_key_is_refused(sealed: Path, tmp_path: Path) -> None:
    proof = tmp_path / "one.tlog-proof"
    proof.write_text(run_command("audit", "prove", "0-1-0", sealed).stdout)
    lines = proof.read_text().splitlines(keepends=True)
    other = (sealed / "logs.vkeys").read_text().splitlines()[1]
    (tmp_path / "other").write_text(other + "\n")
    done = run_command("audit", "check", proof, "--keys", tmp_path / "other")
    assert done.returncode == 2
    assert "no key of the log risk/dev/audit/dev/0" in done.stderr
    proof.write_text("".join([lines[0], lines[1].replace("Y", "Z", 1), *lines[2:]]))
    assert run_command("audit", "check", proof, "--keys", sealed / "logs.vkeys").returncode == 1


@pytest.mark.parametrize("name", ["9-9-9", "commands:0-0-99", "nonsense", "f" * 64])
def test_an_id_that_is_nowhere_is_named(sealed: Path, name: str) -> None:
    done = run_command("audit", "prove", name, sealed)
    assert done.returncode == 2
    assert name in done.stderr


def test_a_log_is_checked_from_its_tiles_alone_and_a_changed_bundle_is_found(copy: Path, tmp_path: Path) -> None:
    shutil.copytree(copy / "tiles", tmp_path / "tiles")
    log, trusted = tmp_path / "tiles" / "audit" / "0", copy / "logs.vkeys"
    assert run_command("audit", "check", log, "--keys", trusted).returncode == 0
    bundle = log / "tile" / "entries" / "000"
    bundle.write_bytes(bundle.read_bytes().replace(b'"kind":"slice"', b'"kind":"slise"', 1))
    done = run_command("audit", "check", log, "--keys", trusted)
    assert done.returncode == 1
    assert "ROOT" in done.stdout


def test_a_log_that_no_longer_holds_what_a_kept_checkpoint_sealed_is_found_without_the_run(
    sealed: Path, tmp_path: Path
) -> None:
    log, trusted = sealed / "tiles" / "audit" / "0", sealed / "logs.vkeys"
    kept = [record[3] for record in bus_contents(sealed, ["checkpoints"])["checkpoints", 0]]
    (tmp_path / "first").write_bytes(kept[0])
    assert run_command("audit", "check", log, "--keys", trusted, "--older", tmp_path / "first").returncode == 0
    shutil.copytree(log, tmp_path / "log")
    (tmp_path / "log" / "checkpoint").write_bytes(kept[0])
    done = run_command("audit", "check", tmp_path / "log", "--keys", trusted, "--older", log / "checkpoint")
    assert (done.returncode, "TRUNCATED" in done.stdout) == (1, True), done.stderr
    done = run_command("audit", "check", log, "--keys", trusted, "--older", tmp_path / "nowhere")
    assert (done.returncode, "nowhere does not exist" in done.stderr) == (2, True)


def test_tiles_that_are_gone_are_named_and_written_again_by_the_next_run(copy: Path, sealed: Path) -> None:
    shutil.rmtree(copy / "tiles")
    done = run_command("verify", copy)
    assert done.returncode == 1
    assert "tiles/0" in done.stdout
    assert seawall("run", copy / "desk.toml").returncode == 0
    assert run_command("verify", copy).returncode == 0
    assert differences(bus_contents(copy), bus_contents(sealed)) == []


def test_one_tile_that_is_gone_is_written_again_by_the_next_run(copy: Path, sealed: Path) -> None:
    partition = next(partition for partition in PARTITIONS if len(audit(sealed, partition)) > 256)
    tile = LogFolder.of_partition(copy, partition).path / "tile" / "entries" / "000"
    tile.write_bytes(b"")  # as a disk may leave it whose power was cut
    assert run_command("verify", copy).returncode == 1
    assert seawall("run", copy / "desk.toml").returncode == 0
    assert run_command("verify", copy).returncode == 0
    assert (
        tile.read_bytes() == (LogFolder.of_partition(sealed, partition).path / "tile" / "entries" / "000").read_bytes()
    )
    assert differences(bus_contents(copy), bus_contents(sealed)) == []


def test_a_log_that_cannot_be_written_stops_the_run_with_advice_and_the_next_one_goes_on(
    copy: Path, sealed: Path
) -> None:
    shutil.rmtree(copy / "tiles")
    way = copy / "tiles" / "audit" / "0" / "checkpoint" / "in the way"
    way.mkdir(parents=True)
    done = seawall("run", copy / "desk.toml")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert f"the log in {way.parents[1]} cannot be written" in done.stderr
    assert "run again to continue" in done.stderr
    shutil.rmtree(way.parent)
    assert seawall("run", copy / "desk.toml").returncode == 0
    assert run_command("verify", copy).returncode == 0
    assert differences(bus_contents(copy), bus_contents(sealed)) == []


def test_a_changed_tile_is_named_with_what_to_do_next(copy: Path) -> None:
    tile = copy / "tiles" / "audit" / "0" / "tile" / "0" / "000"
    tile.write_bytes(bytes(32) + tile.read_bytes()[32:])
    done = run_command("verify", copy)
    assert done.returncode == 1
    assert f"{tile} does not hold what the audit gives [TILES]" in done.stdout
    assert "next: move the folder recovery-seal away" in done.stdout


def test_a_partition_that_was_cut_whole_with_its_checkpoints_is_told_from_one_that_is_unfinished(copy: Path) -> None:
    change(copy, "delete from records where topic in ('audit', 'checkpoints') and partition = 0")
    done = run_command("verify", copy)
    assert done.returncode == 1 and "checkpoint says that records were sealed: cut [CHECKPOINT]" in done.stdout


def test_a_checkpoint_that_was_replaced_stops_the_next_sealer(copy: Path) -> None:
    other = bus_contents(copy, ["checkpoints"])["checkpoints", 0][1][3]
    change(copy, "update records set value = ? where topic = 'checkpoints' and partition = 0 and offset = 0", other)
    shutil.rmtree(copy / "recovery-seal")
    done = seawall("run", copy / "desk.toml")
    assert done.returncode == 2
    assert "offset 0 of checkpoints/0 is not the checkpoint of" in done.stderr
    assert "Traceback" not in done.stderr


def test_seal_alone_finishes_what_the_others_left_and_cut_audit_stops_it(copy: Path, sealed: Path) -> None:
    change(copy, "delete from records where topic = 'checkpoints'")
    assert seawall("run", copy / "desk.toml", "--only", "seal").returncode == 0
    assert differences(bus_contents(copy), bus_contents(sealed)) == []
    change(copy, "delete from records where topic = 'audit' and partition = 0 and offset > 100")
    change(copy, "update records set value = replace(value, '\"as_of_us\"', '\"end\":true,\"as_of_us\"') "
                 "where topic = 'audit' and partition = 0 and offset = 100")  # fmt: skip
    done = seawall("run", copy / "desk.toml", "--only", "seal")
    assert done.returncode == 2
    assert "audit/0" in done.stderr or "checkpoints/0" in done.stderr


def test_a_live_log_is_sealed_while_little_happens_and_verifies_when_the_run_was_stopped(tmp_path: Path) -> None:
    path = crisis.write_crisis(tmp_path / "run", 1, per_second=5, shards=SHARDS)
    path.write_text(path.read_text().replace("[inputs]", '[inputs]\ntopics = ["signals"]'))
    with subprocess.Popen([*CLI, "run", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as live:
        try:
            wait_for((path.parent / "seawall.db").exists)
            bus = open_bus("sqlite:seawall.db", path.parent)
            wait_for(lambda: all(bus.end("checkpoints", partition) >= 3 for partition in PARTITIONS))
        finally:
            live.send_signal(signal.SIGTERM)
        _, err = live.communicate(timeout=120)
    assert live.returncode == 0, err
    for partition in PARTITIONS:
        assert len(audit(path.parent, partition)) < 256  # so it was the clock that sealed
    for command in ("verify", "replay"):
        done = seawall(command, path.parent)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_witness_cosigns_what_extends_what_it_saw(copy: Path, tmp_path: Path) -> None:
    signer = _key_files.new_key(tmp_path / "witness" / "w.pem")
    logs = {key.name: [key] for key in read_log_keys((copy / "logs.vkeys").read_text())}
    witness = Witness(tmp_path / "w.db", "witness.example/w1", signer, logs)
    server = serve(witness, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    line = f"http://127.0.0.1:{server.server_address[1]} {witness.key.vkey}"
    text = (copy / "desk.toml").read_text().replace("[limits]", f'[keys]\nwitnesses = ["{line}"]\n[limits]')
    (copy / "desk.toml").write_text(text)
    shutil.rmtree(copy / "tiles")
    assert seawall("run", copy / "desk.toml").returncode == 0
    server.shutdown()
    assert run_command("verify", copy).returncode == 0
    (copy / "logs.vkeys").write_text(run_command("audit", "keys", copy).stdout)
    (tmp_path / "p").write_text(run_command("audit", "prove", "0-1-0", copy).stdout)
    told = run_command("audit", "check", tmp_path / "p", "--keys", copy / "logs.vkeys", "--witnesses", 1)
    assert told.returncode == 0, told.stderr
    assert "cosigned by witness.example/w1" in told.stdout


def test_a_witness_whose_answer_is_none_holds_no_run_up(copy: Path, tmp_path: Path) -> None:
    raw = decode_base64url(_key_files.new_key(tmp_path / "witness" / "w.pem").public_jwk()["x"])
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(65_536)
                        connection.sendall(b"SSH-2.0-OpenSSH_9\r\n")

        threading.Thread(target=answer, daemon=True).start()
        line = f"http://127.0.0.1:{server.getsockname()[1]} {NoteKey.named('w', raw, COSIGNATURE).vkey}"
        text = (copy / "desk.toml").read_text().replace("[limits]", f'[keys]\nwitnesses = ["{line}"]\n[limits]')
        (copy / "desk.toml").write_text(text)
        shutil.rmtree(copy / "tiles")
        done = seawall("run", copy / "desk.toml")
        server.shutdown(socket.SHUT_RDWR)
    assert done.returncode == 0, done.stderr
    assert "stands without the witness w: " in done.stderr
    assert run_command("verify", copy).returncode == 0
