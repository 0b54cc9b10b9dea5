"""Schemas of a Schema Registry, by id: two routes of Confluent's API, which other registries have as well.

https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

from __future__ import annotations

import base64
import http.client
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from consumer.errors import ConfigError, DecodeError, FatalError, UnavailableError

SECONDS = 5.0
_ALL_SECONDS = 20.0  # of a schema with all that it refers to
_MAX_RETRY_SECONDS = 300.0
_MAX_BYTES = 4 << 20
_MAX_REFERENCES = 100
_CHUNK = 1 << 16
_TOLD = 200  # characters
_UNKNOWN = (40401, 40402, 40403)  # the registry's own words for: no such subject, version, schema
_DENIED = (http.client.UNAUTHORIZED, http.client.FORBIDDEN)


class UnknownIdError(DecodeError):
    """The registry has no schema of this id; perhaps it has not heard of it yet."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A schema as JSON, and those that it refers to, each after those that it refers to itself."""

    schema: Any
    references: tuple[Any, ...] = ()


class Registry:
    """A client of the registry at `url`. `authorization`: the header's value, `ca`: a PEM file instead of the system's.

    `setting` is the part of the configuration that errors name. Redirects are not followed: they could take credentials
    elsewhere. `clock` gives monotonic seconds. Raises ConfigError when `ca` holds no certificate.
    """

    def __init__(
        self,
        url: str,
        authorization: str | None = None,
        ca: Path | None = None,
        setting: str = "format.registry",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._authorization, self._setting, self._clock = url.rstrip("/"), authorization, setting, clock
        try:
            context = ssl.create_default_context(cafile=ca)
        except OSError as error:  # SSLError is one
            reason = f"holds no certificates in PEM: {error.strerror or type(error).__name__}"
            raise ConfigError(f"{setting}.ca", str(ca), reason) from None
        self._opener = urllib.request.OpenerDirector()  # without what follows redirects, and reads files
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=context),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
        ):
            self._opener.add_handler(handler)

    def schema(self, schema_id: int) -> Registered:
        """The Avro schema of this id.

        Raises UnavailableError when there is no answer, or none of a registry; UnknownIdError; DecodeError when it is
        no Avro, or no JSON; FatalError when the registry refuses us.
        """
        what = f"schema id {schema_id}"
        answer = self._schema(f"/schemas/ids/{schema_id}", what)
        found: dict[tuple[str, int], Any] = {}
        self._follow(answer, found, what, self._clock() + _ALL_SECONDS)
        return Registered(_parsed(answer, what), tuple(found.values()))

    def ask(self) -> None:
        """Find out whether it answers us. Raises UnavailableError, FatalError, UnknownIdError."""
        self._get("/schemas/types", "the list of types")

    def _follow(self, answer: dict[str, Any], found: dict[tuple[str, int], Any], what: str, end: float) -> None:
        """Collect what this refers to, deepest first, until `end`."""
        try:
            keys = [(str(part["subject"]), int(part["version"])) for part in answer.get("references") or ()]
        except (KeyError, TypeError, ValueError):
            raise DecodeError(f"{what} has a reference without subject and version in the registry") from None
        for key in keys:
            if key in found:
                continue
            if len(found) == _MAX_REFERENCES:
                raise DecodeError(f"{what} refers to more than {_MAX_REFERENCES} schemas")
            if self._clock() > end:
                raise self._unavailable(f"no more than {len(found)} references of {what} within {_ALL_SECONDS:g} s")
            found[key] = None  # a circle of references ends here
            name = f"version {key[1]} of {key[0]}, which {what} refers to,"
            part = self._schema(f"/subjects/{urllib.parse.quote(key[0], safe='')}/versions/{key[1]}", name)
            self._follow(part, found, what, end)
            del found[key]
            found[key] = _parsed(part, name)

    def _schema(self, path: str, what: str) -> dict[str, Any]:
        answer = self._get(path, what)
        if not isinstance(answer, dict) or not isinstance(answer.get("schema"), str):
            raise self._unavailable(f"the answer holds no schema; is {self._setting}.url right?")
        kind = answer.get("schemaType") or "AVRO"
        if kind != "AVRO":
            raise DecodeError(f"{what} is of the type {kind} in the schema registry, and only AVRO can be read")
        return answer

    def _get(self, path: str, what: str) -> Any:
        headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if self._authorization:
            headers["Authorization"] = self._authorization
        asked = urllib.request.Request(self._url + path, headers=headers)  # noqa: S310 - only http(s) passes the rules
        try:
            with self._opener.open(asked, timeout=SECONDS) as answer:
                return msgspec.json.decode(self._read(answer))
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error, what) from None
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
            raise self._unavailable(_told(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self._unavailable(f"the answer is not JSON; is {self._setting}.url right?") from None

    def _read(self, answer: Any) -> bytes:
        """The whole answer. Its time-out is for each piece, so that all of them need one of their own."""
        end, body = self._clock() + SECONDS, bytearray()
        while piece := answer.read1(_CHUNK):
            body += piece
            if len(body) > _MAX_BYTES:
                raise self._unavailable(f"an answer of more than {_MAX_BYTES >> 20} MiB")
            if self._clock() > end:
                raise self._unavailable(f"no whole answer within {SECONDS:g} s")
        return bytes(body)

    def _refused(self, error: urllib.error.HTTPError, what: str) -> Exception:
        """What an answer that is no 200 means."""
        if error.code in _DENIED:
            hint = f"Correct {self._setting}.username and password, or token; they need READ on subjects and schemas."
            return FatalError(f"the schema registry at {self._url} refuses us (HTTP {error.code})", hint)
        if error.code == http.client.NOT_FOUND:
            if self._code(error) in _UNKNOWN:
                return UnknownIdError(f"{what} is not known to the schema registry")
            return self._unavailable(f"HTTP 404, though not about a schema; is {self._setting}.url right?")
        if 300 <= error.code < 400:
            return self._unavailable(f"HTTP {error.code}; put the address that it leads to into {self._setting}.url")
        after = error.headers.get("Retry-After", "")
        return self._unavailable(
            f"HTTP {error.code}", min(float(after), _MAX_RETRY_SECONDS) if after.isdecimal() else None
        )

    def _code(self, error: urllib.error.HTTPError) -> object:
        """What the registry itself says is wrong; None where something else has answered."""
        try:
            found = msgspec.json.decode(self._read(error))
        except (OSError, http.client.HTTPException, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return found.get("error_code") if isinstance(found, dict) else None

    def _unavailable(self, reason: str, retry_after: float | None = None) -> UnavailableError:
        return UnavailableError(f"schema registry at {self._url}: {reason}", retry_after)


def authorization_of(username: str | None, password: str | None, token: str | None) -> str | None:
    """The value of the header, by what is given."""
    if token:
        return f"Bearer {token}"
    if username is None:
        return None
    return "Basic " + base64.b64encode(f"{username}:{password or ''}".encode()).decode()


def _parsed(answer: dict[str, Any], what: str) -> Any:
    try:
        return msgspec.json.decode(answer["schema"])
    except (msgspec.DecodeError, RecursionError):
        raise DecodeError(f"{what} is no JSON in the schema registry") from None


def _told(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    texts = (getattr(cause, "verify_message", ""), getattr(cause, "strerror", None), str(cause))
    return next(filter(None, texts), type(cause).__name__)[:_TOLD]
