"""A transform that takes its time: then mapping is the limit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from consumer.record import Record

_SECONDS = 0.004


def transform(record: Record) -> Mapping[str, Any]:
    """The record itself, later."""
    time.sleep(_SECONDS)
    value: Mapping[str, Any] = record.value
    return value
