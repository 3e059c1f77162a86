"""Cases from consecutive seeds until the time is up: counts, failures, their minimised files."""

import itertools
import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny_pipelines.differential.case import Case, Model
from tiny_pipelines.differential.check import HOST, Failure, Outcome, check
from tiny_pipelines.differential.compare import Comparison
from tiny_pipelines.differential.minimise import minimise
from tiny_pipelines.differential.random_network import random_case
from tiny_pipelines.differential.records import DEPTHWISE, AddRecord, ConvRecord, LinearRecord

Report = Callable[[str], None]

DEFAULT_HOST_SHARE = 8


@dataclass(frozen=True)
class Limits:
    """When to stop, and what to run on."""

    seconds: float
    count: int | None = None
    targets: Sequence[str] = ()
    host_every: int = DEFAULT_HOST_SHARE
    """One network in so many also runs on the host, where compilation takes longest; 0 for none."""
    gradients: Sequence[str] = ()
    jobs: int = 1
    minimise_seconds: float = 60.0


@dataclass
class Found:
    """One failing seed."""

    seed: int
    failures: list[Failure]
    file: Path | None = None

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "seed": self.seed,
            "failures": [vars(failure) for failure in self.failures],
            "reproduce": f"tiny-difftest {self.file}" if self.file else None,
        }


@dataclass
class Campaign:
    """What was run and found."""

    first_seed: int
    networks: int = 0
    seconds: float = 0.0
    compared: dict[str, Comparison] = field(default_factory=dict)
    runs: Counter[str] = field(default_factory=Counter)
    features: Counter[str] = field(default_factory=Counter)
    found: list[Found] = field(default_factory=list)

    @property
    def total(self) -> Comparison:
        """All targets together."""
        total = Comparison()
        for comparison in self.compared.values():
            total.include(comparison)
        return total

    def include(self, outcome: Outcome) -> None:
        """Add the counts of one case."""
        for target, comparison in outcome.compared.items():
            self.runs[target] += 1
            self.compared.setdefault(target, Comparison()).include(comparison)

    def record(self) -> dict[str, Any]:
        """The campaign as JSON values."""
        total = self.total
        return {
            "first_seed": self.first_seed,
            "networks": self.networks,
            "seconds": round(self.seconds, 1),
            "runs": dict(self.runs),
            "compared": {
                "values": total.values,
                "integers": total.integers,
                "floats": total.floats,
                "updated": total.updated,
                "not_comparable": total.uncompared,
            },
            "largest_float_error": total.largest_error,
            "mismatches": sum(
                failure.kind == "mismatch" for found in self.found for failure in found.failures
            ),
            "failing_networks": [found.record() for found in self.found],
            "features": dict(sorted(self.features.items())),
        }


def run_campaign(first_seed: int, limits: Limits, folder: Path, report: Report) -> Campaign:
    """Check cases from `first_seed` on; `report` hears of each failure, files go to `folder`."""
    campaign = Campaign(first_seed)
    start = time.monotonic()
    for case, outcome in _outcomes(first_seed, limits, start + limits.seconds):
        campaign.include(outcome)
        campaign.features.update(features_of(case))
        campaign.networks += 1
        if outcome.failures:
            found = Found(case.record.seed, outcome.failures)
            campaign.found.append(found)
            report(f"seed {found.seed}: {described(outcome.failures[0])}")
            found.file = write_minimised(case, outcome.failures[0], limits, folder)
            report(f"seed {found.seed}: minimised; reproduce it with: tiny-difftest {found.file}")
        campaign.seconds = time.monotonic() - start
    return campaign


def _outcomes(first_seed: int, limits: Limits, end: float) -> Iterator[tuple[Case, Outcome]]:
    """Cases and what they showed, in the order of their seeds, none begun after `end`."""
    numbers = range(limits.count) if limits.count is not None else itertools.count()
    if limits.jobs == 1:
        for number in numbers:
            if time.monotonic() > end:
                return
            yield _checked(first_seed, number, limits)
        return
    # Processes of their own: MLIR, IREE and the emulator are not asked to share one.
    with ProcessPoolExecutor(limits.jobs, multiprocessing.get_context("spawn")) as pool:
        running: deque[Future[tuple[Case, Outcome]]] = deque()
        for number in numbers:
            if time.monotonic() > end:
                break
            running.append(pool.submit(_checked, first_seed, number, limits))
            if len(running) > limits.jobs:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _checked(first_seed: int, number: int, limits: Limits) -> tuple[Case, Outcome]:
    """The case `number` places behind `first_seed`, run."""
    on_host = bool(limits.host_every) and number % limits.host_every == 0
    case = random_case(first_seed + number, limits.gradients)
    return case, check(case.model(), limits.targets, host=on_host)


def described(failure: Failure) -> str:
    """One line."""
    return f"{failure.target}: {failure.kind}: {failure.message}"


def write_minimised(case: Case, failure: Failure, limits: Limits, folder: Path) -> Path:
    """Shrink `case` while it has the `failure`; the file in `folder` that holds what is left."""

    def still_fails(smaller: Case) -> bool:
        outcome = recheck(smaller.model(), failure.target, limits.targets)
        return any(failure.resembles(other) for other in outcome.failures)

    small = minimise(case, still_fails, limits.minimise_seconds)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"difftest-{case.record.seed}.mlir"
    path.write_text(small.model().text())
    return path


def recheck(model: Model, target: str, targets: Sequence[str]) -> Outcome:
    """Run a case where it failed only; a failure of the compiler needs one device at most."""
    devices = [target] if target in targets else []
    return check(model, devices, host=target == HOST)


def features_of(case: Case) -> list[str]:
    """What a case holds, in words, to show what a campaign has covered."""
    layers, options = case.record.layers, case.options
    convs = [layer for layer in layers if isinstance(layer, ConvRecord)]
    height, width, _ = case.record.input_shape
    ratios = [ratio for ratio in case.scheme["weights"].values() if ratio < 1]
    present = {
        "residual addition": any(isinstance(layer, AddRecord) for layer in layers),
        "one-dimensional": min(height, width) == 1,
        "non-square": height != width,
        "depthwise": any(conv.groups == DEPTHWISE for conv in convs),
        "depthwise multiplier": any(c.groups == DEPTHWISE and c.channels > 1 for c in convs),
        "other groups": any(conv.groups > 0 for conv in convs),
        "stride": any(max(conv.strides) > 1 for conv in convs),
        "asymmetric padding": any(conv.pads[:2] != conv.pads[2:] for conv in convs),
        "kernel of 5 to 7": any(max(conv.kernel) > 4 for conv in convs),
        "dead channels": any(conv.dead for conv in convs),
        "partial weights": bool(ratios),
        "quantized head": not isinstance(layers[-1], LinearRecord),
        "no qas": not options.qas,
        "not in place": not options.in_place,
        "unfused updates": not options.fuse_updates,
        f"blocks fused: {options.fuse_blocks}": True,
        f"masters {options.update}": True,
        f"gradients {options.gradients}": True,
    }
    return [name for name, holds in present.items() if holds]
