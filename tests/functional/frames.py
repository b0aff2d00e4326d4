"""Ethernet frames that a guest's own kernel would not send, built by os-ken's packet library."""

import socket

from os_ken.lib.packet import arp as arp_lib
from os_ken.lib.packet import ethernet, icmpv6, ipv4, ipv6, packet
from os_ken.lib.packet import udp as udp_lib

LEAST, ARP_LENGTH = 32, 42

NOBODY = "00:00:00:00:00:00"
"""The MAC that a question does not know yet."""

SOLICIT, ADVERTISE = icmpv6.ND_NEIGHBOR_SOLICIT, icmpv6.ND_NEIGHBOR_ADVERT


def _frame(*layers: object) -> bytes:
    made = packet.Packet()
    for layer in layers:
        made.add_protocol(layer)
    made.serialize()
    return bytes(made.data)


def udp(source_mac: str, target_mac: str, source: str, target: str, payload: bytes) -> bytes:
    """A UDP datagram from port 4000 to 4000, IPv4 or IPv6; long enough that nobody pads or trims the frame."""
    if ":" in source:
        network = ipv6.ipv6(src=source, dst=target, nxt=socket.IPPROTO_UDP)
        ether = ethernet.ethernet(target_mac, source_mac, 0x86DD)
    else:
        network = ipv4.ipv4(src=source, dst=target, proto=socket.IPPROTO_UDP)
        ether = ethernet.ethernet(target_mac, source_mac, 0x0800)
    return _frame(ether, network, udp_lib.udp(4000, 4000), payload.ljust(LEAST))


def arp(source_mac: str, target_mac: str, operation: int, sender: tuple[str, str], asked: tuple[str, str]) -> bytes:
    """An ARP packet (RFC 826): `operation` 1 asks, 2 replies; `sender` and `asked` are (MAC, IPv4)."""
    body = arp_lib.arp(opcode=operation, src_mac=sender[0], src_ip=sender[1], dst_mac=asked[0], dst_ip=asked[1])
    return _frame(ethernet.ethernet(target_mac, source_mac, 0x0806), body)[:ARP_LENGTH]  # without padding


def solicited_node(address: str) -> tuple[str, str]:
    """The multicast address, and its MAC, on which the owner of an IPv6 address listens (RFC 4291, RFC 2464)."""
    tail = socket.inet_pton(socket.AF_INET6, address)[-3:]
    group = socket.inet_ntop(socket.AF_INET6, bytes.fromhex("ff0200000000000000000001ff") + tail)
    return group, "33:33:ff:" + ":".join(f"{byte:02x}" for byte in tail)


def solicitation(source_mac: str, source: str, target: str) -> bytes:
    """A neighbour solicitation with the source's link-layer address (RFC 4861)."""
    group, group_mac = solicited_node(target)
    return _frame(
        ethernet.ethernet(group_mac, source_mac, 0x86DD),
        ipv6.ipv6(src=source, dst=group, nxt=socket.IPPROTO_ICMPV6, hop_limit=255),
        icmpv6.icmpv6(
            type_=SOLICIT, data=icmpv6.nd_neighbor(dst=target, option=icmpv6.nd_option_sla(hw_src=source_mac))
        ),
    )


def advertisement(source_mac: str, target_mac: str, source: str, to: str, target: str) -> bytes:
    """A neighbour advertisement: `target` is at `source_mac`, says `source` to `to`."""
    return _frame(
        ethernet.ethernet(target_mac, source_mac, 0x86DD),
        ipv6.ipv6(src=source, dst=to, nxt=socket.IPPROTO_ICMPV6, hop_limit=255),
        icmpv6.icmpv6(
            type_=ADVERTISE,
            data=icmpv6.nd_neighbor(res=0b011, dst=target, option=icmpv6.nd_option_tla(hw_src=source_mac)),
        ),
    )


def is_advertisement(frame: bytes, target: str, mac: str) -> bool:
    """Whether the frame is a solicited advertisement of `target` at `mac`, from it, with a true checksum."""
    parsed = packet.Packet(frame)
    six, message = parsed.get_protocol(ipv6.ipv6), parsed.get_protocol(icmpv6.icmpv6)
    if six is None or message is None or message.type_ != ADVERTISE or not message.data.res & 0b010:
        return False
    again = packet.Packet()
    for layer in parsed.protocols:
        again.add_protocol(layer)
    true_sum = message.csum
    message.csum = 0
    again.serialize()
    found = message.data.option.hw_src == mac and message.data.dst == target and six.hop_limit == 255
    return bool(found and parsed.get_protocol(ethernet.ethernet).src == mac and message.csum == true_sum)
