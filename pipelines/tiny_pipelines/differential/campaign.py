"""Cases from consecutive seeds until the time is up: counts, failures, their minimised files."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny_dialect.errors import TinyError
from tiny_pipelines.differential.case import Case, Model
from tiny_pipelines.differential.check import HOST, Failure, Outcome, check
from tiny_pipelines.differential.compare import Comparison
from tiny_pipelines.differential.features import features_of
from tiny_pipelines.differential.minimise import minimise
from tiny_pipelines.differential.random_network import random_case
from tiny_pipelines.differential.workers import Worker, WorkerLost, run_each

Report = Callable[[str], None]

DEFAULT_HOST_SHARE = 8
DEFAULT_MODES_SHARE = 4
GENERATOR = "generator"
"""The target of a failure to build the network that was drawn."""
PROCESS = "process"
"""The target of a failure that ended the process, or kept it busy for too long."""
CASE_SECONDS = 900.0
"""Longest time for one case: a hundred times the usual one."""


@dataclass(frozen=True)
class Limits:
    """When to stop, and what to run on."""

    seconds: float
    count: int | None = None
    targets: Sequence[str] = ()
    host_every: int = DEFAULT_HOST_SHARE
    """One network in so many also runs on the host, where compilation takes longest; 0 for none."""
    gradients: Sequence[str] = ()
    jobs: int = 0
    """Processes; 0 for this one, which a crash then ends."""
    minimise_seconds: float = 60.0
    modes_every: int = DEFAULT_MODES_SHARE
    """One network in so many runs with garbage in dead memory and its accesses watched."""


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

    seeds: list[tuple[int, int]] = field(default_factory=list)
    """The first and the last seed of each range that was run, in increasing order."""
    seconds: float = 0.0
    compared: dict[str, Comparison] = field(default_factory=dict)
    runs: Counter[str] = field(default_factory=Counter)
    features: Counter[str] = field(default_factory=Counter)
    found: list[Found] = field(default_factory=list)

    @property
    def networks(self) -> int:
        """How many networks were run."""
        return sum(last - first + 1 for first, last in self.seeds)

    @property
    def total(self) -> Comparison:
        """All targets together."""
        total = Comparison()
        for comparison in self.compared.values():
            total.include(comparison)
        return total

    def include(self, seed: int, outcome: Outcome) -> None:
        """Add the counts of one case, whose seed is above all before it."""
        if self.seeds and self.seeds[-1][1] == seed - 1:
            self.seeds[-1] = (self.seeds[-1][0], seed)
        else:
            self.seeds.append((seed, seed))
        for target, comparison in outcome.compared.items():
            self.runs[target] += 1
            self.compared.setdefault(target, Comparison()).include(comparison)


def run_campaign(
    first_seed: int,
    limits: Limits,
    folder: Path,
    report: Report,
    watch: Callable[[Campaign], None] = lambda campaign: None,
) -> Campaign:
    """Check cases from `first_seed` on; `report` hears of each failure, files go to `folder`.

    `watch` sees the campaign after each case.
    """
    campaign = Campaign()
    start = time.monotonic()
    for case, outcome in _outcomes(first_seed, limits, start + limits.seconds):
        campaign.include(case.record.seed, outcome)
        campaign.features.update(features_of(case))
        if outcome.failures:
            found = Found(case.record.seed, outcome.failures)
            campaign.found.append(found)
            report(f"seed {found.seed}: {described(outcome.failures[0])}")
            if outcome.failures[0].target != GENERATOR:
                found.file = write_minimised(case, outcome.failures[0], limits, folder)
                report(f"seed {found.seed}: minimised; reproduce with: tiny-difftest {found.file}")
        campaign.seconds = time.monotonic() - start
        watch(campaign)
    return campaign


def _outcomes(first_seed: int, limits: Limits, end: float) -> Iterator[tuple[Case, Outcome]]:
    """Cases and what they showed, in the order of their seeds, none begun after `end`."""
    numbers = itertools.count() if limits.count is None else range(limits.count)
    calls = (
        (first_seed, number, limits)
        for number in itertools.takewhile(lambda _: time.monotonic() <= end, numbers)
    )
    if not limits.jobs:
        yield from itertools.starmap(_checked, calls)
        return
    # Processes of their own: MLIR, IREE and the emulator are not asked to share one.
    for call, result in run_each(_checked, calls, limits.jobs, CASE_SECONDS):
        if isinstance(result, WorkerLost):
            result = _case(*call), Outcome(failures=[_lost(result)])
        yield result


def _case(first_seed: int, number: int, limits: Limits) -> Case:
    return random_case(first_seed + number, limits.gradients)


def _lost(error: WorkerLost) -> Failure:
    return Failure(PROCESS, type(error).__name__, str(error))


def _checked(first_seed: int, number: int, limits: Limits) -> tuple[Case, Outcome]:
    """The case `number` places behind `first_seed`, run."""
    host, modes = (
        bool(every) and number % every == 0 for every in (limits.host_every, limits.modes_every)
    )
    case = _case(first_seed, number, limits)
    try:
        model = case.model()
    except TinyError as error:
        return case, Outcome(failures=[Failure(GENERATOR, type(error).__name__, str(error))])
    return case, check(model, limits.targets, host=host, modes=modes)


def described(failure: Failure) -> str:
    """One line."""
    return f"{failure.target}: {failure.kind}: {failure.message}"


def write_minimised(case: Case, failure: Failure, limits: Limits, folder: Path) -> Path:
    """Shrink `case` while it has the `failure`; the file in `folder` that holds what is left."""
    worker = Worker(recheck) if limits.jobs or failure.target == PROCESS else None

    def still_fails(smaller: Case) -> bool:
        call = smaller.model(), failure.target, limits.targets
        try:
            outcome = worker.run(call, CASE_SECONDS) if worker else recheck(*call)
        except WorkerLost as error:
            return failure.resembles(_lost(error))
        return any(failure.resembles(other) for other in outcome.failures)

    try:
        small = minimise(case, still_fails, limits.minimise_seconds)
    finally:
        if worker:
            worker.end()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"difftest-{case.record.seed}.mlir"
    path.write_text(small.model().text())
    return path


def recheck(model: Model, target: str, targets: Sequence[str]) -> Outcome:
    """Run a case where it failed only; a failure of the compiler needs one device at most."""
    if target == PROCESS:
        return check(model, targets, host=True, modes=True)
    devices = [target] if target in targets else []
    return check(model, devices, host=target == HOST, modes=True)
