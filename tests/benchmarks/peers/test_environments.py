"""What cannot be had is said in a line, and the others are measured."""

from __future__ import annotations

import pytest
from rich.console import Console

from tests.benchmarks.peers import candidates, environments
from tests.benchmarks.peers.__main__ import had
from tests.benchmarks.peers.environments import MissingPeerError, obtained


def test_a_failure_is_its_last_line() -> None:
    """That of the program which failed, not a traceback."""
    with pytest.raises(MissingPeerError, match=r"No module named no_such_module$"):
        obtained(["no_such_module"])


def test_a_peer_without_its_packages_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name and the reason are shown and kept."""
    name = "Quix Streams"
    monkeypatch.setitem(candidates.PEERS, name, lambda: environments.obtained(["no_such_module"]))
    console = Console(record=True, width=200)
    found, missing = had(console, [name])
    assert found == {}
    assert missing.keys() == {name}
    assert f"Without {name}: {missing[name]}" in console.export_text()
