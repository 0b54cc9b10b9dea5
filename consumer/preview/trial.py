"""The sample through the same mapper and sink as in `run`, in one transaction that is rolled back."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

from consumer.breaker import Breaker
from consumer.config import Settings
from consumer.errors import Failure, FatalError, HeldError, RejectedError, UnavailableError
from consumer.letter import Evidence, evidence_of
from consumer.mapping import Mapped
from consumer.mapping.opening import open_mapper
from consumer.mapping.topics import TopicMapper
from consumer.preview import Begin
from consumer.preview.sample import Sample, sample
from consumer.sinks import Sink
from consumer.sinks.opening import open_sink, targets_of
from consumer.sinks.transaction import transaction, write
from consumer.table import Mode, Table, TableRows, Target

_OWNER = "plan"
_HOLD_SECONDS = 10.0
_THERE_ALREADY = {"23505", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_ROWID"}


@dataclass(frozen=True, slots=True)
class Stretch:
    """The offsets of the first and the last record of a partition."""

    partition: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class TopicPart:
    """What became of a topic's records, `decoded` >= `mapped` >= `filtered` + `written`.

    `rejected` would be dead letters. `repeated` were written by
    the group before, and are refused only because their key is there. `unmapped`: fields that no column takes.
    """

    topic: str
    offsets: list[Stretch]
    records: int
    decoded: int
    mapped: int
    filtered: int
    written: int
    rejected: int
    repeated: int
    unmapped: list[str]


@dataclass(frozen=True, slots=True)
class TablePart:
    """The rows that would go to a table. `unfed`: columns that nothing feeds, which stay at their defaults."""

    table: str
    mode: str
    rows: int
    unfed: list[str]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Records that would be rejected for one reason, and the first of them; `evidence` as that one's."""

    count: int
    topic: str
    partition: int
    offset: int
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Preview:
    """What `run` would do with a sample. `seconds` of the stages map (with decoding) and write.

    `held`: why the daemon would hold, were all batches like this one.
    """

    topics: list[TopicPart]
    tables: list[TablePart] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    held: str | None = None

    @property
    def records(self) -> int:
        """How many were sampled."""
        return sum(part.records for part in self.topics)

    @property
    def rate(self) -> float | None:
        """Records a second of one instance: its writer decodes, maps and writes one batch after the other."""
        spent = sum(self.seconds.values())
        return self.records / spent if spent else None


def preview(settings: Settings, begin: Begin, most: int) -> Preview:
    """Try `most` records. Nothing is kept, claimed, committed or published.

    Raises ConfigError, FatalError, UnavailableError: as `run` would stop, or wait.
    """
    found = sample(settings, begin, most)
    with closing(open_sink(settings, _OWNER)) as sink:
        return tried(settings, sink, found)


def tried(settings: Settings, sink: Sink, found: Sample, clock: Callable[[], float] = time.perf_counter) -> Preview:
    """The sample tried on this sink. `clock` gives seconds."""
    if not found.messages:
        parts = [_topic(topic, found, Mapped(), [], set(), []) for topic in found.topics]
        return Preview(parts, remarks=list(found.remarks))
    mapper = open_mapper(settings, sink.describe)
    if isinstance(mapper, TopicMapper):
        mapper.open(sorted({message.topic() for message in found.messages}))
    began = clock()
    mapped = mapper.map(found.messages)
    seconds = {"map": clock() - began}
    tables = {group.table: sink.describe(group.table) for group in mapped.rows}
    with _bounded(sink), transaction(sink, keep=False):
        began = clock()
        refused = write(sink, mapped.rows)
        seconds["write"] = clock() - began
    failures = sorted([*mapped.failures, *refused], key=lambda failure: failure.ordinal)
    repeats = {failure.ordinal for failure in failures if _repeated(found, failure)}
    at_fault = [failure for failure in failures if failure.ordinal not in repeats]
    unmapped = _unmapped(mapper, found, mapped) if isinstance(mapper, TopicMapper) else {}
    lost = {failure.ordinal for failure in failures}
    return Preview(
        [_topic(topic, found, mapped, failures, repeats, unmapped.get(topic, [])) for topic in found.topics],
        _tables(targets_of(settings), tables, mapped.rows, lost),
        rejections_of(found, at_fault),
        seconds,
        list(found.remarks),
        _held(settings, len(found.messages), at_fault),
    )


