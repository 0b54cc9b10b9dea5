"""The README's tables against the code."""

from __future__ import annotations

from tests.docs import README, renewed


def test_the_readme_has_the_settings_and_metrics_of_the_code() -> None:
    """The tables of settings and metrics say what the code says; `make docs` makes them anew."""
    text = README.read_text()
    assert renewed(text) == text, "run `make docs`"
