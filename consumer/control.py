"""Asks the running daemon, by its admin server: how it stands, and to do something else from now on."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from consumer.admin import CONTROL_HEADER
from consumer.config import Settings
from consumer.config.changing import changed, require_target
from consumer.errors import ConfigError, FatalError, UnavailableError

_SECONDS = 10.0
_REFUSALS = {
    400: "Correct what you ask for; `microbatch status CONFIG` shows what there is.",
    401: "Give this file the admin.token that the daemon runs with.",
    403: "Ask on its own machine, and let it listen on loopback; or set admin.token.",
}
_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what the daemon may listen on


def pause(settings: Settings, targets: Sequence[str]) -> str:
    """Have it read no more of these topics (`orders`) and partitions (`orders/3`), or of anything. Returns its answer.

    Raises ConfigError, UnavailableError (nobody answers), FatalError (it refuses).
    """
    return _command(settings, "/pause", _targets(settings, targets))


def resume(settings: Settings, targets: Sequence[str] = (), *, accept: bool = False) -> str:
    """Have it take up again what was paused; without targets, also try again what it holds. Returns its answer.

    `accept`: and keep dead letters beyond the limits. Raises as `pause` does.
    """
    if accept and targets:
        raise ConfigError("--accept", None, "is about everything that is held: leave out the targets")
    return _command(settings, "/resume", {"accept": ""} if accept else _targets(settings, targets))


def change(settings: Settings, wanted: Mapping[str, str]) -> str:
    """Have it cut batches by other bounds; by the path of the setting. Returns its answer. Raises as `pause` does."""
    changed(settings.batch, wanted)
    return _command(settings, "/set", wanted)


def status(settings: Settings) -> dict[str, Any]:
    """See Telemetry.status and Operations.status. Raises as `pause` does."""
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
    if job := status.get("job"):
        yield f"job: {_way(job)}"
    records = status.get("records", {})
    yield "records: " + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in records.items())
    yield f"dead letters pending: {status.get('dead_letters_pending', 0):,}"
    for name, told in status.get("partitions", {}).items():
        why = " (paused by an operator)" if told.get("paused") == "operator" else ""
        why = f" ({told['reason']})" if told.get("reason") else why
        yield f"{name}: {told['phase']}, next {_known(told['next_offset'])}, end {_known(told['end'])}{why}"
    for name, told in status.get("dead_letters", {}).items():
        last = "/".join(map(str, told["last"].values()))
        yield f"{told['count']:,} dead letters {name}: {told['reason']} (last: {last})"
    for topic, names in status.get("unknown_fields", {}).items():
        yield f"{topic}: no column takes {', '.join(names)}"
    for name, told in status.get("changed", {}).items():
        yield f"{name}: {told['now']}, by `microbatch set`; configured {told['configured']}"
    if needs := status.get("needs_restart"):
        yield f"changed in the file, and waiting for a restart: {', '.join(needs)}"


def _targets(settings: Settings, targets: Sequence[str]) -> list[tuple[str, str]]:
    for target in targets:
        require_target(settings, target)
    return [("target", target) for target in targets]


def _command(settings: Settings, path: str, asked: Mapping[str, str] | Sequence[tuple[str, str]]) -> str:
    query = urlencode(asked)
    return _ask(settings, "POST", f"{path}?{query}" if query else path, {CONTROL_HEADER: "1"}).strip()


def _way(job: Mapping[str, Any]) -> str:
    way = f"{job['percent']} %, {job['done']:,} of {job['total']:,} offsets"
    if job["eta_seconds"] is None:
        return way
    return f"{way}, {job['per_second']:,.0f}/s, {job['eta_seconds']:,.0f} s left"


def _known(offset: int | None) -> str:
    return "not known" if offset is None else str(offset)


def _ask(settings: Settings, method: str, path: str, headers: dict[str, str]) -> str:
    admin = settings.admin
    if not admin.enabled:
        raise ConfigError("admin.enabled", False, "must be true: this command talks to the daemon over it")
    if admin.port == 0:
        reason = "lets the daemon listen on any port, which nobody can know here: set one"
        raise ConfigError("admin.port", 0, reason)
    if admin.token is not None:
        headers = headers | {"Authorization": f"Bearer {admin.token.get_secret_value()}"}
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
    if hint := _REFUSALS.get(answer.status):
        raise FatalError(f"the daemon refuses: {text.strip()}", hint)
    if answer.status >= http.client.BAD_REQUEST:
        hint = "Correct `admin`: another program may listen there, or a microbatch of another version."
        raise FatalError(f"{host} port {admin.port} answers {answer.status} to {method} {path}", hint)
    return text
