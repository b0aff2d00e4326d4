"""The pipeline of the integration bridge, as data: registers, tables, kinds of flows, cookies, numbers of groups.

A packet is classified (which segment, which endpoint sent it), guarded (only the endpoint's own addresses), answered at
the edge where the answer is known, forwarded by (segment, MAC) to a destination and a place, judged by the sender's
rules, delivered there, and judged by the receiver's. There is no learning and no flooding of unknown unicast in
overlays: the controller knows every endpoint. Provider segments, where strangers live, hand unknown destinations to the
wire.

What comes out of a tunnel never goes into one, and what comes from a wire never returns to it: OpenFlow does not send a
packet out of the port that it came in by, and a segment has one tunnel port or one wire. That is the split horizon.

Tables that say "reserved" are declared and empty; flows skip them. Table numbers are fixed for ever. This file is data:
registers and tables are in `tables`, mechanism is in `declaration`, flows are made in `compilers`, and
`python -m openflow.pipeline` prints docs/pipeline.md.
"""

# Numbers and tables are names of the pipeline's own; they are in files of theirs only for the size. So all of them are
# taken over, whatever they are called: a list of eighty names would say no more.
# ruff: noqa: F403, F405

from openflow.declaration import Family, render, validate
from openflow.judgement import stage
from openflow.numbers import *
from openflow.tables import *

# Kinds of flows ---------------------------------------------------------------------------------------------------

SECURE_PORT = Family(
    CLASSIFY, "secure port", 100, "endpoint", "port and MAC are the endpoint's; one flow a MAC of its own"
)
OPEN_PORT = Family(CLASSIFY, "open port", 100, "endpoint", "port security is off: any MAC, no guard")
PEER = Family(CLASSIFY, "peer", 100, "host", "tunnels are listened to only from hosts with which we share a segment")
WIRE = Family(CLASSIFY, "wire", 100, "segment", "a VLAN (or the untagged frames) of a physical network is the segment")

TO_ALL = Family(
    TUNNEL, "to all", 110, "segment", "a Geneve packet for all it concerns: its destination in the option is 0"
)
TO_ONE = Family(TUNNEL, "to one", 100, "segment", "a Geneve packet whose option names the destination")
UNNAMED = Family(TUNNEL, "unnamed", 100, "segment", "VXLAN carries no option: the destination is looked up by MAC")

MEMBER = Family(
    IDENTIFY,
    "member",
    100,
    "station",
    "(MAC, address or prefix) is an endpoint's elsewhere; a longer prefix goes first. Only while a rule here needs it",
    spread=128,
)
NO_MEMBER = Family(IDENTIFY, "other", 0, "base", "strangers are identity 0, and so is who need not be known")

ROGUE_DHCP = Family(SOURCE_GUARD, "DHCP server", 120, "base", "a secure endpoint is no DHCP server (nor one for IPv6)")
HIDDEN = Family(SOURCE_GUARD, "hidden", 120, "base", "a first IPv6 fragment must show what it is part of (RFC 7112)")
OWN_IP = Family(
    SOURCE_GUARD, "own IP", 100, "endpoint", "(MAC, address or prefix) is the endpoint's or an allowed pair"
)
OWN_ARP = Family(SOURCE_GUARD, "own ARP", 100, "endpoint", "sender's hardware and protocol address are such a pair")
DHCP_CLIENT = Family(
    SOURCE_GUARD, "DHCP client", 90, "base", "0.0.0.0 to the broadcast address, before there is an address"
)
ARP_PROBE = Family(
    SOURCE_GUARD,
    "ARP probe",
    90,
    "base",
    "address conflict detection (RFC 5227); its sender's MAC is made the true one",
)
UNSPECIFIED = Family(
    SOURCE_GUARD, "unspecified source", 90, "base", ":: may solicit routers and report multicast (RFC 3590), and probe"
)

BROKEN_ND = Family(ND_OPTION, "malformed", 120, "base", "Open vSwitch reads a malformed option list as target ::")
OWN_SOLICIT = Family(ND_OPTION, "own solicitation", 100, "endpoint", "the option has a MAC of the endpoint")
OWN_ADVERT = Family(ND_OPTION, "own advertisement", 100, "endpoint", "the option has a MAC of the endpoint")
NO_OPTION = Family(
    ND_OPTION, "no option", 90, "base", "unicast answers and probes may leave the option out (RFC 4861, 4.3, 4.4)"
)
FALSE_ND = Family(ND_OPTION, "false", 80, "base", "all other neighbour discovery, and router advertisements")
NOT_ND = Family(ND_OPTION, "other", 0, "base", "not neighbour discovery")

