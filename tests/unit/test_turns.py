"""Who is late gets a turn, and nobody else."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import pytest

from consumer.errors import TopicPartition
from consumer.turns import Turns

A, B, C = (("t", n) for n in range(3))
ENDS: dict[TopicPartition, int | None] = {A: 100_000, B: 100_000, C: 100_000}


def played(
    steps: Iterable[Mapping[TopicPartition, int]], ends: Mapping[TopicPartition, int | None] = ENDS
) -> list[str]:
    """The partitions of the turn at each look, a second after the other."""
    turns = Turns()
    return ["".join(str(n) for _, n in sorted(turns.look(step, ends, 100.0 + at))) for at, step in enumerate(steps)]


def test_a_partition_that_is_not_read_while_others_are_gets_two_seconds_in_seven() -> None:
    """And goes on getting them, as long as they are of use."""
    steps = [{A: at, B: 0 if at < 6 else at // 7} for at in range(24)]
    assert played(steps) == [""] * 5 + ["1"] * 2 + [""] * 5 + ["1"] * 2 + [""] * 5 + ["1"] * 2 + [""] * 3


def test_while_nothing_is_read_nobody_is_late() -> None:
    """An outage is not unfair."""
    assert set(played([{A: min(at, 2), B: 0} for at in range(60)])) == {""}
    assert played([{A: max(0, at - 50), B: max(0, at - 53)} for at in range(60)]) == [""] * 60


@pytest.mark.parametrize("end", [None, 0, 999])
def test_who_has_little_to_wait_for_is_not_late(end: int | None) -> None:
    """At an end there may be marks of transactions, which are no records."""
    assert set(played([{A: at, B: 0} for at in range(60)], {A: 100_000, B: end})) == {""}


def test_turns_that_are_of_no_use_become_rare() -> None:
    """What is late may wait for a transaction to end: up to 5 minutes between them."""
    found = played([{A: at, B: 0} for at in range(4000)])
    begins = [at for at in range(1, 4000) if found[at] and not found[at - 1]]
    gaps = [after - before for before, after in itertools.pairwise(begins)]
    assert gaps[:6] == [12, 22, 42, 82, 162, 302]
    assert set(gaps[6:]) == {302}


def test_who_waits_longest_comes_first_and_eight_at_once() -> None:
    """So that each gets a turn, however many there are."""
    keys = [("t", n) for n in range(20)]
    ends = dict.fromkeys(keys, 100_000)
    turns, turn, had = Turns(), set[TopicPartition](), set[TopicPartition]()
    positions = dict.fromkeys(keys, 0)
    for at in range(40):
        for key in turn or {keys[0]}:
            positions[key] += 1
        turn = turns.look(positions, ends, 100.0 + at)
        assert len(turn) <= 8
        had |= turn
    assert had == set(keys[1:])


def test_a_partition_that_leaves_in_its_turn_is_forgotten() -> None:
    """And the turn is over."""
    assert played([{A: at, B: 0} for at in range(6)] + [{A: at} for at in range(6, 12)]) == [""] * 5 + ["1"] + [""] * 6
