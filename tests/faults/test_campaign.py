"""Kills, zombies and membership changes under load: whatever happens, every record is in the table once, in order."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from tests.faults import campaign
from tests.faults.campaign import SCALE, ZOMBIE_POINTS
from tests.faults.group import CLASSIC, KIP_848, Services
from tests.faults.member import BATCH_POINTS, CLAIM_POINTS

TRIOS = (CLASSIC, CLASSIC, KIP_848)
pytestmark = pytest.mark.timeout(600 * SCALE)


def each(count: int, groups: int) -> int:
    """So many for each group that there are `count` in all."""
    return math.ceil(count * SCALE / groups)


def test_kills(services: Services) -> None:
    """100 kill -9 of one of three members, at every crash point and at random: nothing is lost, nothing doubled."""
    counts = campaign.run(services, campaign.kills(each(100, 3)), TRIOS)
    assert sum(counts.values()) >= 100
    assert counts.keys() == {f"SIGKILL {point}" for point in (*BATCH_POINTS, *CLAIM_POINTS, "random")}


def test_zombies(services: Services) -> None:
    """50 members stopped beyond their session, others having taken over, write nothing when they go on."""
    counts = campaign.run(services, campaign.zombies(each(50, 3)), TRIOS)
    assert sum(counts.values()) >= 50
    assert counts.keys() == {f"SIGSTOP {point}" for point in ZOMBIE_POINTS}


def test_membership_changes(services: Services) -> None:
    """100 times in each protocol a member joins, or leaves with exit code 0: nothing is lost, nothing doubled."""
    counts = campaign.run(services, campaign.changes(each(100, 2)), (CLASSIC, CLASSIC, KIP_848, KIP_848))
    assert counts["join"] + counts["leave"] >= 200


def test_static_members(services: Services) -> None:
    """A static member (group.instance.id) that is killed or ended comes back as itself, and goes on."""
    counts = campaign.run(services, campaign.returns(6 * SCALE), (CLASSIC, KIP_848), static=True)
    assert counts == Counter({"SIGKILL random": 6 * SCALE, "SIGTERM": 6 * SCALE})
