"""Random functions of forward, backward and update ops: wide fan-out, dead results, any dependence.

Not networks: any value of a fitting shape may feed any op, so that orders and lifetimes vary more
than in a differentiated model.
"""

import random

import numpy as np

from tiny_dialect import ops
from tiny_dialect.attributes import dense, integer, integers, real, string
from tiny_dialect.bindings import ir, load
from tiny_dialect.types import quantized, shape_of, tensor

SCALES = (0.25, 0.5, 1.0)


class RandomStep:
    """`module` with a function `@train_step(x, label, rate)`, and `arguments` to run it on."""

    def __init__(self, seed, size):
        self.choose = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.module = ir.Module.create()
        self.symbols = 0
        func = load("dialects.func")
        shape = (1, self.choose.randint(1, 3), self.choose.randint(1, 4), self.choose.randint(1, 9))
        inputs = [self.activation(shape), tensor((), "i32"), tensor((), "f32")]
        with ir.InsertionPoint(self.module.body):
            function = func.FuncOp("train_step", ir.FunctionType.get(inputs, []))
        self.function = function
        with ir.InsertionPoint(function.add_entry_block()):
            x, _, self.rate = function.arguments
            self.activations, self.gradients, self.masks = [x], [], []
            self.trained = []
            self.dequantize()
            for _ in range(size):
                self.choose.choice(self.MAKERS)(self)
            self.update_what_is_left()
            values = [*self.activations, *self.gradients]
            returned = self.choose.sample(values, min(len(values), self.choose.randint(1, 3)))
            func.ReturnOp(returned)
        signature = ir.FunctionType.get(inputs, [value.type for value in returned])
        function.attributes["function_type"] = ir.TypeAttr.get(signature)
        self.add_scratch()
        self.module.operation.verify()
        self.arguments = [
            self.numbers.integers(-128, 128, shape).astype(np.int8),
            np.array(0, np.int32),
            np.array(0.01, np.float32),
        ]

    def activation(self, shape):
        return quantized(shape, self.choose.choice(SCALES), self.choose.randint(-9, 9))

    def parameter(self, values, trained):
        self.symbols += 1
        kind = tensor(values.shape, {"i1": "i8", "i2": "i16", "i4": "i32"}[values.dtype.str[1:]])
        op = ops.Parameter(kind, string(f"p{self.symbols}"), dense(values))
        if trained:
            op.attributes["trained"] = ir.UnitAttr.get()
        return op.result

    def like(self, values, shape):
        return [value for value in values if shape_of(value) == shape]

    def conv2d(self):
        x = self.choose.choice(self.activations)
        channels, kernel = shape_of(x)[3], self.choose.choice((1, 3))
        depthwise = self.choose.random() < 0.4
        outputs = channels if depthwise else self.choose.randint(1, 9)
        groups = channels if depthwise else 1
        weight = self.numbers.integers(-9, 9, (outputs, kernel, kernel, channels // groups))
        bias = self.parameter(self.numbers.integers(-9, 9, outputs).astype(np.int32), True)
        kind = self.activation((*shape_of(x)[:3], outputs))
        masked = self.choose.random() < 0.6
        op = ops.Conv2D(
            x,
            self.parameter(weight.astype(np.int8), False),
            bias,
            kind,
            dense(np.full(outputs, 0.125)),
            mask=tensor(shape_of(kind), "i1") if masked else None,
            pads=integers([kernel // 2] * 4),
            groups=integer(groups),
        )
        self.trained.append(bias)
        self.activations.append(op.y)
        if masked:
            self.masks.append(op.mask)

    def add(self):
        a = self.choose.choice(self.activations)
        b = self.choose.choice(self.like(self.activations, shape_of(a)))
        self.activations.append(ops.Add(a, b, self.activation(shape_of(a))).y)

    def gather_channels(self):
        x = self.choose.choice(self.activations)
        limit = shape_of(x)[3]
        channels = sorted(self.choose.sample(range(limit), self.choose.randint(1, limit)))
        kind = ir.RankedTensorType.get([*shape_of(x)[:3], len(channels)], x.type.element_type)
        gathered = ops.GatherChannels(x, kind, channels=integers(channels))
        self.activations.append(gathered.y)

    def dequantize(self):
        x = self.choose.choice(self.activations)
        self.gradients.append(ops.Dequantize(x, tensor(shape_of(x), "f32")).y)

    def scale_gradient(self):
        g = self.choose.choice(self.gradients)
        masks = self.like(self.masks, shape_of(g))
        mask = self.choose.choice(masks) if masks else None
        self.gradients.append(ops.ScaleGradient(g, g.type, real(0.5), mask=mask).gx)

    def add_gradients(self):
        a = self.choose.choice(self.gradients)
        b = self.choose.choice(self.like(self.gradients, shape_of(a)))
        self.gradients.append(ops.AddGradients(a, b, a.type).gx)

    def bias_update(self):
        g = self.choose.choice(self.gradients)
        fitting = self.like(self.trained, shape_of(g)[3:])
        if fitting:
            bias = self.choose.choice(fitting)
            self.trained.remove(bias)
            ops.BiasUpdate(bias, g, self.rate, dense(np.ones(shape_of(bias), np.float32)))

    def stored_bias_update(self):
        g = self.choose.choice(self.gradients)
        channels = shape_of(g)[3]
        ones = dense(np.ones(channels, np.float32))
        gradient = ops.BiasGrad(g, tensor((channels,), "f32"), ones).gb
        fitting = self.like(self.trained, (channels,))
        if fitting:
            bias = self.choose.choice(fitting)
            self.trained.remove(bias)
            ops.ApplyUpdate(bias, gradient, self.rate, ones)

    def weight_update(self):
        g = self.choose.choice(self.gradients)
        x = self.choose.choice(self.activations)
        if shape_of(x)[:3] == shape_of(g)[:3]:
            shape = (shape_of(g)[3], 1, 1, shape_of(x)[3])
            weight = self.parameter(self.numbers.integers(-999, 999, shape).astype(np.int16), True)
            factors = dense(np.ones(shape[0], np.float32))
            ops.Conv2DWeightUpdate(weight, x, g, self.rate, factors)

    def update_what_is_left(self):
        for _ in range(len(self.trained)):
            self.bias_update()

    def add_scratch(self):
        for op in self.function.regions[0].blocks[0]:
            if op.operation.name != "tiny.parameter" and self.choose.random() < 0.2:
                op.attributes["tiny.scratch_bytes"] = integer(self.choose.randint(1, 99))

    MAKERS = (
        conv2d,
        conv2d,
        add,
        gather_channels,
        dequantize,
        dequantize,
        scale_gradient,
        scale_gradient,
        add_gradients,
        bias_update,
        stored_bias_update,
        weight_update,
    )
