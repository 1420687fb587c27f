"""`sessiond serve` as a real process: started, asked, stopped, killed."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import urllib.request

from tests.support.patience import PATIENCE, wait_for

STARTED = "sessiond is ready on "
_SOON = {"SESSIOND_SETTLE_REST": "0.1"}
"""Lists and consumers needn't be waited for, except where a test says otherwise."""


class ServerProcess:
    """A running service. `target` is what a client connects to."""

    def __init__(self, *arguments: str, listen: str = "127.0.0.1:0", **environment: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SESSIOND_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sessiond_server", "serve", *arguments],
            env={**kept, "SESSIOND_LISTEN": listen, **_SOON, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read_out, daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self.addresses = self._wait_ready()
        self.target = self.addresses[0]

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)

    def _wait_ready(self) -> list[str]:
        while (line := self._lines.get(timeout=PATIENCE)) is not None:
            if line.startswith(STARTED):
                return line.removeprefix(STARTED).strip().split(", ")
        self._end()
        raise RuntimeError(f"the server didn't start: {''.join(self.log)}")

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def bugs(self) -> list[str]:
        """What the server logged as its own mistakes."""
        return [line for line in self.log if '"level": "error"' in line]

    def figures(self) -> dict[str, float]:
        """What the metrics say now, of a server with `SESSIOND_METRICS_LISTEN`."""
        found = wait_for(lambda: [line for line in self.log if '"metrics"' in line], "no metrics")
        with urllib.request.urlopen(json.loads(found[0])["url"], timeout=PATIENCE) as answer:
            lines = [line for line in answer.read().decode().splitlines() if line[:1] != "#"]
        return {name: float(value) for name, value in (line.split() for line in lines)}

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self._end()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM, and wait; the exit code."""
        if self.running:
            self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._end()
        return self.process.returncode

    def _end(self) -> None:
        self.process.wait()
        for reader in self._readers:
            reader.join(5)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
