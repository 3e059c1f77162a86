"""What all commands share: options, exit status, one-line errors, atomic outputs, progress.

Conventions: an input is a file or `-` for stdin; `-o` names the output, `-` for stdout; stdout
carries only the result; progress and errors go to stderr. Exit status 0, or 1 with one line of
error, or 130 after an interrupt. Only the standard library is imported here: `--help` is immediate.
"""

import argparse
import contextlib
import json
import os
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tiny_dialect.errors import MOST_LETTERS, InvalidOption, TinyError, one_line

STANDARD_STREAM = "-"
EXIT_ERROR = 1
EXIT_INTERRUPT = 130
EXIT_BROKEN_PIPE = 141
_PROGRESS_AFTER_SECONDS = 1.0


class Parser(argparse.ArgumentParser):
    """Argument parser whose errors are `InvalidOption`: one line and status 1, as for any error."""

    def error(self, message: str) -> NoReturn:
        """Raise `InvalidOption` in place of printing the usage."""
        raise InvalidOption(f"{message}; see {self.prog} --help")


def parser(prog: str, description: str, input_name: str | None = None) -> Parser:
    """A parser with the shared options: the input (if named), `-o` and `--json`."""
    made = Parser(prog=prog, description=description, allow_abbrev=False)
    if input_name is not None:
        made.add_argument("input", metavar=input_name, help="input file, or - for stdin")
    made.add_argument(
        "-o", "--output", default=STANDARD_STREAM, help="output, or - for stdout (default)"
    )
    made.add_argument(
        "--json", action="store_true", help="print one JSON object that describes the result"
    )
    load_option(made)
    return made


def load_option(made: argparse.ArgumentParser) -> None:
    """Add `--load FILE`, which `run` executes before the command."""
    made.add_argument(
        "--load",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="a Python file with passes, ops or rules of your own; repeat for several",
    )


def _load(files: Sequence[Path]) -> None:
    if files:
        from tiny_passes.registry import load_file

        for path in files:
            load_file(path)


def run(
    options: argparse.ArgumentParser,
    command: Callable[[argparse.Namespace], int | None],
    arguments: Sequence[str] | None = None,
) -> int:
    """Parse `arguments` (default: the process's), call `command`, and return the exit status.

    `TinyError` and `OSError` become one line on stderr and status 1. Any other exception is a
    defect of this program and keeps its traceback.
    """
    try:
        parsed = options.parse_args(arguments)
        _load(getattr(parsed, "load", []))
        status = command(parsed)
        sys.stdout.flush()
    except TinyError as error:
        return _report(options.prog, str(error))
    except BrokenPipeError:
        # The reader of stdout is gone: keep the interpreter from flushing into it at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        return _report(options.prog, _os_error(error))
    except KeyboardInterrupt:
        return EXIT_INTERRUPT
    return status or 0


def _report(prog: str, message: str) -> int:
    print(f"{prog}: {one_line(message, 2 * MOST_LETTERS)}", file=sys.stderr)
    return EXIT_ERROR


def _os_error(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason


def read_input(path: str) -> tuple[bytes, str]:
    """(contents, name for messages) of the file `path`, or of stdin for `-`."""
    if path == STANDARD_STREAM:
        return sys.stdin.buffer.read(), "<stdin>"
    return Path(path).read_bytes(), path


def write_output(path: str, data: bytes) -> None:
    """Write `data` to the file `path` in one step, or to stdout for `-`.

    A regular file appears complete or not at all; an existing one keeps its old content on failure.
    """
    if path == STANDARD_STREAM:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    target = Path(os.path.realpath(path))
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        # A device or a pipe has no other name to be renamed over; a folder is an error here.
        target.write_bytes(data)
        return
    _require_folder(target, path)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, _file_mode(target))
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def require_file_place(path: str | Path | None) -> None:
    """Raise `InvalidOption` where no file can be written at `path`: before long work, not after."""
    if path is None or str(path) == STANDARD_STREAM:
        return
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise InvalidOption("is a folder; expected the name of a file", str(path))
    _require_folder(target, str(path))
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise InvalidOption("cannot be written", str(path))


