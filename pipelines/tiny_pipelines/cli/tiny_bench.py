"""`tiny-bench`: what a step costs on a core, layer by layer; and whether that has grown."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.cli import entry

_COLUMN = 14


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return entry.run(_options(), _bench, arguments)


def _options() -> argparse.ArgumentParser:
    options = entry.Parser(
        prog="tiny-bench",
        description="Count the instructions of a training step in the emulator: a layer at a time, "
        "by kind and in total, with multiply-accumulates and code bytes. MODEL is a model file; or "
        "--suite names a file of benchmarks, whose totals --check holds against those that "
        "--record wrote beside it.",
        allow_abbrev=False,
    )
    add = options.add_argument
    add("input", metavar="MODEL", nargs="?", help="any format of tiny-import")
    add("--scheme", default="full", metavar="NAME|FILE", help="what is trained (default full)")
    add("--classes", type=int, metavar="N", help="fresh head for N classes")
    add("--target", action="append", metavar="NAME", help="core (default cortex-m7); repeatable")
    add("--gradients", metavar="KIND", help="int16, int8 or float32 (default int16)")
    add("--data", type=Path, metavar="SET", help="its first training sample is the input")
    add("--baseline", type=Path, metavar="CSV", help="instructions of peers, a layer a row")
    add("--peer", action="append", metavar="NAME", help="a column of --baseline (default: first)")
    add("--suite", type=Path, metavar="FILE", help="a JSON file of benchmarks")
    add("--only", action="append", metavar="NAME", help="these cases of the suite")
    add("--check", action="store_true", help="fail where a total exceeds what was recorded by 1 %%")
    add("--record", action="store_true", help="record the totals beside the suite")
    add("--tune", type=Path, metavar="FILE", help="measure blockings and write the table FILE")
    add("--summary", action="store_true", help="totals and kinds only, no layers")
    add("--json", action="store_true", help="print one JSON object")
    return options


def _bench(options: argparse.Namespace) -> None:
    if [options.suite, options.input, options.tune].count(None) != 2:
        raise InvalidOption("name either a MODEL, a --suite FILE or a table to --tune")
    if options.tune is not None:
        _tune(options)
        return
    if options.suite is not None:
        _run_suite(options)
        return
    if options.check or options.record or options.only:
        raise InvalidOption("--check, --record and --only go with --suite")
    from tiny_pipelines.benchmarks.suite import Case
    from tiny_pipelines.training import TrainingOptions

    gradients = TrainingOptions(options.scheme, gradients=options.gradients).gradient_type
    case = Case(
        name=Path(options.input).stem,
        model=Path(options.input),
        scheme=options.scheme,
        runs={gradients: options.target or ["cortex-m7"]},
        classes=options.classes,
        data=options.data,
        baseline=options.baseline,
        peers=tuple(options.peer or ()),
    )
    records = [_measure(case, *run, options) for run in case.configurations()]
    if options.json:
        entry.print_json({"benchmarks": [record for record, _ in records]})


def _measure(case: Any, gradients: str, target: str, options: Any) -> tuple[dict[str, Any], Any]:
    """(the JSON record, the benchmark) of one run, which is printed unless JSON is asked for."""
    from tiny_pipelines.benchmarks.baselines import chosen_peers, read_baseline
    from tiny_pipelines.benchmarks.suite import run_case

    with entry.progress(f"{case.name}, {target}, {gradients} gradients"):
        benchmark = run_case(case, gradients, target)
    peers: dict[str, list[int | None]] = {}
    sums: dict[str, dict[str, int]] = {}
    if case.baseline is not None and case.baseline.exists():
        baseline = read_baseline(case.baseline)
        for name in chosen_peers(baseline, case.peers, str(case.baseline)):
            peers[name] = baseline.matched(benchmark.of("train_step"), name)
            sums[name] = baseline.totals(name)
    elif case.baseline is not None:
        print(f"{case.name}: no peers, {case.baseline} does not exist", file=sys.stderr)
    if not options.json:
        print(_text(benchmark, peers, sums, options.summary))
    record = benchmark.record()
    steps = [op for op in record["ops"] if op["function"] == "train_step"]
    for index, op in enumerate(steps):
        op["peers"] = {name: values[index] for name, values in peers.items()}
    return {"case": case.name, **record, "peers": sums}, benchmark


def _tune(options: argparse.Namespace) -> None:
    """Measure the blockings of the cores that are named, or of all, and write them to the table."""
    from tiny_pipelines.benchmarks.tuning import tune
    from tiny_targets.target import TARGETS, find_target

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    cores = [find_target(name) for name in options.target or sorted(TARGETS)]
    table = json.loads(options.tune.read_text("utf-8")) if options.tune.exists() else {}
    for core in cores:
        table[core.name] = tune(core, tell)
    text = json.dumps(table, indent=1, sort_keys=True) + "\n"
    entry.write_output(str(options.tune), text.encode())
    for core in cores:
        for form, found in table[core.name].items():
            print(f"{core.name:<12}{form:<24}{found['chosen']}")


def _run_suite(options: argparse.Namespace) -> None:
    from tiny_pipelines.benchmarks import suite as suites

    totals = suites.read_totals(options.suite)
    cases, skipped = _selected(options)
    records: list[dict[str, Any]] = []
    grown: list[str] = []
    for case in cases:
        for gradients, target in case.configurations(options.target or ()):
            record, benchmark = _measure(case, gradients, target, options)
            records.append(record)
            if options.check:
                more, less = suites.compare(case.name, benchmark, totals)
                grown += more
                for sentence in less:
                    print(f"{sentence}: record it with --record", file=sys.stderr)
            totals.setdefault(case.name, {})[suites.key_of(benchmark)] = benchmark.totals
    if options.json:
        entry.print_json({"benchmarks": records, "skipped": skipped, "grown": grown})
    if options.record:
        suites.write_totals(options.suite, totals)
    if grown:
        raise suites.CostsGrew("; ".join(grown))


def _selected(options: argparse.Namespace) -> tuple[list[Any], dict[str, str]]:
    """(the cases that are asked for, why others of them cannot be run, by name)."""
    from tiny_pipelines.benchmarks.suite import read_suite

    cases = read_suite(options.suite)
    names = [case.name for case in cases]
    for name in options.only or ():
        if name not in names:
            raise InvalidOption(f"no case {name}; has {', '.join(names)}", str(options.suite))
    chosen = [case for case in cases if case.name in (options.only or names)]
    skipped = {
        case.name: f"{case.missing} does not exist; set TINY_DATA to the model zoo"
        for case in chosen
        if case.missing is not None
    }
    for name, reason in skipped.items():
        print(f"{name}: skipped, {reason}", file=sys.stderr)
    return [case for case in chosen if case.missing is None], skipped


def _text(benchmark: Any, peers: Any, sums: Any, summary: bool) -> str:
    """The table of one benchmark."""
    lines = [
        f"{benchmark.model}, scheme {benchmark.scheme}, {benchmark.gradients} gradients, "
        f"{benchmark.target}"
    ]
    if not summary:
        heads = ["MAC", "instructions", "a MAC", "code", *peers]
        lines.append(f"{'layer':<58}" + "".join(f"{head:>{_COLUMN}}" for head in heads))
        for index, op in enumerate(benchmark.of("train_step")):
            beside = [values[index] for values in peers.values()]
            lines.append(f"{f'{op.layer} {op.op}':<58}" + _cells(op, beside))
    lines.append(f"{'kind':<58}" + "".join(f"{h:>{_COLUMN}}" for h in _KIND_HEADS))
    for kind, (work, cost) in benchmark.by_kind().items():
        ratio = f"{cost / work:.2f}" if work else ""
        lines.append(
            f"{kind:<58}" + "".join(f"{c:>{_COLUMN}}" for c in (f"{work:,}", f"{cost:,}", ratio))
        )
    for name, count in benchmark.instructions.items():
        beside = [
            f"{peer} {total[name] / 1e6:.2f} M, {total[name] / count:.2f} times"
            for peer, total in sums.items()
            if name in total
        ]
        lines.append("; ".join([f"{name:<10}{count / 1e6:>8.2f} M instructions", *beside]))
    lines.append(
        f"{'code':<10}{benchmark.code_bytes:>8,} bytes, SRAM {benchmark.sram_bytes:,} bytes"
    )
    return "\n".join(lines) + "\n"


_KIND_HEADS = ("MAC", "instructions", "a MAC")


def _cells(op: Any, beside: Sequence[int | None]) -> str:
    ratio = "" if op.per_mac is None else f"{op.per_mac:.2f}"
    cells = [
        f"{op.macs:,}" if op.macs else "",
        f"{op.instructions:,}",
        ratio,
        f"{op.code_bytes:,}",
        *("" if count is None else f"{count:,}" for count in beside),
    ]
    return "".join(f"{cell:>{_COLUMN}}" for cell in cells)
