"""Seeded defects: a sink that breaks one promise. The campaign must find each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from consumer.errors import TopicPartition
from consumer.sinks import Claim, Fence, Position, Sink
from consumer.sinks.transaction import in_steps


class Around:
    """Passes every call on to a sink."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)


class InSteps(Around):
    """The same, with a call for each step of a transaction."""

    def transact(
        self,
        fences: Mapping[TopicPartition, Fence],
        rows: Any,
        next_offsets: Mapping[TopicPartition, int],
        sent: Callable[[], None],
    ) -> float:
        return in_steps(cast(Sink, self), fences, rows, next_offsets, sent)


class NoFence(InSteps):
    """Nothing is compared: whoever writes finds the fence that he would like to find."""

    def begin(self, fences: Mapping[TopicPartition, Fence]) -> None:
        stored = self._sink.offsets()
        self._sink.begin({key: Fence(stored[key].epoch, stored[key].position.next_offset) for key in fences})

    def confirm(self, fences: Mapping[TopicPartition, Fence]) -> dict[TopicPartition, Fence]:
        return dict(fences)

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        # The sink's own look at what is stored goes too: it would end the member before the damage shows.
        self._sink._fences = dict.fromkeys(next_offsets, Fence(0, 0))
        self._sink.commit(next_offsets)


class OffsetsFirst(InSteps):
    """The offsets are committed in a transaction of their own, before the rows."""

    def begin(self, fences: Mapping[TopicPartition, Fence]) -> None:
        self._fences, self._rows = fences, []

    def apply(self, rows: Any) -> None:
        self._rows += rows

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        self._sink.begin(self._fences)
        self._sink.commit(next_offsets)
        self._sink.begin({key: Fence(fence.epoch, next_offsets[key]) for key, fence in self._fences.items()})
        self._sink.apply(self._rows)
        self._sink.commit({})


class OffByOne(InSteps):
    """Another next offset than the right one is stored, and its own instance does not see it."""

    def __init__(self, sink: Any, shift: int) -> None:
        super().__init__(sink)
        self._shift = shift
        self._shifted: set[TopicPartition] = set()

    def claim(self, starts: Mapping[TopicPartition, Position]) -> dict[TopicPartition, Claim]:
        self._shifted -= starts.keys()
        return self._sink.claim(starts)

    def confirm(self, fences: Mapping[TopicPartition, Fence]) -> dict[TopicPartition, Fence]:
        return {key: self._moved(key, fence, -self._shift) for key, fence in self._sink.confirm(fences).items()}

    def begin(self, fences: Mapping[TopicPartition, Fence]) -> None:
        self._sink.begin({key: self._moved(key, fence, self._shift) for key, fence in fences.items()})

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        self._sink.commit({key: offset + self._shift for key, offset in next_offsets.items()})
        self._shifted |= next_offsets.keys()

    def _moved(self, key: TopicPartition, fence: Fence, shift: int) -> Fence:
        return Fence(fence.epoch, fence.next_offset + (shift if key in self._shifted else 0))


DEFECTS: dict[str, Callable[[Any], Any]] = {
    "none": lambda sink: sink,
    "no_fence": NoFence,
    "offsets_first": OffsetsFirst,
    "one_too_far": lambda sink: OffByOne(sink, +1),
    "one_too_short": lambda sink: OffByOne(sink, -1),
}
