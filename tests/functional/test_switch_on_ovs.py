"""The switch's thread and the programmer against a real ovs-vswitchd (userspace datapath, servers of its own)."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.labs.hypervisor import listens
from openflow.announce import announcement
from openflow.batch import (
    Confirmed,
    Connected,
    Disconnected,
    Flush,
    Flushed,
    Rejected,
    Trouble,
)
from openflow.flow import (
    Bucket,
    Conjunction,
    Flow,
    GroupEntry,
    Load,
    Output,
    Resubmit,
    SetField,
    ToGroup,
    Track,
    match,
)
from openflow.match import Value
from openflow.pipeline import DELIVER, FIRST_GROUP, GENEVE_OPTION, MARKER, PROVIDER
from selvedge.topology import Endpoint, Segment
from tests.functional.frames import udp
from tests.functional.small_agent import Agent
from tests.functional.vswitch import PROTOCOLS, Vswitch, wait_for

G1, G2 = FIRST_GROUP + 1, FIRST_GROUP + 2
NO_SUCH_PORT = 0xFF20
"""Not a port that a switch may have: refused when the flow is added."""


@pytest.fixture
def ovs(tmp_path: Path) -> Iterator[Vswitch]:
    servers = Vswitch(tmp_path)
    try:
        servers.start_database()
        servers.start_switch()
        servers.add_bridge()
        yield servers
    finally:
        servers.close()


@pytest.fixture
def agent(ovs: Vswitch) -> Iterator[Agent]:
    instance = Agent(ovs)
    yield instance
    instance.switch.stop()


def flow(number: int, port: int = 1) -> Flow:
    """A flow such as the pipeline's: a few fields, a few actions, a table to go on to."""
    actions = (Load("reg1", number), SetField("eth_dst", 0xFA163E000000 + port), Output(port))
    terms = {"in_port": number % 60000 + 1, "eth_src": 0xFA163E000000 + number, "reg0": number}
    return Flow(0, 100, MARKER << 56 | number, match(**terms), actions, 10)


def group(number: int, *ports: int) -> GroupEntry:
    return GroupEntry(number, tuple(Bucket((Load("reg3", port), Output(port))) for port in ports))


def to_group(number: int, where: int = G1) -> Flow:
    return Flow(60, 50, MARKER << 56 | number, match(reg5=3, reg0=number), (ToGroup(where),))


def test_programs_changes_and_leaves_foreign_entries_alone(ovs: Vswitch, agent: Agent) -> None:
    """Groups, leaves and flows go in, change and go out again; a foreign flow and a foreign group stay as they are."""
    agent.until(Connected)
    ovs.ofctl("add-flow", "cookie=0x1234,table=0,priority=7,in_port=3,actions=drop")
    ovs.ofctl("add-group", "group_id=77,type=all,bucket=actions=output:9")
    foreign = ovs.flows()
    root = GroupEntry(G1, (Bucket((ToGroup(G2),)), Bucket((Resubmit(80),))))
    agent.want(*(flow(number) for number in range(50)), root, group(G2, 4, 5), to_group(1))
    agent.settle()
    assert len(ovs.flows() - foreign) == 51
    assert (agent.programmer.flows, agent.programmer.groups) == (51, 2)
    agent.want(flow(1, port=2), group(G1, 6))
    agent.unwant(G2, *(flow(number).key for number in range(2, 50)))
    agent.settle()
    assert len(ovs.flows() - foreign) == 3
    text = ovs.ofctl("dump-groups")
    assert f"group_id={G1},type=all,bucket=actions=load:0x6->NXM_NX_REG3[],output:6" in text
    assert f"group_id={G2}" not in text
    agent.unwant(flow(0).key, flow(1).key, to_group(1).key, G1)
    agent.settle()
    assert ovs.flows() == foreign
    assert "group_id=77" in ovs.ofctl("dump-groups")
    assert [len(batch) for batch in agent.batches] == [53, 51, 4]
    assert not agent.programmer.failed
    assert agent.switch.counters.errors == 0