OWN_TARGET = Family(
    ND_TARGET, "own target", 100, "endpoint", "advertises or probes (source ::) an address of the endpoint"
)
FALSE_PROBE = Family(ND_TARGET, "false probe", 90, "base", "probes an address that is not the endpoint's")
SOLICIT = Family(ND_TARGET, "solicitation", 80, "base", "anybody may be asked for")

PROBE = Family(
    RESPOND, "probe", 200, "base", "ARP and ND probes, and solicitations without option, are for the owner itself"
)
ANNOUNCE = Family(RESPOND, "announcement", 150, "address", "a gratuitous ARP request of a local owner is for everybody")
ANSWER = Family(RESPOND, "answer", 100, "address", "asked for an address that exactly one endpoint claims")
PASS = Family(RESPOND, "other", 0, "base", "there is nothing to answer")
ANSWER_ND = Family(ND_ANSWER, "answer", 100, "base", "the option becomes the target's MAC; solicited, overriding")

STATION = Family(FORWARD, "station", 100, "station", "a known MAC; one copy each if several endpoints claim it")
MULTICAST = Family(FORWARD, "multicast", 90, "segment", "broadcast and multicast")
STRANGER = Family(FORWARD, "stranger", 10, "segment", "provider segments: who is not known here may be on the wire")

ELSEWHERE = Family(
    ADDRESSED, "from elsewhere", 200, "base", "the sender's own host has judged it, or a wire has brought it"
)
FREE_SENDER = Family(ADDRESSED, "free", 200, "base", "the sender is here and its port security is off")
ITS_ADDRESS = Family(
    ADDRESSED,
    "member's address",
    100,
    "station",
    "the packet is for an address of who has the MAC, and not to be passed on. Only while a rule here needs it",
)
NO_ADDRESS = Family(ADDRESSED, "other", 0, "base", "no group's member is at the other side")

SENDER = stage(
    "sender",
    zone=SOURCE_ZONE,
    onward=DELIVER,
    track=EGRESS_TRACK,
    state=EGRESS_STATE,
    policy=EGRESS_POLICY,
    fragments=EGRESS_FRAGMENTS,
    verdict=EGRESS_VERDICT,
)

LOCAL = Family(DELIVER, "here", 100, "base", "the destination is a local endpoint")
EVERYBODY = Family(DELIVER, "flood", 100, "segment", "local members, remote hosts with members, or the wire")
ONTO_WIRE = Family(DELIVER, "provider", 100, "segment", "onto the wire, tagged if the segment is a VLAN")
TO_HOST = Family(DELIVER, "host", 100, "host", "into the tunnel to a host with which we share a segment")

SECURE_RECEIVER = Family(INGRESS_TRACK, "secure", 100, "endpoint", "rules decide what it gets")
FREE_RECEIVER = Family(INGRESS_TRACK, "free", 100, "endpoint", "port security is off: it gets everything")
RECEIVER = stage(
    "receiver",
    zone=DESTINATION_ZONE,
    onward=OUTPUT,
    track=INGRESS_BASICS,
    state=INGRESS_STATE,
    policy=INGRESS_POLICY,
    fragments=INGRESS_FRAGMENTS,
    verdict=INGRESS_VERDICT,
)

INTERFACE = Family(OUTPUT, "interface", 100, "endpoint", "the endpoint's interface, once it is plugged")

FAMILIES: tuple[Family, ...] = (
    *(thing for thing in list(globals().values()) if isinstance(thing, Family)),
    *SENDER.families,
    *RECEIVER.families,
)

validate(REGISTERS, TABLES, FAMILIES)

HEADING = """
# The pipeline of br-int

Generated by `python -m openflow.pipeline > docs/pipeline.md` from the declarations in `openflow/pipeline.py` and
`openflow/tables.py`; a test keeps it current.
"""

CLOSING = f"""
## Cookies

Every flow's cookie leads to an object: bits 56-63 are `{MARKER:#x}` (ours), bits 48-55 the kind
({", ".join(f"{kind.value} {kind.name.lower()}" for kind in Kind)}), bits 0-47 the object's key. So
`ovs-ofctl dump-flows br-int cookie={cookie(Kind.ENDPOINT, 7):#x}/-1` shows what is there for the port with key 7.
Flows and groups that are not marked as ours are removed, since they could bypass every rule; with the agent's option
`foreign_flows = keep` they stay, unless one is in the very place of one of ours.

## Groups

A segment's group floods to its members: its id is {FIRST_GROUP:_} + the segment's key. When there are more than
{ONE_GROUP} buckets they are in leaves, whose ids are {LEAF_STRIDE:_} further on each.
"""

if __name__ == "__main__":
    print(render(HEADING, REGISTERS, TABLES, FAMILIES, CLOSING), end="")
