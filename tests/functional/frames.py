"""Ethernet frames that a guest's own kernel would not send, built by os-ken's packet library."""

import itertools
import socket
import struct

from os_ken.lib.packet import arp as arp_lib
from os_ken.lib.packet import ethernet, icmp, icmpv6, ipv4, ipv6, packet, packet_utils
from os_ken.lib.packet import udp as udp_lib

LEAST, ARP_LENGTH = 32, 42

NOBODY = "00:00:00:00:00:00"
"""The MAC that a question does not know yet."""

SOLICIT, ADVERTISE = icmpv6.ND_NEIGHBOR_SOLICIT, icmpv6.ND_NEIGHBOR_ADVERT
LISTENER_REPORT = 131

_datagrams = itertools.count(0x5E15)


def _frame(*layers: object) -> bytes:
    made = packet.Packet()
    for layer in layers:
        made.add_protocol(layer)
    made.serialize()
    return bytes(made.data)


PORTS = 4000, 4000


def udp(
    source_mac: str, target_mac: str, source: str, target: str, payload: bytes, *, ports: tuple[int, int] = PORTS
) -> bytes:
    """A UDP datagram, from port 4000 to 4000, IPv4 or IPv6; long enough that nobody pads or trims the frame."""
    if ":" in source:
        network = ipv6.ipv6(src=source, dst=target, nxt=socket.IPPROTO_UDP)
        ether = ethernet.ethernet(target_mac, source_mac, 0x86DD)
    else:
        network = ipv4.ipv4(src=source, dst=target, proto=socket.IPPROTO_UDP)
        ether = ethernet.ethernet(target_mac, source_mac, 0x0800)
    return _frame(ether, network, udp_lib.udp(*ports), payload.ljust(LEAST))


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
    """A neighbour advertisement: `target` is at `source_mac`, says `source` to `to`, who has asked if it is one."""
    flags = 0b001 if to.startswith("ff") else 0b011  # override; solicited
    return _frame(
        ethernet.ethernet(target_mac, source_mac, 0x86DD),
        ipv6.ipv6(src=source, dst=to, nxt=socket.IPPROTO_ICMPV6, hop_limit=255),
        icmpv6.icmpv6(
            type_=ADVERTISE,
            data=icmpv6.nd_neighbor(res=flags, dst=target, option=icmpv6.nd_option_tla(hw_src=source_mac)),
        ),
    )


def router_advertisement(source_mac: str, source: str) -> bytes:
    """A router's advertisement to all nodes."""
    return _frame(
        ethernet.ethernet("33:33:00:00:00:01", source_mac, 0x86DD),
        ipv6.ipv6(src=source, dst="ff02::1", nxt=socket.IPPROTO_ICMPV6, hop_limit=255),
        icmpv6.icmpv6(type_=icmpv6.ND_ROUTER_ADVERT, data=icmpv6.nd_router_advert(rou_l=1800)),
    )


def listener_report(source_mac: str, source: str, group: str) -> bytes:
    """An MLD report (RFC 2710): the source listens to a multicast group."""
    tail = socket.inet_pton(socket.AF_INET6, group)[-4:]
    return _frame(
        ethernet.ethernet("33:33:" + ":".join(f"{byte:02x}" for byte in tail), source_mac, 0x86DD),
        ipv6.ipv6(src=source, dst=group, nxt=socket.IPPROTO_ICMPV6, hop_limit=1),
        icmpv6.icmpv6(type_=LISTENER_REPORT, data=icmpv6.mld(address=group)),
    )


def unreachable(source_mac: str, target_mac: str, source: str, target: str, quoted: bytes) -> bytes:
    """An error, "port unreachable", about the packet in the frame `quoted`."""
    inner = quoted[14:90]
    if ":" in source:
        error = icmpv6.icmpv6(type_=icmpv6.ICMPV6_DST_UNREACH, code=4, data=b"\0\0\0\0" + inner)
        six = ipv6.ipv6(src=source, dst=target, nxt=socket.IPPROTO_ICMPV6, hop_limit=64)
        return _frame(ethernet.ethernet(target_mac, source_mac, 0x86DD), six, error)
    four = icmp.icmp(icmp.ICMP_DEST_UNREACH, icmp.ICMP_PORT_UNREACH_CODE, data=icmp.dest_unreach(data=inner))
    return _frame(
        ethernet.ethernet(target_mac, source_mac, 0x0800),
        ipv4.ipv4(src=source, dst=target, proto=socket.IPPROTO_ICMP),
        four,
    )


def fragments(frame: bytes, size: int = 1288) -> list[bytes]:
    """The frames in which a datagram's sender would have sent it, `size` bytes of payload each (RFC 791, RFC 8200).

    Open vSwitch's userspace datapath tracks no smaller ones (`ovs-appctl dpctl/ipf-get-status`, min-frag)."""
    six = frame[12:14] == b"\x86\xdd"
    start, ident = 54 if six else 34, next(_datagrams) & 0xFFFF
    head, body = frame[:start], frame[start:]
    made = []
    for offset in range(0, len(body), size):
        part, more = body[offset : offset + size], offset + size < len(body)
        if six:
            extension = struct.pack("!BBHI", head[20], 0, offset | more, ident)
            size_field = struct.pack("!H", len(extension) + len(part))
            made.append(head[:18] + size_field + b"\x2c" + head[21:] + extension + part)
        else:
            words = struct.pack("!HHH", 20 + len(part), ident, offset // 8 | more << 13)
            bare = head[14:16] + words + head[22:24] + b"\0\0" + head[26:]
            made.append(head[:14] + bare[:10] + struct.pack("!H", packet_utils.checksum(bare)) + bare[12:] + part)
    return made


def behind_options(frame: bytes, size: int) -> list[bytes]:
    """The IPv6 frame with 16 bytes of destination options before its content, in two fragments: the first has `size`
    bytes of this, so that what it is part of is in the second only (RFC 7112 forbids that)."""
    options = bytes([frame[20], 1]) + b"\x01\x0c" + bytes(12)
    length = struct.pack("!H", len(options) + len(frame) - 54)
    parts = fragments(frame[:18] + length + b"\x3c" + frame[21:54] + options + frame[54:], size)
    head, rest = parts[0], b"".join(part[62:] for part in parts[1:])
    extension = head[54:56] + struct.pack("!H", size) + head[58:62]
    return [head, head[:18] + struct.pack("!H", 8 + len(rest)) + head[20:54] + extension + rest]


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
