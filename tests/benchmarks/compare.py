"""`python -m tests.benchmarks.compare REF`: the daemon of this tree against the one of another commit, in turn.

Both are driven by the benches of this tree, with the packages that are installed now.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks.candidates import CANDIDATES, TOPICS, bound
from tests.benchmarks.command import parser, starting, wide
from tests.benchmarks.report import Ratio
from tests.benchmarks.results import ROOT, circumstances, commit_of

_DAEMONS = {name: run for name, run in CANDIDATES.items() if "daemon" in name}
_HERE = "this tree"


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The files of a commit, in a work tree of their own while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="microbatch-bench-") as folder:
        path = Path(folder) / commit
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", path, commit], check=True, cwd=ROOT)
        try:
            yield path
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", path], check=True, cwd=ROOT)


def ratios(names: list[str], commit: str) -> list[Ratio]:
    """This tree's over the commit's."""
    return [
        Ratio(f"{name}: {text}", f"{name}, {_HERE}", f"{name}, {commit}", figure=figure)
        for name in names
        for text, figure in (("records/s", "rate"), ("records for a second of its processor time", "efficiency"))
    ]


def main() -> None:
    """Measure, show, save."""
    options = parser("tests.benchmarks.compare", __doc__)
    options.add_argument("ref", help="a commit, branch or tag")
    options.add_argument("--only", nargs="+", choices=_DAEMONS, default=["daemon json", "daemon avro"])
    arguments, console = options.parse_args(), wide()
    commit = commit_of(arguments.ref)
    with starting(console, arguments.records, TOPICS) as lab, checked_out(commit) as source:
        before = circumstances(lab.dsn)
        labs = {_HERE: lab, commit: replace(lab, source=source)}
        candidates = {
            f"{name}, {where}": run
            for name in arguments.only
            for where, its in labs.items()
            for run in bound(its, {name: _DAEMONS[name]}).values()
        }
        rounds = report.in_turn(arguments.rounds, candidates, console)
    found = before | report.results(rounds, ratios(arguments.only, commit)) | {"records": arguments.records}
    report.present(console, "compare", found | {"compared_with": commit})


if __name__ == "__main__":
    main()
