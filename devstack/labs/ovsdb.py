"""One transaction on an Open vSwitch database, in a millisecond (RFC 7047; `ovs-vsctl` is a process and waits).

Plugging a VM is one such transaction, and what benchmarks measure starts with it. Blocking, one request at a time; no
monitor, no cache: for that the agent has its own client.
"""

import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from devstack.labs.process import LabError


class Database:
    """A connection to ovsdb-server's unix socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise LabError(f"{path}: {error.strerror}") from error
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def transact(self, *operations: dict[str, Any]) -> list[Any]:
        """The operations' results once it is committed; raises LabError with the server's reason if it is not."""
        self._number += 1
        request = {"method": "transact", "params": ["Open_vSwitch", *operations], "id": self._number}
        self._socket.sendall(json.dumps(request).encode())
        while True:
            answer = self._receive()
            if answer.get("method") == "echo":
                self._socket.sendall(json.dumps({"result": answer["params"], "error": None, "id": "echo"}).encode())
            elif answer.get("id") == self._number:
                break
        for result in answer["result"] or [answer]:
            if result and result.get("error"):
                raise LabError(f"Open vSwitch's database: {result['error']}: {result.get('details', '')}")
        results: list[Any] = answer["result"]
        return results

    def _receive(self) -> dict[str, Any]:
        while True:
            try:
                answer, end = self._decoder.raw_decode(self._text)
            except ValueError:
                data = self._socket.recv(1 << 20)
                if not data:
                    raise LabError("ovsdb-server closed the connection") from None
                self._text += data.decode()
                continue
            self._text = self._text[end:].lstrip()
            document: dict[str, Any] = answer
            return document


def plug_operations(tap: str, port: str | None, mac: str, bridge: str = "br-int") -> list[dict[str, Any]]:
    """Add interface `tap` to the bridge with external_ids as Nova and os-vif write them; `port` None: no iface-id."""
    identity = {"attached-mac": mac, "iface-status": "active", **({"iface-id": port} if port else {})}
    interface, row = f"i_{_name(tap)}", f"p_{_name(tap)}"
    return [
        {
            "op": "insert",
            "table": "Interface",
            "uuid-name": interface,
            "row": {"name": tap, "external_ids": ["map", sorted(identity.items())]},
        },
        {
            "op": "insert",
            "table": "Port",
            "uuid-name": row,
            "row": {"name": tap, "interfaces": ["named-uuid", interface]},
        },
        {
            "op": "mutate",
            "table": "Bridge",
            "where": [["name", "==", bridge]],
            "mutations": [["ports", "insert", ["named-uuid", row]]],
        },
        *NUDGE,
    ]


def identify_operations(tap: str, port: str) -> list[dict[str, Any]]:
    """Give an interface that is on the bridge already its iface-id: the moment at which it is the port's."""
    return [
        {
            "op": "mutate",
            "table": "Interface",
            "where": [["name", "==", tap]],
            "mutations": [["external_ids", "insert", ["map", [["iface-id", port]]]]],
        }
    ]


NUDGE: list[dict[str, Any]] = [
    {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]}
]
"""What `ovs-vsctl` does too: it lets others see when vswitchd has caught up (cur_cfg)."""


def _name(tap: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in tap)
