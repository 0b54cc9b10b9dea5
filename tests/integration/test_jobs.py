"""Jobs as a user runs them: on a real Kafka, into a real PostgreSQL and SQLite."""

from __future__ import annotations

import datetime
import json
import signal
import sqlite3
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from consumer.runs.history import History
from consumer.runs.report import Report
from tests.command import ended, microbatch, start
from tests.faults.waiting import until
from tests.services.kafka import free_ports


@dataclass
class Site:
    """One topic of three partitions, and a table `id bigint check (id >= 0)` of its name."""

    kafka: str
    dsn: str
    topic: str
    folder: Path
    connection: psycopg.Connection

    def config(self, more: str = "") -> Path:
        file = self.folder / "orders.yaml"
        file.write_text(
            f'kafka: {{bootstrap.servers: "{self.kafka}", group.id: {self.topic}, session.timeout.ms: 6000, '
            f"heartbeat.interval.ms: 300}}\n"
            f"topics: [{self.topic}]\nformat: json\nbatch: {{max_records: 500, max_wait_ms: 50}}\n"
            f'sink: {{dsn: "{self.dsn}"}}\ndead_letter: {{topic: null}}\nadmin: {{enabled: false}}\n'
            f"runs: {{directory: history}}\n{more}"
        )
        return file

    def produce(self, first: int, count: int, millis: int = 0, partition: int = -1) -> None:
        producer = Producer({"bootstrap.servers": self.kafka, "linger.ms": 5})
        for number in range(first, first + count):
            part = number % 3 if partition < 0 else partition
            producer.produce(self.topic, json.dumps({"id": number}).encode(), partition=part, timestamp=millis)
            producer.poll(0)
        assert producer.flush(30) == 0

    def ids(self) -> list[int]:
        return [number for (number,) in self.connection.execute(f"select id from {self.topic} order by id")]

    def stored(self) -> list[int]:
        asked = "select next_offset from microbatch_offsets where group_id = %s order by partition"
        return [offset for (offset,) in self.connection.execute(asked, [self.topic])]

    def runs(self) -> list[Report]:
        return History(self.folder / "history", 10).runs()


@pytest.fixture
def site(kafka: str, dsn: str, tmp_path: Path) -> Iterator[Site]:
    topic = f"jobs_{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 3, 1)])[topic].result()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create table {topic} (id bigint primary key check (id >= 0))")
        yield Site(kafka, dsn, topic, tmp_path, connection)


def report_of(site: Site) -> dict[str, Any]:
    return dict(json.loads((site.folder / "report.json").read_text()))


@contextmanager
def producing(site: Site, first: int) -> Iterator[None]:
    """One that goes on until the block ends."""
    stop = threading.Event()

    def go_on() -> None:
        number = first
        while not stop.is_set():
            site.produce(number, 50)
            number += 50

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_it_ends_at_what_was_there_though_more_comes(site: Site) -> None:
    """With bad records among it: exactly what was there is in the table or a dead letter, and the report says so."""
    site.produce(0, 3000)
    site.produce(-7, 7)
    config = site.config()
    with producing(site, 10_000):
        done = microbatch("run", config, "--until-end", "--report", site.folder / "report.json")
    assert done.returncode == 0, done.stderr
    report = report_of(site)
    ids = site.ids()
    assert ids[:3000] == list(range(3000))
    assert sum(ids_part["target"] for ids_part in report["partitions"]) == len(ids) + 7
    assert report["status"] == "completed_with_dead_letters"
    records = report["records"]
    assert (records["written"], records["dead_lettered"], records["in_flight"]) == (len(ids), 7, 0)
    assert records["consumed"] == len(ids) + 7
    assert report["rows"] == {site.topic: len(ids)}
    (kind,) = report["dead_letters"]
    assert (kind["count"], kind["stage"], kind["sqlstate"]) == (7, "write", "23514")
    assert kind["constraint"] == f"{site.topic}_id_check"
    assert kind["remedy"].startswith("A check refuses them")
    for part, offset in zip(report["partitions"], site.stored(), strict=True):
        assert part["target"] == part["reached"] == part["checkpoint"] == offset
        assert part["start"] == 0
    assert report["bytes"] > 0
    assert report["peak_rate"] >= report["mean_rate"] > 0
    assert done.stdout.startswith(f"completed with dead letters: {len(ids):,} records written, 7 dead letters\n")
    assert f"dead        7 write: 23514 {site.topic}_id_check (first: {site.topic}/" in done.stdout
    shown = microbatch("runs", "show", report["id"], "--config", config)
    assert shown.stdout == done.stdout
    assert [run["id"] for run in json.loads(microbatch("runs", "--config", config, "--json").stdout)] == [report["id"]]
    steps = [json.loads(line)["percent"] for line in done.stderr.splitlines() if '"milestone"' in line]
    assert steps == sorted(steps)
    assert all(10 <= step < 100 for step in steps)


