"""From a model to a planned inference function, without training: the named pipeline `tiny-inference`."""

from typing import Any

from tiny_passes.registry import Observer, register_pipeline, run_pipeline

PIPELINE = "tiny-reorder,tiny-plan-memory,tiny-check-plan"


def build_inference(module: Any, *, observer: Observer | None = None) -> Any:
    """Turn a model-stage module into its planned `@infer`, in place, and return it."""
    run_pipeline(module, PIPELINE, observer=observer)
    return module


register_pipeline("tiny-inference", PIPELINE, "a model to its planned inference function")
