"""What other compilers and libraries need for the same layers, from a table of measured counts.

    layer,kind,shape,macs,NAME_insns,...        one row an op; kinds
    C3 DW PW AD AP      forward: dense, depthwise and pointwise convolutions, additions, pool
    BPW BDW WG          input gradients, pointwise and depthwise, and weight gradients
    anything else       backward work that has no op of its own here: masks, scales

A row belongs to the first op of its kind with as many multiply-accumulates that has none yet.
"""

import csv
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.benchmarks.benchmark import OpCost

_SUFFIX = "_insns"
_FORWARD = ("C3", "DW", "PW", "AD", "AP")
_KINDS = {
    "conv2d": ("C3", "DW", "PW"),
    "linear": ("PW",),
    "add": ("AD",),
    "global_average_pool": ("AP",),
    "conv2d_input_grad": ("BPW", "BDW"),
    "linear_input_grad": ("BPW",),
    "conv2d_weight_update": ("WG",),
    "linear_weight_update": ("WG",),
}


@dataclass(frozen=True)
class BaselineRow:
    """One op of the peers: instructions by the peer's name, where it was measured."""

    kind: str
    macs: int
    instructions: dict[str, int]


@dataclass(frozen=True)
class Baseline:
    """A table of peers."""

    peers: tuple[str, ...]
    rows: tuple[BaselineRow, ...]

    def totals(self, peer: str) -> dict[str, int]:
        """Instructions of a peer, `forward` and in the whole `step`; what it lacks is left out."""
        sums = {"forward": 0, "backward": 0}
        for row in self.rows:
            part = "forward" if row.kind in _FORWARD else "backward"
            sums[part] += row.instructions.get(peer, 0)
        if not sums["backward"]:
            return {"forward": sums["forward"]}
        return {"forward": sums["forward"], "step": sums["forward"] + sums["backward"]}

    def matched(self, ops: Sequence[OpCost], peer: str) -> list[int | None]:
        """The peer's instructions for each of `ops`; None where a part of one has no row."""
        waiting: dict[tuple[str, int], deque[BaselineRow]] = defaultdict(deque)
        for row in self.rows:
            waiting[row.kind, row.macs].append(row)
        return [_cost(op, peer, waiting) for op in ops]


def _cost(op: OpCost, peer: str, waiting: dict[tuple[str, int], deque[BaselineRow]]) -> int | None:
    total = 0
    for name, macs in op.parts:
        if name not in _KINDS:
            if macs or len(op.parts) == 1:
                return None
            continue
        found = next((k for k in _KINDS[name] if waiting[k, macs]), None)
        if found is None:
            return None
        count = waiting[found, macs].popleft().instructions.get(peer)
        if count is None:
            return None
        total += count
    return total


def read_baseline(path: Path) -> Baseline:
    """The table in a CSV file; raises `InvalidOption` with the line that is not a row of one."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        names = [name.removesuffix(_SUFFIX) for name in columns if name.endswith(_SUFFIX)]
        if not {"kind", "macs"} <= set(columns) or not names:
            raise InvalidOption("expected columns kind, macs and NAME_insns", str(path))
        rows: list[BaselineRow] = []
        for record in reader:
            try:
                counts = {n: int(record[n + _SUFFIX]) for n in names if record[n + _SUFFIX]}
                rows.append(BaselineRow(record["kind"], int(record["macs"]), counts))
            except (TypeError, ValueError):
                where = f"{path}:{reader.line_num}"
                raise InvalidOption("expected numbers of instructions and MACs", where) from None
    return Baseline(tuple(names), tuple(rows))


def chosen_peers(baseline: Baseline, names: Sequence[str], source: str) -> list[str]:
    """The peers to show: those of `names`, else the first one; raises `InvalidOption`."""
    for name in names:
        if name not in baseline.peers:
            raise InvalidOption(f"no peer {name}; has {', '.join(baseline.peers)}", source)
    return list(names) or [baseline.peers[0]]
