"""``seawall detect``: causal, one row out per row in, the same bytes each time, and it survives what feeds deliver."""

import csv
import gzip
import math
import random
from pathlib import Path

import pytest

from seawall.ops.reports import detect_csv, parse_row_time
from seawall.schemas.errors import UsageError


def lines(rows: int = 700) -> list[str]:
    chance = random.Random(2)
    spike = {600: 60.0}
    text = ["when,price"]
    for row in range(rows):
        minute = row % 288 * 5
        value = 100 + chance.gauss(0, 1) + spike.get(row, 0)
        text.append(f"2021-05-{1 + row // 288:02d} {minute // 60:02d}:{minute % 60:02d}:00,{value}")
    return text


def detect_rows(folder: Path, text: list[str], name: str = "in.csv", **more) -> list[dict[str, str]]:
    source, out = folder / name, folder / f"{name}.out"
    source.write_text("\n".join(text) + "\n")
    detect_csv(source, "when", ["price"], out, **more)
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_row_gets_its_time_a_score_and_an_alert(tmp_path):
    rows = detect_rows(tmp_path, lines())
    assert [row["when"] for row in rows] == [line.split(",")[0] for line in lines()[1:]]
    assert all(0.0 <= float(row["anomaly_score"]) <= 1.0 for row in rows)
    assert rows[600]["alert"] == "1"
    assert "price" in rows[600]["explanation"]
    assert {row["state"] for row in rows[:150]} == {"warming"}


def test_half_a_file_gives_the_first_half_of_the_output(tmp_path):
    assert detect_rows(tmp_path, lines()[:400], "half.csv") == detect_rows(tmp_path, lines())[:399]


def test_a_second_run_gives_the_same_bytes(tmp_path):
    detect_rows(tmp_path, lines(), "a.csv")
    detect_rows(tmp_path, lines(), "b.csv")
    assert (tmp_path / "a.csv.out").read_bytes() == (tmp_path / "b.csv.out").read_bytes()


def test_unreadable_values_are_invalid_rows_and_change_no_other_score(tmp_path):
    text = lines()
    dirty = [*text[:300], "2021-05-02 00:00:00,", "2021-05-02 00:00:00,nan", "noon,1e999", "2021-05-02", *text[300:]]
    clean, rows = detect_rows(tmp_path, text), detect_rows(tmp_path, dirty, "dirty.csv")
    assert [row["state"] for row in rows[299:303]] == ["invalid"] * 4
    assert rows[:299] + rows[303:] == clean


def test_semicolons_gzip_and_epoch_times_are_read(tmp_path):
    source = tmp_path / "in.csv.gz"
    text = ["t;a;b"] + [f"{1621429200000 + 60000 * row};{row % 7};{row % 5}" for row in range(300)]
    with gzip.open(source, "wt") as file:
        file.write("\n".join(text))
    assert detect_csv(source, "t", ["a", "b"], tmp_path / "out.csv").rows == 300


@pytest.mark.parametrize(
    ("text", "time_us"),
    [
        ("1621429200", 1621429200000000),
        ("1621429200000", 1621429200000000),
        ("1621429200000000", 1621429200000000),
        ("2021-05-19T13:00:00Z", 1621429200000000),
        ("2021-05-19 15:00:00+02:00", 1621429200000000),
        ("", None),
        ("-5", None),
        ("nan", None),
        ("1e300", None),
    ],
)
def test_times_are_microseconds_or_none(text, time_us):
    assert parse_row_time(text) == time_us


def test_bad_usage_says_what_is_wrong_and_leaves_no_output(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("when,price\n")
    out = tmp_path / "out.csv"
    with pytest.raises(UsageError, match="no column cost; it has when, price"):
        detect_csv(source, "when", ["cost"], out)
    with pytest.raises(UsageError, match="no rows"):
        detect_csv(source, "when", ["price"], out)
    with pytest.raises(UsageError, match="no file"):
        detect_csv(tmp_path / "none.csv", "when", ["price"], out)
    assert not list(tmp_path.glob("*out*"))


def falling() -> list[str]:
    """Two days of swings by a quarter, after which a fall of 12 % is nothing that the score's range has not seen."""
    chance, text = random.Random(8), ["when,price"]
    for row in range(912):
        swing = 12.5 * math.sin(row / 10) if row < 800 else 0.0
        price = 100.0 + swing + chance.gauss(0, 0.3) - max(0.0, 2.0 * (row - 899))
        text.append(f"2021-05-{1 + row // 288:02d} {row % 288 // 12:02d}:{row % 12 * 5:02d}:00,{price}")
    return text


def test_a_named_price_alerts_by_the_rule_too_and_says_so(tmp_path):
    quiet, rows = detect_rows(tmp_path, falling(), "a.csv"), detect_rows(tmp_path, falling(), "b.csv", price="price")
    assert [row["anomaly_score"] for row in rows] == [row["anomaly_score"] for row in quiet]
    assert {row["alert"] for row in quiet[900:]} == {"0"}
    ruled = [index for index, row in enumerate(rows) if index >= 900 and row["alert"] == "1"]
    assert ruled == [903]
    assert "below its 60-minute high" in rows[903]["explanation"]


def test_the_alerts_are_those_of_the_rule_or_of_the_score(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("\n".join(falling()))
    found = detect_csv(source, "when", ["price"], tmp_path / "out.csv", price="price", band=0.1)
    score = detect_csv(source, "when", ["price"], tmp_path / "out.csv")
    assert found.by_score == score.alerts == score.by_score
    assert max(found.by_rule, found.by_score) <= found.alerts <= found.by_rule + found.by_score
    assert found.by_rule > 0


@pytest.mark.parametrize(("more", "text"), [({"price": "cost"}, "not judged"), ({"band": 0.0}, "fraction")])
def test_a_rule_that_cannot_be_is_bad_usage(tmp_path, more, text):
    with pytest.raises(UsageError, match=text):
        detect_csv(tmp_path / "in.csv", "when", ["price"], tmp_path / "out.csv", **more)


def test_a_plot_shows_rule_and_score_apart(tmp_path):
    pytest.importorskip("matplotlib")
    detect_rows(tmp_path, falling(), "a.csv", plot=tmp_path / "score.png")
    detect_rows(tmp_path, falling(), "b.csv", plot=tmp_path / "rule.png", price="price")
    from matplotlib.image import imread

    orange = [
        abs(imread(tmp_path / name)[..., :3] - (0.88, 0.54, 0.0)).max(axis=2).min()
        for name in ("score.png", "rule.png")
    ]
    assert orange[1] < 0.05 < orange[0]


def test_a_plot_is_a_png(tmp_path):
    pytest.importorskip("matplotlib")
    detect_rows(tmp_path, lines(), plot=tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
