"""A claim's answer counts for the assignment that it was made for, and for no later one of the same partition."""

from __future__ import annotations

from consumer.assignment import Assignment

A = ("t", 0)


def test_the_answer_to_an_earlier_claim_is_none_for_a_later_one() -> None:
    """Gone and back while it was on its way: by then somebody else may have moved the offset."""
    assignment = Assignment()
    assignment.assigned({A}, 0)
    first = assignment.to_claim(0)
    assignment.removed({A})
    assignment.assigned({A}, 1)
    second = assignment.to_claim(1)
    assert assignment.current(first) == set()
    assert assignment.current(second) == {A}
