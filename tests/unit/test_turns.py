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


def read(turns: Turns, seconds: int, rates: Mapping[TopicPartition, int], alone: int) -> list[set[TopicPartition]]:
    """The turns, where all together are read at these rates, and those of a turn at `alone` records a second."""
    positions, ends, found = dict.fromkeys(rates, 0), dict.fromkeys(rates, 1_000_000), list[set[TopicPartition]]()
    for at in range(seconds):
        turn = turns.look(positions, ends, 100.0 + at)
        found.append(turn)
        for key in turn or rates:
            positions[key] += alone if turn else rates[key]
    return found


@pytest.mark.parametrize("slow", [0, 24])
def test_a_partition_that_is_hardly_read_while_others_are_is_read_alone_in_turns(slow: int) -> None:
    """Five seconds of ten, as long as it helps."""
    found = read(Turns(), 40, {A: 100, B: slow, C: 100}, alone=200)
    assert found == ([set()] * 5 + [{B}] * 5) * 4


def test_who_gets_a_quarter_of_what_the_others_get_is_not_late() -> None:
    """Sizes of records differ."""
    assert read(Turns(), 40, {A: 100, B: 25, C: 50}, alone=200) == [set()] * 40


def test_a_turn_is_over_when_nothing_much_waits() -> None:
    """So that the others wait no longer than they must."""
    steps = [{A: 100 * at, B: 0} for at in range(6)] + [{A: 500, B: 99_001}] * 2
    assert played(steps) == [""] * 5 + ["1", "", ""]


def test_while_nothing_is_read_nobody_is_late() -> None:
    """An outage is not unfair."""
    assert set(played([{A: min(at, 2), B: 0} for at in range(60)])) == {""}
    assert played([{A: max(0, at - 50), B: max(0, at - 53)} for at in range(55)]) == [""] * 55


@pytest.mark.parametrize("end", [None, 0, 999])
def test_who_has_little_to_wait_for_is_not_late(end: int | None) -> None:
    """At an end there may be marks of transactions, which are no records."""
    assert set(played([{A: at, B: 0} for at in range(60)], {A: 100_000, B: end})) == {""}


def test_who_is_read_as_fast_as_records_come_is_not_late() -> None:
    """However many wait elsewhere."""
    turns = Turns()
    for at in range(60):
        positions, ends = {A: 10_000 * at, B: 250 * at}, {A: 10_000_000, B: 250 * at + 1000}
        assert not turns.look(positions, ends, 100.0 + at)


@pytest.mark.parametrize("rates", [(100, 0, 0), (100, 20, 40)])
def test_turns_that_are_of_no_use_become_rare(rates: tuple[int, int, int]) -> None:
    """What is late may wait for a transaction to end, or for its leader: up to 5 minutes between them."""
    usual, slow, alone = rates
    found = read(Turns(), 3000, {A: usual, B: slow}, alone)
    begins = [at for at in range(1, 3000) if found[at] and not found[at - 1]]
    gaps = [after - before for before, after in itertools.pairwise(begins)]
    assert gaps[:6] == [12, 22, 42, 82, 162, 302]
    assert set(gaps[6:]) == {302}


def test_after_a_turn_that_helps_the_next_one_may_come_soon() -> None:
    """What it waited for has come."""
    positions, turns, found = {A: 0, B: 0}, Turns(), list[set[TopicPartition]]()
    for at in range(60):
        found.append(turns.look(positions, {A: 100_000, B: 100_000}, 100.0 + at))
        alone = 300 if at > 12 else 0
        positions = {A: positions[A] + (0 if found[-1] else 100), B: positions[B] + (alone if found[-1] else 0)}
    begins = [at for at in range(1, 60) if found[at] and not found[at - 1]]
    assert begins == [5, 17, 27, 37, 47, 57]


def test_for_whom_most_waits_comes_first_and_eight_at_once() -> None:
    """So that each gets a turn, however many there are."""
    keys = [("t", n) for n in range(20)]
    turns = Turns()
    found = read(turns, 60, {key: 100 if key == keys[0] else 0 for key in keys}, alone=100)
    assert max(map(len, found)) == 8
    assert set[TopicPartition]().union(*found) == set(keys[1:])


def test_when_partitions_come_or_leave_all_are_read() -> None:
    """Nothing is known of those who came."""
    assert played([{A: at, B: 0} for at in range(6)] + [{A: at} for at in range(6, 12)]) == [""] * 5 + ["1"] + [""] * 6


def test_a_partition_that_goes_back_is_not_late_for_that() -> None:
    """Somebody reset its offsets."""
    assert set(played([{A: 300 * at, B: 300 * at + (50_000 if at < 3 else 0)} for at in range(20)])) == {""}
