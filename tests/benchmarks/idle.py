"""`python -m tests.benchmarks.idle`: what a member takes of the processor while nothing comes."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tests.benchmarks import daemon, report
from tests.benchmarks.command import parser, starting, wide
from tests.benchmarks.programs import processor_seconds
from tests.benchmarks.results import circumstances
from tests.faults.waiting import until

TOPIC = "bench-idle"
MEMBER = "the member, % of a core"
_SETTLING_SECONDS = 5


def taken(pids: Mapping[str, int], seconds: float) -> dict[str, float]:
    """Percent of a core that each process and its children take in these seconds."""
    began, before = time.perf_counter(), {name: processor_seconds(pid) for name, pid in pids.items()}
    time.sleep(seconds)
    passed = time.perf_counter() - began
    return {name: (processor_seconds(pid) - before[name]) / passed * 100 for name, pid in pids.items()}


def main() -> None:
    """Measure, show, save."""
    options = parser("tests.benchmarks.idle", __doc__, records=None)
    options.add_argument("--partitions", type=int, default=64, help="default %(default)s")
    options.add_argument("--seconds", type=float, default=20, help="of each round; default %(default)s")
    arguments, console = options.parse_args(), wide()
    with starting(console) as lab:
        found = circumstances(lab.dsn) | {"partitions": arguments.partitions}
        lab.create(TOPIC, arguments.partitions)
        with daemon.running(lab, daemon.configuration(lab, TOPIC, lab.dsn, batch={})) as member:
            until(lambda: member.assigned() == arguments.partitions, "the member has all partitions")
            time.sleep(_SETTLING_SECONDS)
            pids = {MEMBER: member.program.pid} | {f"{name}, % of a core": pid for name, pid in lab.services.items()}
            rounds = [taken(pids, arguments.seconds) for _ in range(arguments.rounds)]
    found |= report.figures(rounds, {MEMBER: 1.0})
    report.present_figures(console, "idle", f"Idle with {arguments.partitions} partitions", found)


if __name__ == "__main__":
    main()
