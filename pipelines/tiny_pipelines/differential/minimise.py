"""Shrink a failing case while it keeps failing in the same way: delta debugging over its record.

Fewer steps, a plainer scheme, default options, fewer layers, smaller tensors, plain numbers, in
this order; a change that still fails is kept, until none does. Each try is a whole compilation, so
the time is limited.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, replace
from typing import Any

from tiny_dialect.errors import TinyError
from tiny_pipelines.differential.case import Case, Options
from tiny_pipelines.differential.records import (
    AddRecord,
    ConvRecord,
    LayerRecord,
    LinearRecord,
    NetworkRecord,
    sources_of,
    without_unused,
)
from tiny_pipelines.frontends.layers import INPUT

StillFails = Callable[[Case], bool]

_PLAIN_SCALE = 0.02


def minimise(case: Case, still_fails: StillFails, seconds: float) -> Case:
    """The smallest case found within `seconds` that `still_fails`; at worst `case` itself."""
    end = time.monotonic() + seconds
    rejected: set[str] = set()
    place = tried = 0
    candidates = list(_smaller(case))
    while tried < len(candidates) and time.monotonic() < end:
        smaller = candidates[place % len(candidates)]
        key = repr(smaller)
        if key not in rejected and _is_valid(smaller) and still_fails(smaller):
            # The same place now holds the next change: those before it were tried a moment ago.
            case, tried = smaller, 0
            candidates = list(_smaller(case))
            continue
        rejected.add(key)
        place, tried = place + 1, tried + 1
    return case


def _is_valid(case: Case) -> bool:
    """Whether the layers fit each other."""
    try:
        case.model()
    except TinyError:
        return False
    return True


def _smaller(case: Case) -> Iterator[Case]:
    """Every case one change simpler, the largest changes first."""
    if case.steps > 1:
        yield replace(case, steps=1)
    for scheme in _plainer_schemes(case):
        yield replace(case, scheme=scheme)
    for entry in fields(Options):
        if getattr(case.options, entry.name) != entry.default:
            yield replace(case, options=replace(case.options, **{entry.name: entry.default}))
    for record in _smaller_records(case.record):
        if record != case.record:
            yield _fitting(replace(case, record=without_unused(record)))


def _names(record: NetworkRecord) -> list[str]:
    """The convolutions that a scheme can name, in order."""
    names = [layer.name for layer in record.layers if isinstance(layer, ConvRecord)]
    has_head = isinstance(record.layers[-1], LinearRecord)
    return names if has_head else names[:-1]


def _plainer_schemes(case: Case) -> Iterator[dict[str, Any]]:
    """The classifier alone, everything, biases or weights alone, an entry less, names as keys."""
    scheme, names = case.scheme, _names(case.record)
    weights, everything = scheme["weights"], {"all": 1.0}
    changes: list[dict[str, Any]] = [
        {"biases": 0, "weights": {}},
        {"biases": "all", "weights": everything},
        {"biases": "all", "weights": {}},
        {"biases": 0, "weights": everything},
        {"biases": 0},
        {"biases": "all"},
        *({"weights": {k: r for k, r in weights.items() if k != key}} for key in weights),
        {"weights": {names[int(k)] if k.isdigit() else k: r for k, r in weights.items()}},
    ]
    for change in changes:
        if _complexity({**scheme, **change}) < _complexity(scheme):
            yield {**scheme, **change}


def _complexity(scheme: dict[str, Any]) -> tuple[int, int, int]:
    """What every change of a scheme lowers, so that none is undone."""
    biases, weights = scheme["biases"], scheme["weights"]
    if weights in ({}, {"all": 1.0}):
        plain = {(0, 0): 0, ("all", 1): 1, ("all", 0): 2, (0, 1): 3}
        return plain.get((biases, len(weights)), 4), 0, 0
    return 5 + len(weights), sum(key.isdigit() for key in weights), biases not in (0, "all")


def _fitting(case: Case) -> Case:
    """The case with a scheme that names only layers that are left."""
    names, scheme = _names(case.record), case.scheme
    weights = {
        key: ratio
        for key, ratio in scheme["weights"].items()
        if key == "all" or key in names or (key.isdigit() and int(key) < len(names))
    }
    biases = scheme["biases"]
    biases = biases if biases == "all" else min(biases, len(names))
    return replace(case, scheme={**scheme, "biases": biases, "weights": weights})


def _smaller_records(record: NetworkRecord) -> Iterator[NetworkRecord]:
    for layer in reversed(record.layers[:-1]):
        for source in dict.fromkeys(sources_of(layer)):
            yield _without(record, layer.name, source)
    for layer in record.layers:
        if INPUT not in sources_of(layer):
            yield _with(record, layer, _reading_input(layer))
    yield from _smaller_inputs(record)
    yield from _fewer_channels(record)
    for layer in record.layers:
        if isinstance(layer, ConvRecord):
            same = (layer.kernel[0] // 2, layer.kernel[1] // 2) * 2
            if any(layer.pads) and layer.pads != same:
                yield _with(record, layer, replace(layer, pads=same))
        # What a record says where it says nothing is the plainest.
        for entry in fields(layer):
            if entry.default is not MISSING and getattr(layer, entry.name) != entry.default:
                yield _with(record, layer, replace(layer, **{entry.name: entry.default}))
    yield replace(record, input_scale=_PLAIN_SCALE)
    yield replace(record, input_zero_point=0)


def _with(record: NetworkRecord, old: LayerRecord, new: LayerRecord) -> NetworkRecord:
    layers = tuple(new if layer is old else layer for layer in record.layers)
    return replace(record, layers=layers)


def _reading(layer: LayerRecord, old: str, new: str) -> LayerRecord:
    """The layer with `new` read in place of `old`."""
    if isinstance(layer, AddRecord):
        first, second = (new if name == old else name for name in layer.sources)
        return replace(layer, sources=(first, second))
    return replace(layer, source=new) if layer.source == old else layer


def _reading_input(layer: LayerRecord) -> LayerRecord:
    for name in sources_of(layer):
        layer = _reading(layer, name, INPUT)
    return layer


def _without(record: NetworkRecord, name: str, source: str) -> NetworkRecord:
    """The record without layer `name`; its readers read `source`."""
    kept = (layer for layer in record.layers if layer.name != name)
    return replace(record, layers=tuple(_reading(layer, name, source) for layer in kept))


def _fewer(count: int, least: int = 1) -> Iterator[int]:
    yield from dict.fromkeys(n for n in (1, 2, 3, count // 2, count - 1) if least <= n < count)


def _smaller_inputs(record: NetworkRecord) -> Iterator[NetworkRecord]:
    for axis, size in enumerate(record.input_shape):
        for smaller in _fewer(size):
            shape = list(record.input_shape)
            shape[axis] = smaller
            yield replace(record, input_shape=(shape[0], shape[1], shape[2]))


def _fewer_channels(record: NetworkRecord) -> Iterator[NetworkRecord]:
    """Every layer of one channel count together, as residual additions need it; and classes."""
    convs = [layer for layer in record.layers if isinstance(layer, ConvRecord)]
    for count in sorted({layer.channels for layer in convs}, reverse=True):
        for smaller in _fewer(count):
            changed = record
            for layer in convs:
                if layer.channels == count:
                    changed = _with(changed, layer, replace(layer, channels=smaller))
            yield changed
    for layer in (*convs, record.layers[-1]):
        name = "classes" if isinstance(layer, LinearRecord) else "channels"
        if hasattr(layer, name):
            for smaller in _fewer(getattr(layer, name), 2 if name == "classes" else 1):
                yield _with(record, layer, replace(layer, **{name: smaller}))
