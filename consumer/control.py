"""Asks the running daemon, by its admin server: how it stands, and to try again what it holds."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

from consumer.admin import CONTROL_HEADER
from consumer.config import Settings
from consumer.errors import ConfigError, FatalError, UnavailableError

_SECONDS = 10.0
_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what the daemon may listen on


def resume(settings: Settings, *, accept: bool) -> str:
    """Have it try again now what it holds; `accept`: and keep dead letters beyond the limits. Returns its answer.

    Raises ConfigError, UnavailableError (nobody answers), FatalError (it refuses).
    """
    return _ask(settings, "POST", "/resume?accept" if accept else "/resume", {CONTROL_HEADER: "1"}).strip()


def status(settings: Settings) -> dict[str, Any]:
    """See Telemetry.status. Raises as `resume` does."""
    text = _ask(settings, "GET", "/status", {})
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or "state" not in found:
        hint = "Correct `admin`: another program listens there."
        raise FatalError("what answers is not microbatch", hint)
    return found


def lines(status: dict[str, Any]) -> Iterator[str]:
    """A status for people."""
    yield f"{status['state']}: {status['reason']}"
    records = status.get("records", {})
    yield "records: " + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in records.items())
    yield f"dead letters pending: {status.get('dead_letters_pending', 0):,}"
    for name, told in status.get("partitions", {}).items():
        why = f" ({told['reason']})" if told.get("reason") else ""
        yield f"{name}: {told['phase']}, next {_known(told['next_offset'])}, end {_known(told['end'])}{why}"
    for name, told in status.get("dead_letters", {}).items():
        last = "/".join(map(str, told["last"].values()))
        yield f"{told['count']:,} dead letters {name}: {told['reason']} (last: {last})"


def _known(offset: int | None) -> str:
    return "not known" if offset is None else str(offset)


def _ask(settings: Settings, method: str, path: str, headers: dict[str, str]) -> str:
    admin = settings.admin
    if not admin.enabled:
        raise ConfigError("admin.enabled", False, "must be true: this command talks to the daemon over it")
    if admin.port == 0:
        reason = "lets the daemon listen on any port, which nobody can know here: set one"
        raise ConfigError("admin.port", 0, reason)
    host = _ANYWHERE.get(admin.host, admin.host)
    connection = http.client.HTTPConnection(host, admin.port, timeout=_SECONDS)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        text = answer.read(16 << 20).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        told = getattr(error, "strerror", None) or type(error).__name__
        reason = f"no daemon answers at {host} port {admin.port} ({told}): is it running, here and with this file?"
        raise UnavailableError(reason) from None
    finally:
        connection.close()
    if answer.status == http.client.FORBIDDEN:
        raise FatalError(
            f"the daemon refuses: {text.strip()}", "Ask on its own machine, and let it listen on loopback."
        )
    if answer.status >= http.client.BAD_REQUEST:
        hint = "Correct `admin`: another program may listen there, or a microbatch of another version."
        raise FatalError(f"{host} port {admin.port} answers {answer.status} to {method} {path}", hint)
    return text
