"""From settings to decoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from consumer.config import AvroFormat, Format, JsonFormat, KeyFormat, RawFormat, RegistrySettings
from consumer.decode import Decoder
from consumer.decode.json import JsonDecoder
from consumer.decode.plain import RawDecoder, TextDecoder
from consumer.table import Column

if TYPE_CHECKING:
    from consumer.decode.registry import Registry


def open_decoder(
    settings: Format | KeyFormat, where: str, *, waits: bool = False
) -> Callable[[Mapping[str, Column]], Decoder]:
    """What makes a decoder, given which field goes into which column; `where` is the path of these settings.

    `waits`: an id that a registry does not know is no fault of its records until unknown_id_after_ms are over.
    Raises ConfigError for a schema that cannot be loaded.
    """
    decoder: Decoder
    if isinstance(settings, AvroFormat):
        decoder = _open_avro(settings, where, waits)
    elif isinstance(settings, RawFormat):
        decoder = RawDecoder()
    elif isinstance(settings, JsonFormat):
        return JsonDecoder
    else:
        decoder = TextDecoder()
    return lambda _: decoder


def open_registry(settings: RegistrySettings, where: str) -> Registry:
    """The client of these settings; `where` is their path. Raises ConfigError."""
    from consumer.decode.registry import Registry, authorization_of

    password, token = (
        None if part is None else part.get_secret_value() for part in (settings.password, settings.token)
    )
    return Registry(settings.url, authorization_of(settings.username, password, token), settings.ca, where)


def _open_avro(settings: AvroFormat, where: str, waits: bool) -> Decoder:
    from consumer.decode.avro import FramedAvroDecoder, open_avro

    if settings.registry is None:
        return open_avro(settings.schema_file, settings.schemas, settings.reader, where)
    registry = open_registry(settings.registry, f"{where}.registry")
    unknown_after = settings.registry.unknown_id_after_ms / 1000 if waits else 0.0
    return FramedAvroDecoder(registry, settings.reader, where, unknown_after=unknown_after)
