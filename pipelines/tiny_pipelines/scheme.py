"""Update schemes by name: the published ones that ship with the package, or a user's own file."""

import difflib
from pathlib import Path

from tiny_dialect.errors import InvalidOption
from tiny_passes.update_scheme import UpdateScheme, read_scheme

SCHEMES = Path(__file__).parent / "schemes"


def scheme_names() -> tuple[str, ...]:
    """The names of the schemes that ship with the package, in alphabetical order."""
    return tuple(sorted(path.stem for path in SCHEMES.glob("*.json")))


def find_scheme_file(name_or_path: str | Path) -> Path:
    """The file of a scheme: a known name, or a path that exists (a name wins over a file).

    Raises `InvalidOption` that lists the known names and guesses which one was meant.
    """
    text = str(name_or_path)
    names = scheme_names()
    if text in names:
        return SCHEMES / f"{text}.json"
    path = Path(name_or_path)
    if path.is_file():
        return path
    if path.suffix == ".json" or len(path.parts) > 1:
        reason = "is not a file" if path.exists() else "no such file"
        raise InvalidOption(f"{reason}; known schemes: {', '.join(names)}", text)
    close = difflib.get_close_matches(text, names, n=1)
    hint = f", did you mean {close[0]}?" if close else ";"
    raise InvalidOption(f"unknown update scheme '{text}'{hint} known: {', '.join(names)}")


def find_scheme(name_or_path: str | Path) -> UpdateScheme:
    """The scheme of that name or in that file; raises `InvalidOption`."""
    return read_scheme(find_scheme_file(name_or_path))
