"""Random chains of convolutions, as separate ops and fused into one, with arrays to run them on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from kernel_case import Case, Maker
from kernel_cases import Geometry, random_geometry, some_channels, weights

from tiny_dialect import ops
from tiny_dialect.attributes import dense, integers
from tiny_dialect.bindings import ir
from tiny_dialect.types import quantized, tensor
from tiny_passes.fuse_blocks import chain_in, fuse


@dataclass(frozen=True)
class Link:
    """One convolution of a chain: its geometry, what is trained, what is handed out."""

    geometry: Geometry
    storage: str = "i8"
    overlay: bool = False
    mask: bool = False
    gather: bool = False
    bias_range: int = 2000


def random_links(rng: np.random.Generator, length: int, residual: bool = False) -> list[Link]:
    """Chained geometries of any kind; with `residual` input and output have one shape."""
    links: list[Link] = []
    size, channels = (int(rng.integers(1, 12)), int(rng.integers(1, 10))), int(rng.integers(1, 9))
    first = channels
    while len(links) < length:
        geo = random_geometry(rng)
        strides, kernel = geo.strides, geo.kernel
        pads = geo.pads
        if residual:
            strides = (1, 1)
            kernel = (kernel[0] | 1, kernel[1] | 1)
            pads = (kernel[0] // 2, kernel[1] // 2) * 2
        groups = channels if rng.random() < 0.4 else 1
        outputs = channels if groups > 1 else int(rng.integers(1, 14))
        if residual and len(links) == length - 1:
            groups, outputs = 1, first
        geo = Geometry(size, channels, outputs, kernel, strides, pads, groups)
        if min(geo.output) < 1:
            continue
        links.append(
            Link(
                geo,
                storage=str(rng.choice(["i8", "i8", "i16", "f32"])),
                overlay=bool(rng.random() < 0.3),
                mask=bool(rng.random() < 0.4),
                gather=len(links) < length - 1 and bool(rng.random() < 0.3),
                bias_range=int(rng.choice([100, 2**20, 2**31])),
            )
        )
        size, channels = geo.output[:2], geo.outputs
    return links


def _convolution(make: Maker, x: Any, link: Link, clamp: tuple[int, int]) -> Any:
    geo, rng = link.geometry, make.rng
    factors = rng.uniform(0.5, 1.5, geo.outputs) / (74 * np.sqrt(np.prod(geo.weight[1:])) * 2)
    bias = make.parameter(
        rng.integers(-link.bias_range, link.bias_range, geo.outputs).astype(np.int32)
    )
    weight, kwargs = weights(make, geo, link.storage, link.overlay)
    channels = kwargs.pop("trained_channels", None)
    scale_y = 0.05
    y = quantized((1, *geo.output), scale_y, make.zero_point())
    if link.mask:
        kwargs["mask"] = tensor((1, *geo.output), "i1")
    scales = dense(factors * scale_y / x.type.element_type.scale)
    attributes = {**geo.attributes(), **kwargs, "clamp": integers(clamp)}
    op = make.build(ops.Conv2D, x, weight, bias, y, scales, **attributes)
    if channels is not None:
        op.attributes["trained_channels"] = integers(channels)
    return op


def chain_case(seed: int, links: list[Link], residual: str = "", mask: bool = False) -> Case:
    """The chain of `links` fused; `residual` is "" for none, "input" or "other"."""
    make = Maker(seed)
    first = links[0].geometry
    x = value = make.activation((*first.size, first.inputs), 0.05, make.zero_point())
    segment, returned = [], []
    for link in links:
        op = _convolution(make, value, link, [(-128, 127), (-100, 90)][seed % 2])
        segment.append(op)
        if link.mask:
            returned.append(op.mask)
        value = op.y
        if link.gather:
            channels = some_channels(make.rng, link.geometry.outputs)
            shape = (1, *link.geometry.output[:2], len(channels))
            kind = ir.RankedTensorType.get(list(shape), value.type.element_type)
            returned.append(
                make.build(ops.GatherChannels, value, kind, integers(channels)).results[0]
            )
    if residual:
        shape = links[-1].geometry.output
        other = x if residual == "input" else make.activation(shape, 0.03, make.zero_point())
        operands = (value, other) if seed % 2 else (other, value)
        kwargs = {"mask": tensor((1, *shape), "i1")} if mask else {}
        op = make.build(
            ops.Add, *operands, quantized((1, *shape), 0.06, make.zero_point()), **kwargs
        )
        segment.append(op)
        returned += [op.mask] if mask else []
        value = op.y
    label = f"chain {seed} {residual} {links}"
    make.finish([value, *returned])
    return make.case_of(label, fuse(chain_in(segment)))
