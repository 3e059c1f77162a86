"""What `tiny-search` found, as a table: a given scheme, the optimum with its bound, evolution."""

import json
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption

_HEAD = (
    "| budget of | bytes | | what is trained | worth | bound | SRAM | plans | seconds |",
    "|---|---|---|---|---|---|---|---|---|",
)


def search_table(path: Path) -> str:
    """The Markdown table of a `search.json`; raises `InvalidOption` for another file."""
    try:
        record = json.loads(path.read_text("utf-8"))
        rows = [row for goal in record["goals"] for row in _rows(goal)]
        trials = record["trials"]
        note = (
            f"The table of contributions is {trials['count']} short runs, "
            f"{trials['seconds'] / 60:.0f} minutes of one process. `Plans` are those that were "
            "still to be made; the methods share what was planned."
        )
    except OSError as error:
        raise InvalidOption(error.strerror or str(error), str(path)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidOption(f"is no record of a search: {error!r}", str(path)) from error
    return "\n".join([note, "", *_HEAD, *rows])


def _rows(goal: dict[str, Any]) -> list[str]:
    budget = f"{goal['name'].removeprefix('like-')} | {goal['budgets']['sram']:,}"
    rows: list[str] = []
    if "like" in goal:
        like = goal["like"]
        worth = "" if like["worth"] is None else f"{like['worth']:.4f}"
        rows.append(f"| {budget} | given | | {worth} | | {like['costs']['sram']:,} | | |")
    for method in ("exact", "evolution"):
        if method in goal:
            rows.append(f"| {budget} | {method} | {_found(goal[method])} |")
    return rows


def _found(found: dict[str, Any]) -> str:
    if found["bound"] is None:
        bound = ""
    else:
        bound = "optimal" if found["optimal"] else f"{found['bound']:.4f}"
    cells = [
        str(found["selection"]),
        f"{found['worth']:.4f}",
        bound,
        f"{found['costs']['sram']:,}" if found["costs"] else "",
        str(found["measured"]),
        f"{found['seconds']:.0f}",
    ]
    return " | ".join(cells)
