"""Importer of ONNX graphs in the QDQ form: float ops between DequantizeLinear and QuantizeLinear.

The inputs of an op come from DequantizeLinear. Its result waits, through Relu, Clip and changes of
shape that nothing else reads, for the QuantizeLinear that says its scale: that makes one integer
layer of all. Anything else is an error that names the node. uint8 becomes int8 by 128 less; images
become NHWC, and so do weights. A Softmax or Sigmoid at the end is dropped; what is computed from
constants alone, such as shapes, is a constant.
"""

from tiny_pipelines.frontends.layers import Network
from tiny_pipelines.frontends.onnx_file import load_graph
from tiny_pipelines.frontends.onnx_reader import OWN_OPERATORS, Reader
from tiny_pipelines.frontends.onnx_rules import RULES


def read_network(data: bytes, name: str, source: str) -> Network:
    """The network in the bytes of an `.onnx` file; `InvalidModel` names the node and the reason."""
    return Reader(load_graph(data, source), source, RULES).network(name)


def supported_operators() -> tuple[str, ...]:
    """The operators that are imported, by name."""
    return tuple(sorted({*RULES, *OWN_OPERATORS}))