def _require_folder(target: Path, path: str) -> None:
    if not target.parent.is_dir():
        raise InvalidOption(f"the folder {target.parent} does not exist", path)


def _file_mode(target: Path) -> int:
    """The mode a plain `open` leaves: that of the existing file, else what the umask allows."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


@contextlib.contextmanager
def output_folder(path: str) -> Generator[Path]:
    """A fresh folder to fill; its files move to the folder `path` only if the block succeeds.

    Files of the same name in `path` are replaced one by one, others are left alone. `path` and what
    is above it are created where missing; a failure leaves nothing that was not there before.
    """
    target = Path(os.path.realpath(path))
    _require_folder_place(target, path)
    with _folder_beside(target) as temporary:
        filled = temporary / "filled"
        filled.mkdir()
        yield filled
        _move_into(filled, target)


def _require_folder_place(target: Path, path: str) -> None:
    """Raise `InvalidOption` where a file is in the way of the folder `target`."""
    if target.exists() and not target.is_dir():
        raise InvalidOption("is a file; the output of this command is a folder", path)
    above = next(folder for folder in target.parents if folder.exists())
    if not above.is_dir():
        raise InvalidOption(f"{above} is a file, not a folder", path)


@contextlib.contextmanager
def resumable_folder(path: Path) -> Generator[None]:
    """The folder `path`, made where missing; what a block that fails wrote there stays.

    A block that fails before it wrote anything leaves no folder that was not there before.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        _remove_empty(missing)
        raise


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, innermost first, but for those where something is by now."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextlib.contextmanager
def _folder_beside(target: Path) -> Generator[Path]:
    """A temporary folder next to `target`; folders made above it go again where the block fails."""
    missing = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as name:
            yield Path(name)
    except BaseException:
        _remove_empty(missing)
        raise


def _move_into(source: Path, target: Path) -> None:
    if not target.exists():
        os.replace(source, target)
        return
    for item in sorted(source.iterdir()):
        place = target / item.name
        if item.is_dir() and place.is_dir():
            _move_into(item, place)
            continue
        if place.is_dir():
            shutil.rmtree(place)
        os.replace(item, place)


def require_replaceable(path: str, mark: str) -> None:
    """Raise `InvalidOption` where `path` is neither free, nor empty, nor holds the file `mark`."""
    target = Path(os.path.realpath(path))
    _require_folder_place(target, path)
    if target.is_dir() and any(target.iterdir()) and not (target / mark).is_file():
        raise InvalidOption("holds other files; name a new folder, or one that this wrote", path)


def write_folder(path: str, files: Mapping[str, bytes], mark: str) -> None:
    """Make `path` a folder of exactly `files` (relative path → bytes), in one step.

    A folder that holds the file `mark` is replaced whole; on failure the old one stays.
    """
    require_replaceable(path, mark)
    target = Path(os.path.realpath(path))
    with _folder_beside(target) as temporary:
        filled, old = temporary / "filled", temporary / "old"
        for name, data in files.items():
            place = filled / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(filled, target)
        except OSError:
            if old.exists():
                os.replace(old, target)
            raise


def print_json(record: dict[str, Any]) -> None:
    """Print one JSON object, the machine-readable result of a command, on stdout."""
    print(json.dumps(record, indent=2))


@contextlib.contextmanager
def progress(step: str) -> Generator[None]:
    """Say on stderr what runs, once it has run for a second, and how long it took."""
    timer = threading.Timer(
        _PROGRESS_AFTER_SECONDS, lambda: print(f"{step} ...", file=sys.stderr, flush=True)
    )
    timer.daemon = True
    start = time.monotonic()
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    seconds = time.monotonic() - start
    if seconds > _PROGRESS_AFTER_SECONDS:
        print(f"{step}: {seconds:.1f} s", file=sys.stderr, flush=True)
