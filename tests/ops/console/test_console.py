"""The console shows what stands, to those who may look, in a real browser; it writes nothing and loads nothing else."""

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from seawall.connectors.bus import open_bus
from seawall.ops.console import Terms, serve
from seawall.ops.console._access import Access, is_loopback, read_token
from seawall.ops.kafka.cluster import write_certificates
from seawall.ops.run import run
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import UsageError
from seawall_testing.command_line import CLI, bus_contents, differences, wait_for
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, lines, mark
from seawall_testing.live_runs import free_port, send, starting_runs, wait_for_endpoint, write_live
from seawall_testing.pipeline import write_configuration
from seawall_testing.playbooks import rule

MARKUP = "<img src=x onerror=\"document.title='owned'\"><script>alert(1)</script>"
LIMIT: Json = {"id": "gross", "scope": "account:*", "measure": "gross_notional", "direction": "above", "soft": 200.0}
HALT = rule("stop", {"limit": "gross", "level": "soft"}, ("HALT_TRADING", "account"))
TOKEN = "a-token-of-the-tests-that-nobody-guesses"


@contextmanager
def console(folder: Path, *options: str, port: int = 0) -> Iterator[str]:
    """Run the console of a desk; yield the address that it told, once it answers."""
    port = port or free_port()
    arguments = [*CLI, "console", str(folder), "--listen", f"127.0.0.1:{port}", *options]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stderr is not None
        told = process.stderr.readline().strip()
        assert told.startswith("http"), told + process.stderr.read()
        yield told
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=120)
    assert process.returncode == 0


def asked(address: str, path: str, **headers: str) -> tuple[int, bytes, Any]:
    """Ask without a browser; post where a body is given."""
    body = headers.pop("body", None)
    request = urllib.request.Request(address + path, None if body is None else body.encode(), headers)
    for _ in range(200):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers
        except urllib.error.URLError:  # it has said where it will listen, and does not yet
            time.sleep(0.05)
    raise AssertionError(f"{address} does not answer")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that is over: a breach, a command, and a venue that says markup."""
    folder = tmp_path_factory.mktemp("desk")
    down = {"type": "venue_status", "venue": "v", "status": "degraded", "detail": MARKUP}
    events = [instrument(), account("a"), mark(T0), fill(T0 + SECOND, "f1"), fill(T0 + 2 * SECOND, "f2")]
    events += [{**down, "event_time_us": T0 + 2 * SECOND}, mark(T0 + 3 * SECOND)]
    path = write_configuration(folder, {"all.jsonl": lines(*events)}, [LIMIT], [HALT], shards=2)
    run(load_configuration(path))
    return folder


@pytest.fixture(scope="module")
def served(finished_run: Path) -> Iterator[tuple[str, str]]:
    """Yield the address of the desk's console, and its token."""
    token = finished_run / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    with console(finished_run, "--token-file", str(token)) as address:
        yield address.removesuffix("/login"), TOKEN


def state(served: tuple[str, str]) -> Json:
    address, token = served
    found: list[Json] = []

    def settled() -> bool:
        found[:] = [json.loads(asked(address, "/api/state", Authorization=f"Bearer {token}")[1])]
        return bool(found[0].get("audit")) and not found[0]["replaying"] and bool(found[0]["incidents"])

    wait_for(settled)
    return found[0]


def test_the_state_is_that_of_the_reports(served: tuple[str, str]) -> None:
    found = state(served)
    party = found["counterparties"][0]
    assert party["name"] == "a" and party["gross_notional"] == 300.0
    assert party["worst"]["limit"] == "gross" and party["utilisation"] == 1.5 and party["worst"]["level"] == "soft"
    causes = {one["cause"]: one for one in found["incidents"]}
    assert [c["kind"] for c in causes["limit gross on account:a"]["commands"]] == ["HALT_TRADING"]
    assert MARKUP in json.dumps(causes["venue v"]["story"]).replace('\\"', '"')
    assert [one["sealed"] for one in found["audit"]] == [one["records"] for one in found["audit"]]
    assert found["history"][0]["outcome"] == "file"


def test_nothing_is_shown_to_who_does_not_say_who_he_is(served: tuple[str, str]) -> None:
    address, token = served
    for path in ("/api/state", "/api/stream", "/api/forecasts"):
        assert asked(address, path)[0] == 401
        assert asked(address, path, Authorization="Bearer wrong")[0] == 401
        assert asked(address, path, Cookie="seawall_session=guessed")[0] == 401
    assert asked(address, "/api/verify", body="")[0] == 401
    assert asked(address, "/")[1] == asked(address, "/login")[1]  # sent on to the page that asks
    assert asked(address, "/login", body="not it")[0] == 401
    assert asked(address, "/api/state", Host="evil.example", Authorization=f"Bearer {token}")[0] == 400
    code, _, headers = asked(address, "/login", body=token)
    cookie = headers["set-cookie"]
    assert code == 204 and "HttpOnly" in cookie and "SameSite=strict" in cookie and token not in cookie
    assert asked(address, "/api/state", Cookie=cookie.partition(";")[0])[0] == 200
    assert asked(address, "/static/../app.py")[0] == 404 and asked(address, "/static/%2e%2e%2fapp.py")[0] == 404


