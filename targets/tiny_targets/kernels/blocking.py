"""How large the blocks of the product kernels are: measured in the emulator, kept as data.

    blocking.json   core -> kernel -> what was chosen, and what each candidate cost

`tiny-choose-blocking` records the choice on an op, `tiny.blocking = array<i64: 2, 2, 12>`, and the
kernel follows it; an op without takes that of the table. `tiny-bench --tune` measures and writes.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from tiny_dialect.attributes import integers, to_list
from tiny_dialect.dialect import place_of
from tiny_dialect.errors import InvalidModel
from tiny_passes.graph import layer_of

BLOCKING = "tiny.blocking"
"""The attribute of an op that says how its kernel is blocked."""

TABLE = "blocking.json"


@dataclass(frozen=True)
class Blocking:
    """A block of sums that stays in registers, and how far its loop is unrolled."""

    pixels: int
    channels: int
    steps: int
    """Of the depth, unrolled at most."""

    def __str__(self) -> str:
        return f"{self.pixels}x{self.channels}x{self.steps}"

    @staticmethod
    def parse(text: str) -> "Blocking":
        """The blocking that `str` gave `text` for."""
        return Blocking(*(int(part) for part in text.split("x")))


@cache
def blocking_table() -> dict[str, dict[str, Any]]:
    """What was measured: core, kernel, `chosen` and `measured`."""
    return json.loads((resources.files("tiny_targets.kernels") / TABLE).read_text("utf-8"))


def chosen_blocking(form: str, target: Any) -> Blocking:
    """The blocking of a kernel for a core; for one that was not measured that of the first like it.

    Kernels differ by what a core can do, so that any of them that has the kernel is like it.
    """
    table = blocking_table()
    records = [table.get(target.name, {}), *table.values()]
    return Blocking.parse(next(record[form]["chosen"] for record in records if form in record))


def blocking_of(op: Any, form: str, target: Any) -> Blocking:
    """The blocking that is recorded on an op, else that of the table.

    Raises `InvalidModel` for a record that is no blocking.
    """
    if BLOCKING not in op.attributes:
        return chosen_blocking(form, target)
    values = [int(value) for value in to_list(op.attributes[BLOCKING])]
    if len(values) != 3 or min(values) < 1:
        raise InvalidModel(
            f"expects {BLOCKING} of pixels, channels and steps, got {values}",
            layer_of(op) or place_of(op.location),
        )
    return Blocking(*values)


def record_blocking(op: Any, blocking: Blocking) -> None:
    """Record a blocking on an op."""
    op.attributes[BLOCKING] = integers([blocking.pixels, blocking.channels, blocking.steps])
