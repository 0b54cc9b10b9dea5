"""What reaches the log."""

from __future__ import annotations

import logging

from consumer.logs import Repeats


class Clock:
    """Moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def line(text: str, name: str = "kafka") -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "", 0, text, None, None)


def test_what_librdkafka_repeats_is_said_once_in_half_a_minute() -> None:
    """Numbers change from line to line; another text is another line, and our own lines are never held back."""
    clock = Clock()
    repeats = Repeats(clock)
    refused = "[thrd:b:9092/1]: Connection refused (after {} ms in state CONNECT)"
    assert [repeats.filter(line(refused.format(number))) for number in range(3)] == [True, False, False]
    assert repeats.filter(line("Disconnected"))
    clock.now = 31
    assert repeats.filter(line(refused.format(9)))
    assert all(repeats.filter(line("retry", "microbatch")) for _ in range(3))
