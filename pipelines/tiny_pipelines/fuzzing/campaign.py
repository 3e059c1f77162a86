"""Many damaged files in worker processes, within a time: counts, failures, their minimised inputs.

A worker that dies, or takes too long, is replaced; what it was reading has failed. A time-out
is only believed when it comes a second time, in a fresh worker: machines can be busy.
"""

import itertools
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from tiny_pipelines.fuzzing.formats import FORMATS, Format, damaged
from tiny_pipelines.fuzzing.worker import FAILED, REFUSED, VALID, Verdict, serve

HANG_SECONDS = 10.0
_START_SECONDS = 300.0
_CLOSE_SECONDS = 5.0
_MINIMISE_TRIES = 300

Report = Callable[[str], None]


@dataclass(frozen=True)
class Limits:
    """When to stop, and what to read."""

    seconds: float
    count: int | None = None
    formats: Sequence[Format] = tuple(FORMATS.values())
    jobs: int = 1
    minimise_seconds: float = 30.0


@dataclass
class Found:
    """A way to fail, its first input, and how many inputs showed it."""

    format: Format
    index: int
    verdict: Verdict
    data: bytes
    times: int = 1
    file: Path | None = None

    def record(self, seed: int) -> dict[str, Any]:
        """As JSON values."""
        return {
            "format": self.format.name,
            "seed": seed,
            "index": self.index,
            "kind": self.verdict.kind,
            "message": self.verdict.message,
            "place": self.verdict.place,
            "times": self.times,
            "file": str(self.file) if self.file else None,
        }


@dataclass
class Campaign:
    """What was read and what came of it."""

    seed: int
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    """By format: inputs valid, refused, failed."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Formats that were left out, and the package they need."""
    found: dict[tuple[str, ...], Found] = field(default_factory=dict)
    seconds: float = 0.0
    slowest: float = 0.0
    memory_bytes: int = 0
    restarts: int = 0

    @property
    def inputs(self) -> int:
        """How many files were read."""
        return sum(sum(counts.values()) for counts in self.counts.values())

    def include(self, case: "_Case", verdict: Verdict) -> Found | None:
        """Count one input; what it found where that is new."""
        self.counts.setdefault(case.format.name, Counter())[verdict.outcome] += 1
        if verdict.kind != "hang":
            self.slowest = max(self.slowest, verdict.seconds)
        self.memory_bytes = max(self.memory_bytes, verdict.memory_bytes)
        if verdict.outcome != FAILED:
            return None
        key = (case.format.name, *verdict.signature)
        if key in self.found:
            self.found[key].times += 1
            return None
        return self.found.setdefault(key, Found(case.format, case.index, verdict, case.data))

    def record(self) -> dict[str, Any]:
        """The campaign as JSON values."""
        return {
            "seed": self.seed,
            "inputs": self.inputs,
            "seconds": round(self.seconds, 1),
            "formats": {
                name: {one: counts[one] for one in (VALID, REFUSED, FAILED)}
                for name, counts in self.counts.items()
            },
            "skipped": self.skipped,
            "slowest_seconds": round(self.slowest, 2),
            "memory_mib": self.memory_bytes >> 20,
            "workers_restarted": self.restarts,
            "failures": [found.record(self.seed) for found in self.found.values()],
        }


@dataclass(frozen=True)
class _Case:
    format: Format
    index: int
    data: bytes
    retried: bool = False


