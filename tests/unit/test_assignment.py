"""The life of a partition from assignment to revoke."""

from __future__ import annotations

from consumer.assignment import DESERTED_SECONDS, HOLD_SECONDS, ORPHAN_SECONDS, Assignment, Phase, gap
from consumer.cluster import LogState
from consumer.sinks import Claim, Position

A, B = ("t", 0), ("t", 1)
STATE = LogState(low=10, high=20, committed=None, cluster_id="c", topic_id="i")


def claim(next_offset: int, cluster: str = "c", topic: str = "i") -> Claim:
    return Claim(1, Position(next_offset, cluster, topic))


def test_an_answer_for_an_assignment_that_ended_is_ignored() -> None:
    """Revoked and assigned again while the claim was out: the old answer may be wrong by now."""
    made = Assignment()
    made.assigned([A, B], now=0)
    out = made.to_claim(0)
    made.removed([A])
    made.assigned([A], now=1)
    assert made.current(out) == {B}
    assert made.to_claim(1).keys() == {A}


def test_a_partition_is_claimed_once_at_a_time() -> None:
    """Only a failed claim, or a change of what is known, makes it due again."""
    made = Assignment()
    made.assigned([A], now=0)
    assert made.to_claim(0).keys() == {A}
    assert made.to_claim(0) == {}
    made.again([A], now=1)
    assert made.to_claim(1).keys() == {A}


def test_a_held_partition_is_claimed_again_after_ten_seconds() -> None:
    """So that an operator's reset is picked up without a restart; the same reason is told once."""
    made = Assignment()
    made.assigned([A], now=0)
    made.to_claim(0)
    assert made.hold(A, "gap", now=0)
    assert made.to_claim(HOLD_SECONDS - 1) == {}
    assert made.to_claim(HOLD_SECONDS).keys() == {A}
    assert not made.hold(A, "gap", now=HOLD_SECONDS)
    assert made.reasons() == {A: "gap"}


def test_a_fenced_partition_that_stays_ours_makes_an_orphan() -> None:
    """Then nobody reads it: the group is to be joined anew."""
    made = Assignment()
    made.assigned([A], now=0)
    made.fenced([A], now=5)
    assert not made.orphaned(5 + ORPHAN_SECONDS - 0.1)
    assert made.orphaned(5 + ORPHAN_SECONDS)
    made.removed([A])
    assert not made.orphaned(99)


def test_what_was_lost_and_does_not_come_back_makes_a_desert() -> None:
    """After a minute, then after twice as long; what comes, or is taken away in order, makes none."""
    made = Assignment()
    made.assigned([A], now=0)
    made.removed([A])
    assert not made.deserted(0, 9999)
    made.assigned([A], now=0)
    made.removed([A])
    made.lost(now=5)
    assert not made.deserted(0, 5 + DESERTED_SECONDS - 0.1)
    assert made.deserted(0, 5 + DESERTED_SECONDS)
    assert not made.deserted(0, 5 + 3 * DESERTED_SECONDS - 0.1)
    assert made.deserted(0, 5 + 3 * DESERTED_SECONDS)
    made.assigned([A], now=300)
    assert not made.deserted(0, 9999)
    made.removed([A])
    made.lost(now=9999)
    assert made.deserted(0, 9999 + DESERTED_SECONDS)


def test_an_outage_makes_no_desert() -> None:
    """The minute begins when Kafka is back."""
    made = Assignment()
    made.lost(now=5)
    assert not made.deserted(1000, 1000 + DESERTED_SECONDS - 0.1)
    assert made.deserted(1000, 1000 + DESERTED_SECONDS)


def test_a_topic_with_another_id_is_noticed() -> None:
    """A real broker raises no error for a topic that was deleted and made again."""
    made = Assignment()
    made.assigned([A, B], now=0)
    made.flow(A, "i")
    assert made.recreated({"t": "other"}) == {A}
    assert made.recreated({"t": "i"}) == set()
    assert made.recreated({}) == set()
    assert made.partitions(Phase.FLOWING) == {A}


def test_reading_goes_on_only_inside_what_kafka_holds_of_the_same_log() -> None:
    """Both ends belong to it; the gap is told exactly."""
    assert gap(claim(10), STATE) is None
    assert gap(claim(20), STATE) is None
    assert "offsets 7 to 9 are gone, 3 in all" in str(gap(claim(7), STATE))
    assert "beyond the end" in str(gap(claim(21), STATE))
    assert "cluster other" in str(gap(claim(15, cluster="other"), STATE))
    assert "recreated" in str(gap(claim(15, topic="other"), STATE))
    assert gap(claim(15, cluster="", topic=""), STATE) is None
