"""The network of claims that a run's own book holds, and whose failure in it hurts most."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seawall.connectors.bus import open_bus
from seawall.ops.cli._app import app
from seawall.ops.lab.report import contagion_page
from seawall.ops.lab.stress import BookNetwork, System, book_network, rank_contagion, snapshot_system
from seawall.ops.lab.stress._network import make_network
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
    party("bank", own_funds="100", default_probability="0.02"), party("fund", own_funds="50"),
    party("shop", own_funds="400"), party("dark"),
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


@pytest.fixture(scope="module")
def answer(finished_path: Path) -> Json:
    done = CliRunner().invoke(app, ["stress", "--contagion", "--on", str(finished_path), "--json"])
    assert done.exit_code == 0, done.output
    found: Json = json.loads(done.stdout)
    return found


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
    for title in ("What is paid after the worst failure", "DebtRank as first published", "Failures together"):
        assert title in page


def test_the_command_clears_the_worst_failure_and_draws_joint_ones(answer: Json) -> None:
    cleared = answer["clearing"]
    (cover,) = answer["models"]["Eisenberg-Noe"]["covers"]
    # Two ways to the same figure: linear systems here, rounds of losses in the ranking.
    assert cleared["nodes"] == cover["nodes"]
    assert cleared["contagion"] == pytest.approx(cover["contagion"])
    assert cleared["defaults"] == len(cleared["payments"]) > 0
    assert all(0 <= row["paid"] < row["owed"] and row["worth"] < 0 for row in cleared["payments"])


def test_the_command_ranks_by_debtrank_as_first_published(answer: Json) -> None:
    # All claims are 220. The house has no own funds: its client's claim of 30 is against assumed funds of 61, always.
    # bank fails: fund loses 60 of 50 and fails (60 of 220 lent), so shop loses 80 of 400 and passes that on once.
    found = {row["nodes"][0]: row["debtrank"] for row in answer["single_hit"]["alone"]}
    before = 30 / 61 * 30 / 220
    assert answer["single_hit"]["before"] == pytest.approx(before)
    assert found["bank"] == pytest.approx(before + 60 / 220 + 80 / 400 * 90 / 220)
    assert next(iter(found)) == "bank" and found["house"] == pytest.approx(before)


def test_joint_failures_are_drawn_by_the_probabilities_of_the_records_and_the_rest_is_named(answer: Json) -> None:
    joint = answer["joint"]
    assert joint["default_probability"] == {"bank": 0.02}
    assert joint["unknown"] == ["client", "dark", "fund", "house", "shop"]
    # Only bank can fail, which costs others 140: on average 0.02 x 140, and 140 at 99 %.
    mean, quantile = (joint["models"]["Furfine"][part] for part in ("mean", "quantile"))
    assert mean["low"] <= 2.8 <= mean["high"] and quantile["value"] == pytest.approx(140.0)


def test_without_default_probabilities_nothing_is_drawn() -> None:
    network = make_network(([0], [1], [10.0]), [5.0, 8.0])
    found = rank_contagion(BookNetwork(network, (), {}))
    assert found["joint"] is None
    page = contagion_page(found | {"journal_sha256": ""}, ["seawall"])
    assert "No record states a default probability" in page


def test_contagion_stands_alone(finished_path: Path) -> None:
    for more in (["combined"], ["--fail-if", "loss > 1"]):
        done = CliRunner().invoke(app, ["stress", *more, "--contagion", "--on", str(finished_path)])
        assert isinstance(done.exception, UsageError)
