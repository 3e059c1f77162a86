"""Compares diagnostics with `// expected-error@+1 {{text}}` comments, as mlir-opt does.

A comment expects an error whose message contains the text (`expected-error-re`: matches the
regular expression) on its own line, on `@+N`, `@-N`, `@above` or `@below`, or at an
`@unknown` place.
"""

import re
from dataclasses import dataclass
from typing import Any

from tiny_dialect.errors import InvalidOption

_COMMENT = re.compile(
    r"expected-(?P<kind>\w+?)(?P<re>-re)?\s*(?:@(?P<at>[+-]\d+|above|below|unknown))?\s*"
    r"\{\{(?P<text>.*?)\}\}"
)
_POSITION = re.compile(r'"[^"]*":(\d+):\d+')
_OFFSETS = {"above": -1, "below": 1}


@dataclass(frozen=True)
class Diagnostic:
    """A message and its 1-based line; line 0 is an unknown place."""

    line: int
    message: str


@dataclass(frozen=True)
class Expectation:
    """An expected error; `line` 0 is an unknown place."""

    line: int
    text: str
    is_pattern: bool

    def meets(self, diagnostic: Diagnostic) -> bool:
        """True where the diagnostic is the expected one."""
        pattern = self.text if self.is_pattern else re.escape(self.text)
        return self.line == diagnostic.line and bool(re.search(pattern, diagnostic.message))


def expectations(text: str) -> list[Expectation]:
    """The expectations written in a file; a kind other than error is an `InvalidOption`."""
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        for match in _COMMENT.finditer(line):
            if match["kind"] != "error":
                raise InvalidOption(
                    f"only errors are diagnosed, not '{match['kind']}'", f"line {number}"
                )
            at = match["at"] or "+0"
            offset = _OFFSETS[at] if at in _OFFSETS else 0 if at == "unknown" else int(at)
            line_number = 0 if at == "unknown" else number + offset
            found.append(Expectation(line_number, match["text"], match["re"] is not None))
    return found


def diagnostics_of(error: Any) -> list[Diagnostic]:
    """What a `TinyError` reports: the MLIR diagnostics behind it, or its own message and place."""
    reported = getattr(error.__cause__, "error_diagnostics", None)
    if reported:
        return [Diagnostic(_line(each.location), each.message) for each in reported]
    return [Diagnostic(_line(getattr(error, "location", error.where)), error.message)]


def differences(expected: list[Expectation], found: list[Diagnostic], source: str) -> list[str]:
    """One line for each diagnostic nobody expects and each expectation that nothing meets."""
    pending = list(expected)
    complaints = []
    for diagnostic in found:
        met = next((each for each in pending if each.meets(diagnostic)), None)
        if met is None:
            complaints.append(f"{source}:{diagnostic.line}: unexpected error: {diagnostic.message}")
        else:
            pending.remove(met)
    return complaints + [
        f"{source}:{each.line}: expected error was not produced: {each.text}" for each in pending
    ]


def _line(location: Any) -> int:
    match = _POSITION.search(str(location)) or re.search(r":(\d+):\d+", str(location))
    return int(match[1]) if match else 0
