"""What `microbatch status` prints."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.control import lines

_WAY = {"done": 4200, "total": 10_000, "percent": 42}


@pytest.mark.parametrize(
    ("job", "line"),
    [
        (_WAY | {"per_second": None, "eta_seconds": None}, "job: 42 %, 4,200 of 10,000 offsets"),
        (
            _WAY | {"per_second": 1234.5, "eta_seconds": 4.7},
            "job: 42 %, 4,200 of 10,000 offsets, 1,234/s, 5 s left",
        ),
    ],
    ids=["before the rate is known", "on its way"],
)
def test_a_job_has_a_line_for_how_far_it_is(job: dict[str, Any], line: str) -> None:
    """After what it does and why."""
    assert list(lines({"state": "running", "reason": "well", "job": job}))[1] == line


def test_a_daemon_has_none() -> None:
    """It has no end to be measured by."""
    assert not any(line.startswith("job") for line in lines({"state": "running", "reason": "well", "job": None}))