def test_every_answer_carries_the_policy_and_pages_name_nothing_from_elsewhere(served: tuple[str, str]) -> None:
    address, token = served
    for path in ("/login", "/", "/forecasts", "/static/console.js", "/static/none.js"):
        _, body, headers = asked(address, path, Authorization=f"Bearer {token}")
        assert "default-src 'none'" in headers["content-security-policy"] and "unsafe" not in str(headers)
        assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"") and b"https://" not in body
        assert not re.search(rb"innerHTML|insertAdjacentHTML|document\.write|eval\(|<[^>]+ (style|on\w+)=", body)


def test_verification_needs_the_header_that_other_sites_cannot_send_and_finds_what_was_changed(
    served: tuple[str, str], finished_run: Path
) -> None:
    address, token = served
    bearer = {"Authorization": f"Bearer {token}", "body": ""}
    assert asked(address, "/api/verify", **bearer)[0] == 403
    assert asked(address, "/api/verify", Authorization=f"Bearer {token}")[0] == 405
    before = bus_contents(finished_run)
    found = json.loads(asked(address, "/api/verify", **bearer, **{"X-Seawall": "verify"})[1])
    assert found["good"] and found["records"] > 10 and not found["findings"]
    assert not differences(bus_contents(finished_run), before)


def test_a_console_that_others_reach_needs_tls_and_a_reason_to_let_them_look(
    tmp_path: Path, finished_run: Path
) -> None:
    configuration, plain = (
        load_configuration(finished_run / "desk.toml"),
        Terms("0.0.0.0:0", None, None, None, None, ""),
    )
    pem = tmp_path / "x.pem"
    for terms, said in (
        (plain, "--certificate and --key"),
        (plain._replace(certificate=pem, key=pem), "--token-file or --client-ca"),
        (plain._replace(listen="here"), "write HOST:PORT"),
        (plain._replace(listen="127.0.0.1:0", client_ca=pem), "belong together"),
        (plain._replace(listen="127.0.0.1:0", certificate=pem, key=pem), "cannot be used"),
    ):
        with pytest.raises(UsageError, match=said):
            serve(configuration, terms)
    assert is_loopback("::1") and is_loopback("localhost") and not is_loopback("example.org")


