"""A desk in a folder whose fills and prices arrive on topics of the embedded bus, whatever becomes of its run."""

import base64
import hashlib
import json
import random
import signal
import subprocess
import threading
from pathlib import Path
from types import TracebackType

from seawall.connectors.bus import Bus, open_bus, read_all
from seawall.schemas.slices import Slice, decode_slice
from seawall_testing import kafka_live
from seawall_testing.desk import account, instrument, lines
from seawall_testing.live import free_port
from seawall_testing.ran import write_configuration
from seawall_testing.runs import CLI, Done, command, seawall, wait_for

URL = "sqlite:seawall.db"
WAIT_S = 120.0
LIMITS = [{"id": "gross", "scope": "account:*", "measure": "gross_notional", "warning": 40, "soft": 60, "hard": 5000}]


class EmbeddedFeed(kafka_live.Feed):
    """The feed of `kafka_live`, on topics of the embedded bus."""

    def __init__(self, bus: Bus, topics: tuple[str, str], per_second: int) -> None:
        threading.Thread.__init__(self, name="feed")
        self._fills, self._prices = topics
        self._per_second, self._rng = per_second, random.Random(1)
        self._writer = bus.writer([(topic, part) for topic in topics for part in range(kafka_live.PARTITIONS)])
        self._done = threading.Event()
        self.sent, self.bad, self.failed = [], 0, []

    def run(self) -> None:
        number = 0
        while not self._done.wait(0.05):
            for _ in range(max(1, self._per_second // 20)):
                number += 1
                self._send(number)
            self._writer.flush()
        self._writer.close()

    def _produce(self, topic: str, value: bytes, partition: int) -> None:
        self._writer.append(topic, partition, "", value, {})


class LiveDesk:
    """``desk/desk.toml`` below ``root``, fed from the beginning of the block to its end.

    Attributes
    ----------
    env
        What its pages take as given: ``ADDRESS``, where a run of it answers, and ``ADDRESS_B`` for a second one.
    """

    topics = ("fills", "prices")

    def __init__(self, root: Path, per_second: int = 20) -> None:
        self.root, self.folder = root, root / "desk"
        reference = lines(instrument(), *(account(name) for name in kafka_live.ACCOUNTS))
        inputs = {"reference.jsonl": reference}
        self.path = write_configuration(self.folder, inputs, LIMITS, kafka_live.RULES, shards=2)
        listen = f"127.0.0.1:{free_port()}"
        text = self.path.read_text().replace("[inputs]\n", f"[inputs]\ntopics = {json.dumps(self.topics)}\n")
        self.path.write_text(f'bus = "{URL}"\n{text}[health]\nlisten = "{listen}"\ncheck_s = 0.2\n')
        self.env = {"ADDRESS": listen, "ADDRESS_B": f"127.0.0.1:{free_port()}"}
        self._bus = open_bus(URL, self.folder)
        self.feed = EmbeddedFeed(self._bus, self.topics, per_second)

    def __enter__(self) -> "LiveDesk":
        assert seawall("keys", "new", self.folder / "keys/dev.pem").returncode == 0
        self.feed.start()
        return self

    def slices(self) -> list[Slice]:
        """Return the slices of shard 0."""
        return [decode_slice(stored.value) for stored in read_all(self._bus, "journal", 0)]

    def vouch(self) -> None:
        """Let a key set say who signs: owners ada and bob, the key ``signer``, and ``audit`` for the seal."""
        for name in ("ada", "bob", "signer", "audit"):
            done(command("keys", "new", self.root / name / f"{name}.pem"))
        roles = {"ada": "root", "bob": "root", "signer": "issuer", "audit": "sealer"}
        added = [f"{name}:{role}:{self.root / name / 'public.jwks.json'}" for name, role in roles.items()]
        sets = self.root / "sets"
        done(command("keys", "propose", sets, "--environment", "dev", *(p for one in added for p in ("--add", one))))
        for name in ("ada", "bob"):
            done(command("keys", "sign", sets, "--signer", f"file:{self.root / name / name}.pem", "--yes"))
        done(command("keys", "rotate", sets))
        payload = json.loads(next(sets.glob("*.json")).read_bytes())["payload"]
        pinned = hashlib.sha256(base64.b64decode(payload)).hexdigest()
        table = 'signer = "file:../signer/signer.pem"\nsealer = "file:../audit/audit.pem"\nset = "../sets"\n'
        self.path.write_text(f'{self.path.read_text()}[keys]\n{table}set_sha256 = "{pinned}"\n')

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.feed.finish()
        self._bus.close()

    def check_nothing_lost(self, *more: str) -> None:
        """Let a run take what is left; every fill is journaled once, ``more`` too, and the run verifies and replays."""
        self.feed.finish()
        sent = {*self.feed.sent, *more}
        path = self.path
        run = subprocess.Popen([*CLI, "run", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            wait_for(lambda: kafka_live.journaled_fills(URL, self.folder).total() >= len(sent), WAIT_S)
            run.send_signal(signal.SIGTERM)
            _, said = run.communicate(timeout=WAIT_S)
        finally:
            run.kill()
            run.wait()
        assert run.returncode == 0, said.decode()
        assert self.journaled(self.folder) == sent
        check(path)

    def journaled(self, folder: Path) -> set[str]:
        """Return the fills of a journal, each of which stands there once."""
        found = kafka_live.journaled_fills(URL, folder)
        assert found and set(found.values()) == {1}
        return set(found)


def done(ended: Done) -> None:
    """Hold that a command did what it was to do."""
    assert ended.returncode == 0, ended.stderr


def check(where: Path) -> None:
    """Verify and replay a run."""
    for name in ("verify", "replay"):
        ended = seawall(name, where)
        assert ended.returncode == 0, f"{name}: {ended.stdout}{ended.stderr}"
