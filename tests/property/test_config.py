"""Whatever stands in a file is taken or complained about."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consumer.config import Settings, parse
from consumer.errors import ConfigError
from tests.unit.test_config import with_changes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PATHS = ["kafka", "topics", "start", "format", "key_format", "batch", "transform", "sink", "admin", "shutdown_grace_ms"]
PATHS += ["sink__dsn", "sink__tables", "sink__tables__t", "sink__tables__t__columns", "sink__tables__t__unknown"]
PATHS += ["dead_letter", "dead_letter__topic", "dead_letter__max_ratio", "retry__give_up_after_ms", "sink__errors"]
PATHS += ["batch__max_bytes", "format__type", "kafka__sasl", "sink__tables__t__columns__c"]
PATHS += ["notify", "runs", "runs__directory", "runs__keep"]


@given(path=st.sampled_from(PATHS), value=JSON)
def test_whatever_stands_at_a_setting_is_taken_or_complained_about_in_one_line(path: str, value: Any) -> None:
    """No value of any type ends in another error than ConfigError."""
    written = with_changes(format={"type": "json"}) | {"key_format": {"type": "text"}}
    *steps, last = path.split("__")
    place: Any = written
    for step in steps:
        place = place.setdefault(step, {})
    place[last] = value
    with contextlib.suppress(ConfigError):
        assert isinstance(parse(written), Settings)
