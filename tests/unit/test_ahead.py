"""The batch that is mapped while another is written."""

from __future__ import annotations

from concurrent.futures import Future

from consumer.ahead import Ahead
from consumer.batch import Batch
from tests.unit.test_backlog import A, B, batch_of, offsets_of


def ahead_of(batch: Batch) -> tuple[Ahead, Future[None]]:
    """With this batch, and what its mapping ends with."""
    mapping: Future[None] = Future()
    ahead = Ahead(lambda _: mapping)
    ahead.begin(batch)
    return ahead, mapping


def test_a_batch_cannot_be_taken_while_it_is_mapped() -> None:
    """It would be mapped a second time, beside the first."""
    ahead, mapping = ahead_of(batch_of(1, 2))
    assert (bool(ahead), ahead.busy, ahead.take()) == (True, True, None)
    mapping.set_result(None)
    assert offsets_of(ahead.take()) == [1, 2]
    assert (bool(ahead), ahead.busy, ahead.take()) == (False, False, None)


def test_what_mapping_raises_is_left_to_writing() -> None:
    """There it is known whether to retry or to stop."""
    ahead, mapping = ahead_of(batch_of(1))
    mapping.set_exception(ValueError())
    assert offsets_of(ahead.take()) == [1]


def test_records_of_partitions_that_leave_meanwhile_are_counted_once_and_not_written() -> None:
    """Whoever owns them then reads them again."""
    ahead, mapping = ahead_of(batch_of(1, 1, 2))
    assert ahead.release([B]) == {"t": 1}
    assert ahead.release([B]) == {}
    mapping.set_result(None)
    assert offsets_of(ahead.take()) == [1, 2]
    ahead, mapping = ahead_of(batch_of(1, 1))
    assert ahead.release([A, B]) == {"t": 2}
    mapping.set_result(None)
    assert (ahead.take(), bool(ahead)) == (None, False)
