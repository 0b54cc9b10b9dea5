"""What the reference says against the code."""

from __future__ import annotations

import pytest

from tests.docs import ROOT
from tests.docs.tables import PAGES, renewed


@pytest.mark.parametrize("page", PAGES)
def test_the_reference_says_what_the_code_says(page: str) -> None:
    """Settings, metrics, events, errors, commands, the schema: `make docs` makes them anew."""
    text = (ROOT / page).read_text()
    assert renewed(page, text) == text, "run `make docs`"
