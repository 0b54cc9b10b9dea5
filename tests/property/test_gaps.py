"""What Kafka no longer holds is never passed over in silence."""

from __future__ import annotations

from tests.property.test_pipeline import World, until


def test_a_gap_is_held_and_told() -> None:
    """The partition stands where it was, the reason says what is missing, and readiness that somebody must look."""
    world = World()
    world.produce(40)
    with world.member():
        until(lambda: len(world.numbers()) == 40)
    world.produce(40)
    world.broker.delete_before("t", 0, 15)
    with world.member() as member:
        until(lambda: "offsets 10 to 14 are gone" in member.telemetry.health().reason)
        assert "offsets 10 to 14 are gone" in member.telemetry.health().reason
        until(lambda: member.metrics.value("partitions_paused", reason="held") == 1)
        assert member.metrics.value("partitions_paused", reason="held") == 1
        until(lambda: len(world.numbers()) == 70)
    assert len(world.numbers()) == 70
    assert world.database.offsets["g", "t", 0].position.next_offset == 10
