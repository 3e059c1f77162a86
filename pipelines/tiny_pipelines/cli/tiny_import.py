"""`tiny-import`: a model file of any supported format to a module at the `model` stage."""

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.cli import entry

_BYTECODE_SUFFIX = ".mlirbc"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return entry.run(_options(), _import, arguments)


def _options() -> argparse.ArgumentParser:
    options = entry.parser(
        "tiny-import",
        "Import a model: int8 TFLite, QDQ ONNX, PyTorch .pt2, MCUNet .pkl, MLIR text or bytecode, "
        "told by content. The output is bytecode where its name ends in .mlirbc, else text.",
        input_name="MODEL",
    )
    options.add_argument(
        "--list-ops", action=_ListOperators, nargs=0, help="list the operators of each format"
    )
    options.add_argument(
        "--classes",
        type=int,
        metavar="N",
        help="replace the classifier by a fresh float32 head for N classes",
    )
    options.add_argument(
        "--calibrate",
        type=Path,
        metavar="SET.npz",
        help="quantize a float model (.pt2) for these samples: floats, as the module takes them",
    )
    options.add_argument(
        "--seed", type=int, default=0, metavar="S", help="seed of the new head (default 0)"
    )
    return options


class _ListOperators(argparse.Action):
    """Print what each importer reads, and stop."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        from tiny_pipelines.frontends import supported_operators

        for name, operators in supported_operators().items():
            print(f"{name}: {', '.join(operators)}")
        parser.exit()


def _import(options: argparse.Namespace) -> None:
    to_stdout = options.output == entry.STANDARD_STREAM
    if options.json and to_stdout:
        raise InvalidOption("--json prints on stdout, so the module needs a file: add -o FILE")
    data, source = entry.read_input(options.input)

    from tiny_dialect.dialect import new_context, to_bytecode
    from tiny_pipelines.frontends import import_bytes

    with new_context():
        with entry.progress(f"importing {source}"):
            module = import_bytes(data, source, options.classes, options.seed, options.calibrate)
        if options.output.endswith(_BYTECODE_SUFFIX):
            result = to_bytecode(module)
        else:
            result = module.operation.get_asm().encode()
        entry.write_output(options.output, result)
        if options.json:
            entry.print_json(_summary(module, options.output, result))


def _summary(module: Any, output: str, result: bytes) -> dict[str, Any]:
    """What was imported: shapes, counts, bytes of the parameters, and the digest of the output."""
    from tiny_dialect.types import shape_of, storage_bytes
    from tiny_pipelines.frontends.inference import infer_function, parameters

    function = infer_function(module)
    block = function.regions[0].blocks[0]
    operations = list(block.operations)
    layers = [op.attributes["layer"].value for op in operations if "layer" in op.attributes]
    return {
        "model": function.attributes["tiny.model"].value,
        "input_shape": list(shape_of(block.arguments[0])),
        "classes": shape_of(operations[-1].operands[0])[-1],
        "layers": len(set(layers)),
        "operations": len(operations),
        "parameters": len(parameters(function)),
        "parameter_bytes": sum(storage_bytes(op.result) for op in parameters(function)),
        "output": output,
        "output_bytes": len(result),
        "output_sha256": hashlib.sha256(result).hexdigest(),
    }
