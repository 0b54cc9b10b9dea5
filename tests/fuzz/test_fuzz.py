"""60,000 inputs of many kinds, in real databases; `make fuzz` has three million."""

from __future__ import annotations

import pytest

from tests.fuzz import campaign
from tests.fuzz.lives import CASES

INPUTS = 60_000
SEED = 1  # always the same, so that a failure is of the change that is tested


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_each_input_is_in_the_table_or_a_dead_letter(request: pytest.FixtureRequest, database: str, case: str) -> None:
    """The process never dies; no record is in neither or in both, and the next offsets are at the end."""
    dsn = "sqlite" if database == "sqlite" else request.getfixturevalue("dsn")
    share = INPUTS // len(CASES) // 2
    assert campaign.run(case, dsn, SEED, share) >= share
