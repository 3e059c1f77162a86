"""Op classes of the dialect, by phase of the training step."""

from tiny_dialect.ops.backward import (
    AddGradients,
    BiasGrad,
    Conv2DInputGrad,
    Conv2DWeightGrad,
    GlobalAveragePoolGrad,
    LinearInputGrad,
    LinearWeightGrad,
    ScaleGradient,
    SoftmaxCrossEntropyGrad,
)
from tiny_dialect.ops.forward import (
    Add,
    Conv2D,
    Dequantize,
    GatherChannels,
    GlobalAveragePool,
    Linear,
    Parameter,
    SoftmaxCrossEntropy,
)
from tiny_dialect.ops.fused import FusedBlock, Yield
from tiny_dialect.ops.integer_backward import (
    IntegerAddGradients,
    IntegerConv2DInputGrad,
    NormalizeGradient,
)
from tiny_dialect.ops.integer_head import (
    DequantizeFixed,
    FixedToFloat,
    IntegerLinear,
    IntegerLinearInputGrad,
    IntegerSoftmaxCrossEntropy,
    IntegerSoftmaxCrossEntropyGrad,
)
from tiny_dialect.ops.integer_update import (
    IntegerBiasUpdate,
    IntegerConv2DWeightUpdate,
    IntegerLinearWeightUpdate,
)
from tiny_dialect.ops.update import (
    AdvanceCounter,
    ApplyUpdate,
    BiasUpdate,
    Clear,
    Conv2DWeightUpdate,
    LinearWeightUpdate,
    StochasticConv2DWeightUpdate,
    StochasticUpdate,
)

__all__ = [
    "Add",
    "AddGradients",
    "AdvanceCounter",
    "ApplyUpdate",
    "BiasGrad",
    "BiasUpdate",
    "Clear",
    "Conv2D",
    "Conv2DInputGrad",
    "Conv2DWeightGrad",
    "Conv2DWeightUpdate",
    "Dequantize",
    "DequantizeFixed",
    "FixedToFloat",
    "FusedBlock",
    "GatherChannels",
    "GlobalAveragePool",
    "GlobalAveragePoolGrad",
    "IntegerAddGradients",
    "IntegerBiasUpdate",
    "IntegerConv2DInputGrad",
    "IntegerConv2DWeightUpdate",
    "IntegerLinear",
    "IntegerLinearInputGrad",
    "IntegerLinearWeightUpdate",
    "IntegerSoftmaxCrossEntropy",
    "IntegerSoftmaxCrossEntropyGrad",
    "Linear",
    "LinearInputGrad",
    "LinearWeightGrad",
    "LinearWeightUpdate",
    "NormalizeGradient",
    "Parameter",
    "ScaleGradient",
    "SoftmaxCrossEntropy",
    "SoftmaxCrossEntropyGrad",
    "StochasticConv2DWeightUpdate",
    "StochasticUpdate",
    "Yield",
]