def test_resync_of_what_is_there_sends_nothing(ovs: Vswitch, agent: Agent) -> None:
    """A new agent that wants what is in the switch sends no message that changes anything; held, it deletes nothing."""
    wanted: list[Flow | GroupEntry] = [*(flow(number) for number in range(500)), group(G1, *range(1, 40)), to_group(1)]
    agent.want(*wanted)
    agent.settle()
    agent.switch.stop()
    heir = Agent(ovs)
    try:
        heir.until(Connected)
        heir.want(*wanted[1:])
        heir.send()
        assert heir.batches == []
        heir.want(wanted[0])
        heir.settle()
        assert heir.batches == []
        assert (heir.switch.counters.flow_mods_sent, heir.switch.counters.group_mods_sent) == (0, 0)
        heir.unwant(flow(7).key)
        heir.settle()
        assert heir.switch.counters.flow_mods_sent == 1
    finally:
        heir.switch.stop()


def test_an_announcement_takes_the_segments_way_onto_the_wire(ovs: Vswitch, agent: Agent) -> None:
    """The frame goes through DELIVER, where the segment's own flow (and no other's) sends it on."""
    agent.until(Connected)
    ways = [
        Flow(DELIVER.number, 100, MARKER << 56 | key, match(reg0=key, reg5=PROVIDER), (Output(1000 + key),))
        for key in (7, 8)
    ]
    agent.want(*ways)
    agent.settle()
    segment = Segment("s", 7, "n", "vlan", 100, "physnet1", 1500)
    agent.switch.send(announcement(segment, Endpoint("p", 1, "s", "hv1", "fa:16:3e:00:00:01")))
    agent.want(flow(1))
    agent.settle()  # what is sent later is answered later
    dump = ovs.ofctl("dump-flows").splitlines()
    counts = {key: next(line for line in dump if f"reg0={key:#x}" in line) for key in (7, 8)}
    assert "n_packets=1, n_bytes=60," in counts[7]
    assert "n_packets=0," in counts[8]


def policy(number: int) -> list[Flow]:
    """Flows such as a rule's: tracking, a conjunction, an answer by the first packet of its connection."""
    cookie = MARKER << 56 | number
    ip: dict[str, Value] = {"eth_type": 0x800, "ip_proto": 6, "reg7": number, "ct_state": (0x20, 0x38)}
    sources: list[dict[str, Value]] = [{"ipv4_src": (0x0A000000, 0xFF000000)}, {"ipv4_src": 0x0B000001}]
    clauses: list[dict[str, Value]] = [*sources, {"tcp_dst": (0x50, 0xFFF0)}]
    members = [
        Flow(75, 90, cookie, match(**ip, **clause), (Conjunction(number, 1 + ("tcp_dst" in clause), 2),))
        for clause in clauses
    ]
    later = match(eth_type=0x86DD, ip_frag=3, ct_state=(0x20, 0x30), ct_nw_proto=6, ct_ipv6_src=number, reg7=number)
    return [
        *members,
        Flow(75, 90, cookie, match(eth_type=0x800, conj_id=number), (SetField("reg6", 1),)),
        Flow(75, 100, cookie, later, (SetField("reg6", 1),)),
        Flow(50, number, cookie, match(eth_type=0x800, reg9=number), (Track("reg9", 52),)),
        Flow(58, number, cookie, match(eth_type=0x86DD, reg9=number), (Track("reg9", commit=True),), 60),
    ]


