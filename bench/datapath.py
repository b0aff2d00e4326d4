"""The megaflows of a userspace datapath, and what a packet that is in no cache costs: masks and subtables.

Open vSwitch's userspace datapath looks a packet up in one hash table per mask and input port, one after the other,
until one of them has it. Three numbers say how many there are:

    megaflows   flows in the datapath (`dpctl/dump-flows -m`)
    masks       distinct masks among them, as the kernel's datapath counts (userspace does not say: `dpctl/show` has no
                line of masks there), found from the dump, which with `-m` writes every mask out
    subtables   tables of that lookup that are in use: (mask, input port), as the switch counts (`dpif-netdev/
                subtable-lookup-info-get`); the dump must have as many, or masks are not read as the switch has them

A field that is written without a mask is matched exactly. Fields that are one field to a lookup, such as the ports of
TCP and the type of ICMP, get one name.
"""

import re
from typing import NamedTuple

from bench.outcome import WrongShape
from devstack.labs.hypervisor import Hypervisor

_PIECE = re.compile(r"([\w.]*[({])|([^(){},]+)|([)}])")
_NOTHING = re.compile(r"(0x)?[0:.]*")
_ONE_NAME = {
    **dict.fromkeys(("tcp", "udp", "sctp", "icmp", "icmpv6"), "ports"),
    "arp": "ip",
    "ipv4": "ip",
    "type": "src",
    "code": "dst",
    "sip": "src",
    "tip": "dst",
    "op": "proto",
}


class Megaflows(NamedTuple):
    megaflows: int
    masks: int
    subtables: int


def mask_of(flow: str) -> frozenset[str]:
    """The mask of one line of `dpctl/dump-flows -m`: `field=mask` of every field that is looked at."""
    found, path = set[str](), list[str]()
    for opening, leaf, closing in _PIECE.findall(flow.partition(", packets:")[0]):
        if opening:
            path.append(_ONE_NAME.get(opening[:-1], opening[:-1]))
        elif closing:
            path.pop()
        elif path and leaf.strip():
            name, equals, value = leaf.rpartition("=")
            if not equals and value[0] in "+-":  # flags: those that are named are looked at
                found.update(f"{'.'.join(path)}.{flag}" for flag in re.split("[+-]", value)[1:])
                continue
            mask = value.partition("/")[2] if "/" in value else "exact"
            if not _NOTHING.fullmatch(mask):
                found.add(f"{'.'.join(path)}.{_ONE_NAME.get(name, name)}={mask}")
    return frozenset(found)


def input_of(flow: str) -> str:
    """The name of the interface that the flow's packets come in by."""
    found = re.search(r"in_port\(([^)]*)\)", flow)
    return found.group(1) if found else ""


def dump(hypervisor: Hypervisor) -> list[str]:
    """One line for each megaflow, all masks written out."""
    lines = hypervisor.run("ovs-appctl", "dpctl/dump-flows", "-m", "--names").splitlines()
    return [line for line in lines if "recirc_id(" in line]


def megaflows(hypervisor: Hypervisor, attempts: int = 5) -> Megaflows:
    """What is in the host's datapath now, of all its bridges. Raises WrongShape if dump and count do not agree."""
    for _ in range(attempts):
        flows = dump(hypervisor)
        uses = re.findall(r"Use count: (\d+)", hypervisor.run("ovs-appctl", "dpif-netdev/subtable-lookup-info-get"))
        found = Megaflows(len(flows), len({mask_of(flow) for flow in flows}), sum(map(int, uses)))
        if len({(input_of(flow), mask_of(flow)) for flow in flows}) == found.subtables:
            return found  # else a megaflow came or went between the two questions
    raise WrongShape(
        f"{hypervisor.name} has {found.subtables} subtables, and its dump another number:\n" + "\n".join(flows)
    )


def forget(hypervisor: Hypervisor) -> None:
    """Remove all megaflows; whatever is sent next makes its own."""
    hypervisor.run("ovs-appctl", "revalidator/purge")
