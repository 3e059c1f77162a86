"""From a model to a planned inference function, without training: the named pipeline `tiny-inference`."""

from typing import Any

from tiny_passes.registry import Observer, register_pipeline, run_pipeline

PIPELINE = "tiny-reorder,tiny-plan-memory,tiny-check-plan"


def declaration(target: str | None) -> str:
    """The pass that declares the scratch memory of a target's kernels, with a comma; or nothing."""
    if target is None:
        return ""
    import tiny_targets.declare_scratch  # noqa: F401  registers the pass

    return f"tiny-declare-scratch{{target={target}}},"


def build_inference(
    module: Any, *, target: str | None = None, observer: Observer | None = None
) -> Any:
    """Turn a model-stage module into its planned `@infer`, in place, and return it.

    With a `target` the plan has room for the scratch memory of its kernels.
    """
    schedule, _, plan = PIPELINE.partition(",")
    run_pipeline(module, f"{schedule},{declaration(target)}{plan}", observer=observer)
    return module


register_pipeline("tiny-inference", PIPELINE, "a model to its planned inference function")
