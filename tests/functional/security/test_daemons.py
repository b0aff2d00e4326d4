"""Daemons come and go under security groups: zones stay, connections go on, nothing forbidden slips through."""

import re

from devstack.labs.hypervisor import Hypervisor
from devstack.labs.process import wait_for
from tests.functional.security.connections import Held, Stream
from tests.functional.security.flood import Flood, Lane
from tests.functional.security.traffic import Attempt, expect_all
from tests.functional.verbs import World, allow


def zones(host: Hypervisor) -> dict[str, int]:
    """The conntrack zone of each port, as the hypervisor's OVSDB has them."""
    told = host.run("ovs-vsctl", "get", "Bridge", "br-int", "external_ids")
    return {port: int(zone) for port, zone in re.findall(r'selvedge-zone-([0-9a-f-]{36})="?(\d+)"?', told)}


def test_zones_and_connections_outlive_agents_and_switches(two: World) -> None:
    """An agent is killed and returns: a loaded connection notices nothing, zones are the same. Then vswitchd is killed
    and returns: zones are the same, the connection goes on. All the while nothing forbidden passes."""
    blue = two.network("geneve")
    members = two.group()
    web = two.group(allow("tcp", 80, group=members), allow("udp", 1000, group=members))
    server = two.port(blue, "hv1", security_groups=[web])
    near, far = (two.port(blue, on, security_groups=[members]) for on in ("hv1", "hv2"))
    host = two.hypervisor("hv1")
    before = zones(host)
    assert set(before) == {server.port, near.port}
    assert len(set(before.values())) == 2
    with Flood(Lane(far, server, 1001, False), Lane(near, server, 1001, False)) as flood:
        with Stream(far, server, 80) as stream:
            host.kill("agent")
            host.start("agent")
            host.wait_in_sync()
        assert (stream.suffered.broken, stream.suffered.lost) == ("", 0), stream.suffered
        assert zones(host) == before
        with Held.tcp(far, server, 80) as held, Held.tcp(near, server, 80) as beside:
            host.kill("vswitchd")
            host.start("vswitchd")
            wait_for("the connections", lambda: held.lives() and beside.lives(), 20)
            assert zones(host) == before
            two.lab.wait_status(server.port, "ACTIVE")
    assert not flood.wrong(), "\n".join(flood.wrong())
    expect_all("answered", Attempt(far, server, "tcp", 80), Attempt(near, server, "udp", 1000))


def test_a_free_zone_is_clean(two: World) -> None:
    """A port is deleted: its zone's connections are forgotten before its number may be another's."""
    blue = two.network("geneve")
    group = two.group(allow("tcp", 80))
    server, client = (two.port(blue, on, security_groups=[group]) for on in ("hv1", "hv2"))
    host = two.hypervisor("hv1")
    zone = zones(host)[server.port]
    with Held.tcp(client, server, 80) as held:
        assert held.lives()
        assert host.run("ovs-appctl", "dpctl/dump-conntrack", f"zone={zone}").strip()
        two.delete_port(server.port)
        wait_for("the end of the zone", lambda: server.port not in zones(host), 10, 0.05)
        assert not host.run("ovs-appctl", "dpctl/dump-conntrack", f"zone={zone}").strip()
