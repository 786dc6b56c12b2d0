"""The report of a book's contagion: the network as a picture, and whose failure hurts most."""

import shlex
from collections.abc import Sequence
from typing import Any

from seawall.ops.lab.report import plots
from seawall.ops.lab.report.figures import money
from seawall.ops.lab.report.page import document, plot, section, table, text

Json = dict[str, Any]
COLUMNS = ("who fails", "others lose", "and fail")


def contagion_page(found: Json, command: Sequence[str]) -> str:
    """Return the page.

    Parameters
    ----------
    found
        What ``held.contagion`` returned, with ``journal_sha256`` of the run.
    command
        The arguments that made it, as they were given.
    """
    assumed = found["assumed"]
    parts = [
        f"<h1>Contagion</h1><p class=sub>{found['nodes']} nodes, {found['claims']} claims</p>",
        f"<p class=lead>{text(sentence(found))}</p>",
        section("How failures spread", plot("contagion", plots.network(found["picture"]))),
        *(section(f"Whose failure hurts most: {name}", _ranking(one)) for name, one in found["models"].items()),
    ]
    if assumed:
        told = f"Nobody told the own funds of {', '.join(assumed)}; they are assumed to outlast the failure of others."
        parts.append(section("What is not known", f"<p>{text(told)}</p>"))
    made = f"<pre>{text(shlex.join(command))}</pre><p class=hash>journal {found['journal_sha256']}</p>"
    return document("Contagion", [*parts, section("How to make it again", made)])


def sentence(found: Json) -> str:
    """Return what DebtRank says of the worst failures, in a sentence."""
    ranked = found["models"]["DebtRank"]
    first = ranked["alone"][0]
    said = f"If {first['nodes'][0]} fails, others lose {money(first['contagion'])} of own funds"
    if not ranked["covers"]:
        return f"{said}."
    pair = ranked["covers"][-1]
    return f"{said}; if {' and '.join(pair['nodes'])} fail together, {money(pair['contagion'])}."


def _ranking(one: Json) -> str:
    rows = [one_row for one_row in (*one["covers"], *one["alone"]) if one_row["contagion"] > 0 or one_row["failures"]]
    cells = [(", ".join(row["nodes"]), money(row["contagion"]), f"{row['failures']}") for row in rows]
    return table(COLUMNS, cells, numbers=2) if cells else "<p>No failure costs others anything.</p>"
