"""OAUTHBEARER: a run that authenticates with tokens of an identity provider, and what is said where it gives none."""

import base64
import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs

import pytest
from confluent_kafka.admin import AdminClient

from seawall.connectors.bus.kafka._provision import Grant
from seawall_testing import crisis
from seawall_testing.clusters.kafka_broker import Broker, on_kafka
from seawall_testing.command_line import bus_contents, differences, seawall

pytestmark = pytest.mark.kafka
CLIENT, SECRET = "oauth-desk", "a-secret-of-oauth"
ROLES = {"market", "sequence", "risk", "seal"}


def encoded(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


class Provider(http.server.BaseHTTPRequestHandler):
    """Gives a token, which the broker of the tests takes unsigned, to whoever knows the secret."""

    scopes: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.scopes.extend(form.get("scope", []))
        wanted = "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if self.headers["Authorization"] != wanted:
            self.answer(401, {"error": "invalid_client"})
            return
        now = int(time.time())
        claims = {"sub": CLIENT, "iat": now, "exp": now + 3600, "scope": "kafka"}
        token = f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{encoded(claims)}."
        self.answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 3600})

    def answer(self, code: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def provider() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/token"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_run_authenticates_with_tokens_and_says_nothing_of_its_secret(
    broker: Broker, provider: str, tmp_path: Path
) -> None:
    cluster, url = broker.own(), broker.url("oauth")
    embedded = crisis.write_crisis(tmp_path / "embedded", 3, shards=2)
    assert seawall("run", embedded).returncode == 0
    path = on_kafka(embedded.parent, tmp_path / "kafka", url)
    assert seawall("topics", "create", path).returncode == 0
    listed = json.loads(seawall("topics", "acl", path, "--json").stdout)
    grants = [Grant(**{k: v for k, v in entry.items() if k != "principal"}) for entry in listed]
    bindings = {grant.binding(CLIENT) for grant in grants if grant.role in ROLES}
    admin = AdminClient({"bootstrap.servers": broker.address})
    for made in admin.create_acls(list(bindings)).values():
        made.result(30)
    terms = {"ca": str(cluster.folder / "tls" / "ca.pem"), "sasl": "OAUTHBEARER", "token_url": provider}
    terms |= {"client_id": CLIENT, "client_secret": "env:DESK_SECRET", "scope": "kafka"}
    table = "[kafka]\noutage_s = 5\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in terms.items())
    text = path.read_text().replace(broker.address, cluster.address("SASL"))
    path.write_text(text + table)
    refused = seawall("run", path, env={"DESK_SECRET": "not-" + SECRET})
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "invalid_client" in refused.stderr and "client_secret" in refused.stderr, refused.stderr
    done = seawall("run", path, env={"DESK_SECRET": SECRET})
    assert done.returncode == 0, done.stderr
    assert set(Provider.scopes) == {"kafka"}
    assert differences(bus_contents(path.parent, url=url), bus_contents(embedded.parent)) == []
    assert SECRET not in refused.stdout + refused.stderr + done.stdout + done.stderr
    assert all(SECRET.encode() not in file.read_bytes() for file in path.parent.rglob("*") if file.is_file())
