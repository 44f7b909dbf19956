"""A Kafka broker for the tests: the one that is named, else one of our own, Apache Kafka from Maven's jars on loopback."""

import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
HEAP = ("-Xms96m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# One node that is broker and controller. Nothing is made by itself: topics must be made on purpose.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=250
controller.quorum.election.backoff.max.ms=100
log.cleaner.enable=false
num.network.threads=1
num.io.threads=2
"""
LOGGING = """\
rootLogger.level = WARN
rootLogger.appenderRef.file.ref = file
appender.file.type = File
appender.file.name = file
appender.file.fileName = {log}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %p %c{{1}} %m%n
"""


@dataclass
class Broker:
    """A running broker. ``process`` is None where somebody else runs it: then it can be neither killed nor looked into."""

    bootstrap: str
    folder: Path | None = None
    classpath: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def is_ours(self) -> bool:
        return self.folder is not None

    @property
    def data(self) -> Path:
        """Where its log segments lie."""
        assert self.folder is not None
        return self.folder / "data"

    def start(self, seconds: float = 60) -> None:
        """Start it on its folder and port, and wait until it answers."""
        assert self.folder is not None
        with open(self.folder / "console.log", "ab") as console:
            self.process = subprocess.Popen(
                ["java", *HEAP, f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
                 "-cp", self.classpath, "kafka.Kafka", str(self.folder / "server.properties")],
                stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, start_new_session=True)
        deadline = time.monotonic() + seconds
        while not answers(self.bootstrap):
            assert self.process.poll() is None, f"Kafka ended by itself:\n{self._last_words()}"
            assert time.monotonic() < deadline, f"Kafka did not answer within {seconds:.0f} s:\n{self._last_words()}"

    def kill(self) -> None:
        """SIGKILL, as the power cut of a test."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that takes too long."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def wipe(self) -> None:
        """Kill it, and give it an empty disk: what it held is gone."""
        self.kill()
        shutil.rmtree(self.data)
        _format(self.folder, self.classpath)  # type: ignore[arg-type]

    def _last_words(self) -> str:
        assert self.folder is not None
        texts = [path.read_text(errors="replace") for path in self.folder.glob("*.log")]
        return "\n".join(texts)[-3000:]


def answers(bootstrap: str, seconds: float = 1.0) -> bool:
    """Whether a broker there gives its metadata."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    quiet = {"bootstrap.servers": bootstrap, "log_level": 0, "socket.timeout.ms": 1000, "reconnect.backoff.max.ms": 200}
    try:
        return bool(AdminClient(quiet, error_cb=lambda _error: None).list_topics(timeout=seconds).brokers)
    except KafkaException:
        return False


def find_jars() -> tuple[Path | None, str]:
    """(folder of Kafka's jars, ""), fetched through Maven once and kept in the user's cache; else (None, what is missing)."""
    if shutil.which("java") is None:
        return None, "java is not installed (Debian's package default-jre-headless)"
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cuff"
    jars = cache / f"kafka-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "kafka.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may start at once
        if jars.is_dir():
            return jars, ""
        if shutil.which("mvn") is None:
            return None, "Maven is not installed (Debian's package maven)"
        partial = Path(tempfile.mkdtemp(dir=cache, prefix="kafka-"))
        done = subprocess.run(
            ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime",
             f"-DoutputDirectory={partial}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            shutil.rmtree(partial)
            return None, f"Maven could not fetch Kafka: {done.stdout[-500:]}"
        partial.rename(jars)
    return jars, ""


@contextmanager
def own_broker(jars: Path) -> Iterator[Broker]:
    """A throw-away broker on free loopback ports, gone at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="cuff-kafka-"))
    port, controller_port = free_ports(2)
    broker = Broker(f"127.0.0.1:{port}", folder, f"{jars}/*")
    (folder / "server.properties").write_text(
        PROPERTIES.format(port=port, controller_port=controller_port, data=broker.data))
    (folder / "log4j2.properties").write_text(LOGGING.format(log=folder / "server.log"))
    _format(folder, broker.classpath)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _format(folder: Path, classpath: str) -> None:
    done = subprocess.run(
        ["java", *HEAP, f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}", "-cp", classpath,
         "kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c", str(folder / "server.properties")],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"Kafka's storage could not be formatted: {done.stdout[-2000:]}"


def _cluster_id() -> str:
    """A random id as Kafka writes them: 16 bytes in 22 characters of URL-safe base64."""
    import base64

    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def free_ports(number: int) -> list[int]:
    """Ports of loopback that nobody listens on, all different."""
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
