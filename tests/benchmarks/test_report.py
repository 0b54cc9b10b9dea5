"""What is made of the figures, without any service."""

from __future__ import annotations

from itertools import count

import pytest
from rich.console import Console

from tests.benchmarks.lab import rate
from tests.benchmarks.measuring import Measured
from tests.benchmarks.report import Ratio, RefusedError, Result, in_turn, results


def test_a_rate_leaves_out_what_came_before_its_clock_started() -> None:
    """It is from the first commit on, or from the one by which so many records have come."""
    commits = [(10.0, 5), (11.0, 1), (13.0, 7)]
    assert rate(commits) == 8 / 3
    assert rate(commits, before=6) == 7 / 2
    with pytest.raises(RuntimeError, match="more records"):
        rate(commits[:1])


def test_a_ratio_is_made_within_each_round() -> None:
    """Its median is that of the rounds' ratios, not the ratio of the medians."""
    rounds: list[dict[str, Result]] = [{"a": 10.0, "b": 10.0}, {"a": 9.0, "b": 3.0}, {"a": 1.0, "b": 2.0}]
    found = results(rounds, [Ratio("a / b", "a", "b", 2), Ratio("a / c", "a", "c")])
    assert found["ratios"] == {"a / b": {"median": 1.0, "low": 0.5, "high": 3.0}}
    assert found["goals"] == {"a / b": 2}


def test_efficiency_is_records_for_a_second_of_the_clients_processor_time() -> None:
    """Half the processor time is twice the efficiency, whatever the services take."""
    one, two = (Measured(1.0, {"client": cpu, "kafka": 9.0}, 1.0) for cpu in (2.0, 4.0))
    assert Ratio("", "one", "two", figure="efficiency").of({"one": one, "two": two}) == 2


def test_a_candidate_that_is_refused_has_no_figure_in_any_round() -> None:
    """Also not of the rounds before, and the others go on."""
    runs = count()

    def sometimes() -> float:
        if next(runs):
            raise RefusedError("rows are missing")
        return 1.0

    console = Console(record=True, width=120)
    assert in_turn(3, {"a": sometimes, "b": lambda: 2.0}, console) == [{"b": 2.0}] * 3
    assert next(runs) == 2
    assert "Refused, a: rows are missing" in console.export_text()
