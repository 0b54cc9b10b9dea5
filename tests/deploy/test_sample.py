"""What `docker compose up` shows, run for real but without containers."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg

from tests.command import ROOT, ended, microbatch, start
from tests.faults.waiting import until

SAMPLE = Path(ROOT) / "deploy" / "compose"
COUNT, SPOILT = 4_000, 2


def test_sample_orders_land_in_their_table_and_the_spoilt_ones_among_the_dead_letters(
    kafka: str, dsn: str, tmp_path: Path
) -> None:
    """The sample's topics, table, orders and configuration fit each other: under names of their own, on any port."""
    name = f"orders_{uuid.uuid4().hex[:8]}"
    services = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "DATABASE_URL": dsn}
    config = tmp_path / "config.yaml"
    config.write_text((SAMPLE / "orders.yaml").read_text().replace("orders", name).replace("port: 9464", "port: 0"))

    def orders(*arguments: str) -> None:
        command = [sys.executable, str(SAMPLE / "orders.py"), *arguments, f"--topic={name}"]
        subprocess.run(command, env=os.environ | services, check=True)

    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute((SAMPLE / "tables.sql").read_text().replace("orders", name))
        orders("topics")
        orders("topics")  # as a restart of its container does
        checked = microbatch("check", config, **services).stdout.splitlines()
        # The tests' own server has fsync off, which is all that may be wrong.
        assert [line for line in checked if not line.startswith("ok") and "fsync" not in line] == []
        orders("produce", f"--count={COUNT}", f"--rate={10 * COUNT}")
        daemon = start("run", config, **services)
        try:
            rows = f"select from {name}"
            until(lambda: connection.execute(rows).rowcount == COUNT - SPOILT, "all whole orders are in the table")
        finally:
            daemon.terminate()
            assert ended(daemon).returncode == 0
        letters = "select stage from microbatch_dead_letters where topic = %s"
        assert connection.execute(letters, [name]).fetchall() == [("write",)] * SPOILT
