"""A consumer group of real daemons, each a process of its own, writing one topic into one table."""

from __future__ import annotations

import http.client
import json
import random
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.faults.forked import Forked
from tests.faults.load import COLUMNS, Ledger, kept, published
from tests.faults.member import run
from tests.faults.waiting import OverdueError, until

CLASSIC, KIP_848 = "classic", "consumer"
SESSION_MS = {CLASSIC: 2000, KIP_848: 1000}
_HEARTBEAT_MS = {CLASSIC: 300, KIP_848: 500}
_LOG_TAIL = 1500
MAX_RECORDS = 200
_NAME_IN_USE = "instance ID is still used"  # librdkafka's text for UNRELEASED_INSTANCE_ID


@dataclass(frozen=True)
class Services:
    """Where a campaign runs, a folder for its files, and what is to be ended with it."""

    bootstrap: str
    dsn: str
    folder: Path
    ends: ExitStack


class Member:
    """One daemon. `number` tells it from the others of its group."""

    def __init__(self, number: int, config: Path, defect: str, orders: tuple[str, signal.Signals] | None) -> None:
        self.number = number
        self._orders = config.with_suffix(".orders")
        self._log = config.with_suffix(".log")
        if orders:
            self.order(*orders)
        self._log.touch()
        self.process = Forked(run, config, self._orders, self._log, defect)

    def __str__(self) -> str:
        return f"member {self.number} (pid {self.process.pid})"

    def is_in(self, owner: str) -> bool:
        """Whether this owner of a partition, as the database names it, is this process."""
        return f"-{self.process.pid}-" in owner

    def order(self, point: str, number: signal.Signals) -> None:
        """At the next time that it reaches `point`, it sends itself this signal."""
        part = self._orders.with_suffix(".part")
        part.write_text(f"{point} {number.name}")
        part.replace(self._orders)

    def dead(self) -> bool:
        return self.process.poll() is not None

    def stopped(self) -> bool:
        """Whether it is stopped now."""
        if self.dead():
            raise AssertionError(f"{self} ended with {self.process.poll()}:\n{self.log()}")
        return psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def leave(self, seconds: float = 30) -> None:
        """SIGTERM, once it is there to hear it: it must end by itself, with exit code 0."""
        until(lambda: "started" in self.log(None), f"{self} starts")
        self.send(signal.SIGTERM)
        self.left(seconds)

    def left(self, seconds: float = 30) -> None:
        """It must end by itself, with exit code 0."""
        self.ended(0, seconds)

    def ended(self, code: int, seconds: float = 30) -> None:
        """It must end by itself, with this exit code."""
        until(self.dead, f"{self} ends", seconds)
        assert self.process.poll() == code, f"{self} ended with {self.process.poll()}:\n{self.log()}"

    def rebalances(self) -> list[str]:
        """The kinds of rebalances that it has seen."""
        return [event["kind"] for event in self.logged("rebalanced") if event["partitions"]]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log about this event."""
        lines = [json.loads(line) for line in self.log(None).splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def get(self, path: str) -> tuple[int, str]:
        """What its admin port, of which the settings must let it have one, answers; 0 while nobody listens."""
        served = self.logged("serving")
        if not served:
            return 0, ""
        try:
            with urllib.request.urlopen(served[-1]["url"].replace("/metrics", path), timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except (OSError, http.client.HTTPException):  # it ends meanwhile
            return 0, ""

    def log(self, characters: int | None = _LOG_TAIL) -> str:
        """The end of what it wrote; None: all of it."""
        text = self._log.read_text(errors="replace")
        return text if characters is None else text[-characters:]


@dataclass
class Group:
    """The members, what was done to them, and what the database knows of them. `name` is group and table."""

    services: Services
    name: str
    topic: str
    partitions: int
    protocol: str = CLASSIC
    defect: str = "none"
    session_ms: int = 0  # the default: SESSION_MS
    kafka: dict[str, Any] = field(default_factory=dict)
    sink: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    static: bool = False
    members: list[Member] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._all: list[Member] = []
        self.session_ms = self.session_ms or SESSION_MS[self.protocol]
        self._started = 0
        self._ready = False  # whether the table of offsets is there
        self._connection = psycopg.connect(self.services.dsn, autocommit=True)
        self.services.ends.callback(self.end)
        self._connection.execute(f"create table {self.name} (place bigserial, {COLUMNS})")
        if self.protocol == KIP_848:
            self._set_session()

    def _set_session(self) -> None:
        wanted = {
            "consumer.session.timeout.ms": self.session_ms,
            "consumer.heartbeat.interval.ms": _HEARTBEAT_MS[KIP_848],
        }
        entries = [ConfigEntry(k, str(v), incremental_operation=AlterConfigOpType.SET) for k, v in wanted.items()]
        admin = AdminClient({"bootstrap.servers": self.services.bootstrap})
        resource = ConfigResource(ResourceType.GROUP, self.name, incremental_configs=entries)
        admin.incremental_alter_configs([resource])[resource].result()

    def _config(self, number: int) -> Path:
        session = {"session.timeout.ms": self.session_ms, "heartbeat.interval.ms": _HEARTBEAT_MS[CLASSIC]}
        kafka = {"bootstrap.servers": self.services.bootstrap, "group.id": self.name, "group.protocol": self.protocol}
        kafka |= (session if self.protocol == CLASSIC else {}) | self.kafka
        if self.static:
            kafka["group.instance.id"] = f"member-{number}"
        settings = {
            "kafka": kafka,
            "topics": [self.topic],
            "format": "json",
            "batch": {"max_records": MAX_RECORDS, "max_wait_ms": 20},
            "sink": {"dsn": self.services.dsn, "tables": {self.name: {}}} | self.sink,
            "admin": {"enabled": False},
        }
        config = self.services.folder / f"{self.name}-{number}.yaml"
        config.write_text(json.dumps(settings | self.settings))  # JSON is YAML
        return config

    # What is done to the members.

    def note(self, what: str) -> None:
        """Remember what happened when."""
        self.events.append(f"{time.monotonic() - self._began:7.2f} s {self.name}: {what}")

    def start(self, number: int | None = None, orders: tuple[str, signal.Signals] | None = None) -> Member:
        """One more member, or that of this number again."""
        self._started += 1
        number = self._started if number is None else number
        member = Member(number, self._config(number), self.defect, orders)
        self.members.append(member)
        self._all.append(member)
        self.note(f"{member} started" + (f", ordered {orders[1].name} at {orders[0]}" if orders else ""))
        return member

    def kill(self, member: Member, point: str) -> None:
        """SIGKILL at a crash point, or at any time."""
        if point == "random":
            member.send(signal.SIGKILL)
        else:
            member.order(point, signal.SIGKILL)
        until(member.dead, f"{member} of {self.name} reaches {point}")
        self.died(member, point)

    def died(self, member: Member, point: str) -> None:
        """Check that a kill ended this member, and count it."""
        assert member.process.wait() == -signal.SIGKILL, f"{member} ended by itself:\n{member.log()}"
        self.members.remove(member)
        self.counts[f"SIGKILL {point}"] += 1
        self.note(f"{member} killed, {point}")

    def freeze(self, member: Member, point: str) -> None:
        """SIGSTOP at a crash point."""
        member.order(point, signal.SIGSTOP)
        until(member.stopped, f"{member} of {self.name} reaches {point}")
        self.note(f"{member} stopped, {point}")

    def back(self, number: int) -> Member:
        """Start a static member again until it stays: KIP-848 refuses its name until its former session ends."""
        member = self.start(number)
        while self._ends_again(member):
            assert _NAME_IN_USE in member.log(), f"{member} ended:\n{member.log()}"
            self.members.remove(member)
            member = self.start(number)
        return member

    def _ends_again(self, member: Member) -> bool:
        until(lambda: member.dead() or self.settled(), f"{self.name} settles")
        return member.dead()

    def leave(self, member: Member) -> None:
        """SIGTERM."""
        member.leave()
        self.members.remove(member)
        self.note(f"{member} left")

    def story(self) -> str:
        """What happened, and the last that the members wrote: what a failure is understood from."""
        logs = [f"{member}, {member.process.poll()}: {member.log()}" for member in self.members]
        return "\n".join([*self.events, *logs])

    def end(self) -> None:
        """No process is left behind."""
        for member in self._all:
            if not member.dead():
                member.send(signal.SIGKILL)
                member.process.wait()
        self._connection.close()

    # What the database knows.

    def stored(self) -> dict[int, tuple[int, str]]:
        """Next offset and owner of each partition."""
        query = "select partition, next_offset, owner from microbatch_offsets where group_id = %s and topic = %s"
        self._ready = self._ready or self._exists("microbatch_offsets")
        if not self._ready:
            return {}
        return {partition: (offset, owner) for partition, offset, owner in self._rows(query, self.name, self.topic)}

    def reconnect(self) -> None:
        """The database was stopped meanwhile."""
        self._connection.close()
        self._connection = psycopg.connect(self.services.dsn, autocommit=True)

    def drop(self) -> None:
        """Its table is not needed any longer."""
        self._connection.execute(f"drop table {self.name}")

    def sessions(self, member: Member) -> int:
        """How many sessions it has with the database."""
        return len(self._sessions_of(member))

    def blocked(self, member: Member) -> bool:
        """Whether a session of it waits for somebody's lock."""
        return "Lock" in self._sessions_of(member)

    def _sessions_of(self, member: Member) -> list[str | None]:
        """For what each of its sessions waits, a wait_event_type of pg_stat_activity."""
        query = "select wait_event_type from pg_stat_activity where application_name like %s"
        return [waits_for for (waits_for,) in self._rows(query, f"microbatch:%-{member.process.pid}-%")]

    def _exists(self, table: str) -> bool:
        return bool(self._rows("select to_regclass(%s) is not null", table)[0][0])

    def _rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, parameters).fetchall()

    def owned(self, member: Member) -> dict[int, int]:
        """The partitions that it has claimed last, with their next offsets."""
        return {partition: offset for partition, (offset, owner) in self.stored().items() if member.is_in(owner)}

    def owners(self) -> list[Member]:
        """The members that own a partition now."""
        owners = [owner for _, owner in self.stored().values()]
        return [member for member in self.members if any(map(member.is_in, owners))]

    def settled(self) -> bool:
        """Whether every member owns a partition, and every partition is owned by one."""
        owners = [owner for _, owner in self.stored().values()]
        owned = [sum(map(member.is_in, owners)) for member in self.members]
        return all(owned) and sum(owned) == self.partitions

    def position(self) -> int:
        """How far the group is: the sum of its next offsets."""
        return sum(offset for offset, _ in self.stored().values())

    def go_on(self, records: int, seconds: float = 60) -> None:
        """Wait until so many more records are committed."""
        goal = self.position() + records
        until(lambda: self.position() >= goal, f"{self.name} commits {records} more records", seconds)

    def taken_over(self, since: dict[int, int], member: Member) -> bool:
        """Whether others own what was `member`'s, and have gone beyond the batch that it has in hand."""
        stored = self.stored()
        return all(
            stored[p][0] > offset + MAX_RECORDS and not member.is_in(stored[p][1]) for p, offset in since.items()
        )

    # How it ends.

    def finish(self, ledger: Ledger, seconds: float = 60) -> None:
        """Nothing more is produced: all of it must be in the table, once, in order; and every member leaves well."""
        ends, found = ledger.ends(), []
        try:
            until(lambda: self._at(ends), f"{self.name} commits everything", seconds)
        except OverdueError as error:
            found.append(f"stuck: {error}; next offsets {self.stored()}, ends {ends}")
        found += ledger.differences(self.services.dsn, self.name)
        found += self._letters(ledger, 2 * seconds)  # a client that is stuck is replaced after 30 s
        if found:
            raise AssertionError("\n".join([f"{self.name}:", *found]))
        for member in list(self.members):
            self.leave(member)

    def _letters(self, ledger: Ledger, seconds: float) -> list[str]:
        if not ledger.bad and not self._exists("microbatch_dead_letters"):
            return []
        try:
            until(lambda: not self.pending(), f"{self.name} publishes its dead letters", seconds)
        except OverdueError as error:
            return [f"stuck: {error}"]
        topic = published(self.services.bootstrap, f"{self.topic}.dlq", self.name)
        return ledger.misjudged(kept(self._connection, self.name, self.topic), topic)

    def letters(self) -> int:
        """How many dead letters the table has."""
        if not self._exists("microbatch_dead_letters"):
            return 0
        return int(self._rows("select count(*) from microbatch_dead_letters where group_id = %s", self.name)[0][0])

    def pending(self) -> int:
        """How many dead letters their topic does not have yet, as far as the table knows."""
        query = "select count(*) from microbatch_dead_letters where group_id = %s and state = 'pending'"
        return int(self._rows(query, self.name)[0][0])

    def _at(self, ends: dict[int, int]) -> bool:
        stored = self.stored()
        return all(partition in stored and stored[partition][0] >= end for partition, end in ends.items())


def shuffled(random_: random.Random, items: tuple[str, ...], count: int) -> list[str]:
    """`count` of these, each about as often as the others, in any order."""
    chosen = [items[i % len(items)] for i in range(count)]
    random_.shuffle(chosen)
    return chosen
