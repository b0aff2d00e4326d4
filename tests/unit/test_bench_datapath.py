"""How the benchmarks read a mask out of a dump of megaflows: lines as Open vSwitch 3.1 writes them with `-m`."""

import pytest

from bench.datapath import input_of, mask_of

HEAD = "ufid:d38866f1-1d5d-4e65-8081-0d6cd1560675, skb_priority(0/0),skb_mark(0/0),"
TAIL = ", packets:14, bytes:10956, used:0.014s, flags:FP., dp:ovs, actions:tb, dp-extra-info:miniflow_bits(5,1)"


def line(tracked: str, addresses: str, transport: str, ports: str) -> str:
    """A tracked IPv4 packet that came in by interface ta."""
    return (
        f"{HEAD}ct_state({tracked}),ct_zone(0x5/0),ct_mark(0/0),ct_label(0/0),"
        f"ct_tuple4(src=10.9.0.1/0.0.0.0,dst=10.9.0.2/0.0.0.0,proto=6/0,tp_src=43052/0,tp_dst=5001/0),recirc_id(0x5),"
        f"dp_hash(0/0),in_port(ta),packet_type(ns=0,id=0),eth(src=5a:25:ee:99:92:05,dst=6a:d0:b6:96:7b:4b),"
        f"eth_type(0x0800),ipv4({addresses},tos=0/0,ttl=64/0,frag=no),{transport}({ports}),tcp_flags(0/0){TAIL}"
    )


ANY = "src=10.9.0.1/0.0.0.0,dst=10.9.0.2/0.0.0.0,proto=6/0"
SUBNET = "src=10.9.0.1/0.0.0.0,dst=10.9.0.2/255.255.255.0,proto=6/0"


def test_fields_that_nobody_looks_at_are_not_in_a_mask() -> None:
    """An established connection: only its state and where it comes from count."""
    assert mask_of(line("0x22/0x37", ANY, "tcp", "src=43052/0,dst=5001/0")) == {
        "ct_state.=0x37",
        "recirc_id.=exact",
        "in_port.=exact",
        "packet_type.ns=exact",
        "packet_type.id=exact",
        "eth.src=exact",
        "eth.dst=exact",
        "eth_type.=exact",
        "ip.frag=exact",
    }


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (line("0x21/0x37", ANY, "udp", "src=1/0,dst=2/0"), True),
        (line("0x22/0x37", ANY, "icmp", "type=8/0,code=0/0"), True),
        (line("0x22/0x35", ANY, "tcp", "src=43052/0,dst=5001/0"), False),
        (line("0x22/0x37", SUBNET, "tcp", "src=43052/0,dst=5001/0"), False),
        (line("0x22/0x37", ANY, "tcp", "src=43052/0,dst=5001/0xfff0"), False),
    ],
)
def test_a_mask_is_what_is_looked_at_not_what_is_found(other: str, same: bool) -> None:
    """Values differ, masks do not; one bit more of a field is another mask."""
    assert (mask_of(other) == mask_of(line("0x22/0x37", ANY, "tcp", "src=43052/0,dst=5001/0"))) is same


def test_ports_of_all_protocols_are_one_field() -> None:
    """TCP's and UDP's ports, ICMP's type and code are at one place in a lookup."""
    masks = {
        mask_of(line("0/0", ANY, transport, ports))
        for transport, ports in (("tcp", "src=1/0,dst=22"), ("udp", "src=1/0,dst=53"), ("icmp", "type=8/0,code=0"))
    }
    assert len(masks) == 1


def test_a_tunnel_packet_has_options_and_flags() -> None:
    """The Geneve option's mask counts, and of flags those that are named."""
    tunnel = (
        "tunnel(tun_id=0x7/0xffffff,src=10.255.0.2,dst=10.255.0.1/0.0.0.0,ttl=64/0,"
        "geneve({class=0xff,type=0x1,len=8,0x0000000500000007/0x00000000ffffffff}),flags(-df+csum+key))"
    )
    mask = mask_of(f"{HEAD}{tunnel},recirc_id(0),in_port(genev_sys_6081),eth_type(0x0800){TAIL}")
    assert {"tunnel.tun_id=0xffffff", "tunnel.src=exact", "tunnel.geneve..=0x00000000ffffffff"} <= mask
    assert {"tunnel.flags.df", "tunnel.flags.csum", "tunnel.flags.key"} <= mask
    assert not {piece for piece in mask if piece.startswith(("tunnel.dst", "tunnel.ttl"))}


def test_where_a_packet_comes_in() -> None:
    assert input_of(line("0/0", ANY, "tcp", "src=1/0,dst=2/0")) == "ta"
