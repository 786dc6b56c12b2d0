"""The network of claims that a run's own book holds, and whose failure in it hurts most."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seawall.connectors.bus import open_bus
from seawall.ops.cli._app import app
from seawall.ops.lab.cascade import book_network
from seawall.ops.lab.stress import System, snapshot_system
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import UsageError
from seawall_testing.desk import T0, Json, account, instrument, lines, mark, sequence, transfer
from seawall_testing.pipeline import write_configuration

LIMITS: list[Json] = [{"id": "margin", "scope": "account:*", "measure": "margin_ratio", "hard": 1.0}]


def party(name: str, **own_funds: str) -> Json:
    return {"type": "counterparty", "counterparty": name, "name": name, "role": "lender", **own_funds}


def owes(debtor: str, creditor: str, amount: str) -> Json:
    body = {"obligation_id": f"{debtor}-{creditor}", "from": debtor, "to": creditor, "asset": "USD", "amount": amount}
    return {"type": "obligation", "event_time_us": T0, **body, "kind": "loan"}


BOOK = [
    {"type": "asset", "asset": "USD", "class": "fiat"},
    instrument(), *account("client"),
    party("bank", own_funds="100"), party("fund", own_funds="50"), party("shop", own_funds="400"), party("dark"),
    transfer(T0, "t", "client", amount="30"), mark(T0, "100"),
    owes("bank", "fund", "60"), owes("fund", "shop", "80"), owes("shop", "bank", "40"), owes("dark", "shop", "10"),
]  # fmt: skip


@pytest.fixture(scope="module")
def finished_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    path = write_configuration(folder, {"events.jsonl": lines(*BOOK)}, LIMITS, shards=2)
    configuration = load_configuration(path)
    bus = open_bus(configuration.bus, configuration.directory)
    sequence(path, bus)
    bus.close()
    return path


def test_claims_and_own_funds_are_those_of_the_book_and_what_is_not_known_is_named(finished_path: Path) -> None:
    configuration = load_configuration(finished_path)
    bus = open_bus(configuration.bus, configuration.directory)
    base = snapshot_system(configuration, bus)
    bus.close()
    book = book_network([one.ledger for one in System.restore(base.system).exposure if one.ledger is not None])
    names = book.network.names
    columns = (book.network.borrower, book.network.lender, book.network.amount)
    claims = {(names[b], names[c]): amount for b, c, amount in zip(*map(list, columns), strict=True)}
    assert claims == {
        ("bank", "fund"): 60.0, ("fund", "shop"): 80.0, ("shop", "bank"): 40.0, ("dark", "shop"): 10.0,
        ("house", "client"): 30.0,
    }  # fmt: skip
    equity = dict(zip(names, book.network.equity.tolist(), strict=True))
    assert (equity["bank"], equity["fund"], equity["shop"], equity["house"]) == (100.0, 50.0, 400.0, 0.0)
    assert "dark" in book.assumed and not {"bank", "fund", "shop", "house"} & set(book.assumed)
    left = book.network.external_assets + book.network.lent - book.network.owed
    assert left.tolist() == pytest.approx(book.network.equity.tolist())


def test_the_command_ranks_failures_alone_and_together_and_draws_the_network(
    finished_path: Path, tmp_path: Path
) -> None:
    report = tmp_path / "page.html"
    call = ["stress", "--contagion", "--on", str(finished_path), "--report", str(report), "--json"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    furfine = {tuple(row["nodes"]): row for row in found["models"]["Furfine"]["alone"]}
    # bank fails: fund loses 60 of 50 and fails; shop loses 80 of 400 and stands.
    assert (furfine["bank",]["contagion"], furfine["bank",]["failures"]) == (140.0, 1)
    assert (furfine["fund",]["contagion"], furfine["fund",]["failures"]) == (80.0, 0)
    assert found["models"]["Furfine"]["alone"][0]["nodes"] == ["bank"]
    pair = found["models"]["Furfine"]["covers"][0]
    assert len(pair["nodes"]) == 2 and pair["contagion"] >= 140.0
    rounds = {node["id"]: node["round"] for node in found["picture"]["nodes"]}
    for name in found["models"]["DebtRank"]["covers"][0]["nodes"]:
        assert rounds[name] == 0
    page = report.read_text()
    assert "<svg" in page and "Whose failure hurts most: Furfine" in page and found["journal_sha256"] in page
    assert "Nobody told the own funds of" in page


def test_contagion_stands_alone(finished_path: Path) -> None:
    for more in (["combined"], ["--fail-if", "loss > 1"]):
        done = CliRunner().invoke(app, ["stress", *more, "--contagion", "--on", str(finished_path)])
        assert isinstance(done.exception, UsageError)
