"""The test of the fuzz itself: a death is told with its seed, and with no more inputs than it takes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from tests.fuzz import campaign


def test_as_few_inputs_as_it_takes_are_found() -> None:
    """Also where it takes two that are far from each other."""
    assert list(campaign._fewest(range(1000), lambda chosen: {3, 700} <= set(chosen))) == [3, 700]


def test_a_process_that_dies_is_told_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed by a signal in the life of one seed, by one of its inputs."""

    def dying(case: str, dsn: str, seed: int, inputs: int | str, places: Sequence[int] = ()) -> list[str]:
        deed = "os.abort()" if 2 in places or not places else "pass"
        return [sys.executable, "-c", f"import os; print({seed + 4 * (not places)}, 0, flush=True); {deed}"]

    monkeypatch.setattr(campaign, "_command", dying)
    with pytest.raises(AssertionError, match=r"case json, seed 5; again: .* json sqlite 5 - 2\n(.|\n)*ended with -6"):
        campaign.run("json", "sqlite", 1, 1000)
