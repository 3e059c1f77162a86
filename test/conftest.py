"""Fixtures that every test folder shares: the model zoo and a fresh MLIR context."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def zoo():
    """The folder of the model zoo (`TINY_DATA`, else `../shared/data`), or a skip."""
    folder = Path(os.environ.get("TINY_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "models").is_dir():
        pytest.skip(f"no model zoo at {folder}; set TINY_DATA to its folder")
    return folder


@pytest.fixture
def context():
    """A fresh context with the dialect loaded, entered with an unknown location."""
    from tiny_dialect.bindings import ir
    from tiny_dialect.dialect import new_context

    with new_context() as made, ir.Location.unknown():
        yield made


@pytest.fixture(scope="session")
def repository():
    """The root of the checkout."""
    return Path(__file__).resolve().parents[1]