def rejections_of(found: Sample, failures: Sequence[Failure]) -> list[Rejection]:
    """By kind, most first: topic, stage, error, SQLSTATE, table, column, constraint."""
    kinds: dict[tuple[object, ...], Rejection] = {}
    for failure in failures:
        message, evidence = found.messages[failure.ordinal], evidence_of(failure.error, "")
        where = message.topic(), message.partition(), message.offset()
        kind = where[0], replace(evidence, reason="")
        old = kinds.get(kind) or Rejection(0, *where, evidence)
        kinds[kind] = replace(old, count=old.count + 1)
    return sorted(kinds.values(), key=lambda one: -one.count)


@contextmanager
def _bounded(sink: Sink) -> Iterator[None]:
    """What a transaction holds (rows, or all of a SQLite file) it must not hold from a daemon for long."""
    late = threading.Event()

    def end() -> None:
        late.set()
        sink.interrupt()

    timer = threading.Timer(_HOLD_SECONDS, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except UnavailableError:
        if late.is_set():
            hint = "Try fewer with --records. If that is as slow, look for locks and slow triggers."
            raise FatalError(f"writing the sample took more than {_HOLD_SECONDS:g} s, and was ended", hint) from None
        raise
    finally:
        timer.cancel()


def _repeated(found: Sample, failure: Failure) -> bool:
    """Whether it is refused only for being there, by the group's own doing."""
    if not isinstance(failure.error, RejectedError) or failure.error.sqlstate not in _THERE_ALREADY:
        return False
    message = found.messages[failure.ordinal]
    return message.offset() < found.next_offsets.get((message.topic(), message.partition()), -1)


def _topic(
    topic: str, found: Sample, mapped: Mapped, failures: Sequence[Failure], repeats: set[int], unmapped: list[str]
) -> TopicPart:
    ours = {ordinal for ordinal, message in enumerate(found.messages) if message.topic() == topic}
    stages = Counter(failure.error.stage for failure in failures if failure.ordinal in ours - repeats)
    with_rows = ours & set[int]().union(*(group.ordinals for group in mapped.rows))
    decoded = len(ours) - stages["decode"]
    written = len(with_rows) - stages["write"] - len(ours & repeats)
    offsets: dict[int, list[int]] = {}
    for ordinal in ours:
        offsets.setdefault(found.messages[ordinal].partition(), []).append(found.messages[ordinal].offset())
    return TopicPart(
        topic,
        [Stretch(partition, min(read), max(read)) for partition, read in sorted(offsets.items())],
        records=len(ours),
        decoded=decoded,
        mapped=decoded - stages["map"],
        filtered=decoded - stages["map"] - len(with_rows),
        written=written,
        rejected=stages.total(),
        repeated=len(ours & repeats),
        unmapped=unmapped,
    )


def _tables(
    targets: Sequence[Target], tables: dict[str, Table], rows: Sequence[TableRows], lost: set[int]
) -> list[TablePart]:
    modes = {target.table: target.mode for target in targets}
    parts = []
    for name, table in tables.items():
        groups = [group for group in rows if group.table == name]
        count = sum(ordinal not in lost for group in groups for ordinal in group.ordinals)
        fed = set[str]().union(*(group.columns for group in groups))
        mode = modes.get(name, Mode.INSERT)
        unfed = [column.name for column in table.columns.values() if column.writable and column.name not in fed]
        parts.append(TablePart(name, mode.value, count, [] if mode is Mode.DELETE else unfed))
    return parts


def _unmapped(mapper: TopicMapper, found: Sample, mapped: Mapped) -> dict[str, list[str]]:
    failed = {failure.ordinal for failure in mapped.failures}
    good = [message for ordinal, message in enumerate(found.messages) if ordinal not in failed]
    return {topic: mapper.unmapped(topic, [m for m in good if m.topic() == topic]) for topic in found.topics}


def _held(settings: Settings, count: int, failures: Sequence[Failure]) -> str | None:
    limits = settings.dead_letter
    try:
        Breaker(limits.max_consecutive, limits.max_ratio).judge(count, [failure.ordinal for failure in failures])
    except HeldError as error:
        return str(error)
    return None
