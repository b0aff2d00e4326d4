"""Where a switch has dropped packets, as it and the kernel count: what explains a loss afterwards.

Two kinds of numbers. vswitchd's own counters of drops (`coverage/show`, asked over its control socket), which also
count what rules forbid; and the drops of the packet sockets by which it reads its interfaces (`ss`): a packet that
finds such a queue full was never seen by the switch, because that got no CPU for longer than the queue lasts. A
restarted vswitchd counts from zero.
"""

import json
import re
import socket
from collections import defaultdict
from collections.abc import Mapping

from devstack.labs.hypervisor import Hypervisor
from devstack.labs.process import LabError

QUEUES = "full interface queues"
COVERAGE = re.compile(r"^(\w*drop\w*|\w*lost\w*)\s.*total: (\d+)$", re.MULTILINE)
SOCKET = re.compile(r"\bino:(\d+) .*?skmem:\([^)]*,d(\d+)\)", re.DOTALL)


def count(hypervisor: Hypervisor) -> dict[str, int]:
    """Drops by name (of a queue: and its socket) until now; empty while the switch does not answer."""
    pid = hypervisor.daemons["vswitchd"].pid
    if pid is None:
        return {}
    try:
        words = control(hypervisor, pid, "coverage/show")
        sockets = hypervisor.run("ss", "-0", "-m", "-n", "-e", "-O", "-H")
    except (OSError, ValueError, LabError):
        return {}
    found = {name: int(total) for name, total in COVERAGE.findall(words)}
    return found | {f"{QUEUES} {number}": int(total) for number, total in SOCKET.findall(sockets)}


def control(hypervisor: Hypervisor, pid: int, method: str) -> str:
    """The answer of a command on vswitchd's control socket. Raises OSError, ValueError."""
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(2.0)
        door.connect(str(hypervisor.rundir / f"ovs-vswitchd.{pid}.ctl"))
        door.sendall(json.dumps({"id": 0, "method": method, "params": []}).encode())
        text = b""
        while True:
            data = door.recv(1 << 16)
            if not data:
                raise ValueError("the switch closed its control socket")
            text += data
            try:
                return str(json.loads(text)["result"])
            except ValueError:
                continue


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """What has been counted between two counts; all queues are one."""
    found: defaultdict[str, int] = defaultdict(int)
    for name, total in after.items():
        if total > before.get(name, 0):
            found[QUEUES if name.startswith(QUEUES) else name] += total - before.get(name, 0)
    return dict(found)
