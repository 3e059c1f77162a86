"""`tiny-compile`: a model to a training step for a board, or to any stage on the way."""

import argparse
from collections.abc import Sequence
from typing import Any

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.cli import entry

PACKAGE_MARK = "zephyr/module.yml"
_STAGES = ("model", "train", "sparse", "scaled", "scheduled", "planned", "linalg", "kernels")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return entry.run(_options(), _compile, arguments)


def _options() -> argparse.ArgumentParser:
    options = entry.parser(
        "tiny-compile",
        "Compile a model into firmware that trains it: object, C sources, image and manifest in "
        "the folder -o. With --compile-to, the module at that stage instead, as text.",
        input_name="MODEL",
    )
    options.add_argument("--target", help="instruction set: cortex-m4 cortex-m7 rv32imc rv32imafc")
    options.add_argument("--board", help="board name or JSON file (default: a generic board)")
    options.add_argument("--scheme", default="full", help="update scheme: a name or a JSON file")
    options.add_argument("--classes", type=int, metavar="N", help="fresh float32 head, N classes")
    options.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the new head")
    options.add_argument(
        "--update", default="int16", help="storage of trained weights: int16 (default) float32"
    )
    options.add_argument(
        "--gradients",
        metavar="KIND",
        help="gradient arithmetic: int16 int8 float32 (default: int16 where --update allows it)",
    )
    options.add_argument("--inference", action="store_true", help="no training: @infer alone")
    options.add_argument("--no-qas", action="store_true", help="no quantization-aware scaling")
    options.add_argument(
        "--no-fuse-blocks", action="store_true", help="no row-wise fusion of convolution chains"
    )
    options.add_argument(
        "--no-row-overlap", action="store_true", help="no result over rows that have been read"
    )
    options.add_argument(
        "--stream-input",
        action="store_true",
        help="the input arrives row by row, from a callback, and never exists whole",
    )
    options.add_argument(
        "--package",
        action="store_true",
        help="a C library to take home, in the folder -o: sources, kernels, CMake, Arduino and "
        "Zephyr metadata, golden vectors, self-test, manifest",
    )
    options.add_argument(
        "--search",
        default="greedy",
        metavar="KIND",
        help="order and addresses: greedy (default), or cp-sat (extra `search`): best or a bound",
    )
    options.add_argument(
        "--search-seconds", type=float, default=60.0, metavar="N", help="for --search cp-sat (60)"
    )
    options.add_argument("--compile-to", metavar="STAGE", help=f"stop at: {' '.join(_STAGES)}")
    return options


def _compile(options: argparse.Namespace) -> None:
    data, source = entry.read_input(options.input)
    if options.compile_to is not None and options.compile_to not in _STAGES:
        raise InvalidOption(f"unknown stage {options.compile_to}; stages: {', '.join(_STAGES)}")

    from tiny_dialect.dialect import new_context
    from tiny_pipelines.frontends import import_bytes
    from tiny_pipelines.training import TrainingOptions

    training = TrainingOptions(
        options.scheme,
        options.update,
        options.gradients,
        not options.no_qas,
        not options.no_fuse_blocks,
        not options.no_row_overlap,
        search=options.search,
        search_seconds=options.search_seconds,
        stream_input=options.stream_input,
    )
    for name in ("inference", "package"):
        if getattr(options, name) and options.compile_to is not None:
            raise InvalidOption(f"--{name} builds firmware; it does not go with --compile-to")
    board = _board(options)
    with new_context():
        with entry.progress(f"importing {source}"):
            module = import_bytes(data, source, options.classes, options.seed)
        if options.compile_to is not None:
            _write_stage(module, training, board, options)
            return
        if options.output == entry.STANDARD_STREAM:
            raise InvalidOption("the result is a folder: add -o DIR (or --compile-to STAGE)")
        chosen = None if options.inference else training
        if options.package:
            _write_package(module, data, chosen, board, options)
        else:
            _write_firmware(module, data, chosen, board, options)


def _board(options: argparse.Namespace) -> Any:
    """The board to compile for; None where neither target nor board is named."""
    from tiny_targets.boards import find_board, generic_board
    from tiny_targets.target import find_target

    target = find_target(options.target) if options.target else None
    if options.board:
        return find_board(options.board, target)
    return generic_board(target) if target else None