def test_dead_letters_are_a_failure_where_they_are_to_be_one(site: Site) -> None:
    """Exit 1; the rest is written all the same."""
    site.produce(-1, 3)
    done = microbatch("run", site.config(), "--until-end", "--fail-on-dead-letters")
    assert done.returncode == 1, done.stderr
    assert site.ids() == [0, 1]


def test_nothing_there_ends_at_once(site: Site) -> None:
    """The first time and again; exit 0."""
    config = site.config()
    for _ in range(2):
        done = microbatch("run", config, "--until-end")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("completed: 0 records written\n")
    assert site.stored() == [0, 0, 0]


def test_it_ends_at_a_time(site: Site) -> None:
    """What is older is written, and what is not is left to the next run, to the record."""
    noon = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - datetime.timedelta(hours=1)
    site.produce(0, 300, int(noon.timestamp() * 1000) - 1)
    site.produce(300, 300, int(noon.timestamp() * 1000))
    config = site.config()
    done = microbatch("run", config, "--until", noon.isoformat())
    assert done.returncode == 0, done.stderr
    assert site.ids() == list(range(300))
    assert site.stored() == [100, 100, 100]
    done = microbatch("run", config, "--until-end")
    assert done.returncode == 0, done.stderr
    assert site.ids() == list(range(600))


def test_the_end_of_a_transaction_is_an_end(site: Site) -> None:
    """Its marker is an offset without a record, and so is what was given up; what is open is not waited for."""
    config = site.config()
    producer = Producer({"bootstrap.servers": site.kafka, "transactional.id": site.topic})
    producer.init_transactions(30)
    for first, finish in ((0, producer.commit_transaction), (100, producer.abort_transaction), (200, None)):
        producer.begin_transaction()
        for number in range(first, first + 10):
            producer.produce(site.topic, json.dumps({"id": number}).encode(), partition=0)
        producer.flush(30)
        if finish:
            finish(30)
    done = microbatch("run", config, "--until-end")
    assert done.returncode == 0, done.stderr
    assert site.ids() == list(range(10))
    assert site.stored() == [22, 0, 0]
    producer.abort_transaction(30)


def test_told_to_stop_it_is_not_done(site: Site) -> None:
    """Exit 1, status stopped; what was read is written, the next run does the rest; /status tells how far it is."""
    site.produce(0, 30_000)
    config = site.config("")
    (port,) = free_ports(1)
    text = config.read_text().replace("max_records: 500", "max_records: 20")
    config.write_text(text.replace("admin: {enabled: false}", f"admin: {{port: {port}}}"))
    process = start("run", config, "--until-end", "--report", site.folder / "report.json")
    until(lambda: len(site.ids()) > 0, "it writes")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as answer:
        assert json.load(answer)["job"]["total"] == 30_000
    process.send_signal(signal.SIGTERM)
    done = ended(process)
    report = report_of(site)
    assert (done.returncode, report["status"]) == (1, "stopped"), done.stderr
    assert report["records"]["written"] == len(site.ids()) < 30_000
    assert sum(site.stored()) == len(site.ids())
    config.write_text(config.read_text().replace("max_records: 20", "max_records: 5000"))
    assert microbatch("run", config, "--until-end").returncode == 0
    assert site.ids() == list(range(30_000))
    assert [run.status for run in site.runs()] == ["completed", "stopped"]


def test_two_members_share_a_job(site: Site) -> None:
    """Each ends when all is done, the other's part included; together they wrote each record once."""
    site.produce(0, 9000)
    config = site.config()
    processes = [start("run", config, "--until-end", "--report", site.folder / f"{n}.json") for n in range(2)]
    for process in processes:
        done = ended(process)
        assert done.returncode == 0, done.stderr
    reports = [json.loads((site.folder / f"{n}.json").read_text()) for n in range(2)]
    assert site.ids() == list(range(9000))
    assert sum(report["records"]["written"] for report in reports) == 9000
    for report in reports:
        assert report["status"] == "completed"
        assert [part["reached"] for part in report["partitions"]] == [3000, 3000, 3000]


