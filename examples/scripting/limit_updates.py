"""A pass and a pipeline of one's own: train the last layers that a memory budget allows.

    tiny-opt digits.mlirbc --load examples/scripting/limit_updates.py -p 'train-within{bytes=4000}'

Updates are visited from the output backwards; the first that would exceed the budget and all before
it are dropped, and what they wrote becomes a constant in flash.
"""

from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.types import storage_bytes
from tiny_passes.prune_backward import updates_of
from tiny_passes.registry import PassError, register_pass, register_pipeline
from tiny_pipelines.scheme import find_scheme_file


@register_pass("limit-updates", anchor="func.func", only="train_step")
def limit_updates(step: Any, *, bytes: int) -> None:
    """Keep the last updates whose parameters take at most `bytes` of SRAM together."""
    free = bytes
    kept = 0
    for update in reversed(updates_of(step)):
        parameter = update.operands[0]
        free -= storage_bytes(parameter)
        if free >= 0:
            kept += 1
            continue
        del parameter.owner.attributes["trained"]
        update.operation.erase()
    if not kept:
        raise PassError(step, f"no parameter fits {bytes} bytes")
    count = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), kept)
    step.operation.attributes["limit_updates.kept"] = count


def _train_within(*, bytes: int, scheme: str = "full") -> str:
    """The text of the pipeline; its options are the keywords."""
    return (
        f"tiny-differentiate,tiny-select-updates{{scheme={find_scheme_file(scheme)}}},"
        f"limit-updates{{bytes={bytes}}},tiny-prune-backward"
    )


register_pipeline("train-within", _train_within, "the sparse stage, within a budget in bytes")
