"""A run goes on with other numbers of workers and processes, from its states, and no byte tells how many there were."""

import shutil
from pathlib import Path

from seawall_testing import crisis
from seawall_testing.desk import T0, fill, lines
from seawall_testing.runs import command, contents, differences

WAYS = [["--workers", "2"], ["--processes", "2"], []]


def test_every_other_number_of_workers_and_processes_goes_on_from_the_same_states(tmp_path: Path) -> None:
    path = crisis.write_crisis(tmp_path / "rescaled", 2, per_second=20, shards=4)
    assert command("run", path).returncode == 0
    shutil.copytree(path.parent, tmp_path / "alone")
    alone = tmp_path / "alone" / "desk.toml"
    for number, way in enumerate(WAYS):
        for one, options in ((path, way), (alone, [])):
            with (one.parent / "book.jsonl").open("ab") as file:
                start = T0 + (9 + number) * 1_000_000
                file.write(lines(*(fill(start + at * 1000, f"m{number}-{at}", "abcd"[at % 3]) for at in range(30))))
            done = command("run", one, *options)
            assert done.returncode == 0, done.stderr
    assert differences(contents(path.parent), contents(alone.parent)) == []
    assert not list(path.parent.glob("recovery.unsound*"))
    assert command("verify", path).returncode == 0