def test_resync_of_rules_sends_nothing(ovs: Vswitch, agent: Agent) -> None:
    """Conjunctions, their numbers and tracked connections come back as they were sent: an heir has nothing to do."""
    wanted = [entry for number in range(1, 40) for entry in policy(number)]
    agent.want(*wanted)
    agent.settle()
    assert len(ovs.flows()) == len(wanted)
    agent.switch.stop()
    heir = Agent(ovs)
    try:
        heir.want(*wanted)
        heir.until(Connected)
        heir.settle()
        assert heir.batches == []
        heir.unwant(*(entry.key for entry in policy(7)))
        heir.settle()
        assert [len(batch) for batch in heir.batches] == [7]
        assert len(ovs.flows()) == len(wanted) - 7
    finally:
        heir.switch.stop()
    assert heir.switch.counters.errors == 0


def remember(ovs: Vswitch, *zones: int) -> None:
    """A connection in each of the zones."""
    packet = udp("fa:16:3e:00:00:01", "fa:16:3e:00:00:05", "10.0.0.1", "10.0.0.2", b"").hex()
    for zone in zones:
        ovs.ofctl("packet-out", f"in_port=controller packet={packet} actions=ct(commit,zone={zone})")


def remembered(ovs: Vswitch) -> set[int]:
    """The zones that have connections."""
    lines = ovs.appctl("dpctl/dump-conntrack").splitlines()
    return {int(line.split("zone=")[1].split(",")[0]) for line in lines if "src=10.0.0.1" in line}


def test_flushed_zones_are_empty_and_others_are_not(ovs: Vswitch, agent: Agent) -> None:
    """Of three zones two are flushed, along with one that never had anything; the third one keeps its connection."""
    connected = agent.until(Connected)
    assert isinstance(connected, Connected)
    remember(ovs, 1, 2, 3)
    assert remembered(ovs) == {1, 2, 3}
    agent.switch.submit(Flush(connected.connection, (1, 3, 65535)))
    assert agent.until(Flushed) == Flushed((1, 3, 65535))
    assert remembered(ovs) == {2}
    assert (agent.switch.counters.zones_flushed, agent.switch.counters.errors) == (3, 0)


def test_flushes_and_batches_keep_their_order(ovs: Vswitch, agent: Agent) -> None:
    """A batch is on its way, a flush follows, and a batch that comes meanwhile: each ends after the one before it."""
    connected = agent.until(Connected)
    assert isinstance(connected, Connected)
    remember(ovs, 7)
    agent.programmer.release()
    agent.want(*(flow(number) for number in range(2000)))
    agent.send()
    agent.switch.submit(Flush(connected.connection, (7,)))
    agent.switch.submit(Flush(connected.connection, tuple(range(1, 1000))))
    agent.want(flow(2000))
    agent.until(Flushed)
    assert remembered(ovs) == set()
    agent.until(Flushed)
    agent.settle()
    ends = [type(event) for event in agent.seen if isinstance(event, Confirmed | Flushed)]
    assert ends == [Confirmed, Flushed, Flushed, Confirmed]
    assert len(ovs.flows()) == 2001


def test_a_flush_of_an_earlier_connection_is_dropped(ovs: Vswitch, agent: Agent) -> None:
    """vswitchd dies with a flush on its way: nobody says that it was done, until it is asked of the new connection."""
    first = agent.until(Connected)
    assert isinstance(first, Connected)
    os.kill(ovs.pid("ovs-vswitchd"), signal.SIGSTOP)
    agent.switch.submit(Flush(first.connection, (1,)))
    ovs.stop("ovs-vswitchd", signal.SIGKILL)
    agent.until(Disconnected)
    ovs.start_switch()
    second = agent.until(Connected)
    assert isinstance(second, Connected)
    agent.switch.submit(Flush(first.connection, (2,)))
    agent.switch.submit(Flush(second.connection, (3,)))
    assert agent.until(Flushed) == Flushed((3,))
    assert [event for event in agent.seen if isinstance(event, Flushed)] == [Flushed((3,))]