class _Worker:
    """One process, and what it is reading."""

    def __init__(self, formats: Sequence[Format]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        # Not the process's own: one that dies leaves it behind.
        self._scratch = tempfile.TemporaryDirectory(prefix="tiny-fuzz-", ignore_cleanup_errors=True)
        arguments = theirs, formats, self._scratch.name
        self._process = context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self.case: _Case | None = None
        self.since = time.monotonic()

    def give(self, case: _Case) -> None:
        self.case, self.since = case, time.monotonic()
        self.connection.send((case.format.name, case.data))

    @property
    def late(self) -> bool:
        limit = _START_SECONDS if self.case is None else HANG_SECONDS
        return time.monotonic() - self.since > limit

    def answer(self) -> Verdict | None:
        """The answer that is there, None for the first; a dead process gives a failure."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(_CLOSE_SECONDS)
            return Verdict(FAILED, "death", f"exit status {self._process.exitcode}")
        except Exception as error:
            # What it read has damaged the process itself.
            return Verdict(FAILED, "death", f"answers nonsense: {error!r}"[:200])

    def end(self) -> None:
        self.connection.close()
        self._process.join(0 if self.late else _CLOSE_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._scratch.cleanup()


def run_campaign(seed: int, limits: Limits, folder: Path, report: Report) -> Campaign:
    """Read damaged files until the time or the count is up; failures go to `folder`, minimised.

    Raises `RuntimeError` where a worker cannot even read the undamaged files.
    """
    campaign = Campaign(seed)
    campaign.skipped = {one.name: one.needs for one in limits.formats if not one.available}
    chosen = [one for one in limits.formats if one.available]
    start = time.monotonic()
    cases = _cases(seed, chosen, limits, start + limits.seconds)
    for found in _read_all(cases, chosen, limits.jobs, campaign):
        case = f"{found.format.name} input {found.index} of seed {seed}"
        report(f"{case}: {found.verdict.kind}: {found.verdict.message} {found.verdict.place}")
    for found in campaign.found.values():
        minimised = minimise(found, limits.minimise_seconds)
        found.file = _written(found, minimised, folder, seed)
        report(f"reproduce with: tiny-fuzz --format {found.format.name} {found.file}")
    campaign.seconds = time.monotonic() - start
    return campaign


def _cases(seed: int, chosen: Sequence[Format], limits: Limits, deadline: float) -> Iterator[_Case]:
    """One input of each format after the other."""
    if not chosen:
        return
    seeds = {one.name: one.seeds() for one in chosen}
    for number in itertools.count():
        if time.monotonic() > deadline or number == limits.count:
            return
        one = chosen[number % len(chosen)]
        index = number // len(chosen)
        yield _Case(one, index, damaged(one, seeds[one.name], seed, index))


def _read_all(
    cases: Iterator[_Case], formats: Sequence[Format], jobs: int, campaign: Campaign
) -> Iterator[Found]:
    workers = [_Worker(formats) for _ in range(jobs)]
    again: list[_Case] = []
    try:
        while workers:
            ready = wait([worker.connection for worker in workers], timeout=0.5)
            for worker in list(workers):
                if not (worker.connection in ready or worker.late):
                    continue
                found, fresh = _settle(worker, worker.connection in ready, again, campaign)
                if found is not None:
                    yield found
                workers.remove(worker)
                if (case := again.pop() if again else next(cases, None)) is None:
                    worker.end()
                    continue
                workers.append(_with_case(worker, case, formats, fresh))
    finally:
        for worker in workers:
            worker.end()


def _with_case(worker: _Worker, case: _Case, formats: Sequence[Format], fresh: bool) -> _Worker:
    """A worker that reads `case`: this one, or a new one where this one is spent."""
    if fresh:
        worker.end()
        worker = _Worker(formats)
        if not worker.connection.poll(_START_SECONDS) or worker.answer() is not None:
            raise RuntimeError("a worker cannot read the undamaged files")
    worker.give(case)
    return worker


def _settle(
    worker: _Worker, answered: bool, again: list[_Case], campaign: Campaign
) -> tuple[Found | None, bool]:
    """(what was found, True where the worker is spent) after an answer, a death or a time-out."""
    case = worker.case
    verdict = worker.answer() if answered else Verdict(FAILED, "hang", "no answer in time")
    if case is None:
        if verdict is not None:
            raise RuntimeError(f"a worker cannot read the undamaged files: {verdict.message}")
        return None, False
    assert verdict is not None
    spent = verdict.kind in ("hang", "death")
    campaign.restarts += spent
    too_slow = verdict.kind == "hang" or verdict.seconds > HANG_SECONDS
    if too_slow and not case.retried:
        again.append(_Case(case.format, case.index, case.data, retried=True))
        return None, spent
    if too_slow and verdict.outcome != FAILED:
        verdict = Verdict(FAILED, "hang", f"took {verdict.seconds:.1f} s", case.format.name)
    return campaign.include(case, verdict), spent


def replay(chosen: Format, data: bytes) -> Verdict:
    """What becomes of one file in a fresh worker."""
    campaign = Campaign(0)
    found = list(_read_all(iter([_Case(chosen, 0, data)]), [chosen], 1, campaign))
    if found:
        return found[0].verdict
    return Verdict(next(iter(campaign.counts[chosen.name])))


def minimise(found: Found, seconds: float) -> bytes:
    """A shorter input that fails in the same way, by leaving out pieces while the time lasts."""
    data, deadline = found.data, time.monotonic() + seconds
    if found.verdict.kind == "hang":
        return data
    worker = _Checker(found.format)
    try:
        size, tries = max(1, len(data) // 2), 0
        while size and tries < _MINIMISE_TRIES:
            for start in reversed(range(0, len(data), size)):
                tries += 1
                if time.monotonic() > deadline or tries > _MINIMISE_TRIES:
                    return data
                shorter = data[:start] + data[start + size :]
                if worker.verdict(shorter).signature == found.verdict.signature:
                    data = shorter
            size //= 2
    finally:
        worker.end()
    return data


class _Checker:
    """A worker for one file after the other."""

    def __init__(self, chosen: Format) -> None:
        self._format = chosen
        self._worker: _Worker | None = None

    def verdict(self, data: bytes) -> Verdict:
        if self._worker is None:
            self._worker = _Worker([self._format])
            self._worker.answer()
        self._worker.give(_Case(self._format, 0, data))
        if not self._worker.connection.poll(HANG_SECONDS):
            self.end()
            return Verdict(FAILED, "hang")
        answer = self._worker.answer()
        assert answer is not None
        if answer.kind == "death":
            self.end()
        return answer

    def end(self) -> None:
        if self._worker is not None:
            self._worker.end()
        self._worker = None


def _written(found: Found, data: bytes, folder: Path, seed: int) -> Path:
    kind = found.verdict.kind.replace(" ", "_").lower()
    path = folder / f"{found.format.name}_{kind}_{seed}_{found.index}.bin"
    path.write_bytes(data)
    return path
