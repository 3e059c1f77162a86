"""From a model to a planned inference function alone: the named pipeline `tiny-inference`."""

from typing import Any

from tiny_passes.registry import Observer, register_pipeline, run_pipeline


def planning(target: str | None = None, search: str = "") -> str:
    """The passes that place every value and prove the plan and the arithmetic.

    With a `target` its kernels are blocked and their scratch memory is placed too, in an order
    that suits it. `search` holds options of `tiny-plan-memory`.
    """
    plan = f"tiny-plan-memory{{{search}}}" if search else "tiny-plan-memory"
    proofs = "tiny-check-plan,tiny-prove-bounds"
    if target is None:
        return f"{plan},{proofs}"
    # Importing them registers the passes.
    from tiny_targets import choose_blocking, declare_scratch, grow_scratch  # noqa: F401

    option = f"{{target={target}}}"
    before = f"tiny-choose-blocking{option},tiny-declare-scratch{option}"
    return f"{before},tiny-reorder,{plan},tiny-grow-scratch{option},{proofs}"


def pipeline_text(*, target: str | None = None, stream_input: bool = False) -> str:
    """The passes from a model to its planned `@infer`."""
    stream = "tiny-stream-input," if stream_input else ""
    return f"{stream}tiny-reorder,{planning(target)}"


def build_inference(
    module: Any,
    *,
    target: str | None = None,
    stream_input: bool = False,
    observer: Observer | None = None,
) -> Any:
    """Turn a model-stage module into its planned `@infer`, in place, and return it.

    With a `target` the plan has room for the scratch memory of its kernels; with `stream_input`
    the input arrives row by row.
    """
    text = pipeline_text(target=target, stream_input=stream_input)
    run_pipeline(module, text, observer=observer)
    return module


register_pipeline("tiny-inference", pipeline_text, "a model to its planned inference function")
