"""Where a job ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from consumer.errors import TopicPartition, UnavailableError
from consumer.goal import Goal
from tests.fake_kafka import MemoryMessage

A, B = ("t", 0), ("t", 1)
Answer = Mapping[TopicPartition, int] | None


def message(partition: int, offset: int) -> MemoryMessage:
    return MemoryMessage("t", partition, offset, b"")


class Others:
    """What is stored; `away`: nobody answers."""

    def __init__(self, stored: Answer = None) -> None:
        self.stored, self.away, self.asked = stored, False, 0

    def ask(self) -> Callable[[], Answer]:
        self.asked += 1

        def look() -> Answer:
            if self.away:
                raise UnavailableError("away")
            return self.stored

        return look


def test_a_daemon_has_none() -> None:
    """It takes every record, and is never done."""
    goal = Goal()
    messages = [message(0, 7)]
    assert goal.within(messages) is messages
    goal.claimed({A: 7})
    assert (goal.reached({A}, 0), goal.complete, goal.progress) == (False, False, (0, 0))


def test_it_is_reached_when_every_next_offset_is_at_its_target_or_beyond() -> None:
    """Not before the last one, and an empty partition is at once."""
    goal = Goal({A: 10, B: 0})
    goal.claimed({A: 4, B: 3})
    assert not goal.reached({A, B}, 0)
    goal.moved({A: 9})
    assert (goal.left, goal.complete) == ([A], False)
    goal.moved({A: 10})
    assert goal.reached({A, B}, 0)
    assert goal.complete


def test_nothing_is_reached_before_it_is_known_where_it_stands() -> None:
    """Also where there is nothing to read: another cluster's offsets mean nothing."""
    assert not Goal({A: 0}, {A: 0}).reached({A}, 0)


def test_records_at_and_beyond_their_target_are_left_alone() -> None:
    """The others stay in order, whatever partition they are of."""
    goal = Goal({A: 2, B: 5})
    goal.claimed({A: 0, B: 0})
    read = [message(1, 3), message(0, 1), message(0, 2), message(1, 4), message(1, 5)]
    kept = goal.within(read)
    assert kept == [message(1, 3), message(0, 1), message(1, 4)]
    assert goal.finished(read) == {A, B}


def test_a_partition_that_came_later_is_left_alone() -> None:
    """It is no part of what was seen at the start."""
    goal = Goal({A: 10})
    goal.claimed({A: 0, B: 3})
    assert goal.within([message(1, 3), message(0, 9)]) == [message(0, 9)]
    goal.moved({A: 10})
    assert goal.reached({A, B}, 0)


def test_last_offsets_without_records_are_passed_when_all_before_them_is_written() -> None:
    """Told of the end, or by a record beyond it; what is read and not written is waited for."""
    goal = Goal({A: 10, B: 10})
    goal.claimed({A: 0, B: 0})
    goal.ended(A, 9)
    assert goal.rest({A: 0, B: 0}.get) == {}  # its end is before the target: more will come
    goal.ended(A, 10)
    goal.within([message(1, 12)])
    assert goal.rest({A: 7, B: 0}.get) == {B: 10}
    goal.moved({A: 7})
    assert goal.rest({A: 7, B: 0}.get) == {A: 10, B: 10}
    assert goal.rest({}.get) == {}  # neither flows any longer


def test_an_end_told_before_a_claim_means_nothing_after_it() -> None:
    """What was read and given back is to be read again first."""
    goal = Goal({A: 10})
    goal.claimed({A: 0})
    goal.ended(A, 10)
    goal.claimed({A: 0})
    assert goal.rest({A: 0}.get) == {}


def test_where_others_stand_is_asked_now_and_then() -> None:
    """One question at a time, at most one in two seconds; an outage changes nothing."""
    others = Others()
    goal = Goal({A: 10, B: 10}, stored=others.ask)
    goal.claimed({A: 10})
    for tenth in range(19):
        assert not goal.reached({A}, tenth / 10)
    assert others.asked == 1
    others.away = True
    assert not goal.reached({A}, 1.9)
    others.away, others.stored = False, {A: 3, B: 10}
    assert not goal.reached({A}, 1.95)
    assert others.asked == 1
    assert not goal.reached({A}, 2)
    assert goal.reached({A}, 2.1)  # what flows here is known better than by what is stored
    assert others.asked == 2


def test_nobody_is_asked_while_everything_flows_here() -> None:
    """A job alone knows all of it."""
    others = Others({})
    goal = Goal({A: 10}, stored=others.ask)
    goal.claimed({A: 1})
    assert not goal.reached({A}, 0)
    assert others.asked == 0


@pytest.mark.parametrize(
    ("positions", "expected"),
    [({}, (0, 16)), ({A: 4}, (0, 16)), ({A: 7}, (3, 16)), ({A: 30, B: 30}, (16, 16)), ({A: 1}, (0, 16))],
)
def test_progress_is_in_offsets_from_the_starts_to_the_targets(
    positions: dict[TopicPartition, int], expected: tuple[int, int]
) -> None:
    """Never below nothing, never above all."""
    goal = Goal({A: 10, B: 20}, {A: 4, B: 10})
    goal.moved(positions)
    assert goal.progress == expected


def test_a_start_that_was_not_known_is_where_it_was_claimed() -> None:
    """Then it counts."""
    goal = Goal({A: 10})
    assert goal.progress == (0, 0)
    goal.claimed({A: 6})
    assert goal.progress == (0, 4)
