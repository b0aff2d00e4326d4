"""An Open vSwitch of a test's own, and a connection to its bridge that speaks nothing but our codec.

servers = Servers(directory); servers.start()      ovsdb-server, ovs-vswitchd (userspace), one bridge br0, own namespace
bridge = Bridge(servers)                           br0.mgmt; every verb waits for the switch's barrier
"""

import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from openflow.codec import errors, flows, frames, groups, packets, session
from openflow.flow import CONTROLLER, Flow, Output, match

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
OUTPUT_TO_TABLE = Output(0xFFFFFFF9)


class Servers:
    """ovsdb-server and ovs-vswitchd in `directory`, with one bridge."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            "OVS_RUNDIR": str(directory),
            "OVS_LOGDIR": str(directory),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        door = self.directory / "db.sock"
        self.run("ovsdb-tool", "create", str(self.directory / "conf.db"), SCHEMA)
        self._daemon("ovsdb-server", str(self.directory / "conf.db"), f"--remote=punix:{door}")
        self._wait(door)
        self.vsctl("--no-wait", "init")
        self._daemon("ovs-vswitchd", f"unix:{door}", "--disable-system")
        self.vsctl(
            *(["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", "fail_mode=secure"]),
            "protocols=OpenFlow10,OpenFlow13,OpenFlow14",
        )
        self._wait(self.mgmt)

    @property
    def mgmt(self) -> Path:
        return self.directory / "br0.mgmt"

    def _daemon(self, name: str, *arguments: str) -> None:
        files = f"--unixctl={self.directory / name}.ctl", f"--pidfile={self.directory / name}.pid"
        log = (self.directory / f"{name}.out").open("ab")
        command = ["unshare", "--net", name, *arguments, *files]
        self.processes.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))

    def _wait(self, path: Path) -> None:
        deadline = time.monotonic() + 20
        while not path.exists():
            assert time.monotonic() < deadline, f"{path} is not there after 20 s"
            time.sleep(0.02)

    def run(self, *command: str, text: str | None = None) -> str:
        done = subprocess.run(command, env=self.environment, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def vsctl(self, *arguments: str) -> str:
        return self.run("ovs-vsctl", f"--db=unix:{self.directory / 'db.sock'}", *arguments)

    def ofctl(self, verb: str, *arguments: str, text: str | None = None) -> str:
        return self.run("ovs-ofctl", "-O", "OpenFlow14", verb, f"unix:{self.mgmt}", *arguments, text=text)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(10)


class Bridge:
    """A connection to the bridge; every verb waits for the switch's barrier."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(servers.mgmt))
        self.framer = frames.Framer()
        self.waiting: list[bytes] = []
        self.xid = 0
        self.send(session.hello(self.next()))
        assert 5 in session.hello_versions(self.receive(frames.HELLO))

    def next(self) -> int:
        self.xid += 1
        return self.xid

    def send(self, *messages: bytes) -> None:
        self.socket.sendall(b"".join(messages))

    def receive(self, *kinds: int) -> bytes:
        """The next message of one of these types; others are dropped, echo requests answered."""
        while True:
            while self.waiting:
                message = self.waiting.pop(0)
                if frames.kind_of(message) in kinds:
                    return message
                if frames.kind_of(message) == frames.ECHO_REQUEST:
                    self.send(session.echo_reply(message))
            data = self.socket.recv(1 << 17)
            assert data, "the switch hung up"
            self.waiting = self.framer.feed(data)

    def do(self, *messages: bytes) -> list[errors.SwitchError]:
        """Sends messages, returns what the switch refused of them."""
        barrier = self.next()
        self.send(*messages, session.barrier_request(barrier))
        refused: list[errors.SwitchError] = []
        while True:
            answer = self.receive(frames.ERROR, frames.BARRIER_REPLY)
            if frames.kind_of(answer) == frames.BARRIER_REPLY:
                assert frames.xid_of(answer) == barrier
                return refused
            refused.append(errors.error(answer))

    def add(self, wanted: Iterable[Flow]) -> list[errors.SwitchError]:
        return self.do(*(flows.add(flow.key, flow.body, self.next()) for flow in wanted))

    def clear(self) -> None:
        everything = b"\xff\0\0" + match().wire
        assert self.do(flows.delete(everything, self.next()), groups.delete(groups.ALL_GROUPS, self.next())) == []

    def flows(self, cookie: int = 0, mask: int = 0) -> dict[bytes, bytes]:
        self.send(flows.dump_request(self.next(), cookie, mask))
        found: dict[bytes, bytes] = {}
        while flows.read_flows(self.receive(frames.MULTIPART_REPLY), found):
            pass
        return found

    def groups(self) -> dict[int, bytes]:
        self.send(groups.dump_request(self.next()))
        found: dict[int, bytes] = {}
        while groups.read_groups(self.receive(frames.MULTIPART_REPLY), found):
            pass
        return found

    def options(self) -> tuple[session.Option, ...]:
        self.send(session.options_request(self.next()))
        return session.options(self.receive(frames.EXPERIMENTER))

    def through(self, packet: bytes, in_port: int = CONTROLLER) -> packets.PacketIn:
        """Sends a packet through the tables; what comes back to the controller."""
        self.send(packets.packet_out(packet, (OUTPUT_TO_TABLE,), self.next(), in_port))
        return packets.packet_in(self.receive(frames.PACKET_IN))
