"""Watches one plug from outside: when Open vSwitch gave the interface its number, and when the switch had its flows.

Between a plug and the first reply lie two shares of the time: Open vSwitch's own, until the interface has an OpenFlow
port (which grows with the interfaces it has), and ours, from there to the flows. The witness has a monitor on the
database, of this one interface, and a flow monitor on the bridge: both are told of changes, neither asks.
"""

import json
import os
import select
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.openflow_watch import Watch


class Witness:
    """A context manager; `ofport_at` and `flows_at` (the last change) are monotonic seconds, None while not seen."""

    def __init__(self, rundir: Path, bridge: str, interface: str) -> None:
        self.ofport_at: float | None = None
        self.flows_at: float | None = None
        self._watch = Watch(rundir / f"{bridge}.mgmt")
        self._watch.subscribe()
        self._database = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._database.connect(str(rundir / "db.sock"))
        row = {"columns": ["ofport"], "where": [["name", "==", interface]]}
        call = {"method": "monitor_cond", "params": ["Open_vSwitch", None, {"Interface": [row]}], "id": 1}
        self._database.sendall(json.dumps(call).encode())
        self._text, self._decoder = "", json.JSONDecoder()
        self._ended = os.eventfd(0)
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._watch.close()
        self._database.close()
        os.close(self._ended)

    def end(self, patience: float = 1.0) -> None:
        """Look no further. A packet may be quicker than the news of the flow that lets it pass: that is waited for."""
        deadline = time.monotonic() + patience
        while (self.ofport_at is None or self.flows_at is None) and time.monotonic() < deadline:
            time.sleep(0.002)
        os.eventfd_write(self._ended, 1)
        self._thread.join()

    def _run(self) -> None:
        watched: list[socket.socket | int] = [self._database, self._watch.socket, self._ended]
        while True:
            ready, _, _ = select.select(watched, [], [])
            now = time.monotonic()
            if self._database in ready:
                self._read(now)
            if self._watch.socket in ready and self._watch.changes():
                self.flows_at = now
            if self._ended in ready:
                return

    def _read(self, now: float) -> None:
        self._text += self._database.recv(1 << 16).decode()
        while True:
            try:
                message, end = self._decoder.raw_decode(self._text)
            except ValueError:
                return
            self._text = self._text[end:].lstrip()
            if message.get("method") == "echo":
                reply = {"result": message["params"], "error": None, "id": message["id"]}
                self._database.sendall(json.dumps(reply).encode())
            elif message.get("method") == "update2" and self.ofport_at is None:
                rows = message["params"][1].get("Interface", {}).values()
                if any(isinstance(row.get(change, {}).get("ofport"), int) for row in rows for change in row):
                    self.ofport_at = now
