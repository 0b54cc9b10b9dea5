"""The client of a Schema Registry against every way in which a server fails."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.decode.avro import FramedAvroDecoder
from consumer.decode.registry import Registry, UnknownIdError, authorization_of
from consumer.errors import ConfigError, DecodeError, FatalError, UnavailableError
from tests.services.kafka import free_ports
from tests.services.registry import FakeRegistry

CANARY = "canary-5d1e"
RECORD = {"type": "record", "name": "A", "fields": [{"name": "a", "type": "int"}]}
HTML = "<html>Sign in</html>"


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    """One that works."""
    registry = FakeRegistry()
    registry.start()
    yield registry
    registry.stop()


def frame(number: int, body: bytes = b"\2") -> bytes:
    return struct.pack(">bI", 0, number) + body


def test_the_fast_way_is_taken_from_the_first_batch_on(fake: FakeRegistry) -> None:
    """Records come as vectors, of one id and of two, and each id is asked for once."""
    one, two = fake.register(RECORD), fake.register(RECORD | {"doc": "the same"})
    decoder = FramedAvroDecoder(Registry(fake.url))
    for batch in ([frame(one)] * 300, [frame(one)] * 300, [frame(one), frame(two)] * 300):
        found = decoder.rows(batch, ("a",))
        assert found.vectors
        assert list(found.rows) == [(1,)] * len(batch)
    assert fake.requests == [f"/schemas/ids/{one}", f"/schemas/ids/{two}"]


def test_values_are_resolved_to_the_readers_schema(fake: FakeRegistry) -> None:
    """A file of ours, whatever the producer's schema is; one that does not fit makes its records at fault."""
    number, other = fake.register(RECORD), fake.register('"string"', "other")
    reader = RECORD | {"fields": [{"name": "a", "type": "double"}, {"name": "b", "type": "string", "default": "x"}]}
    decoder = FramedAvroDecoder(Registry(fake.url), reader)
    assert decoder.decode([frame(number)]) == [{"a": 1.0, "b": "x"}]
    with pytest.raises(DecodeError, match=f"schema id {other} of the schema registry cannot be read"):
        decoder.decode([frame(other, b"\2x")])


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ((503, {}, HTML), "HTTP 503"),
        ((500, {}, json.dumps({"error_code": 50001, "message": CANARY})), "HTTP 500"),
        ((408, {}, ""), "HTTP 408"),
        ((404, {}, HTML), "HTTP 404, though not about a schema; is format.registry.url right"),
        ((404, {}, '{"error_code": 404}'), "HTTP 404, though not about a schema"),
        ((302, {"Location": "http://127.0.0.1:1/"}, ""), "HTTP 302; put the address that it leads to"),
        ((301, {"Location": "http://[x"}, ""), "HTTP 301; put the address"),
        ((200, {}, HTML), "the answer is not JSON; is format.registry.url right"),
        ((200, {}, "[" * 100_000), "the answer is not JSON"),
        ((200, {}, '{"id": 1}'), "the answer holds no schema; is format.registry.url right"),
        ((200, {}, "[1]"), "the answer holds no schema"),
        ((200, {}, json.dumps({"schema": "x" * (5 << 20)})), "an answer of more than 4 MiB"),
        ((200, {"Content-Length": "100"}, '{"schema": "'), "the answer is not JSON"),
    ],
)
def test_an_answer_that_is_not_a_registrys_is_an_outage(
    fake: FakeRegistry, fault: tuple[int, dict[str, str], str], told: str
) -> None:
    """No record is at fault for it; the sentence says what it is, without the answer's text."""
    fake.fault = fault
    with pytest.raises(UnavailableError, match=told) as error:
        Registry(fake.url, f"Bearer {CANARY}").schema(1)
    assert str(error.value).startswith(f"schema registry at {fake.url}: ")
    assert CANARY not in str(error.value)
    assert error.value.retry_after is None


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("9" * 400, 300.0), ("Fri, 27 Nov 2026 09:00:00 GMT", None), ("-1", None)]
)
def test_a_registry_that_is_busy_says_when_to_come_again(
    fake: FakeRegistry, header: str, seconds: float | None
) -> None:
    """In seconds, of which 300 are enough; or else the usual waits are kept."""
    fake.fault = 429, {"Retry-After": header}, ""
    with pytest.raises(UnavailableError, match="HTTP 429") as error:
        Registry(fake.url).schema(1)
    assert error.value.retry_after == seconds


def test_a_registry_that_is_not_there_is_an_outage() -> None:
    """Nobody listens; the name is nobody's."""
    (port,) = free_ports(1)
    for url in (f"http://127.0.0.1:{port}", "http://nobody.invalid"):
        with pytest.raises(UnavailableError, match=f"schema registry at {url}: "):
            Registry(url).schema(1)


