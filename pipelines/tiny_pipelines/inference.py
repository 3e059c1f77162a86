"""From a model to a planned inference function alone: the named pipeline `tiny-inference`."""

from typing import Any

from tiny_passes.registry import Observer, register_pipeline, run_pipeline


def planning(target: str | None = None) -> str:
    """The passes that place every value and prove the plan and the arithmetic.

    With a `target` its kernels' scratch memory is placed too.
    """
    proofs = "tiny-check-plan,tiny-prove-bounds"
    if target is None:
        return f"tiny-plan-memory,{proofs}"
    from tiny_targets import declare_scratch, grow_scratch  # noqa: F401  registers the passes

    option = f"{{target={target}}}"
    return f"tiny-declare-scratch{option},tiny-plan-memory,tiny-grow-scratch{option},{proofs}"


def pipeline_text(*, target: str | None = None) -> str:
    """The passes from a model to its planned `@infer`."""
    return f"tiny-reorder,{planning(target)}"


def build_inference(
    module: Any, *, target: str | None = None, observer: Observer | None = None
) -> Any:
    """Turn a model-stage module into its planned `@infer`, in place, and return it.

    With a `target` the plan has room for the scratch memory of its kernels.
    """
    run_pipeline(module, pipeline_text(target=target), observer=observer)
    return module


register_pipeline("tiny-inference", pipeline_text, "a model to its planned inference function")
