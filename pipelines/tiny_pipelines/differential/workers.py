"""Processes that run one call each, and may die or hang without taking the others along."""

import itertools
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

_CALLS = 40
"""After so many calls a process is replaced: each leaves some 15 MB, which slow every fork."""
_CLOSE_SECONDS = 5.0
_LOOK_SECONDS = 1.0

Call = tuple[Any, ...]


class WorkerLost(Exception):
    """The process ended, or did not answer in time, in the middle of a call."""


class Worker:
    """One process, started by its first call, and replaced when it was lost."""

    def __init__(self, run: Callable[..., Any]) -> None:
        """`run` is a function of a module; it and its arguments and results travel as pickles."""
        self._run = run
        self._process: Any = None
        self.connection: Connection
        self.call: Call = ()
        self._calls = 0
        self._since = 0.0

    def start(self, call: Call) -> None:
        """Begin `run(*call)`."""
        if self._process is None or self._calls >= _CALLS:
            self.end()
            context = multiprocessing.get_context("spawn")
            self.connection, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._run), daemon=True)
            self._process.start()
            theirs.close()
        self.call, self._since = call, time.monotonic()
        self._calls += 1
        self.connection.send(call)

    def is_late(self, seconds: float) -> bool:
        """True where the call has been running for longer."""
        return time.monotonic() - self._since > seconds

    def result(self) -> Any:
        """What the call returned, once the connection is ready; raises what it raised.

        Raises `WorkerLost` where the process is gone.
        """
        try:
            is_result, value = self.connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(_CLOSE_SECONDS)
            raise self.lost(_ending(self._process.exitcode)) from error
        if not is_result:
            raise value
        return value

    def lost(self, why: str) -> WorkerLost:
        """End the process; the error to raise."""
        self.end()
        return WorkerLost(why)

    def run(self, call: Call, seconds: float) -> Any:
        """`run(*call)`; raises as `result`, and `WorkerLost` after so many seconds."""
        self.start(call)
        if not self.connection.poll(seconds):
            raise self.lost(f"no answer in {seconds:.0f} s")
        return self.result()

    def end(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self.connection.close()
            self._process.kill()
            self._process.join()
        self._process, self._calls = None, 0


def run_each(
    run: Callable[..., Any], calls: Iterable[Call], jobs: int, seconds: float
) -> Iterator[tuple[Call, Any]]:
    """(call, what it returned or its `WorkerLost`) in the order of `calls`, `jobs` at a time.

    What a call raises ends the iteration; a process that dies, or hangs for more than `seconds`,
    does not.
    """
    numbered = enumerate(calls)
    idle, busy = [Worker(run) for _ in range(jobs)], {}
    done: dict[int, tuple[Call, Any]] = {}
    try:
        for number in itertools.count():
            while number not in done:
                while idle and (following := next(numbered, None)) is not None:
                    worker = idle.pop()
                    worker.start(following[1])
                    busy[worker] = following[0]
                if not busy:
                    return
                for worker in _answered(busy, seconds):
                    done[busy.pop(worker)] = worker.call, _result_of(worker, seconds)
                    idle.append(worker)
            yield done.pop(number)
    finally:
        for worker in (*idle, *busy):
            worker.end()


def _answered(busy: Iterable[Worker], seconds: float) -> list[Worker]:
    """The workers that have an answer or are late; at least one."""
    while True:
        ready = wait([worker.connection for worker in busy], _LOOK_SECONDS)
        found = [w for w in busy if w.connection in ready or w.is_late(seconds)]
        if found:
            return found


def _result_of(worker: Worker, seconds: float) -> Any:
    try:
        if not worker.connection.poll():
            raise worker.lost(f"no answer in {seconds:.0f} s")
        return worker.result()
    except WorkerLost as error:
        return error


def _ending(status: int | None) -> str:
    if status is not None and status < 0:
        return f"the process was ended by {signal.Signals(-status).name}"
    return f"the process ended with status {status}"


def _serve(connection: Connection, run: Callable[..., Any]) -> None:
    """What the process does: calls, until nobody asks any more."""
    # An interrupt is for the process that waits; it ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            call = connection.recv()
        except EOFError:
            return
        try:
            answer = True, run(*call)
        except Exception as error:
            answer = False, error
        connection.send(answer)
