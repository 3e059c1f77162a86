"""Importer of int8 TFLite files: per-channel symmetric weights, asymmetric activations.

What stands at the edges, QUANTIZE in front and DEQUANTIZE, (LOG_)SOFTMAX, LOGISTIC behind, is
dropped: the model reads int8 and returns int8 logits. An operator that is not in
`supported_operators` is refused by name and index; so are hybrid, sparse and float models.
"""

from tiny_dialect.errors import InvalidModel
from tiny_pipelines.frontends.flatbuffer import Damaged
from tiny_pipelines.frontends.layers import Network
from tiny_pipelines.frontends.tflite_file import read_graph
from tiny_pipelines.frontends.tflite_reader import EDGES, Reader
from tiny_pipelines.frontends.tflite_rules import RULES


def read_network(data: bytes, name: str, source: str) -> Network:
    """The network in the bytes of a `.tflite` file; `InvalidModel` names operator and reason."""
    try:
        graph = read_graph(data)
    except Damaged as error:
        raise InvalidModel(f"damaged TFLite file: {error}", source) from error
    return Reader(graph, source, RULES).network(name)


def supported_operators() -> tuple[str, ...]:
    """The operators that are imported; (LOG_)SOFTMAX, LOGISTIC and DEQUANTIZE at the end only."""
    return tuple(sorted({*RULES, *EDGES}))
