"""A Schema Registry in this process, with the failures that a real one has now and then; and Apicurio, a real one."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.services.kafka import free_ports

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "apicurio"
JAVA = 21  # what Apicurio 3.3 needs
_MEMORY = ["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


class FakeRegistry:
    """Confluent's API as far as it is asked here. What it does wrong is set while it runs.

    `fault`: the status, headers and body of every answer. `silent`: it takes requests, and does not answer. `lagging`:
    ids that this replica has not heard of. `authorization`: what every request must bring. `certificate`: for TLS.
    """

    def __init__(self, authorization: str | None = None, certificate: Path | None = None) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.authorization, self._certificate = authorization, certificate
        self.fault: tuple[int, Mapping[str, str], str] | None = None
        self.lagging: set[int] = set()
        self.requests: list[str] = []
        self.silent = False
        self._loud = threading.Event()
        self._bodies: list[dict[str, Any]] = []
        self._versions: dict[tuple[str, int], dict[str, Any]] = {}
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """At the same address each time."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake._serve(self)

            def do_POST(self) -> None:
                fake._serve(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *_: Any) -> None:
                """Nowhere."""

        self._loud.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        if self._certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Its schemas are there when it starts again."""
        self._loud.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def register(self, schema: Any, subject: str = "t-value", **more: Any) -> int:
        """Returns the id. `more`: schemaType, references."""
        return self._register(subject, {"schema": schema if isinstance(schema, str) else json.dumps(schema)} | more)

    def _register(self, subject: str, body: dict[str, Any]) -> int:
        version = 1 + sum(name == subject for name, _ in self._versions)
        if body not in self._bodies:
            self._bodies.append(body)
        self._versions[subject, version] = body
        return 1 + self._bodies.index(body)

    def _serve(self, handler: BaseHTTPRequestHandler, posted: dict[str, Any] | None = None) -> None:
        self.requests.append(handler.path)
        if self.silent:
            self._loud.wait(60)
            return
        status, headers, body = self.fault or self._answer(handler, posted)
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(body.encode()))} | dict(headers)).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body.encode())

    def _answer(
        self, handler: BaseHTTPRequestHandler, posted: dict[str, Any] | None
    ) -> tuple[int, Mapping[str, str], str]:
        if self.authorization and handler.headers["Authorization"] != self.authorization:
            return 401, {}, json.dumps({"error_code": 401, "message": "Unauthorized"})
        path = [urllib.parse.unquote(part) for part in handler.path.split("/")[1:]]
        match path:
            case ["schemas", "types"]:
                return 200, {}, '["AVRO"]'
            case ["schemas", "ids", number]:
                at = int(number)
                known = 1 <= at <= len(self._bodies) and at not in self.lagging
                return _found(self._bodies[at - 1] if known else None, 40403)
            case ["subjects", subject, "versions"] if posted is not None:
                return 200, {}, json.dumps({"id": self._register(subject, posted)})
            case ["subjects", subject, "versions", number]:
                return _found(self._versions.get((subject, int(number))), 40402)
        return 404, {}, "<html>nothing is here</html>"


def _found(body: dict[str, Any] | None, code: int) -> tuple[int, Mapping[str, str], str]:
    if body is None:
        return 404, {}, json.dumps({"error_code": code, "message": "not found"})
    return 200, {}, json.dumps(body)


class Apicurio:
    """The real one, in memory: from Maven, once, 160 MB."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._management = free_ports(2)
        self.url = f"http://127.0.0.1:{self._port}/apis/ccompat/v7"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers."""
        self._fetch()
        own = [f"-Dquarkus.http.port={self._port}", f"-Dquarkus.management.port={self._management}"]
        own += ["-Dquarkus.http.host=127.0.0.1", "-Dquarkus.management.host=127.0.0.1"]
        with (self._folder / "apicurio.log").open("wb") as log:
            self._process = subprocess.Popen(
                [_java(), *_MEMORY, *own, "-jar", "quarkus-run.jar"], cwd=CACHE / "app", stdout=log, stderr=log
            )
        end = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self._folder / "apicurio.log").read_text()[-2000:])
            time.sleep(0.1)

    def stop(self) -> None:
        """End it; it forgets everything."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=5):
                return True
        except OSError:
            return False

    def _fetch(self) -> None:
        if (CACHE / "app").exists():
            return
        CACHE.mkdir(parents=True, exist_ok=True)
        pom = ["-f", str(HERE / "apicurio.xml"), f"-DoutputDirectory={CACHE}"]
        subprocess.run(["mvn", "-q", "-B", "dependency:copy-dependencies", *pom], check=True)
        (archive,) = CACHE.glob("*.tar.gz")
        shutil.unpack_archive(archive, CACHE / "new", filter="data")
        (CACHE / "new").rename(CACHE / "app")


def require_apicurio() -> None:
    """Skip, with the reason, where it is not wanted or cannot run."""
    if not os.environ.get("MICROBATCH_APICURIO"):
        pytest.skip("set MICROBATCH_REGISTRY_URL, or MICROBATCH_APICURIO=1 to fetch 160 MB from Maven once")
    told = subprocess.run([_java(), "-version"], capture_output=True, text=True, check=True).stderr
    found = re.search(r'version "(\d+)', told)
    if not found or int(found[1]) < JAVA:
        pytest.skip(f"Apicurio needs Java {JAVA}: set JAVA_HOME")


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else "java"


def register(url: str, subject: str, schema: Any, references: Sequence[Mapping[str, Any]] = (), **more: Any) -> int:
    """Over HTTP, as producers do; returns the id. `more`: schemaType."""
    text = schema if isinstance(schema, str) else json.dumps(schema)
    body = {"schema": text, **({"references": list(references)} if references else {}), **more}
    path = f"{url}/subjects/{urllib.parse.quote(subject, safe='')}/versions"
    asked = urllib.request.Request(path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return int(json.load(answer)["id"])
