"""However a replay ends, each dead letter is written once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import UnavailableError
from consumer.letter import State
from tests.unit.dlq.test_replay import REFUSED, Bench, Faulty, body, letter

KINDS: dict[str, Callable[[int], bytes]] = {
    "good": body,
    "undecodable": lambda _: b"{",
    "unmappable": lambda _: b"[]",
    "refused": lambda number: b'{"id": %d, "amount": -1}' % number,
}


@given(
    kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=8),
    size=st.integers(1, 4),
    runs=st.lists(st.lists(st.sampled_from(["", "before", "after"]), max_size=8), min_size=1, max_size=4),
)
def test_replaying_never_doubles_and_never_loses(kinds: list[str], size: int, runs: list[list[str]]) -> None:
    """However often it is tried, and however its commits end: each letter that is marked has its row."""
    letters = [
        letter(number, KINDS[kind](number), "item" if kind == "refused" else "event")
        for number, kind in enumerate(kinds)
    ]
    bench = Bench(*letters)
    for faults in itertools.chain(runs, [[]]):
        sink = bench.sink(Faulty)
        assert isinstance(sink, Faulty)
        sink.faults = faults
        try:
            bench.replay(sink=sink, size=size)
        except UnavailableError:
            assert len(faults) >= 6
        marked = sorted(number for number, state in bench.states().items() if state is State.REPLAYED)
        assert sorted(bench.ids()) == marked
    assert marked == [number for number, kind in enumerate(kinds) if kind == "good"]
    kept = {number: one for number, one in bench.letters().items() if one.state is not State.REPLAYED}
    assert {number: replace(one, evidence=REFUSED, replay_count=0) for number, one in kept.items()} == {
        one.offset: one for one, kind in zip(letters, kinds, strict=True) if kind != "good"
    }
