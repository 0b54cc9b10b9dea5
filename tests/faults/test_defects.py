"""The test of the tests: the same campaign, shorter, must find each defect that is built into its members."""

from __future__ import annotations

import pytest

from tests.faults import campaign
from tests.faults.group import CLASSIC, Services

PATIENCE = 5  # seconds: with a defect the end may never be reached
pytestmark = pytest.mark.timeout(300)


def test_without_the_fence_records_are_doubled(services: Services) -> None:
    """A member that goes on before its fence, after others have written its batch, writes it again, if not stopped."""
    with pytest.raises(AssertionError, match=r"doubled: \d+"):
        campaign.run(services, campaign.zombies(4, ("before_begin",)), (CLASSIC,), defect="no_fence", patience=PATIENCE)


def test_offsets_before_rows_lose_records(services: Services) -> None:
    """A member that dies in COPY, having committed the offsets already, takes the batch with it."""
    with pytest.raises(AssertionError, match=r"missing: \d+"):
        campaign.run(services, campaign.kills(2, ("in_copy",)), (CLASSIC,), defect="offsets_first", patience=PATIENCE)


def test_an_offset_too_far_loses_records(services: Services) -> None:
    """With the offset after the next one stored, whoever takes a partition over leaves a record out."""
    with pytest.raises(AssertionError, match=r"missing: \d+"):
        campaign.run(
            services, campaign.kills(2, ("after_commit",)), (CLASSIC,), defect="one_too_far", patience=PATIENCE
        )


def test_an_offset_too_short_doubles_records(services: Services) -> None:
    """With the offset of the last record stored, whoever takes a partition over writes that record again."""
    with pytest.raises(AssertionError, match=r"doubled: \d+"):
        campaign.run(
            services, campaign.kills(2, ("after_commit",)), (CLASSIC,), defect="one_too_short", patience=PATIENCE
        )
