"""Who lies is found out: what subscribers say they did is held against positions, orders, trades and their prices."""

from pathlib import Path

import pytest

from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, mark, transfer
from seawall_testing.pipeline import PipelineRun, run_pipeline
from seawall_testing.playbooks import acknowledgement, at_level, equity, marks_every_second, rule, run_playbook, signal

TERMS: Json = {"subscribers": ["oms"], "acknowledge_s": 5, "complete_s": 20, "verify_s": 10}
CAUGHT = rule("caught", {"acknowledgement": "contradicted"}, ("HALT_TRADING", "account"))
RATIO: Json = {"id": "margin", "scope": "account:*", "measure": "margin_ratio", "soft": 0.3, "hard": 0.5}
BOUNDS: Json = {"compute": "position", "to": "soft", "participation": 0.1, "price_bound": 0.02}
CLOSE = rule("close", {"limit": "margin", "level": "hard"}, ("REDUCE_POSITION", "account", BOUNDS), expires_s=60)


def caught(ran: PipelineRun) -> list[str]:
    """Return the evidence of every contradiction."""
    return [body["evidence"] for body in ran.audits("command_state") if body["state"] == "contradicted"]


def closed_out(folder: Path, *more: Json, told: tuple[tuple[float, str], ...] = ((3, "accepted"),)) -> PipelineRun:
    """Run a client that is long 1 of ETH and is to be cut to 0.3 of it at 98 or better, from second 2 on."""
    terms = {"type": "netting_set", "netting_set": "a", "counterparty": "a", "close_out": True}
    party, holder = account("a")
    base = [instrument(maintenance_margin_rate="0.1", initial_margin_rate="0.1"), party, terms, holder]
    events = [mark(T0 + 1, "100"), transfer(T0 + 2, "t", amount="40"), fill(T0 + 3, "f", quantity="1", price="100")]
    events += [signal(1, depth=1e6), transfer(T0 + 2 * SECOND, "w", amount="-30"), *marks_every_second(25)]

    def played(answers: list[Json], where: Path) -> PipelineRun:
        records = sorted([*events, *answers, *more], key=lambda event: int(event["event_time_us"]))
        return run_pipeline(where, *base, *records, limits=[RATIO], playbook=[CLOSE, CAUGHT], response=TERMS)

    (command, *_) = played([], folder / "first").topic("commands")
    assert command["action"]["targets"] == "ETH-PERP=0.30"
    return played([acknowledgement(at, command, outcome) for at, outcome in told], folder / "then")


def sale(at_s: float, quantity: str, price: str, name: str = "s", **fields: str) -> Json:
    return fill(int(T0 + at_s * SECOND), name, side="sell", quantity=quantity, price=price, **fields)


@pytest.mark.parametrize(
    ("trade", "found"),
    [
        (sale(5, "0.7", "97.99"), ["fill:s"]),
        (sale(5, "0.7", "98"), []),
        (sale(5, "0.7", "90", source="liquidation"), []),  # the venue's doing
        (fill(T0 + 5 * SECOND, "s", quantity="0.1", price="150"), []),  # no cut: the bound is on what is sold
    ],
)
def test_a_close_out_at_a_worse_price_than_its_bound_contradicts_who_accepted_it(
    tmp_path: Path, trade: Json, found: list[str]
) -> None:
    assert caught(closed_out(tmp_path, trade)) == found


def test_a_position_that_was_said_to_be_cut_and_still_stands_contradicts_when_the_time_to_verify_is_over(
    tmp_path: Path,
) -> None:
    done = ((3.0, "completed"),)
    assert caught(closed_out(tmp_path / "lies", told=done)) == ["position:ETH-PERP"]
    assert caught(closed_out(tmp_path / "half", sale(4, "0.5", "99"), told=done)) == ["position:ETH-PERP"]
    assert caught(closed_out(tmp_path / "done", sale(4, "0.7", "99"), told=done)) == []


def test_without_a_fresh_mark_there_is_no_price_to_be_off_from_and_nothing_is_sold(tmp_path: Path) -> None:
    terms = {"type": "netting_set", "netting_set": "a", "counterparty": "a", "close_out": True}
    party, holder = account("a")
    clock = [transfer(T0 + at * SECOND, f"c{at}", amount="0.01") for at in range(5, 200, 5)]
    events = [mark(T0 + 1, "100"), transfer(T0 + 2, "t", amount="40"), fill(T0 + 3, "f", quantity="1", price="100"),
              *clock, signal(198, depth=1e6), transfer(T0 + 200 * SECOND, "w", amount="-30")]  # fmt: skip
    base = [instrument(maintenance_margin_rate="0.1", initial_margin_rate="0.1"), party, terms, holder]
    ran = run_pipeline(tmp_path, *base, *events, limits=[RATIO], playbook=[CLOSE], response=TERMS)
    assert ran.commands() == []
    assert [b["why"] for b in ran.audits("withheld")] == [
        "it rests on a price that is not certain, which only warns and restricts to reduce-only"
    ]


def test_who_claims_that_an_account_only_reduces_and_lets_it_add_contradicts_himself(tmp_path: Path) -> None:
    book = [rule("mild", at_level("soft"), ("REDUCE_ONLY", "account"), expires_s=60), CAUGHT]
    held = fill(T0 + SECOND // 2, "f0", quantity="2", price="100")
    base = [held, equity(1, "-850")]
    first = run_playbook(tmp_path / "first", book, *base, response=TERMS).topic("commands")[0]
    done = acknowledgement(2, first, "completed")
    for name, trade, found in (
        ("adds", fill(T0 + 4 * SECOND, "x"), ["fill:x"]),
        ("reduces", fill(T0 + 4 * SECOND, "x", side="sell"), []),
        ("turns", fill(T0 + 4 * SECOND, "x", side="sell", quantity="9"), ["fill:x"]),
        ("forced", fill(T0 + 4 * SECOND, "x", source="settlement"), []),
        ("late", fill(T0 + 20 * SECOND, "x"), []),
    ):
        ran = run_playbook(tmp_path / name, book, *base, done, trade, marks_every_second(22), response=TERMS)
        assert caught(ran) == found, name


def test_of_two_who_must_answer_the_one_who_is_silent_is_named_and_the_other_ones_part_is_no_completion(
    tmp_path: Path,
) -> None:
    both = {**TERMS, "subscribers": ["oms", "desk"]}
    book = [rule("mild", at_level("soft"), ("REDUCE_ONLY", "account"), expires_s=60),
            rule("quiet", {"any": [{"acknowledgement": "silent"}, {"acknowledgement": "partial"}]},
                 ("HALT_TRADING", "account"))]  # fmt: skip
    first = run_playbook(tmp_path / "1", book, equity(1, "-850"), response=both).topic("commands")[0]
    silent = run_playbook(
        tmp_path / "2",
        book,
        equity(1, "-850"),
        acknowledgement(2, first, "completed"),
        marks_every_second(9),
        response=both,
    )
    told = [(b["state"], b["evidence"]) for b in silent.audits("command_state") if b["command_id"] == first["id"]]
    assert told == [("silent", "deadline:desk")]
    assert silent.commands() == [("REDUCE_ONLY", "account:a"), ("HALT_TRADING", "account:a")]
    answers = [
        acknowledgement(2, first, "completed"),
        acknowledgement(3, first, "partial", "desk"),
        acknowledgement(4, first, "partial", "desk"),
    ]
    partly = run_playbook(tmp_path / "3", book, equity(1, "-850"), answers, marks_every_second(4), response=both)
    assert [b["state"] for b in partly.audits("command_state")] == ["partial"]
    assert len(partly.commands()) == 2