def test_ports_of_fragments_are_shown_after_each_connect(ovs: Vswitch, agent: Agent) -> None:
    """The bridge hides them when it begins; we tell it otherwise, and again when vswitchd has been restarted."""
    agent.until(Connected)
    assert ovs.ofctl("get-frags").strip() == "nx-match"
    ovs.stop("ovs-vswitchd")
    ovs.start_switch()
    agent.until(Connected)
    assert ovs.ofctl("get-frags").strip() == "nx-match"
    ovs.ofctl("set-frags", "normal")
    heir = Agent(ovs)
    heir.until(Connected)
    heir.switch.stop()
    assert ovs.ofctl("get-frags").strip() == "nx-match"
    assert heir.switch.counters.errors == 0


def test_vswitchd_killed_is_replayed(ovs: Vswitch, agent: Agent) -> None:
    """vswitchd dies by SIGKILL and returns empty: one `Disconnected`, then everything goes in again by one bundle."""
    agent.want(*(flow(number) for number in range(500)), group(G1, 1, 2), to_group(1))
    agent.settle()
    before = ovs.flows()
    ovs.stop("ovs-vswitchd", signal.SIGKILL)
    lost = agent.until(Disconnected)
    assert not agent.programmer.synced, lost
    agent.want(flow(500))
    ovs.start_switch()
    agent.until(Connected)
    agent.settle()
    assert before < ovs.flows()
    assert [len(batch) for batch in agent.batches] == [502, 503]
    assert sum(isinstance(event, Disconnected) for event in agent.seen) == 1


def test_bridge_deleted_and_made_again(ovs: Vswitch, agent: Agent) -> None:
    """The bridge vanishes and returns: the same replay."""
    agent.want(flow(1))
    agent.settle()
    ovs.vsctl("del-br", "br-int")
    agent.until(Disconnected)
    ovs.add_bridge()
    agent.until(Connected)
    agent.settle()
    assert len(ovs.flows()) == 1


def test_refused_flow_fails_its_owner_only(ovs: Vswitch, agent: Agent) -> None:
    """One owner's flow outputs to an impossible port: 99 owners go in, that one fails and says why, later it works."""
    for number in range(100):
        agent.want(flow(number, NO_SUCH_PORT if number == 42 else 1), to_group(number), owner=f"port{number}")
    agent.want(group(G1, 1), owner="segment")
    agent.settle()
    assert len(ovs.flows()) == 198
    (failed,) = agent.programmer.failed.items()
    assert failed[0] == "port42"
    assert {key: str(refusal) for key, refusal in failed[1].refusals.items()} == {flow(42).key: "OFPBAC_BAD_OUT_PORT"}
    assert len(agent.batches) == 2
    agent.want(flow(42), owner="port42")
    agent.settle()
    assert not agent.programmer.failed
    assert len(ovs.flows()) == 200


def test_missing_group_is_named_at_the_commit(ovs: Vswitch, agent: Agent) -> None:
    """A flow refers to a group that nobody made: its owner fails, the others go in."""
    for number in range(20):
        agent.want(to_group(number, G2 if number == 5 else G1), owner=f"port{number}")
    agent.want(group(G1, 1), owner="segment")
    agent.settle()
    assert {owner: set(map(str, f.refusals.values())) for owner, f in agent.programmer.failed.items()} == {
        "port5": {"OFPBAC_BAD_OUT_GROUP"}
    }
    assert len(ovs.flows()) == 19


def test_full_table(ovs: Vswitch, agent: Agent) -> None:
    """Table 0 takes 40 flows: it is filled, whoever does not fit fails by name, and goes in when there is room."""
    words = ["--", "--id=@t", "create", "Flow_Table", "flow_limit=40", "overflow_policy=refuse"]
    ovs.vsctl(*words, "--", "set", "Bridge", "br-int", "flow_tables:0=@t")
    agent.want(*(flow(number) for number in range(60)))
    agent.settle()
    assert len(ovs.flows()) == 40
    failures = agent.programmer.failed.values()
    assert {str(refusal) for failure in failures for refusal in failure.refusals.values()} == {"OFPFMFC_TABLE_FULL"}
    assert len(failures) == 20
    ovs.vsctl("clear", "Bridge", "br-int", "flow_tables")
    end = time.monotonic() + 10
    while agent.programmer.failed:
        assert time.monotonic() < end
        due = agent.programmer.next_retry()
        time.sleep(max(0.0, (due or 0.0) - time.monotonic()))
        agent.settle()
    assert len(ovs.flows()) == 60


