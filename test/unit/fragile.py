"""Calls that end or hang their process, in a module of their own: other processes import it."""

import os
import signal
import time

from tiny_pipelines.differential.campaign import Limits
from tiny_pipelines.differential.case import Case, Model
from tiny_pipelines.differential.check import Outcome
from tiny_pipelines.differential.random_network import random_case

SEED = 1


def checked(first_seed: int, number: int, limits: Limits) -> tuple[Case, Outcome]:
    """A campaign's case, which ends the process for one seed."""
    seed = first_seed + number
    if seed == SEED:
        os.kill(os.getpid(), signal.SIGSEGV)
    return random_case(seed, limits.gradients), Outcome()


def recheck(model: Model, target: str, targets: object) -> Outcome:
    """A smaller case, which fails in the same way."""
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("the process goes on")


def sleep(seconds: float, answer: int) -> int:
    """Answer after some time; below 0 never."""
    if seconds < 0:
        os._exit(3)
    time.sleep(seconds)
    return answer


def divide(number: int) -> float:
    """Raise for 0."""
    return 1 / number
