"""An audit hook that stops writing outside of one folder, and running anything at all.

Python reports what it is about to do (`sys.addaudithook`), whichever library asks for it. A hook
cannot be removed, so this belongs into a process of its own.
"""

import os
import sys
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = frozenset(
    {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
    | {"os.chmod", "os.chown", "os.utime", "os.setxattr", "os.removexattr", "shutil.rmtree"}
    | {"shutil.move", "shutil.copyfile", "tempfile.mkstemp", "tempfile.mkdtemp"}
)
_RUNNING = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile"}
    | {"pty.spawn", "os.forkpty", "pickle.find_class", "code.__new__", "ctypes.dlopen"}
    | {"socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request", "webbrowser.open"}
    | {"os.kill", "os.putenv", "os.unsetenv"}
)
_IDLE = frozenset({os.devnull})


class Violation(BaseException):
    """An attempt that the watch stopped; no `except Exception` on the way hides it."""


class Watch:
    """The hook, once `arm` was called; `violations` are the attempts so far."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.path.realpath(folder)
        self._process = os.getpid()
        self.violations: list[str] = []
        self.armed = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event in _RUNNING:
            # A trial in a child ends itself by a signal where memory runs out.
            if event != "os.kill" or os.getpid() == self._process != arguments[0]:
                self._stop(event, arguments)
        elif event == "open":
            if self._writes(arguments) and not self._inside(arguments[0]):
                self._stop(event, arguments)
        elif event in _CHANGING and not all(self._inside(a) for a in arguments if _is_path(a)):
            self._stop(event, arguments)

    def _writes(self, arguments: tuple[Any, ...]) -> bool:
        _, mode, flags = arguments
        if isinstance(mode, str):
            return any(letter in mode for letter in "wax+")
        return isinstance(flags, int) and bool(flags & _WRITING)

    def _inside(self, path: Any) -> bool:
        if isinstance(path, int):
            return True
        text = os.fsdecode(path)
        if text in _IDLE:
            return True
        # The folder of the name, so that a link inside that leads outside is where it leads.
        return os.path.realpath(text).startswith(self._folder + os.sep)

    def _stop(self, event: str, arguments: tuple[Any, ...]) -> None:
        said = f"{event} {str(arguments)[:200]}"
        self.violations.append(said)
        raise Violation(said)


def _is_path(argument: Any) -> bool:
    return isinstance(argument, str | bytes | os.PathLike)
