"""What a case holds, in words: the counts show what a campaign has covered."""

from tiny_pipelines.differential.between_layers import (
    MeanRecord,
    PadRecord,
    RequantizeRecord,
    ReshapeRecord,
    WindowRecord,
)
from tiny_pipelines.differential.case import Case
from tiny_pipelines.differential.records import DEPTHWISE, AddRecord, ConvRecord, LinearRecord

_ENDS = (-128, 127)
_LARGE, _SMALL = 1.0, 1e-6


def features_of(case: Case) -> list[str]:
    """The features of one case."""
    present = {**_shapes(case), **_layers(case), **_numbers(case), **_options(case)}
    return [name for name, holds in present.items() if holds]


def _convs(case: Case) -> list[ConvRecord]:
    return [layer for layer in case.record.layers if isinstance(layer, ConvRecord)]


def _shapes(case: Case) -> dict[str, bool]:
    height, width, _ = case.record.input_shape
    convs = _convs(case)
    return {
        "one-dimensional": min(height, width) == 1,
        "non-square": height != width,
        "stride": any(max(conv.strides) > 1 for conv in convs),
        "asymmetric padding": any(conv.pads[:2] != conv.pads[2:] for conv in convs),
        "kernel of 5 to 7": any(max(conv.kernel) > 4 for conv in convs),
    }


def _layers(case: Case) -> dict[str, bool]:
    layers, convs = case.record.layers, _convs(case)
    windows = [layer for layer in layers if isinstance(layer, WindowRecord)]
    kinds = {
        "residual addition": AddRecord,
        "mean": MeanRecord,
        "rescaling or clamp alone": RequantizeRecord,
        "pad": PadRecord,
        "reshape": ReshapeRecord,
    }
    return {
        **{name: any(isinstance(x, kind) for x in layers) for name, kind in kinds.items()},
        "max pool": any(window.kind == "max" for window in windows),
        "average pool": any(window.kind == "average" for window in windows),
        "padded pool": any(any(window.pads) for window in windows),
        "depthwise": any(conv.groups == DEPTHWISE for conv in convs),
        "depthwise multiplier": any(c.groups == DEPTHWISE and c.channels > 1 for c in convs),
        "other groups": any(conv.groups > 0 for conv in convs),
        "quantized head": not isinstance(layers[-1], LinearRecord),
    }


def _numbers(case: Case) -> dict[str, bool]:
    record, convs = case.record, _convs(case)
    scales = [record.input_scale, *(conv.weight_scale for conv in convs)]
    zero_points = [getattr(layer, "zero_point", 0) for layer in record.layers]
    spreads = [getattr(layer, "spread", 1.0) for layer in record.layers]
    return {
        "dead channels": any(conv.dead for conv in convs),
        "weights all zero": any(conv.weights == "zero" for conv in convs),
        "weights all extreme": any(conv.weights == "extreme" for conv in convs),
        "scale beyond 1 or 1e-6": max(scales) > _LARGE or min(scales) < _SMALL,
        "channel scales 100 times apart": any(conv.scale_range > 10 for conv in convs),
        "zero point at an end": any(z in _ENDS for z in (record.input_zero_point, *zero_points)),
        "almost constant or all clamped": any(s in (0.4, 400.0) for s in spreads),
    }


def _options(case: Case) -> dict[str, bool]:
    options = case.options
    return {
        "partial weights": any(ratio < 1 for ratio in case.scheme["weights"].values()),
        "streamed input": options.stream_input,
        "kernels chosen for the core": options.for_target,
        "gradients summed over samples": options.accumulate,
        "no qas": not options.qas,
        "not in place": not options.in_place,
        "not reordered": not options.reorder,
        "plan of cp-sat": options.search == "cp-sat",
        "unfused updates": not options.fuse_updates,
        f"rescaling {options.rescaling}": options.qas,
        f"blocks fused: {options.fuse_blocks}": True,
        f"rows overlapped: {options.row_overlap}": True,
        f"masters {options.update}": True,
        f"gradients {options.gradients}": True,
    }