def test_a_registry_that_does_not_answer_is_an_outage(fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the request, and that is all."""
    monkeypatch.setattr("consumer.decode.registry.SECONDS", 0.1)
    fake.silent = True
    with pytest.raises(UnavailableError, match="timed out"):
        Registry(fake.url).schema(1)


@pytest.mark.parametrize("status", [401, 403])
def test_a_registry_that_refuses_us_stops_the_daemon(fake: FakeRegistry, status: int) -> None:
    """It says which settings are to be corrected, and not what they are."""
    fake.fault = status, {}, CANARY
    with pytest.raises(FatalError, match=f"refuses us \\(HTTP {status}\\)") as error:
        Registry(fake.url, f"Bearer {CANARY}", setting="key_format.registry").schema(1)
    assert "Correct key_format.registry.username and password, or token" in error.value.hint
    assert CANARY not in str(error.value) + error.value.hint


@pytest.mark.parametrize("given", [("me", "p\N{SNOWMAN}:", None), (None, None, "token-1")])
def test_credentials_are_sent(given: tuple[str | None, str | None, str | None]) -> None:
    """A user's, or a token."""
    authorization = authorization_of(*given)
    fake = FakeRegistry(authorization)
    fake.start()
    try:
        number = fake.register('"int"')
        assert Registry(fake.url, authorization).schema(number).schema == "int"
        with pytest.raises(FatalError, match="HTTP 401"):
            Registry(fake.url).schema(number)
    finally:
        fake.stop()


def test_credentials_are_never_taken_elsewhere(fake: FakeRegistry) -> None:
    """A redirect is not followed."""
    thief = FakeRegistry()
    thief.start()
    try:
        fake.fault = 307, {"Location": f"{thief.url}/schemas/ids/1"}, ""
        with pytest.raises(UnavailableError, match="HTTP 307"):
            Registry(fake.url, f"Bearer {CANARY}").schema(1)
        assert thief.requests == []
    finally:
        thief.stop()


@pytest.mark.parametrize(
    ("schema", "more", "told"),
    [
        ("no JSON", {}, "schema id 1 is no JSON in the schema registry"),
        ('"nothing"', {}, "schema id 1 of the schema registry cannot be read: it does not define the type nothing"),
        ('{"type": "record"}', {}, "schema id 1 of the schema registry cannot be read"),
        ("message A {}", {"schemaType": "PROTOBUF"}, "of the type PROTOBUF in the schema registry, and only AVRO"),
        ('"int"', {"references": 5}, "has a reference without subject and version"),
        ('"int"', {"references": [{"name": "x"}]}, "has a reference without subject and version"),
        (
            '"int"',
            {"references": [{"subject": "x", "version": 1}]},
            "version 1 of x, which schema id 1 refers to, is not kn",
        ),
    ],
)
def test_a_schema_that_cannot_be_used_makes_its_records_at_fault(
    fake: FakeRegistry, schema: str, more: dict[str, object], told: str
) -> None:
    """The reason names the id."""
    number = fake.register(schema, **more)
    with pytest.raises(DecodeError, match=told):
        FramedAvroDecoder(Registry(fake.url), unknown_after=0).decode([frame(number)])


def test_schemas_that_refer_to_each_other_end(fake: FakeRegistry) -> None:
    """No registry has them; and one chain is as long as another server likes."""
    reference = {"name": "A", "subject": "circle", "version": 1}
    fake.register(RECORD, "circle", references=[reference])
    number = fake.register('"A"', "other", references=[reference])
    assert FramedAvroDecoder(Registry(fake.url)).decode([frame(number)]) == [{"a": 1}]
    chain = [{"name": "A", "subject": f"c{n}", "version": 1} for n in range(101)]
    for at in range(100):
        fake.register('"int"', f"c{at}", references=[chain[at + 1]])
    number = fake.register('"int"', "long", references=[chain[0]])
    fake.register('"int"', "c100")
    with pytest.raises(DecodeError, match="refers to more than 100 schemas"):
        Registry(fake.url).schema(number)


def test_a_replica_that_lags_does_not_know_an_id(fake: FakeRegistry) -> None:
    """Until it has caught up."""
    number = fake.register('"int"')
    fake.lagging = {number}
    with pytest.raises(UnknownIdError):
        Registry(fake.url).schema(number)
    fake.lagging = set()
    assert Registry(fake.url).schema(number).schema == "int"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of localhost, signed by itself: its key and certificate in one file."""
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate")
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run([*made, *names], check=True, capture_output=True)
    path.write_text(path.read_text() + path.with_suffix(".key").read_text())
    return path


def test_only_a_registry_that_can_show_who_it_is_is_spoken_to(certificate: Path) -> None:
    """By an authority that is trusted, and by its name; what is sent before that is nothing."""
    fake = FakeRegistry(f"Bearer {CANARY}", certificate)
    fake.start()
    try:
        number = fake.register('"int"')
        url = f"https://localhost:{fake.port}"
        assert Registry(url, f"Bearer {CANARY}", certificate).schema(number).schema == "int"
        for wrong, ca in ((url, None), (f"https://127.0.0.1:{fake.port}", certificate)):
            with pytest.raises(UnavailableError, match=r"certificate|IP address mismatch"):
                Registry(wrong, f"Bearer {CANARY}", ca).schema(number)
        assert len(fake.requests) == 1
    finally:
        fake.stop()


@pytest.mark.parametrize("text", ["", "no certificate", None])
def test_a_file_of_authorities_without_one_is_a_configuration_error(tmp_path: Path, text: str | None) -> None:
    """Found at the start."""
    ca = tmp_path / "ca.pem"
    if text is not None:
        ca.write_text(text)
    with pytest.raises(ConfigError, match=r"format\.registry\.ca: holds no certificates in PEM"):
        Registry("https://x", ca=ca)
