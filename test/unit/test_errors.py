"""What commands say is one line that a terminal shows, whatever a file calls its parts."""

import pytest

from tiny_dialect.errors import MOST_LETTERS, InvalidModel, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, and für 日本", "plain, and für 日本"),
        ("two\nlines\t and\r\n  blanks ", "two lines and blanks"),
        ("\x1b[2Jgone\x00\x07", r"\x1b[2Jgone\x00\x07"),
        ("right\u202eto left", r"right\u202eto left"),
        ("a path \udcff", r"a path \udcff"),
    ],
)
def test_a_text_becomes_one_line(text, shown):
    assert one_line(text) == shown
    assert one_line(shown) == shown


def test_a_long_text_loses_its_middle():
    line = one_line("a" * 5000 + "z" * 5000)
    assert len(line) <= MOST_LETTERS
    assert line.startswith("aaa") and line.endswith("zzz") and "a ... z" in line


def test_an_error_is_bounded_with_its_place():
    error = InvalidModel("m\n" * 100_000, "w\x1b" * 100_000)
    assert len(str(error)) < 2 * MOST_LETTERS
    assert str(error) == f"{error.where}: {error.message}"
    assert str(error).isprintable()