def test_thousands_of_refused_flows_do_not_block(agent: Agent) -> None:
    """A bundle of 20,000 flows of which every second is refused: replies are read while it is written."""
    agent.until(Connected)
    agent.want(*(flow(number, NO_SUCH_PORT if number % 2 else 1) for number in range(20_000)))
    agent.settle()
    assert (agent.programmer.flows, len(agent.programmer.failed)) == (10_000, 10_000)
    # Who is refused is tried again after a second, which a busy machine may need for this.
    assert agent.switch.counters.errors == 10_000 * sum(isinstance(event, Rejected) for event in agent.seen)


def test_geneve_option_is_mapped_once(ovs: Vswitch, agent: Agent) -> None:
    """The option is mapped at the first connection; the second finds it, and flows that match it as they should be."""
    agent.until(Connected)
    tunnel = Flow(5, 5, MARKER << 56, match(in_port=1, tun_metadata0=(7, 0xFFFFFFFF)), (), 40)
    agent.want(tunnel)
    agent.settle()
    assert "0xff5e" in ovs.ofctl("dump-tlv-map")
    assert "tun_metadata0=0x7" in "".join(ovs.flows())
    agent.switch.stop()
    heir = Agent(ovs)
    heir.until(Connected)
    heir.want(tunnel)
    heir.settle()
    heir.switch.stop()
    assert heir.batches == []
    assert not any(isinstance(event, Trouble) for event in [*agent.seen, *heir.seen])
    assert heir.switch.counters.errors == 0


def test_geneve_slot_taken_by_another(ovs: Vswitch) -> None:
    """Somebody mapped another option to our field: it is said, by name, and left alone; the rest goes on."""
    wait_for(lambda: listens(ovs.door()))
    ovs.ofctl("add-tlv-map", "{class=0xffff,type=0,len=4}->tun_metadata0")
    agent = Agent(ovs)
    trouble = agent.until(Trouble)
    agent.want(flow(1))
    agent.settle()
    agent.switch.stop()
    assert isinstance(trouble, Trouble)
    assert "{class=0xffff,type=0x0,len=4}->tun_metadata0" in trouble.text
    assert f"{GENEVE_OPTION[0]:#x}" in trouble.text
    assert len(ovs.flows()) == 1


def test_bridge_without_openflow_14(ovs: Vswitch) -> None:
    """The bridge does not speak our version: it is said once by the setting's name; when it learns to, we connect."""
    ovs.vsctl("set", "bridge", "br-int", "protocols=OpenFlow13")
    agent = Agent(ovs)
    try:
        trouble = agent.until(Trouble)
        assert isinstance(trouble, Trouble)
        assert "protocols" in trouble.text
        time.sleep(1.2)
        assert agent.events.empty()
        ovs.vsctl("set", "bridge", "br-int", f"protocols={PROTOCOLS}")
        agent.until(Connected)
    finally:
        agent.switch.stop()


def test_idle_connection_is_kept_and_a_silent_switch_is_left(ovs: Vswitch) -> None:
    """Silence is probed by an echo, which keeps the connection; a switch that stands still counts as lost."""
    agent = Agent(ovs, probe=0.1, dead=1.5)
    agent.until(Connected)
    time.sleep(2.0)
    assert agent.events.empty()
    vswitchd = ovs.pid("ovs-vswitchd")
    os.kill(vswitchd, signal.SIGSTOP)
    try:
        lost = agent.until(Disconnected)
    finally:
        os.kill(vswitchd, signal.SIGCONT)
    assert isinstance(lost, Disconnected)
    assert "silent" in lost.reason
    agent.until(Connected)
    agent.switch.stop()
