"""From settings to the topics of dead letters."""

from __future__ import annotations

from consumer.config import Settings
from consumer.deadletter import DeadLetterTopic


def open_outbox(settings: Settings, *, table: bool) -> DeadLetterTopic | None:
    """The outbox of these settings, None where they name no topic; `table`: a table keeps each whole record."""
    if settings.dead_letter.topic is None:
        return None
    return DeadLetterTopic(
        settings.kafka,
        settings.dead_letter.topic,
        settings.dead_letter.headers,
        settings.dead_letter.too_large,
        group=str(settings.kafka["group.id"]),
        table=table,
    )
