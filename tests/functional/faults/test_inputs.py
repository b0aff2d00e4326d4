"""The API's door, on the real server: whatever a client sends, or does not send, others are served as before."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.labs.broker import Broker
from devstack.labs.controllers import Controller
from devstack.labs.process import free_port

THREADS, PATIENCE = 4, 1
HEAD = b"POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
SENT = {
    "nothing of HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    "an endless line": b"GET /" + b"x" * 200_000,
    "an endless header": HEAD + b"X: " + b"y" * 200_000,
    "ten thousand headers": HEAD + b"".join(b"X-%d: y\r\n" % number for number in range(10_000)) + b"\r\n",
    "a body of a terabyte": HEAD + b"Content-Length: 1000000000000\r\n\r\n{",
    "a length that is none": HEAD + b"Content-Length: -5\r\n\r\n{}",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "an endless chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + b"z" * 100_000,
    "a length and chunks": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    "bytes of no text in the path": b"GET /v2.0/ports/\xff\xfe%00%zz?\xff=%ff HTTP/1.1\r\nHost: \xff\r\n\r\n",
    "bytes of no text in headers": b"GET /v2.0/x HTTP/1.1\r\nHost: x\r\nX-Roles: \xff\r\nConnection: close\r\n\r\n",
}


@pytest.fixture(scope="module")
def controller(broker: Broker, state: Path) -> Iterator[Controller]:
    """One with few threads and little patience."""
    made = Controller(
        "inputs",
        state=state / "inputs",
        port=free_port(),
        transport_url=broker.url,
        database=f"sqlite:///{state}/inputs.db",
        options={"DEFAULT": {"threads": str(THREADS), "client_timeout": str(PATIENCE)}},
    )
    made.start()
    yield made
    made.kill()


def connected(controller: Controller) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(controller.api.url.rpartition(":")[2])), timeout=10)


def memory(controller: Controller) -> int:
    """Resident bytes of the controller's processes."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if controller.pid in (int(fields[1]), int(path.parent.name)):
                total += int(fields[21]) * 4096
    return total


@pytest.mark.parametrize("what", SENT)
def test_a_request_that_is_none_is_refused_and_the_next_one_served(controller: Controller, what: str) -> None:
    """Given these bytes, the answer is a refusal or the connection's end, within the client's time, and the memory is
    what it was."""
    before = memory(controller)
    with connected(controller) as client:
        with contextlib.suppress(ConnectionError):  # it need not listen to the end
            client.sendall(SENT[what])
        answer = b""
        with contextlib.suppress(ConnectionError):
            while data := client.recv(65536):
                answer += data
    assert not answer or answer.split()[1][:1] == b"4", answer[:300]
    assert b"Traceback" not in answer
    assert controller.api.list("networks") == []
    assert memory(controller) - before < 32 << 20


def test_clients_that_stop_in_the_middle_do_not_keep_the_others_out(controller: Controller) -> None:
    """Given more clients than threads that send a part of a request and then nothing, the API answers the next one as
    soon as their time is over."""
    parts = (HEAD[:30], HEAD + b"Content-Length: 500\r\n\r\n{", HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab")
    silent = [connected(controller) for _ in range(THREADS * 3)]
    try:
        for number, client in enumerate(silent):
            client.sendall(parts[number % len(parts)])
        time.sleep(0.2)
        assert controller.api.list("networks") == []
    finally:
        for client in silent:
            client.close()
    assert "Traceback" not in controller.daemon.log.read_text()
