"""Where trials run: processes of this machine, or the workers of a Dask cluster.

Both are context managers with `submit(selection) -> Future[Trial]`. The problem is sent to a worker
once. A worker that dies loses nothing: its trials run again elsewhere, with the same result.
"""

import importlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Protocol, Self

from tiny_dialect.errors import InvalidOption, TinyError
from tiny_pipelines.search.problem import Problem
from tiny_pipelines.search.selection import Selection
from tiny_pipelines.search.trial import Trial, TrialRunner

MOST_LOSSES = 10
"""Dead workers in a row, without a finished trial between them, before the search gives up."""


class WorkersLost(TinyError):
    """Workers keep dying."""


class TrialExecutor(Protocol):
    """What runs trials."""

    def submit(self, selection: Selection) -> "Future[Trial]":
        """The result of one trial, when it is there."""
        ...

    def __enter__(self) -> Self:
        """Start the workers."""
        ...

    def __exit__(self, *error: object) -> None:
        """Let them go."""
        ...


_runners: dict[str, TrialRunner] = {}
_problems: dict[str, Problem] = {}
_lock = threading.Lock()


def hold_problem(problem: Problem) -> None:
    """Keep a problem in this process, for the trials to come."""
    _problems[problem.key] = problem


def run_trial(key: str, selection: Selection) -> Trial:
    """In a worker: the trial of one selection, in a runner that is made at the first."""
    with _lock:
        if key not in _runners:
            _runners[key] = TrialRunner(_problems[key])
        return _runners[key].run(selection)


class LocalExecutor:
    """`jobs` processes of this machine."""

    def __init__(self, problem: Problem, jobs: int = 1) -> None:
        if jobs < 1:
            raise InvalidOption(f"expected at least one job, got {jobs}")
        self._problem, self._jobs = problem, jobs
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self._jobs,
            mp_context=get_context("spawn"),
            initializer=hold_problem,
            initargs=(self._problem,),
        )

    def submit(self, selection: Selection) -> "Future[Trial]":
        """Queue one trial; a pool that broke is replaced first."""
        try:
            return self._pool.submit(run_trial, self._problem.key, selection)
        except BrokenProcessPool:
            self._pool = self._new_pool()
            return self._pool.submit(run_trial, self._problem.key, selection)

    def __enter__(self) -> Self:
        """Itself; processes start with the first trial."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for what runs, drop what waits."""
        self._pool.shutdown(cancel_futures=True)


class DaskExecutor:
    """The workers of a Dask cluster; needs the optional package `distributed`."""

    def __init__(self, problem: Problem, address: str) -> None:
        distributed = _distributed()
        try:
            self._client = distributed.Client(address)
        except (OSError, ValueError) as error:
            raise InvalidOption(f"no Dask scheduler answers: {error}", address) from error
        self._key = problem.key
        self._client.register_plugin(_plugin(problem), name=f"tiny-search-{problem.key}")
        # Trials are deterministic, so running one again after a lost worker is always right.
        self._executor = self._client.get_executor(pure=False, retries=MOST_LOSSES)

    def submit(self, selection: Selection) -> "Future[Trial]":
        """Queue one trial."""
        return self._executor.submit(run_trial, self._key, selection)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect; the cluster stays."""
        self._executor.shutdown(wait=False)
        self._client.close()


def _distributed() -> Any:
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise InvalidOption("--dask needs the extra 'dask': pip install '.[dask]'") from error


def _plugin(problem: Problem) -> Any:
    class HoldProblem(_distributed().WorkerPlugin):
        """Gives the problem to every worker, those that come later included."""

        def setup(self, worker: Any) -> None:
            hold_problem(problem)

    return HoldProblem()


def run_trials(
    executor: TrialExecutor, selections: Iterable[Selection], tell: Callable[[Trial], None]
) -> None:
    """Run trials, in any order; `tell` gets each as it ends.

    A trial whose worker died is submitted again. Raises `WorkersLost` where that does not help, and
    the error of a trial that failed.
    """
    waiting, losses = list(selections), 0
    while waiting:
        futures = {executor.submit(selection): selection for selection in waiting}
        waiting = []
        for future in as_completed(futures):
            try:
                trial = future.result()
            except BrokenProcessPool:
                waiting.append(futures[future])
                continue
            losses = 0
            tell(trial)
        losses += bool(waiting)
        if losses > MOST_LOSSES:
            raise WorkersLost(f"{losses} workers died in a row at {waiting[0].key}")