def test_a_token_file_that_others_may_read_or_that_is_short_is_refused(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        read_token(token)
    token.chmod(0o600)
    assert read_token(token) == TOKEN
    token.write_text("short")
    with pytest.raises(UsageError, match="fewer than 20"):
        read_token(token)


def test_sessions_are_bounded_and_a_stranger_has_none() -> None:
    access = Access(TOKEN)
    first = access.begin()
    assert access.allows(first, "") and not access.allows("", "") and not access.allows("", f"Basic {TOKEN}")
    for _ in range(1000):
        access.begin()
    assert not access.allows(first, "")


def test_with_mutual_tls_only_those_with_a_certificate_look(tmp_path: Path, finished_run: Path) -> None:
    write_certificates(tmp_path, ["officer"])
    server = str(tmp_path / "broker.pem")
    options = ("--certificate", server, "--key", server, "--client-ca", str(tmp_path / "ca.pem"))
    with console(finished_run, *options) as address:
        assert address.startswith("https://") and "#" not in address
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        url = address.replace("/login", "/api/state")
        with pytest.raises(OSError):
            urllib.request.urlopen(url, context=context, timeout=60)
        context.load_cert_chain(tmp_path / "officer.pem", tmp_path / "officer.key")
        wait_for(lambda: _answers(url, context))


def _answers(url: str, context: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(url, context=context, timeout=60) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with browser() as found:
        yield found


def text(page: Any, id: str) -> str:
    return str(page.execute_script("return document.getElementById(arguments[0])?.innerText || ''", id))


def press(page: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(page).send_keys(key).perform()


def enter(page: Any, address: str, token: str) -> None:
    """Look at the page that asks, and give the token as a person does."""
    page.delete_all_cookies()
    page.get(f"{address}/login")
    press(page, token, "\ue007")
    wait_for(lambda: "following" in page.execute_script("return document.body.innerText"))


@pytest.mark.browser
def test_screens_from_a_phone_to_a_wall_show_everything_light_and_dark(
    page: Any, served: tuple[str, str], tmp_path: Path
) -> None:
    state(served)
    enter(page, *served)
    for name, width, dark in (
        ("phone", 360, False),
        ("desktop", 1440, False),
        ("dark", 1440, True),
        ("wall", 2560, True),
    ):
        show(page, width, 1400, dark)
        wait_for(lambda: "limit gross on account:a" in text(page, "incidents-list"))
        assert page.execute_script("return document.documentElement.scrollWidth") == width, name
        ground = page.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
        assert (
            sum(map(int, re.findall(r"\d+", ground)[:3])) < 150
            if dark
            else sum(map(int, re.findall(r"\d+", ground)[:3])) > 600
        )
        page.save_screenshot(str(tmp_path / f"{name}.png"))
        assert (tmp_path / f"{name}.png").stat().st_size > 20_000
    assert complaints(page) == []


@pytest.mark.browser
def test_what_a_venue_says_is_text_and_never_markup(page: Any, served: tuple[str, str]) -> None:
    state(served)
    enter(page, *served)
    wait_for(lambda: "venue v" in text(page, "incidents-list"))
    page.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert MARKUP in text(page, "incidents-list")
    assert page.execute_script("return document.querySelectorAll('main img, main script').length") == 0
    assert "owned" not in page.title
    with pytest.raises(Exception, match="TrustedHTML"):  # and who forgets cannot make markup of it
        page.execute_script("document.body.innerHTML = '<b>x</b>'")
    assert any("TrustedHTML" in one for one in complaints(page))


@pytest.mark.browser
def test_a_person_walks_through_an_incident_with_the_keyboard(page: Any, tmp_path: Path) -> None:
    path = write_live(tmp_path, ("fills", "acknowledgements"), ([LIMIT], [HALT]), stuck_s=30)
    with starting_runs() as start:
        start(path)
        wait_for_endpoint(path, "ready", lambda code, _: code == 200)
        with console(tmp_path) as told:
            page.delete_all_cookies()
            show(page, 1280, 900)
            wait_for(lambda: asked(told.partition("/login")[0], "/live")[0] == 200)
            page.get(told)  # the address from the terminal lets in by itself
            wait_for(lambda: "no open incident" in text(page, "incidents-list"))
            assert TOKEN not in page.current_url and "#" not in page.current_url
            now = time.time_ns() // 1000
            send(tmp_path, "fills", mark(now), fill(now, "f1"), fill(now, "f2"))
            wait_for(lambda: "limit gross on account:a" in text(page, "incidents-list"))  # nothing was reloaded
            assert page.title == "(1) Seawall" and "HALT_TRADING" in text(page, "incidents-list")
            press(page, "j", "\ue007")
            story = text(page, "incidents-list")
            assert "none to soft: gross_notional 300 against 200" in story and "sent" in story
            assert "account:a stands at halted until people release it" in story
            bus = open_bus("sqlite:seawall.db", tmp_path)
            command = json.loads(bus.read("commands", bus.partitions("commands")[0], 0, 1)[0].value)
            bus.close()
            answer = {
                "type": "acknowledgement",
                "subscriber": "oms",
                "outcome": "completed",
                "command_id": command["id"],
            }
            send(tmp_path, "acknowledgements", {**answer, "event_time_us": time.time_ns() // 1000})
            wait_for(
                lambda: "oms answers completed to HALT_TRADING" in text(page, "incidents-list")
            )  # and it is open still
            press(page, "2", "/", "nobody")
            wait_for(lambda: "nothing" in text(page, "counterparties-table"))
            press(page, "\ue00c", "v")
            wait_for(lambda: "nothing changed, removed, added or swapped" in text(page, "verified"))
            press(page, "?")
            assert page.execute_script("return document.getElementById('help').open")
            press(page, "\ue00c", "t", "f")
            wait_for(lambda: page.current_url.endswith("/forecasts"))
            wait_for(lambda: "no forecasts here" in text(page, "error"))
            assert page.execute_script("return document.documentElement.dataset.theme") == "dark"
    assert complaints(page) == []


# A real Chromium, driven by its own driver: Debian's packages chromium and chromium-driver.

QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


@contextmanager
def browser() -> Iterator[Any]:
    """Yield a browser that keeps what its console says; skip where there is none."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no Chromium here (Debian: apt-get install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in QUIET:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield found
    finally:
        found.quit()


def show(page: Any, width: int, height: int, dark: bool = False) -> None:
    """Give the page a screen and a system that is light or dark."""
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def complaints(page: Any) -> list[str]:
    """Return what the browser refused or could not load since it was asked last."""
    return [line["message"] for line in page.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]
