"""Packets for the interpreter, from readable parts. Ports are `Endpoint`s; addresses are text."""

from openflow import addresses
from selvedge.topology import Endpoint
from tests import oracle_packets
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
    known = {"eth_type": 0x0800, "ipv4_src": ip(source), "ipv4_dst": ip(destination)}
    if "ip_proto" not in fields:
        known |= {"ip_proto": 1, "icmpv4_type": 8}
    return frame(src, dst, **{**known, **fields})


def ipv6(src: Endpoint | str, dst: Endpoint | str | int, source: str, destination: str, **fields: int) -> Packet:
    """An IPv6 packet (ICMPv6 echo unless told otherwise)."""
    known = {"eth_type": 0x86DD, "ipv6_src": ip(source), "ipv6_dst": ip(destination)}
    if "ip_proto" not in fields:
        known |= {"ip_proto": 58, "icmpv6_type": 128}
    return frame(src, dst, **{**known, **fields})


def udp(src: Endpoint, dst: Endpoint | int, source: str, destination: str, ports: tuple[int, int]) -> Packet:
    """A UDP datagram over either IP version."""
    fields = {"ip_proto": 17, "udp_src": ports[0], "udp_dst": ports[1]}
    if ":" in source:
        return ipv6(src, dst, source, destination, **fields)
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


# The oracle's packets -------------------------------------------------------------------------------------------------

PORT_FIELDS = {6: ("tcp_src", "tcp_dst"), 17: ("udp_src", "udp_dst"), 132: ("sctp_src", "sctp_dst")}
FIRST, LATER = 1, 3
"""Of `ip_frag`."""


def fields_of(packet: oracle_packets.Frame) -> Packet:
    """What a switch reads of a packet, and what its connection tracker does."""
    ethernet = {"eth_src": _mac(packet.source_mac), "eth_dst": _mac(packet.target_mac)}
    if isinstance(packet, oracle_packets.Other):
        return {**ethernet, "eth_type": packet.ethertype}
    if isinstance(packet, oracle_packets.Arp):
        fields = {"arp_op": packet.operation, "arp_spa": ip(packet.sender), "arp_tpa": ip(packet.asked)}
        return {**ethernet, "eth_type": 0x0806, **fields, "arp_sha": _mac(packet.sender_mac)}
    version, protocol = packet.version, packet.protocol
    name, eth_type = ("ipv6", 0x86DD) if version == 6 else ("ipv4", 0x0800)
    fields = {**ethernet, "eth_type": eth_type}
    fields |= {f"{name}_src": ip(packet.source), f"{name}_dst": ip(packet.target)}
    if packet.fragment == "later":
        # The header of a later fragment of IPv6 says no more than that it is one.
        fields |= {"ip_frag": LATER, "ip_proto": protocol if version == 4 else 44}
        return fields | {f"whole_{known}": value for known, value in _inside(packet).items()} | _quoted(packet)
    return fields | _inside(packet) | _quoted(packet) | ({"ip_frag": FIRST} if packet.fragment else {})


def _inside(packet: oracle_packets.Packet) -> Packet:
    """What is behind the IP header."""
    fields = {"ip_proto": packet.protocol}
    if packet.protocol != oracle_packets.ICMP[packet.version]:
        names = PORT_FIELDS.get(packet.protocol, ())
        return fields | dict(zip(names, (packet.source_port, packet.target_port), strict=False))
    icmp = "icmpv6" if packet.version == 6 else "icmpv4"
    fields |= {f"{icmp}_type": packet.kind, f"{icmp}_code": packet.code}
    if packet.icmpv6 in (135, 136):
        fields["nd_target"] = ip(packet.asked)
        fields["nd_sll" if packet.kind == 135 else "nd_tll"] = _mac(packet.option) if packet.option else 0
    return fields


def _quoted(packet: oracle_packets.Packet) -> Packet:
    """What only a connection tracker looks at: an echo's identifier, and the packet that an ICMP error is about."""
    about = packet.quoted
    if about is None:
        return {"icmp_id": packet.ident}
    is_icmp = about.protocol == oracle_packets.ICMP[about.version]
    ends = (about.kind, 0) if is_icmp else (about.source_port, about.target_port)
    inner = {"inner_proto": about.protocol, "inner_src": ip(about.source), "inner_dst": ip(about.target)}
    return {**inner, "inner_sport": ends[0], "inner_dport": ends[1], "inner_id": about.ident}
