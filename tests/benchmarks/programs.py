"""Programs that are measured from outside: started, watched, ended; what they use is asked of the system."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_STOP_SECONDS = 60
_SAID_CHARACTERS = 2000


class Program:
    """A running one, known by its process; what it says goes to the file `log`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def threads(self) -> dict[str, float]:
        """Seconds of processor time used so far by the first thread, by librdkafka's threads, and by all others."""
        used: Counter[str] = Counter()
        for thread in psutil.Process(self.pid).threads():
            with suppress(FileNotFoundError):
                name = Path(f"/proc/{self.pid}/task/{thread.id}/comm").read_text()
                kind = "first" if thread.id == self.pid else "librdkafka" if name.startswith("rdk:") else "others"
                used[kind] += thread.user_time + thread.system_time
        return dict(used)

    def memory(self, field: str = "VmRSS") -> float:
        """Resident memory in MB; `VmHWM` is the largest so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition(f"{field}:")[2].split()[0]) / 1024

    def said(self) -> str:
        """The last of its output."""
        return self._log.read_text()[-_SAID_CHARACTERS:]

    def check(self) -> None:
        """Raises RuntimeError when it has ended."""
        if (code := self._process.poll()) is not None:
            raise self._ended(code)

    def stop(self) -> None:
        """End it by SIGTERM. Raises RuntimeError when it neither ends well nor by the signal itself."""
        self.check()
        self._process.send_signal(signal.SIGTERM)
        if (code := self._process.wait(_STOP_SECONDS)) not in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
            raise self._ended(code)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def _ended(self, code: int) -> RuntimeError:
        return RuntimeError(f"{self._process.args[:3]} ended with exit code {code}: {self.said()}")


@contextmanager
def started(
    command: Sequence[str | Path], log: Path, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Run a command in `folder`, its output in `log`. It ends with the block: by SIGTERM, or at once if that failed."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, cwd=folder, env={**os.environ, **(environment or {})}
        )
    program = Program(process, log)
    try:
        yield program
    except BaseException:
        program.kill()
        raise
    try:
        program.stop()
    except subprocess.TimeoutExpired:
        program.kill()
        raise


def processor_seconds(pid: int) -> float:
    """Processor time used so far by a process and by all that it started."""
    root = psutil.Process(pid)
    used = 0.0
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            used += sum(process.cpu_times()[:4])  # user and system, its own and of the children that it has seen end
    return used
