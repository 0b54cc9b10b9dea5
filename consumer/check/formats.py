"""How values and keys are read: whether the schemas are valid, and whether their registry answers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from consumer.check.finding import Finding
from consumer.config import AvroFormat, RegistrySettings, Settings
from consumer.decode.opening import open_decoder, open_registry
from consumer.errors import ConfigError, DecodeError, FatalError, UnavailableError


def findings(settings: Settings) -> Iterator[Finding]:
    """What is wrong with the files of schemas; and of each registry whether it answers."""
    for where, format_ in (("format", settings.format), ("key_format", settings.key_format)):
        try:
            open_decoder(format_, where)
        except ConfigError as error:
            yield Finding(where, False, str(error), configuration=True)
            continue
        if isinstance(format_, AvroFormat) and format_.registry:
            yield _registry(format_.registry, f"{where}.registry")


def _registry(settings: RegistrySettings, where: str) -> Finding:
    subject = "schema registry"
    try:
        open_registry(settings, where).ask()
    except FatalError as error:
        return Finding(subject, False, f"{error}: {error.hint}")
    except (UnavailableError, DecodeError) as error:
        return Finding(subject, False, f"{error}; correct {where}, or start the registry")
    return Finding(subject, True, f"{settings.url} answers{_warning(settings)}")


def _warning(settings: RegistrySettings) -> str:
    parts = urlsplit(settings.url)
    secret = settings.password is not None or settings.token is not None
    if not secret or parts.scheme == "https" or _is_loopback(parts.hostname or ""):
        return ""
    return "; warning: not encrypted, so that anyone between can read the credentials: use https"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
