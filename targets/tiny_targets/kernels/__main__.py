"""Print the kernels of a module: `python -m tiny_targets.kernels FILE [--target T] [--layer NAME]`.

One comment an op, `// function layer op -> @kernel`, and each kernel's text where it first occurs.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context, parse_module, read_module
from tiny_dialect.errors import TinyError
from tiny_passes.graph import body, functions, layer_of
from tiny_targets.kernels import build_call, has_kernel
from tiny_targets.target import find_target


def _calls(module: Any, target: Any, layer: str | None) -> Iterator[tuple[str, Any]]:
    """(comment, kernel) of every op that has a kernel, in program order."""
    for name, function in functions(module).items():
        for op in body(function):
            if not has_kernel(op) or layer not in (None, layer_of(op)):
                continue
            kernel = build_call(op, target).kernel
            yield f"// @{name} {layer_of(op)} {op.operation.name} -> @{kernel.name}", kernel


def main(arguments: Sequence[str] | None = None) -> int:
    """Print to stdout; 0, or 1 after a one-line error."""
    parser = argparse.ArgumentParser(prog="python -m tiny_targets.kernels", description=__doc__)
    parser.add_argument("input", help="a module, or - for stdin")
    parser.add_argument("--target", default="cortex-m7")
    parser.add_argument("--layer", help="only the ops of this layer")
    options = parser.parse_args(arguments)
    try:
        target = find_target(options.target)
        with new_context(), ir.Location.unknown():
            if options.input == "-":
                module = parse_module(sys.stdin.buffer.read(), "-")
            else:
                module = read_module(Path(options.input))
            printed = set()
            for comment, kernel in _calls(module, target, options.layer):
                print(comment)
                if kernel.name not in printed:
                    print(kernel.text.strip(), end="\n\n")
                    printed.add(kernel.name)
    except TinyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
