"""``seawall limits`` and ``seawall exposures`` as people use them: two for a change, one line when it is wrong."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from seawall.ops.cli._app import app
from seawall.schemas.errors import UsageError
from seawall_testing.command_line import seawall
from seawall_testing.desk import SECOND, T0, account, fill, instrument, lines, mark, transfer
from seawall_testing.signing import CHECKER, CHECKER_OF_MAKER, MAKER, Holder, make_desk_keys, write_key_set

RECORDS: list[Any] = [
    instrument(), account("a"), account("b"), transfer(T0, "t", amount="1000"), mark(T0 + 1, "100"),
    fill(T0 + 2, "f", "a", quantity="1"), mark(T0 + SECOND, "150"),
]  # fmt: skip
FIRST = """
[[limit]]
id = "gross"
scope = "account:*"
measure = "gross_notional"
soft = 120.5
hard = 200
"""


def write_private(path: Path, holder: Holder) -> Path:
    from cryptography.hazmat.primitives import serialization

    path.parent.mkdir(exist_ok=True, mode=0o700)
    pem = holder.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.touch(mode=0o600)
    path.write_bytes(pem)
    return path


@pytest.fixture
def prod_desk(tmp_path: Path) -> Path:
    """A prod desk without limits yet, and the keys of its people."""
    (tmp_path / "events.jsonl").write_bytes(lines(*RECORDS))
    (tmp_path / "first.toml").write_text(FIRST)
    for name, holder in (("ada", MAKER), ("bob", CHECKER), ("ada2", CHECKER_OF_MAKER)):
        write_private(tmp_path / "people" / f"{name}.pem", holder)
    pinned = write_key_set(tmp_path / "keyset.jsonl")
    (tmp_path / "desk.toml").write_text(
        'environment = "prod"\nprice_max_age_s = 3600\nissuer = "risk/prod"\n'
        'shards = 2\n[inputs]\nevents = ["events.jsonl"]\n'
        '[limits]\ndocuments = ["limits"]\n'
        f'[keys]\nsigner = "file:keys/prod.pem"\nset = "keyset.jsonl"\nset_sha256 = "{pinned}"\n'
    )
    return tmp_path / "desk.toml"


def limits(desk: Path, command: str, *arguments: str, by: str = "") -> Any:
    """Run ``seawall limits``; raise what it refuses."""
    signer = ["--signer", f"file:{desk.parent / 'people' / by}.pem", "--yes"] if by else []
    return CliRunner().invoke(app, ["limits", command, str(desk), *arguments, *signer], catch_exceptions=False)


def propose(desk: Path, *arguments: str) -> Any:
    return limits(desk, "propose", "--reason", "calibration", *arguments, by="ada")


def approved(desk: Path) -> Path:
    propose(desk, "--file", str(desk.parent / "first.toml"))
    limits(desk, "approve", by="bob")
    return desk


def told(desk: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(limits(desk, "show", "--json").stdout)
    return found


def test_the_first_limits_wait_for_a_checker_and_count_once_one_signed(prod_desk: Path) -> None:
    proposed = propose(prod_desk, "--file", str(prod_desk.parent / "first.toml"))
    assert proposed.stdout.strip().endswith("0001.proposal.json")
    assert "waits for a checker" in proposed.stderr
    assert told(prod_desk)["limits"] == []
    done = limits(prod_desk, "approve", by="bob")
    assert done.stdout.strip().endswith("0001.json")
    assert not list(prod_desk.parent.glob("limits/*.proposal.json"))
    assert [limit["soft"] for limit in told(prod_desk)["limits"]] == [120.5]


def test_what_only_tightens_counts_at_once_and_is_ratified(prod_desk: Path) -> None:
    proposed = propose(approved(prod_desk), "--set", "gross.soft=100")
    assert proposed.stdout.strip().endswith("0002.json")
    assert told(prod_desk)["unratified"] == [2]
    limits(prod_desk, "approve", by="bob")
    assert told(prod_desk)["unratified"] == []
    assert [limit["soft"] for limit in told(prod_desk)["limits"]] == [100.0]


def test_what_loosens_waits(prod_desk: Path) -> None:
    proposed = propose(approved(prod_desk), "--set", "gross.soft=130")
    assert proposed.stdout.strip().endswith("0002.proposal.json")
    assert "loosens: gross: soft moves from 120.5 to 130" in proposed.stderr
    assert [limit["soft"] for limit in told(prod_desk)["limits"]] == [120.5]


def test_an_override_ends_by_itself(prod_desk: Path) -> None:
    propose(approved(prod_desk), "--set", "gross.soft=180", "--until", str(T0 + SECOND // 2))
    limits(prod_desk, "approve", by="bob")
    make_desk_keys(prod_desk)
    assert seawall("run", prod_desk).returncode == 0
    by_time = [
        json.loads(limits(prod_desk, "show", "--json", "--as-of", str(T0 + at)).stdout) for at in (100_000, SECOND)
    ]
    assert [found["limits"][0]["soft"] for found in by_time] == [180.0, 120.5]
    assert by_time[0]["changes_us"] == T0 + SECOND // 2


def test_a_dry_run_writes_nothing(prod_desk: Path) -> None:
    found = propose(prod_desk, "--file", str(prod_desk.parent / "first.toml"), "--dry-run")
    assert "nothing was signed or written" in found.stderr
    assert not (prod_desk.parent / "limits").exists()


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["--set", "gros.soft=1"], "did you mean 'gross'"),
        (["--set", "gross.sofd=1"], "did you mean 'soft'"),
        (["--set", "gross"], "write LIMIT.FIELD=VALUE"),
        (["--remove", "other"], "there is no limit 'other'"),
        ([], "nothing to propose"),
        (["--set", "gross.soft=1", "--reason", "because"], "choose one of market"),
        (["--set", "gross.soft=1", "--until", "soon"], "is no time"),
    ],
)
def test_a_proposal_that_is_wrong_is_refused_in_one_line_that_says_what_to_do(
    prod_desk: Path, arguments: list[str], rule: str
) -> None:
    approved(prod_desk)
    with pytest.raises(UsageError, match=rule) as caught:
        propose(prod_desk, *arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("by", "rule"),
    [("ada2", "MAKER_MUST_NOT_BE_CHECKER"), ("ada", "SIGNATURE_MUST_NOT_BE_REPEATED"), ("eve", "SIGNER_MUST_BE_KNOWN")],
)
def test_nobody_approves_what_they_proposed_and_strangers_approve_nothing(prod_desk: Path, by: str, rule: str) -> None:
    write_private(prod_desk.parent / "people" / "eve.pem", Holder("eve"))
    propose(prod_desk, "--file", str(prod_desk.parent / "first.toml"))
    with pytest.raises(UsageError, match=rule):
        limits(prod_desk, "approve", by=by)
    assert told(prod_desk)["limits"] == []


def test_nothing_to_approve_and_a_limits_file_are_said_so(prod_desk: Path) -> None:
    with pytest.raises(UsageError, match="nothing waits for a checker"):
        limits(prod_desk, "approve", by="bob")
    text = prod_desk.read_text().replace('documents = ["limits"]', "").replace('"prod"', '"dev"', 1)
    prod_desk.write_text(text)
    with pytest.raises(UsageError, match="takes limits from a file"):
        propose(prod_desk, "--set", "gross.soft=1")


def test_signing_without_a_terminal_asks_for_yes(prod_desk: Path) -> None:
    with pytest.raises(UsageError, match="say --yes"):
        limits(
            prod_desk, "propose", "--reason", "market", "--file", str(prod_desk.parent / "first.toml"),
            "--signer", f"file:{prod_desk.parent / 'people' / 'ada.pem'}",
        )  # fmt: skip


def test_a_run_its_history_and_its_exposures(prod_desk: Path) -> None:
    make_desk_keys(prod_desk)
    assert seawall("run", approved(prod_desk)).returncode == 0
    assert seawall("verify", prod_desk).returncode == 0
    entries = json.loads(limits(prod_desk, "history", "--json").stdout)
    assert [(e["version"], e["outcome"], e["signed_by"]) for e in entries] == [(1, "approved", ["ada", "bob"])]
    assert "gross new" in entries[0]["changes"][0]
    assert "ada" in limits(prod_desk, "history").stdout

    def exposures(*arguments: str) -> str:
        return CliRunner().invoke(app, ["exposures", str(prod_desk), *arguments], catch_exceptions=False).stdout

    found = json.loads(exposures("--json"))
    first = found["scopes"][0]
    assert (first["scope"], first["gross_notional"]) == ("account:a", 150.0)
    (limit,) = first["limits"]
    assert (limit["level"], limit["utilisation"], limit["bounds"]) == ("soft", 0.75, [None, 120.5, 200.0])
    before = json.loads(exposures("--json", "--as-of", str(T0 + 100_000)))
    assert before["scopes"][0]["gross_notional"] == 100.0
    rows = list(csv.DictReader(io.StringIO(exposures("--csv"))))
    assert [(r["value"], r["level"]) for r in rows if r["limit"] == "gross" and r["scope"] == "account:a"] == [
        ("150.0", "soft")
    ]
    assert "75% soft" in exposures()


def test_show_tells_what_waits_and_until_when_the_policy_holds(prod_desk: Path) -> None:
    propose(approved(prod_desk), "--set", "gross.soft=100")
    shown = limits(prod_desk, "show").stdout
    assert "version 2" in shown
    assert "Waits for a checker" in shown
    assert "then every limit is at its tightest" in " ".join(shown.split())
