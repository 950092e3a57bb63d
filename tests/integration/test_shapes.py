"""Ten shapes of every generator of tests/shapes, which draws hundreds in its nightly form."""

import importlib
from pathlib import Path

import pytest

CASES = 10


@pytest.mark.parametrize("subject", ["images", "videos", "lists"])
def test_the_product_agrees_with_an_independent_reference(subject: str, tmp_path: Path) -> None:
    check = importlib.import_module(f"tests.shapes.{subject}").check

    assert list(check(0, CASES, tmp_path)) == []
