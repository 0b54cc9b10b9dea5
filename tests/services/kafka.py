"""Apache Kafka: jars by Maven, one KRaft node on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "kafka"
ARCHIVE = CACHE / "classes.jsa"
JAVA = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
SETTINGS = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/data
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=1000
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=250
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=1000
log.segment.delete.delay.ms=1000
num.network.threads=2
num.io.threads=4
background.threads=2
num.recovery.threads.per.data.dir=1
"""


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()


def jars() -> Path:
    """The broker's jars. Raises as `fetch` does."""
    return fetch(HERE / "pom.xml", CACHE / "libs")


def fetch(pom: Path, libs: Path) -> Path:
    """What a pom names, by Maven into this folder, unless it is there. Raises RuntimeError without Java or Maven."""
    if not libs.exists():
        if not shutil.which("mvn") or not shutil.which("java"):
            raise RuntimeError("Java 17 and Maven are needed to fetch the jars; tests can use KAFKA_BOOTSTRAP_SERVERS")
        part = libs.with_name(f"{libs.name}.part-{os.getpid()}")
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
        subprocess.run([*command, f"-DoutputDirectory={part}", "-DincludeScope=runtime"], check=True)
        try:
            part.rename(libs)
        except OSError:
            # Another run has fetched them meanwhile.
            shutil.rmtree(part)
    return libs


class Kafka:
    """One broker in `folder`; `bootstrap` is its address once `start` has returned.

    With `archives` it leaves a class-data archive when it stops, unless there is one: it halves later starts. That
    takes seconds of a busy machine, so a broker that is stopped in the middle of a test has no business with it.
    """

    def __init__(self, folder: Path, *, archives: bool = False) -> None:
        self._folder, self._archives = folder, archives
        self._topics: set[str] = set()
        self._dump = CACHE / f"{folder.name}-{os.getpid()}.jsa"
        port, controller = free_ports(2)
        self.bootstrap = f"127.0.0.1:{port}"
        self._config = folder / "server.properties"
        self._config.write_text(SETTINGS.format(port=port, controller=controller, folder=folder))
        self._java = [*JAVA, "-cp", f"{jars()}/*"]
        tool = ["kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", str(self._config)]
        subprocess.run([*self._java, *tool], check=True, capture_output=True)

    def start(self, deadline: float = 60) -> None:
        """Return when the broker answers, and knows again the topics that it had."""
        with (self._folder / "kafka.log").open("ab") as log:
            command = [*self._java, *self._sharing(), "-Xmx512m", "kafka.Kafka", str(self._config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + deadline
        admin = self._admin()
        while True:
            try:
                metadata = admin.list_topics(timeout=1)
                if metadata.brokers and self._topics <= metadata.topics.keys():
                    return
            except KafkaException:
                if self.process.poll() is not None:
                    raise
            if time.monotonic() > end:
                raise TimeoutError(f"the broker is not ready after {deadline:.0f} s; its log is in {self._folder}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End the broker; one that does not end by itself within 20 s is killed, as by an init system."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        else:
            if self._dump.exists():
                self._dump.replace(ARCHIVE)

    def kill(self) -> None:
        """End the broker with SIGKILL; `start` goes on with what it had."""
        self._remember()
        self.process.kill()
        self.process.wait(30)

    def restart(self) -> None:
        """End the broker as an administrator does, and start it again."""
        self._remember()
        self.stop()
        self.start()

    def recover(self) -> None:
        """Start the broker again, unless it answers: a test that failed may have left it ended or stopped."""
        self.thaw()
        if self.process.poll() is None and self._answers():
            return
        self.process.kill()
        self.process.wait(10)
        self._topics = set()
        self.start()

    def freeze(self) -> None:
        """The broker does nothing until `thaw`; nobody is told."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """The end of `freeze`."""
        self.process.send_signal(signal.SIGCONT)

    def _remember(self) -> None:
        self._topics = set(self._admin().list_topics(timeout=10).topics)

    def _answers(self) -> bool:
        try:
            return bool(self._admin().list_topics(timeout=10).brokers)
        except KafkaException:
            return False

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def _sharing(self) -> list[str]:
        if ARCHIVE.exists():
            return [f"-XX:SharedArchiveFile={ARCHIVE}"]
        return [f"-XX:ArchiveClassesAtExit={self._dump}"] if self._archives else []
