"""The schemas of framed values by their ids: all known from the start, or asked for when an id comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from consumer.decode.registry import UnknownIdError
from consumer.errors import DecodeError, UnavailableError

T = TypeVar("T")
_MOST_FOUND = 1000
_MOST_UNKNOWN = 100_000  # more than the ids of a batch, or some would never have been unknown for long enough
_AGAIN_SECONDS = 30.0
_PATIENCE_SECONDS = 20.0


class Schemas(Protocol[T]):
    """What a decoder of framed values needs."""

    def get(self, schema_id: int) -> T | None:
        """What is known without asking anybody."""

    def of(self, ids: Collection[int]) -> dict[int, T | str]:
        """Of each id its schema, or why it has none. Raises UnavailableError, FatalError."""


class Configured(Generic[T]):
    """A mapping; `setting` is where it was configured."""

    def __init__(self, schemas: Mapping[int, T], setting: str) -> None:
        self._schemas, self._setting = schemas, setting

    def get(self, schema_id: int) -> T | None:
        """See Schemas.get."""
        return self._schemas.get(schema_id)

    def of(self, ids: Collection[int]) -> dict[int, T | str]:
        """See Schemas.of."""
        advice = f"add its file to {self._setting}.schemas"
        return {number: self._schemas.get(number) or f"schema id {number} is not known: {advice}" for number in ids}


@dataclass(frozen=True, slots=True)
class _Unknown:
    """When it was first asked for, when it may be asked for again, and, once its records are at fault, why."""

    since: float
    again: float
    reason: str = ""


class Asked(Generic[T]):
    """What `ask` says of an id, which is kept as long as the process lives, for the last 1,000 ids.

    An id that it does not know (UnknownIdError) is asked for again and again, for `unknown_after` seconds: a replica of
    a registry may lag. Until then `of` raises UnavailableError, so that nothing of the batch is judged; after that the
    id's records are at fault, and it is asked for every 30 s. `clock` gives monotonic seconds.
    """

    def __init__(
        self, ask: Callable[[int], T], unknown_after: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask, self._unknown_after, self._clock = ask, unknown_after, clock
        self._found: dict[int, T] = {}
        self._unknown: dict[int, _Unknown] = {}

    def get(self, schema_id: int) -> T | None:
        """See Schemas.get."""
        return self._found.get(schema_id)

    def of(self, ids: Collection[int]) -> dict[int, T | str]:
        """See Schemas.of. All are asked for, before one of them is waited for: their times run together."""
        now, answers, waiting = self._clock(), dict[int, T | str](), list[int]()
        for schema_id in ids:
            if self._clock() - now > _PATIENCE_SECONDS:
                reason = f"schema registry: it takes more than {_PATIENCE_SECONDS:g} s to ask for {len(ids)} schemas"
                raise UnavailableError(reason, smaller=True)
            answer = self._answer(schema_id, now)
            if answer is None:
                waiting.append(schema_id)
            else:
                answers[schema_id] = answer
        if waiting:
            others = f", nor {len(waiting) - 1} others" if waiting[1:] else ""
            raise UnavailableError(
                f"schema registry: it does not know schema id {waiting[0]}{others}; records become dead letters when "
                f"that has been so for {self._unknown_after:g} s (40403)"
            )
        return answers

    def _answer(self, schema_id: int, now: float) -> T | str | None:
        """None: it is to be waited for."""
        if (found := self._found.get(schema_id)) is not None:
            return found
        before = self._unknown.get(schema_id)
        if before and now < before.again:
            return before.reason
        try:
            found = self._ask(schema_id)
        except DecodeError as error:
            return self._judge(schema_id, before.since if before else now, now, error)
        self._unknown.pop(schema_id, None)
        _keep(self._found, schema_id, found, _MOST_FOUND)
        if before and before.reason:
            # The batch may have been judged in part: all of it is to be judged alike.
            raise UnavailableError(f"schema registry: schema id {schema_id} can be read from now on", 0.0)
        return found

    def _judge(self, schema_id: int, since: float, now: float, error: DecodeError) -> str | None:
        waits = isinstance(error, UnknownIdError) and now - since < self._unknown_after
        reason = None if waits else error.reason
        _keep(
            self._unknown,
            schema_id,
            _Unknown(since, now if waits else now + _AGAIN_SECONDS, reason or ""),
            _MOST_UNKNOWN,
        )
        return reason


_V = TypeVar("_V")


def _keep(known: dict[int, _V], schema_id: int, value: _V, most: int) -> None:
    known[schema_id] = value
    while len(known) > most:
        del known[next(iter(known))]