def test_what_cannot_be_begun_is_told(site: Site) -> None:
    """A failure with its hint, in the history too."""
    config = site.config()
    config.write_text(config.read_text().replace(f"topics: [{site.topic}]", f"topics: [{site.topic}, absent]"))
    site.connection.execute("create table if not exists absent (id bigint)")
    done = microbatch("run", config, "--until-end", "--report", site.folder / "report.json")
    assert done.returncode == 1
    assert "error: Kafka has no topic absent\nhint: Create it" in done.stderr
    report = report_of(site)
    assert (report["status"], report["reason"]) == ("failed", "Kafka has no topic absent")
    assert done.stdout.startswith("failed: Kafka has no topic absent\nhint        Create it")


def test_a_limit_ends_a_job_that_is_told_to_stop_at_it(site: Site) -> None:
    """Failed, with the first record at fault; nothing of the batch is kept."""
    site.produce(-50, 50)
    config = site.config()
    config.write_text(config.read_text().replace("{topic: null}", "{topic: null, max_consecutive: 5, on_limit: stop}"))
    done = microbatch("run", config, "--until-end", "--report", site.folder / "report.json")
    assert done.returncode == 1
    report = report_of(site)
    assert report["status"] == "failed"
    assert "more than 5 records in a row" in report["reason"]
    assert report["records"]["dead_lettered"] == 0


def test_a_hold_is_told_and_no_success(site: Site) -> None:
    """It waits for its operator; when it is stopped instead, its status is held, and it exits with 1."""
    site.produce(-50, 50)
    config = site.config(f"notify: [{{command: [tee, {site.folder}/told], events: [held]}}]\n")
    config.write_text(config.read_text().replace("{topic: null}", "{topic: null, max_consecutive: 5}"))
    process = start("run", config, "--until-end", "--report", site.folder / "report.json")
    until(lambda: (site.folder / "told").exists() and (site.folder / "told").read_text().endswith("}"), "it is told")
    told = json.loads((site.folder / "told").read_text())
    assert told["event"] == "held"
    assert "more than 5 records in a row" in told["reason"]
    assert told["progress"]["percent"] == 0
    process.send_signal(signal.SIGTERM)
    done = ended(process)
    report = report_of(site)
    assert (done.returncode, report["status"]) == (1, "held"), done.stderr
    assert "more than 5 records in a row" in report["reason"]


def test_sqlite_takes_a_job_and_delivery_at_least_once_does(site: Site) -> None:
    """Where offsets are kept is no matter."""
    site.produce(0, 500)
    file = site.folder / "orders.db"
    with sqlite3.connect(file) as connection:
        connection.execute(f"create table {site.topic} (id integer primary key)")
    connection.close()
    config = site.config()
    config.write_text(config.read_text().replace(site.dsn, f"sqlite:///{file}"))
    assert microbatch("run", config, "--until-end").returncode == 0
    config.write_text(
        config.read_text().replace("topic: null", "max_consecutive: 0, on_limit: stop, topic: null")
        + "delivery: at_least_once\n"
    )
    site.produce(500, 500)
    done = microbatch("run", config, "--until-end", "--report", site.folder / "report.json")
    assert done.returncode == 0, done.stderr
    assert [part["checkpoint"] for part in report_of(site)["partitions"]] == [
        part["target"] for part in report_of(site)["partitions"]
    ]
    connection = sqlite3.connect(file)
    assert connection.execute(f"select count(*), min(id), max(id) from {site.topic}").fetchone() == (1000, 0, 999)
    connection.close()


def test_a_daemon_is_in_the_history(site: Site) -> None:
    """Running while it does; stopped, and exit 0, when it was told to; vanished when it was killed."""
    config = site.config()
    for count, number, code, status in ((10, signal.SIGTERM, 0, "stopped"), (20, signal.SIGKILL, -9, "vanished")):
        process = start("run", config)
        until(lambda: bool(site.runs()) and site.runs()[0].status == "running", "it is there")
        site.produce(count - 10, 10)
        until(lambda count=count: len(site.ids()) == count, "it writes")
        process.send_signal(number)
        done = ended(process)
        assert done.returncode == code, done.stderr
        newest = site.runs()[0]
        assert (newest.status, newest.until) == (status, None)
    assert (site.runs()[1].records["written"], site.runs()[1].rows) == (10, {site.topic: 10})
    listed = microbatch("runs", "--config", config).stdout.splitlines()
    assert listed[0].split() == ["id", "started", "seconds", "status", "records", "dead", "letters", "config"]
    assert [line.split()[4] for line in listed[1:]] == ["vanished", "stopped"]


def test_a_folder_that_cannot_be_written_fails_no_run(site: Site) -> None:
    """It is told in the log."""
    site.produce(0, 10)
    (site.folder / "history").write_text("in the way")
    done = microbatch("run", site.config(), "--until-end")
    assert done.returncode == 0, done.stderr
    assert '"history_not_written"' in done.stderr
    assert site.ids() == list(range(10))