def _required(board: Any) -> Any:
    if board is None:
        raise InvalidOption("name what to compile for: --target cortex-m7, or --board stm32f746")
    return board


def _write_stage(module: Any, training: Any, board: Any, options: argparse.Namespace) -> None:
    from tiny_passes.registry import run_pipeline
    from tiny_pipelines.training import STAGES, build_training_step

    stage = options.compile_to
    until = stage if stage in STAGES else "scheduled" if stage == "linalg" else "planned"
    with entry.progress(f"compiling to {stage}"):
        # Kernels need their scratch memory, and that depends on the target.
        target = _required(board).target.name if stage == "kernels" else None
        build_training_step(module, training, until=until, target=target)
        if stage == "linalg":
            run_pipeline(module, "tiny-lower-to-linalg")
        if stage == "kernels":
            from tiny_targets.schedule import build_schedule

            kernels = build_schedule(module, _required(board).target).kernels
            text = "\n".join(kernel.text for kernel in kernels) + "\n"
        else:
            text = module.operation.get_asm()
    entry.write_output(options.output, text.encode())


def _write_firmware(
    module: Any, data: bytes, training: Any, board: Any, options: argparse.Namespace
) -> None:
    from tiny_pipelines.firmware import compile_firmware
    from tiny_pipelines.package import origin_of

    board = _required(board)
    origin = origin_of(data, training, options.classes, options.seed)
    with entry.output_folder(options.output) as folder:
        report = compile_firmware(
            module, training, board, folder,
            step=entry.progress, stream_input=options.stream_input, origin=origin,
        )  # fmt: skip
    if options.json:
        entry.print_json(report)
    else:
        print(_text(report))


def _write_package(
    module: Any, data: bytes, training: Any, board: Any, options: argparse.Namespace
) -> None:
    from tiny_pipelines.package import compile_package, origin_of

    board = _required(board)
    entry.require_replaceable(options.output, PACKAGE_MARK)
    origin = origin_of(data, training, options.classes, options.seed)
    files, report = compile_package(
        module, training, board, origin, step=entry.progress, stream_input=options.stream_input
    )
    entry.write_folder(options.output, files, PACKAGE_MARK)
    if options.json:
        entry.print_json({**report, "package": {path: len(data) for path, data in files.items()}})
        return
    size = sum(len(data) for data in files.values())
    print(_text(report))
    print(f"package  {len(files)} files, {size / 1024:.1f} KiB, in {options.output}")


def _purpose(report: dict[str, Any]) -> str:
    return f"scheme {report['scheme']}" if report["scheme"] else "inference only"


def _bound(report: dict[str, Any]) -> str:
    """The bound of the order that was chosen, and of every order where that was searched."""
    text = f"{report['arena_lower_bound_bytes'] / 1024:.1f} KiB"
    proven = report["arena_proven_bound_bytes"]
    return text if proven is None else f"{text}, of any order {proven / 1024:.1f} KiB"


def _text(report: dict[str, Any]) -> str:
    """The report as the lines a firmware engineer reads."""
    sram, flash = report["sram_bytes"], report["flash_bytes"]

    def kib(size: int) -> str:
        return f"{size / 1024:.1f} KiB"

    return "\n".join(
        [
            f"{report['model']}, {_purpose(report)}, {report['board']} ({report['target']})",
            f"SRAM   {kib(sram['total']):>10}   arena {kib(sram['arena'])} (lower bound "
            f"{_bound(report)}), trainable {kib(sram['trainable'])}, "
            f"data {sram['data_bss']} B, stack {sram['stack']} B",
            f"flash  {kib(flash['total']):>10}   code {kib(flash['code'])}, "
            f"rodata {kib(flash['rodata'])}, weights {kib(flash['weights'])}",
            f"work   {report['macs']['forward'] / 1e6:.2f} M MAC forward, "
            f"{report['macs']['backward'] / 1e6:.2f} M MAC backward, {report['ops']} ops a step, "
            f"{report['kernels']} kernels",
        ]
    )
