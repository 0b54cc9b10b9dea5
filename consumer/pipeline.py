"""The loop; the only place that decides retry, hold or stop.

The owner thread runs it: it polls, always, and hands closed batches to the writer's thread, one at a time. While batch
k is written, batch k+1 is mapped and batch k+2 collected; when that is full too, partitions are paused. A blocked
database therefore never costs the membership of the group.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from consumer.ahead import Ahead
from consumer.assignment import Assignment, Phase, gap, hint
from consumer.backlog import Backlog, given_up
from consumer.backoff import Backoff
from consumer.batch import Batch, Collector
from consumer.cluster import Cluster, LogState, Start
from consumer.ends import Ends
from consumer.errors import FatalError, FencedError, HeldError, TopicPartition, UnavailableError
from consumer.goal import Goal
from consumer.limits import Limits, Tolerance
from consumer.pauses import BACKPRESSURE, TURN, Pauses
from consumer.presence import Presence
from consumer.record import Message
from consumer.sinks import Claim, Position
from consumer.source import Source
from consumer.steering import Steering
from consumer.telemetry import Telemetry
from consumer.turns import Turns
from consumer.writer import Published, Writer, Written

_SHORT_POLL_SECONDS = 0.02
_BESIDE = 1500  # records read at once while the writer is busy: that it has ended is to be noticed soon
_PAUSE_AFTER_SECONDS = 1.0
_LOOK_SECONDS = 1.0
_PUBLISH_SECONDS = 0.2
_BUSY = 100  # delivered at once: then more are fetched soon
_TIMEOUTS = 3  # of one record alone, until it is held

_LIMIT_HINT = (
    "Look at why (`microbatch dlq list` shows what is kept already), mend it and start again; or raise "
    "dead_letter.max_consecutive or dead_letter.max_ratio."
)

_Result = TypeVar("_Result")
Claimed = dict[TopicPartition, tuple[Claim, LogState]]


@dataclass(slots=True)
class _Job:
    """What the writer's thread has in hand: a batch to write, partitions to claim, or, with neither, dead letters to
    publish. `gone`: left us meanwhile."""

    future: Future[Any]
    began: float
    batch: Batch | None = None
    claimed: dict[TopicPartition, int] = field(default_factory=dict)
    gone: set[TopicPartition] = field(default_factory=set)


class Pipeline:
    """Moves records from a source into a sink, until told to stop, at its goal, or until a record cannot be written.

    `interrupt` breaks the sink's connection from outside. `exactly_once`: the sink keeps the offsets, Kafka's are only
    for lag tools. `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        source: Source,
        cluster: Cluster,
        writer: Writer,
        interrupt: Callable[[], None],
        telemetry: Telemetry,
        *,
        steering: Steering,
        start: Start = "earliest",
        exactly_once: bool = True,
        limits: Limits,
        tolerance: Tolerance | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._cluster, self._writer, self._interrupt = source, cluster, writer, interrupt
        self._telemetry, self._start, self._exactly_once = telemetry, start, exactly_once
        self._limits, self._clock, self._tolerance = limits, clock, tolerance or Tolerance()
        self._steering, self._goal = steering, Goal()
        self._ends = Ends(source.high_watermark, cluster)
        self._presence = Presence(source, cluster, telemetry, clock())
        self._turns, self._pauses = Turns(), Pauses(source)
        self._collector = Collector(steering.policy)
        self._assignment = Assignment(steering.stops)
        self._pool = ThreadPoolExecutor(1, "writer")
        self._stop = threading.Event()
        self._job: _Job | None = None
        self._backlog = Backlog()
        self._ahead = Ahead(writer.prepare)
        self._held = ""
        self._probe_at = 0.0
        self._resumed: deque[bool] = deque()  # from other threads: whether to accept
        self._publish_at: float | None = None
        self._pending = 0
        self._untold: tuple[Written, float] | None = None  # to the telemetry
        self._write_backoff, self._claim_backoff, self._publish_backoff = (
            Backoff(cap=limits.longest_delay) for _ in range(3)
        )
        self._written_to: dict[TopicPartition, int] = {}
        self._uncommitted: dict[TopicPartition, int] = {}
        self._blocked_since: float | None = None
        self._looked_at = clock()
        self._existing: set[TopicPartition] | None = None
        self._joined = False

    def run(self, stop: threading.Event, goal: Goal | None = None) -> None:
        """Join the group and move records until `stop` is set or the goal reached; then write what was read and leave.

        Raises FatalError; what was not committed by then is read again by the next owner.
        """
        self._stop, self._goal = stop, goal or self._goal
        self._source.open(self)
        try:
            while not stop.is_set() and not self._arrived:
                self._step()
            self._drain()
        finally:
            if self._job:
                self._interrupt()
            self._pool.shutdown()
            self._writer.close()
            self._source.close()

    def resume(self, *, accept: bool = False) -> None:
        """From any thread: try again now what is held; `accept`: the records at fault become dead letters, however many
        there are in that batch."""
        self._resumed.append(accept)

    # What Kafka tells, from inside poll and close.

    def assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """See Listener.assigned."""
        self._joined = True
        self._assignment.assigned(partitions, self._clock())
        self._telemetry.rebalanced("assigned", partitions)

    def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """See Listener.revoked. Waits for a write of these only as a courtesy: the claim of the next owner protects."""
        job = self._job
        if job and job.batch and job.batch.starts.keys() & partitions:
            wait([job.future], self._limits.revoke_wait)
            self._answer(self._clock())
            self._tell()
        self._commit({key: offset for key, offset in self._uncommitted.items() if key in partitions})
        self._leave(partitions, "revoked")

    def lost(self, partitions: frozenset[TopicPartition]) -> None:
        """See Listener.lost."""
        self._leave(partitions, "lost")
        self._assignment.lost(self._clock())

    def ended(self, partition: TopicPartition, next_offset: int) -> None:
        """See Listener.ended."""
        self._goal.ended(partition, next_offset)

    def out_of_range(self, partition: TopicPartition) -> None:
        """See Listener.out_of_range. Claiming again finds the exact gap."""
        self._reclaim({partition})

    def commit_failed(self, reason: str) -> None:
        """See Listener.commit_failed."""
        self._telemetry.commit_failed(reason)

    def trouble(self, reason: str) -> None:
        """See Listener.trouble."""
        self._telemetry.trouble(reason)

    def away(self, reason: str) -> None:
        """See Listener.away."""
        self._presence.away(reason)

    def _leave(self, partitions: frozenset[TopicPartition], kind: str) -> None:
        self._release(partitions)
        self._assignment.removed(partitions)
        for key in partitions:
            self._uncommitted.pop(key, None)
            self._written_to.pop(key, None)
        self._telemetry.rebalanced(kind, partitions)

    # The loop.

    def _step(self) -> None:
        now = self._clock()
        self._answer(now)
        self._steer(now)
        self._probe(now)
        self._dispatch(now)
        self._map_ahead(now)
        self._look(now)
        if self._collector.waiting and (self._job or self._backlog or self._ahead or self._holds):
            messages = self._wait(now)
        else:
            self._unblock()
            messages = self._source.poll(self._room, self._patience(now))
        taken = self._collector.add(self._wanted(messages), self._clock())
        self._telemetry.consumed(taken)
        self._tell()  # not before: the writer's thread begins its next job during the poll
        if back := self._collector.stepped_back:
            self._seek(back)

    def _seek(self, positions: dict[TopicPartition, int]) -> None:
        """Else all that is read again would be, up to where we are: perhaps the whole topic."""
        places = ", ".join(f"{topic}/{partition} offset {at}" for (topic, partition), at in sorted(positions.items()))
        self._telemetry.trouble(f"Kafka: the client went back; reading on from {places}")
        try:
            self._source.seek(positions)
        except UnavailableError:
            self._reclaim(set(positions))

    def _wanted(self, messages: list[Message]) -> list[Message]:
        """Without what is beyond the goal, and no more of that."""
        kept = self._goal.within(messages)
        if len(kept) < len(messages):
            self._source.pause(self._goal.finished(messages) & self._assignment.partitions())
        return kept

    @property
    def _arrived(self) -> bool:
        """Whether the goal is reached, and nothing is left to write, or to publish that is not refused."""
        if self._goal.endless or not self._joined or self._unfinished:
            return False
        unsettled = self._assignment.partitions(Phase.UNCLAIMED, Phase.CLAIMING, Phase.HELD)
        return not unsettled and self._goal.reached(self._assignment.partitions(Phase.FLOWING), self._clock())

    def _steer(self, now: float) -> None:
        """Do what an operator asked for: what was read of a paused partition is given back, so that nothing waits."""
        if self._steering.news():
            self._collector.bound(self._steering.policy)
            paused = self._assignment.steer(now)
            self._release(paused)
            self._source.pause(paused)

    @property
    def _room(self) -> int:
        room = self._collector.room
        return min(room, _BESIDE) if self._job else room

    def _patience(self, now: float) -> float:
        """How long a poll may take: not beyond the open batch's time, and short while something waits: a batch to be
        told of, or, for the writer, partitions to claim, or enough records."""
        if self._untold or self._ahead or (self._job and (not self._job.batch or self._collector.ready)):
            return _SHORT_POLL_SECONDS
        due = self._collector.wait(now)
        busy = self._job or self._holds or now < self._write_backoff.until
        return self._limits.poll if due is None or busy else min(self._limits.poll, due)

    def _wait(self, now: float) -> list[Message]:
        """A batch is ready and the writer is not: keep the membership, and fetch no more than memory allows."""
        if self._blocked_since is None:
            self._blocked_since = now
        if now - self._blocked_since > _PAUSE_AFTER_SECONDS:
            # Not at once: pausing throws away what librdkafka has fetched ahead.
            self._pauses.set(BACKPRESSURE, self._assignment.partitions(Phase.FLOWING))
        if running := self._running():
            wait(running, self._limits.poll, FIRST_COMPLETED)
        else:
            left = self._limits.poll if self._holds else self._write_backoff.until - now
            self._stop.wait(min(self._limits.poll, max(0.0, left)))
        return self._source.poll(1, 0)  # not 0 records: callbacks are served only where records could be

    def _running(self) -> list[Future[Any]]:
        """What other threads have in hand."""
        job = [self._job.future] if self._job else []
        return job + ([self._ahead.future] if self._ahead.busy and self._ahead.future else [])

    def _unblock(self) -> None:
        if self._blocked_since is not None:
            self._blocked_since = None
            self._pauses.set(BACKPRESSURE, ())

    def _dispatch(self, now: float, claims: bool = True) -> None:
        """Give the writer its next job: claims first, then the batch that failed, then the next one."""
        if self._job:
            return
        if claims and now >= self._claim_backoff.until and (due := self._assignment.to_claim(now)):
            self._job = _Job(self._begun(self._claim, frozenset(due)), now, claimed=due)
        elif self._publish_at is not None and now >= self._publish_at:
            self._publish_at = None
            self._job = _Job(self._begun(self._writer.publish, self._assignment.partitions(Phase.FLOWING)), now)
        elif now < self._write_backoff.until or self._holds:
            return
        elif batch := self._next(now):
            self._job = _Job(self._begun(self._writer.write, batch), now, batch)

    def _begun(self, job: Callable[..., _Result], *arguments: Any) -> Future[_Result]:
        """Have the writer's thread do this. It has begun then: else it may wait for a core, or for the interpreter, as
        long as this thread and the one that maps have something to do (2 to 5 ms, of every second batch)."""
        begun = threading.Event()

        def begin() -> _Result:
            begun.set()
            return job(*arguments)

        future = self._pool.submit(begin)
        begun.wait(_SHORT_POLL_SECONDS)
        return future

    def _map_ahead(self, now: float) -> None:
        """Have the next batch mapped while one is written, which must be mapped: records are, in their order."""
        writing = self._job and self._job.batch and self._job.batch.prepared
        if not writing or self._ahead or self._backlog or not (self._collector.waiting or self._collector.ready):
            return
        if batch := self._collector.take(now):
            self._ahead.begin(batch)

    def _next(self, now: float) -> Batch | None:
        batch = self._backlog.take()
        if batch is None and self._ahead.busy:
            return None
        batch = batch or self._ahead.take() or self._collector.take(now) or self._rest()
        most = self._writer.breaker.most
        if batch is None or most is None or len(batch.messages) <= most:
            return batch
        head, rest = batch.split(most)
        self._backlog.put_back([rest])
        return head

    def _rest(self) -> Batch | None:
        """A batch without records, where the last offsets before the goal have none: so that they count as done."""
        if not (ends := self._goal.rest(self._collector.next_offset)):
            return None
        starts = {key: self._written_to[key] for key in ends}
        self._collector.start(ends)
        return Batch(starts=starts, next_offsets=ends, trigger="end")

    @property
    def _holds(self) -> str:
        """Why nothing is written, though everything works; empty if it is."""
        if self._pending > self._tolerance.max_pending:
            return f"{self._pending} dead letters wait for their topics, more than dead_letter.max_pending"
        return self._held

    def _probe(self, now: float) -> None:
        """Half-open the breaker, if it is time or somebody says so; a few records show whether they are at fault."""
        if not self._resumed and not (self._held and now >= self._probe_at):
            return
        if self._job:
            return
        accept = self._resumed.popleft() if self._resumed else None
        self._held = ""
        self._write_backoff.succeeded()
        self._claim_backoff.succeeded()
        if accept:
            self._writer.breaker.accept()
        else:
            self._writer.breaker.probe()
        self._telemetry.probed(accept)

    def _claim(self, partitions: frozenset[TopicPartition]) -> Claimed:
        """In the writer's thread: what Kafka holds, then what the sink knows."""
        if self._existing is None:
            self._existing = self._cluster.existing()
        states = self._cluster.states(partitions)
        # A partition that came later is read from its beginning: `latest` would lose what came before it was noticed
        # (KAFKA-12261, KIP-842).
        starts = {key: state.low if state.committed is None else state.committed for key, state in states.items()}
        fresh = {key: state for key, state in states.items() if state.committed is None and key in self._existing}
        starts |= self._cluster.start(self._start, fresh)
        positions = {key: Position(starts[key], states[key].cluster_id, states[key].topic_id) for key in partitions}
        claims = self._writer.claim(positions)
        return {key: (claims[key], states[key]) for key in partitions}

    def _answer(self, now: float) -> None:
        """Take the outcome of the job in hand, if it has one."""
        job = self._job
        if job is None or not job.future.done():
            return
        self._job = None
        self._tell()
        try:
            result = job.future.result()
        except UnavailableError as error:
            self._unavailable(job, error, now)
        except HeldError as error:
            self._hold(str(error), job.batch, now)
            self._postpone(job, now)
        except FencedError as error:
            self._release(error.partitions)
            self._assignment.fenced(error.partitions, now)
            self._source.pause(error.partitions & self._assignment.partitions())
            self._telemetry.fenced(error.partitions)
            job.gone |= error.partitions
            self._postpone(job, now)
        else:
            if job.batch:
                self._write_backoff.succeeded()
                self._wrote(result, now)
                self._untold = result, now - job.began
            elif job.claimed:
                self._claim_backoff.succeeded()
                self._claimed(result, job.claimed, now)
            else:
                self._published(result, now)

    def _tell(self) -> None:
        untold, self._untold = self._untold, None
        if untold:
            self._telemetry.wrote(*untold)

    def _unavailable(self, job: _Job, error: UnavailableError, now: float) -> None:
        backoff = self._backoff(job)
        backoff.failed(now, error.retry_after)
        self._telemetry.unavailable(str(error), backoff.failures, now - job.began, job.batch)
        if self._limits.give_up is not None and now - backoff.since > self._limits.give_up:
            hint = "Mend what is away and start again; retry.give_up_after_ms says how long it is waited for."
            raise FatalError(f"given up after {now - backoff.since:.0f} s: {error}", hint)
        self._postpone(job, now, error)

    def _backoff(self, job: _Job) -> Backoff:
        if job.batch:
            return self._write_backoff
        return self._claim_backoff if job.claimed else self._publish_backoff

    def _postpone(self, job: _Job, now: float, error: UnavailableError | None = None) -> None:
        """Do it again later: what is still ours of it, and in smaller parts where it took too long."""
        if job.claimed:
            self._assignment.again(self._assignment.current(job.claimed), now)
        elif job.batch is None:
            self._publish_at = self._publish_backoff.until
        else:
            batch = job.batch.without(job.gone) if job.gone else job.batch
            self._telemetry.released(given_up(job.batch, batch))
            parts = self._shrunk(batch, str(error), now) if error and error.smaller else [batch]
            self._backlog.put_back(parts)

    def _shrunk(self, batch: Batch, reason: str, now: float) -> Sequence[Batch]:
        """Halves of what took too long; what cannot be halved is held after a few tries."""
        if len(batch.messages) > 1:
            return batch.split(len(batch.messages) // 2)
        batch.timeouts += 1
        if batch.timeouts >= _TIMEOUTS and batch.messages:
            message = batch.messages[0]
            where = f"{message.topic()} partition {message.partition()} offset {message.offset()}"
            self._hold(f"{where} alone took too long {batch.timeouts} times: {reason}", batch, now)
        return [batch]

    def _hold(self, reason: str, batch: Batch | None, now: float) -> None:
        if self._tolerance.stop:
            raise FatalError(reason, _LIMIT_HINT)
        self._held, self._probe_at = reason, now + self._tolerance.probe_after
        self._telemetry.stopped_writing(reason, self._tolerance.probe_after, batch)

    def _published(self, published: Published, now: float) -> None:
        self._pending = published.pending
        if published.errors:
            self._publish_backoff.failed(now)
        elif published.delivered:
            self._publish_backoff.succeeded()
        if published.pending:
            pause = _PUBLISH_SECONDS if published.delivered < _BUSY else _PUBLISH_SECONDS / 10
            self._publish_at = max(now + pause, self._publish_backoff.until)
        self._telemetry.published(published)

    def _claimed(self, claimed: Claimed, serials: dict[TopicPartition, int], now: float) -> None:
        starts = {}
        for key in sorted(self._assignment.current(serials)):
            claim, state = claimed[key]
            if reason := gap(claim, state):
                if self._assignment.hold(key, reason, now):
                    self._telemetry.held(key, reason, hint([key]))
            else:
                self._assignment.flow(key, state.topic_id)
                starts[key] = claim.position.next_offset
        try:
            self._source.start(starts)
        except UnavailableError as error:
            self._telemetry.trouble(str(error))
            self._assignment.again(starts, now)
            return
        self._collector.start(starts)
        self._written_to |= starts
        self._goal.claimed(starts)
        if self._writer.publishes:
            self._publish_at = now  # whoever owns a partition publishes what is pending of it
        if not self._exactly_once:
            # A start that is not stored anywhere would be resolved anew after a crash, and could skip records.
            self._commit(starts)
        self._telemetry.claimed(starts)

    def _wrote(self, written: Written, now: float) -> None:
        mine = self._assignment.partitions()
        committed = {key: offset for key, offset in written.next_offsets.items() if key in mine}
        self._written_to |= committed
        self._goal.moved(committed)
        self._uncommitted |= committed
        if not self._exactly_once:
            self._commit(self._uncommitted)
        if written.letters and self._writer.publishes:
            self._pending += len(written.letters)
            if self._publish_at is None:
                self._publish_at = max(now, self._publish_backoff.until)

    def _commit(self, next_offsets: dict[TopicPartition, int]) -> None:
        if next_offsets:
            self._source.commit(next_offsets, wait=not self._exactly_once)
            self._uncommitted = {k: o for k, o in self._uncommitted.items() if next_offsets.get(k) != o}

    def _release(self, partitions: Collection[TopicPartition]) -> None:
        """Give the unwritten records of these back: somebody reads them again."""
        released = self._collector.drop(partitions) + self._ahead.release(partitions)
        released += self._backlog.release(partitions)
        self._pauses.forget(partitions)
        if self._job and self._job.batch:
            self._job.gone |= set(partitions)
        self._telemetry.released(released)

    def _reclaim(self, partitions: set[TopicPartition]) -> None:
        if not partitions:
            return
        self._release(partitions)
        self._source.pause(partitions & self._assignment.partitions())
        self._assignment.again(partitions, self._clock())

    # What is looked at now and then.

    def _look(self, now: float) -> None:
        """Heartbeat and watchdog at every step; the rest about once a second."""
        self._telemetry.beat(now)
        if self._job and now - self._job.began > self._limits.write_deadline:
            self._telemetry.cut(now - self._job.began, self._job.batch)
            self._interrupt()
            self._job.began = now
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        self._commit(self._uncommitted)
        topics = {topic for topic, _ in self._assignment.partitions(Phase.FLOWING)}
        if ids := self._presence.look(topics, now):
            self._reclaim(self._assignment.recreated(ids))
        if self._assignment.orphaned(now):
            self._telemetry.trouble("fenced partitions are still ours by Kafka: joining the group anew")
            self._assignment.fenced(self._assignment.partitions(Phase.FENCED), now)
            self._source.rejoin()
        if (since := self._presence.since) is not None and self._assignment.deserted(since, now):
            self._telemetry.trouble("Kafka: no partitions came back after ours were lost: joining by another client")
            self._source.renew()
        assigned = self._assignment.partitions()
        read = self._assignment.partitions(Phase.FLOWING) - self._pauses.reasons().keys()
        ends = self._ends.look(read, assigned - read, now)
        self._take_turns(ends, now)
        self._telemetry.looked(
            self._assignment,
            ends,
            self._written_to,
            self._pauses.reasons(),
            self._ahead.opened_at or self._collector.opened_at,
            self._holds,
        )

    def _take_turns(self, ends: Mapping[TopicPartition, int | None], now: float) -> None:
        if not self._goal.endless:
            return
        flowing = self._assignment.partitions(Phase.FLOWING)
        positions = {key: offset for key in flowing if (offset := self._collector.next_offset(key)) is not None}
        turn = self._turns.look(positions, ends, now)
        if turn and TURN not in self._pauses.reasons().values():
            late = ", ".join(f"{topic}/{partition}" for topic, partition in sorted(turn))
            self._telemetry.trouble(f"Kafka: hardly read while others were, and now read alone: {late}")
        self._pauses.set(TURN, flowing - turn if turn else ())

    def _drain(self) -> None:
        """Write what was read, for at most the grace; what is left is read again by the next owner."""
        self._telemetry.draining()
        self._source.pause(self._assignment.partitions())
        self._collector.close("drain")
        deadline = self._clock() + self._limits.shutdown_grace
        while self._unfinished:
            now = self._clock()
            if now > deadline:
                self._telemetry.trouble(
                    "shutdown_grace_ms is over: what is not written or published is left to the next owner"
                )
                break
            self._answer(now)
            self._dispatch(now, claims=False)
            self._tell()
            self._look(now)
            if running := self._running():
                wait(running, self._limits.poll, FIRST_COMPLETED)
            self._source.poll(1, 0 if running else _SHORT_POLL_SECONDS)
        self._release(self._assignment.partitions())
        self._commit(self._uncommitted)

    @property
    def _unfinished(self) -> bool:
        """Whether there is something to write yet, or to publish that is not refused."""
        if self._job:
            return not self._job.claimed
        writable = (self._backlog or self._ahead or self._collector.waiting) and not self._holds
        return bool(writable or (self._publish_at is not None and not self._publish_backoff.failures))
