"""From settings to decoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from consumer.config import AvroFormat, Format, JsonFormat, KeyFormat, RawFormat
from consumer.decode import Decoder
from consumer.decode.json import JsonDecoder
from consumer.decode.plain import RawDecoder, TextDecoder
from consumer.table import Column


def open_decoder(settings: Format | KeyFormat, where: str) -> Callable[[Mapping[str, Column]], Decoder]:
    """What makes a decoder, given which field goes into which column; `where` is the path of these settings.

    Raises ConfigError for a schema that cannot be loaded.
    """
    if isinstance(settings, AvroFormat):
        from consumer.decode.avro import open_avro

        decoder: Decoder = open_avro(settings.schema_file, settings.schemas, settings.reader, where)
    elif isinstance(settings, RawFormat):
        decoder = RawDecoder()
    elif isinstance(settings, JsonFormat):
        return JsonDecoder
    else:
        decoder = TextDecoder()
    return lambda _: decoder
