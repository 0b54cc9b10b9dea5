"""A real browser without a window, told what to do over a pipe (DevTools' protocol): CHROMIUM, or the one on PATH."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

PROGRAM = os.environ.get("CHROMIUM") or shutil.which("chromium")
_SECONDS = 30.0
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--lang=en-GB",
    "--remote-debugging-pipe",
)  # fmt: skip


class Chromium:
    """One page. `said` is what it wrote to its console, and what the browser says of it: refusals and errors."""

    def __init__(self) -> None:
        assert PROGRAM
        self._folder = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        folder = f"--user-data-dir={self._folder.name}"
        commands, answers = os.pipe(), os.pipe()
        self._process = subprocess.Popen(
            # The browser reads from descriptor 3 and writes to 4.
            ["bash", "-c", f'exec "$@" 3<&{commands[0]} 4>&{answers[1]}', "bash", PROGRAM, *_FLAGS, folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(commands[0], answers[1]),
        )
        os.close(commands[0])
        os.close(answers[1])
        self._commands, self._answers = os.fdopen(commands[1], "wb"), os.fdopen(answers[0], "rb")
        self._number, self._session, self._loaded = 0, "", False
        self.said: list[str] = []
        target = self._tell("Target.createTarget", url="about:blank")["targetId"]
        attached = self._tell("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._tell(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        self._tell("Browser.close")
        self._process.wait(_SECONDS)
        self._commands.close()
        self._answers.close()
        self._folder.cleanup()

    def look(self, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """The size of its window, in CSS pixels, and what colours its user prefers."""
        self._tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 640
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._tell("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Go there, and wait until it is loaded."""
        self._loaded = False
        self._tell("Page.navigate", url=url)
        while not self._loaded:
            self._hear(json.loads(self._read()))

    def value(self, expression: str) -> Any:
        """What this JavaScript makes, promises awaited. Raises AssertionError when it throws."""
        found = self._tell("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, condition: str, seconds: float = 10) -> None:
        """Wait until this JavaScript expression is true."""
        looked = f"""new Promise((resolve) => {{
            const end = Date.now() + {seconds * 1000};
            const look = () => ({condition}) || Date.now() > end ? resolve(Boolean({condition})) : setTimeout(look, 30);
            look();
        }})"""
        assert self.value(looked), f"it never came: {condition}"

    def screenshot(self, file: Path, *, whole: bool = False) -> None:
        """What can be seen, as PNG; `whole`: to the end of the page."""
        shot = self._tell("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            answer = json.loads(self._read())
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])
            self._hear(answer)

    def _hear(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        self._loaded |= event.get("method") == "Page.loadEventFired"
        if event.get("method") == "Log.entryAdded":
            self.said.append(f"{told['entry']['level']}: {told['entry']['text']}")
        elif event.get("method") == "Runtime.exceptionThrown":
            self.said.append(f"exception: {told['exceptionDetails'].get('exception', {}).get('description')}")
        elif event.get("method") == "Runtime.consoleAPICalled":
            self.said.append(f"console: {told['args']}")

    def _read(self) -> bytes:
        text = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            if not byte:
                raise AssertionError("the browser has ended")
            text += byte
        return bytes(text)
