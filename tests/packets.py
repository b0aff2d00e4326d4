"""Packets for the interpreter, from readable parts. Ports are `Endpoint`s; addresses are text."""

from openflow import addresses
from selvedge.topology import Endpoint
from tests.interpreter import Packet

BROADCAST = (1 << 48) - 1


def ip(text: str) -> int:
    """The value of an address."""
    return addresses.address(text).value


def frame(src: Endpoint | str, dst: Endpoint | str | int, **fields: int) -> Packet:
    """An Ethernet frame between two ports or MACs."""
    return {"eth_src": _mac(src), "eth_dst": _mac(dst), **fields}


def ipv4(src: Endpoint | str, dst: Endpoint | str | int, source: str, destination: str, **fields: int) -> Packet:
    """An IPv4 packet (ICMP echo unless told otherwise)."""
    known = {"eth_type": 0x0800, "ip_proto": 1, "ipv4_src": ip(source), "ipv4_dst": ip(destination)}
    return frame(src, dst, **{**known, **fields})


def ipv6(src: Endpoint | str, dst: Endpoint | str | int, source: str, destination: str, **fields: int) -> Packet:
    """An IPv6 packet (ICMPv6 echo unless told otherwise)."""
    known = {"eth_type": 0x86DD, "ip_proto": 58, "icmpv6_type": 128}
    return frame(src, dst, **{**known, "ipv6_src": ip(source), "ipv6_dst": ip(destination), **fields})


def udp(src: Endpoint, dst: Endpoint | int, source: str, destination: str, ports: tuple[int, int]) -> Packet:
    """A UDP datagram over either IP version."""
    fields = {"ip_proto": 17, "udp_src": ports[0], "udp_dst": ports[1]}
    if ":" in source:
        return {**ipv6(src, dst, source, destination, **fields), "icmpv6_type": 0}
    return ipv4(src, dst, source, destination, **fields)


def arp(
    src: Endpoint | str,
    spa: str,
    tpa: str,
    *,
    op: int = 1,
    dst: Endpoint | int = BROADCAST,
    sha: str = "",
    tha: int = 0,
) -> Packet:
    """An ARP packet, a broadcast request unless told otherwise; `sha` is the sender's own MAC unless it is forged."""
    fields = {"arp_op": op, "arp_spa": ip(spa), "arp_tpa": ip(tpa), "arp_sha": _mac(sha or src), "arp_tha": tha}
    return frame(src, dst, eth_type=0x0806, **fields)


def solicit(src: Endpoint, source: str, target: str, *, sll: str | None = "", dst: Endpoint | None = None) -> Packet:
    """A neighbour solicitation, to the target's solicited-node group unless `dst` is given. `sll` None: no option."""
    low = ip(target) & 0xFFFFFF
    group = ip("ff02::1:ff00:0") | low
    packet = ipv6(src, dst or 0x3333FF000000 | low, source, "::", icmpv6_type=135, nd_target=ip(target))
    packet["ipv6_dst"] = ip(target) if dst else group
    packet["nd_sll"] = 0 if sll is None else _mac(sll or src)
    return packet


def advertise(src: Endpoint, source: str, target: str, *, tll: str | None = "", dst: Endpoint | None = None) -> Packet:
    """A neighbour advertisement, to all nodes unless `dst` is given. `tll` None: no option."""
    packet = ipv6(src, dst or 0x333300000001, source, "ff02::1", icmpv6_type=136, nd_target=ip(target))
    packet["nd_tll"] = 0 if tll is None else _mac(tll or src)
    return packet


def lla(port: Endpoint) -> str:
    """A port's link-local address."""
    value = addresses.link_local(addresses.mac(port.mac))
    return ":".join(f"{value >> shift & 0xFFFF:x}" for shift in range(112, -1, -16))


def _mac(thing: Endpoint | str | int) -> int:
    if isinstance(thing, int):
        return thing
    return addresses.mac(thing.mac if isinstance(thing, Endpoint) else thing)
