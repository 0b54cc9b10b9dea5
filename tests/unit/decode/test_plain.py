"""Values without fields."""

from __future__ import annotations

import pytest

from consumer.decode import Decoder, Fields
from consumer.decode.plain import RawDecoder, TextDecoder
from consumer.errors import DecodeError


def test_raw_values_are_the_payloads() -> None:
    """Whatever they hold."""
    assert RawDecoder().decode([b"", b"\xff\0"]) == [b"", b"\xff\0"]


def test_text_values_are_text() -> None:
    """Exactly, NUL included."""
    assert TextDecoder().decode([b"", b"\xc3\xbc\0"]) == ["", "ü\0"]


@pytest.mark.parametrize("payload", [b"secret\xff", b"\xed\xa0\x80", b"\xc3"])
def test_text_that_is_not_utf_8_is_refused(payload: bytes) -> None:
    """Lone surrogates included; the reason does not show the bytes."""
    with pytest.raises(DecodeError, match="UTF-8") as caught:
        TextDecoder().decode([b"right", payload])
    assert "secret" not in caught.value.reason


@pytest.mark.parametrize("decoder", [RawDecoder(), TextDecoder()], ids=["raw", "text"])
def test_values_without_fields_are_rows_without_fields(decoder: Decoder) -> None:
    """Whatever they hold, and whatever is asked for."""
    assert decoder.rows([b'{"a": 1}', b""], ("a",)) == Fields((), [(), ()])
