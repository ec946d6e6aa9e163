"""A headless Chromium that tests drive through its own protocol, over two pipes; needs no package.

Protocol: https://chromedevtools.github.io/devtools-protocol/, one JSON message after another, each ended
by a zero byte, read from descriptor 3 and written to descriptor 4.
"""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from select import select
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"),
    *("--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--hide-scrollbars"),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--force-device-scale-factor=1",
    ),
)
PATIENCE_S = 60.0


def found() -> str | None:
    """Return the path of a Chromium on this machine."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class BrowserError(Exception):
    """The browser said no, or nothing at all."""


@dataclass(slots=True)
class Tab:
    """One page that is open."""

    to_browser: int
    from_browser: int
    session: str | None = None
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings of the console, exceptions, and what the page's policy has forbidden."""
    requests: list[str] = field(default_factory=list)
    """Addresses that the page has asked for, but for those that hold their data."""
    _seen: dict[int, dict[str, Any]] = field(default_factory=dict)
    _events: list[str] = field(default_factory=list)
    _sent: int = 0
    _rest: bytes = b""

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send a command and return its result."""
        self._sent += 1
        number = self._sent
        message = {"id": number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE_S
        while number not in self._seen:
            self._listen(until)
        answer = self._seen.pop(number)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def run(self, script: str) -> Any:  # noqa: ANN401  whatever the script gives
        """Return what an expression gives, promises awaited."""
        answer = self.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise BrowserError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + PATIENCE_S
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > until:
                raise BrowserError(f"still not true: {condition}")
            time.sleep(0.02)

    def open(self, path: Path) -> None:
        """Open a file and wait for its script."""
        self.ask("Page.navigate", url=path.as_uri())
        self.wait_for(
            "document.readyState === 'complete' && document.documentElement.dataset.ready"
        )

    def key(self, key: str, *, text: str = "") -> None:
        """Press a key and let it go."""
        code = {"Enter": 13, "Tab": 9, " ": 32, "Escape": 27}.get(key, 0)
        about = {"key": key, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, text: str) -> None:
        """Write text where the focus is."""
        self.ask("Input.insertText", text=text)

    def look(
        self, path: Path, *, width: int, height: int, dark: bool = False, whole: bool = True
    ) -> None:
        """Save a picture of the page at a width."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media="screen", features=[scheme])
        about = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **about)
        self.settle()
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def print(self, path: Path) -> None:
        """Save the page as it is printed."""
        printed = self.ask("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        path.write_bytes(base64.b64decode(printed["data"]))

    def settle(self) -> None:
        """Wait until what is shown has been drawn."""
        frame = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.run(f"{frame}.then(() => true)")

    def _listen(self, until: float) -> None:
        left_s = until - time.monotonic()
        if left_s <= 0 or not select([self.from_browser], [], [], left_s)[0]:
            raise BrowserError(f"no answer for {PATIENCE_S:.0f} s")
        data = os.read(self.from_browser, 1 << 20)
        if not data:
            raise BrowserError("the browser has ended")
        *messages, self._rest = (self._rest + data).split(b"\0")
        for each in messages:
            message = json.loads(each)
            if "id" in message:
                self._seen[message["id"]] = message
            else:
                self._hear(message["method"], message["params"])

    def _hear(self, method: str, said: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(said["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and said["type"] in {"error", "warning"}:
            self.complaints.append(json.dumps(said["args"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(json.dumps(said["entry"]))
        elif method == "Network.requestWillBeSent":
            url = said["request"]["url"]
            if not url.startswith("data:"):
                self.requests.append(url)


@contextmanager
def opened(program: str, profile: Path) -> Iterator[Tab]:
    """Give an empty tab of a browser of its own, which ends with the block."""
    hears, to_browser = os.pipe()
    from_browser, says = os.pipe()
    # The shell puts the pipes where Chromium looks for them.
    line = f'exec "$@" 3<&{hears} 4>&{says}'
    command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        ["bash", "-c", line, "bash", *command],  # noqa: S607
        pass_fds=(hears, says),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(hears)
    os.close(says)
    tab = Tab(to_browser=to_browser, from_browser=from_browser)
    try:
        target = tab.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = tab.ask("Target.attachToTarget", targetId=target, flatten=True)
        tab.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.ask(f"{domain}.enable")
        yield tab
    finally:
        tab.session = None
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(to_browser)
        os.close(from_browser)
