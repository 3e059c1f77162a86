"""`tiny-compile`: a model to a training step for a board, or to any stage on the way."""

import argparse
from collections.abc import Sequence
from typing import Any

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.cli import entry

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
        "--gradients", default="float32", help="gradient arithmetic: float32 (default) int16 int8"
    )
    options.add_argument("--inference", action="store_true", help="no training: @infer alone")
    options.add_argument("--no-qas", action="store_true", help="no quantization-aware scaling")
    options.add_argument(
        "--no-fuse-blocks", action="store_true", help="no row-wise fusion of convolution chains"
    )
    options.add_argument(
        "--no-row-overlap", action="store_true", help="no result over rows that have been read"
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
    )
    if options.inference and options.compile_to is not None:
        raise InvalidOption("--inference builds firmware; it does not go with --compile-to")
    board = _board(options)
    with new_context():
        with entry.progress(f"importing {source}"):
            module = import_bytes(data, source, options.classes, options.seed)
        if options.compile_to is not None:
            _write_stage(module, training, board, options)
            return
        if options.output == entry.STANDARD_STREAM:
            raise InvalidOption("the result is a folder: add -o DIR (or --compile-to STAGE)")
        _write_firmware(module, None if options.inference else training, board, options)


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
        build_training_step(module, training, until=until)
        if stage == "linalg":
            run_pipeline(module, "tiny-lower-to-linalg")
        if stage == "kernels":
            from tiny_targets.schedule import build_schedule

            kernels = build_schedule(module, _required(board).target).kernels
            text = "\n".join(kernel.text for kernel in kernels) + "\n"
        else:
            text = module.operation.get_asm()
    entry.write_output(options.output, text.encode())


def _write_firmware(module: Any, training: Any, board: Any, options: argparse.Namespace) -> None:
    from tiny_pipelines.firmware import compile_firmware

    board = _required(board)
    with entry.output_folder(options.output) as folder:
        report = compile_firmware(module, training, board, folder, step=entry.progress)
    if options.json:
        entry.print_json(report)
    else:
        print(_text(report))


def _purpose(report: dict[str, Any]) -> str:
    return f"scheme {report['scheme']}" if report["scheme"] else "inference only"


def _text(report: dict[str, Any]) -> str:
    """The report as the lines a firmware engineer reads."""
    sram, flash = report["sram_bytes"], report["flash_bytes"]

    def kib(size: int) -> str:
        return f"{size / 1024:.1f} KiB"

    return "\n".join(
        [
            f"{report['model']}, {_purpose(report)}, {report['board']} ({report['target']})",
            f"SRAM   {kib(sram['total']):>10}   arena {kib(sram['arena'])} (lower bound "
            f"{kib(report['arena_lower_bound_bytes'])}), trainable {kib(sram['trainable'])}, "
            f"data {sram['data_bss']} B, stack {sram['stack']} B",
            f"flash  {kib(flash['total']):>10}   code {kib(flash['code'])}, "
            f"rodata {kib(flash['rodata'])}, weights {kib(flash['weights'])}",
            f"work   {report['macs']['forward'] / 1e6:.2f} M MAC forward, "
            f"{report['macs']['backward'] / 1e6:.2f} M MAC backward, {report['ops']} ops a step, "
            f"{report['kernels']} kernels",
        ]
    )
