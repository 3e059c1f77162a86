"""A trial of code that a hostile file may abort, in a child process that ends with it.

MLIR's readers trust their input further than a file from elsewhere deserves: a damaged bytecode may
end the process inside LLVM, deep nesting overflows the stack, shared attributes print at
exponential length. `rehearse` forks, so that the child has every dialect and context of the
parent at no cost, and lets it do the work first, with bounds on time and memory.
"""

import contextlib
import faulthandler
import json
import os
import select
import signal
import time
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from tiny_dialect.errors import InvalidModel

CPU_SECONDS = 2
"""Of the child, and one more for each MiB of input."""
MEMORY_BYTES = 1 << 30
"""Beyond what the parent has, and 64 bytes for each byte of input."""
_WALL_FACTOR = 10
_MIB = 1 << 20
_MEMORY_PER_BYTE = 64
_MESSAGE_BYTES = 2048
_PASSED, _REFUSED = 0, 1


def rehearse(work: Callable[[], Any], source: str, size: int) -> None:
    """Do `work` on `size` bytes of input in a child; returns where it came to an end there.

    Raises the `InvalidModel` that it raised there, or one at `source` where the child died or took
    too much time or memory. Any other exception is left for the caller to meet.
    """
    seconds = CPU_SECONDS + size // _MIB
    reader, writer = os.pipe()
    try:
        with warnings.catch_warnings():
            # Forking beside threads is safe here: the child takes no lock but its own.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            _be_the_child(work, writer, seconds, size)
        os.close(writer)
        writer = -1
        message = _read(reader, time.monotonic() + _WALL_FACTOR * seconds, child)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    _judge(os.waitstatus_to_exitcode(status), message, source, seconds)


def _be_the_child(work: Callable[[], Any], writer: int, seconds: int, size: int) -> NoReturn:
    code = _PASSED
    try:
        _bound(seconds, size)
        work()
    except InvalidModel as error:
        text = json.dumps([error.message[:_MESSAGE_BYTES], error.where[:_MESSAGE_BYTES]])
        os.write(writer, text.encode())
        code = _REFUSED
    except MemoryError:
        os.kill(os.getpid(), signal.SIGABRT)
    except BaseException:
        # A defect of this program: the parent runs into it too, and keeps the traceback.
        pass
    finally:
        os._exit(code)


def _bound(seconds: int, size: int) -> None:
    """Limit the child's time and memory; what LLVM says as it aborts is not for the user."""
    import resource

    faulthandler.disable()
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/statm", "rb") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        limit = mapped + MEMORY_BYTES + _MEMORY_PER_BYTE * size
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        if most == resource.RLIM_INFINITY or limit < most:
            resource.setrlimit(resource.RLIMIT_AS, (limit, most))


def _read(reader: int, deadline: float, child: int) -> bytes:
    """What the child said, all of it; a child beyond the deadline is killed."""
    said = b""
    while True:
        left = max(0.0, deadline - time.monotonic())
        if not select.select([reader], [], [], left)[0]:
            os.kill(child, signal.SIGKILL)
            return said
        part = os.read(reader, _MESSAGE_BYTES)
        if not part:
            return said
        said += part


def _judge(code: int, said: bytes, source: str, seconds: int) -> None:
    if code == _PASSED:
        return
    if code == _REFUSED:
        message, where = json.loads(said)
        raise InvalidModel(message, where)
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        raise InvalidModel(f"takes more than {seconds} s to read; it is damaged or hostile", source)
    raise InvalidModel(
        "ends the reader of MLIR; it is damaged, nested too deeply or expands without bound", source
    )
