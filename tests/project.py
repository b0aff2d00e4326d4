"""One project, told twice: to the oracle as the REST API shows it, and to a fabric of switches as topology objects.

`send` asks both who gets a packet, and they must agree; so each scenario that is played here is a comparison, and says
what it expects besides. Rules, groups and address groups reach the fabric through the controller's own mapping of rows.
The verbs are those of all tests.
"""

from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from controller.store import security
from openflow.codec.text import flow_text
from selvedge.topology import Ref, SegmentKind
from tests.interpreter import Fabric
from tests.oracle import WIRE, Oracle
from tests.oracle_packets import ICMP, UDP, Frame, Packet
from tests.packets import fields_of

ANYBODY = "ff:ff:ff:ff:ff:ff"
STRANGER = "00:aa:bb:cc:dd:ee"


class Disagreement(AssertionError):
    """The oracle and the flows differ."""


class Project:
    """Verbs that change both worlds, and `send`, which compares them."""

    def __init__(self, *hosts: str) -> None:
        self.fabric = Fabric()
        self.oracle = Oracle()
        self._keys = 0
        for host in hosts or ("hv1", "hv2"):
            self.fabric.hypervisor(host)

    # What there is ------------------------------------------------------------------------------------------------

    def network(self, name: str = "net", kind: SegmentKind = "geneve", number: int = 100) -> None:
        """A network with one segment."""
        number = 0 if kind == "flat" else number
        self.fabric.network(name, kind, number)
        self.oracle.networks[name] = {"id": name, "admin_state_up": True, "provider:network_type": kind}

    def group(self, name: str, *, stateful: bool = True) -> None:
        """A security group without rules (and without those that Neutron gives every new one)."""
        row = {"id": name, "key": self._key(), "stateful": stateful}
        self.oracle.security_groups[name] = row
        self.fabric.tell(security.group_of(SimpleNamespace(**row)))

    def rule(self, group: str, direction: str, ethertype: str = "IPv4", *, name: str = "", **other: Any) -> str:
        """A rule, with attributes as the API has them. `ports` is short for the range, or for ICMP's type and code."""
        key = self._key()
        first, last = other.pop("ports", (other.pop("port_range_min", None), other.pop("port_range_max", None)))
        prefix = other.get("remote_ip_prefix")
        row = {
            "id": name or f"rule-{key}",
            "key": key,
            "security_group_id": group,
            "direction": direction,
            "ethertype": ethertype,
            "protocol": None,
            "port_range_min": first,
            "port_range_max": last,
            "remote_ip_prefix": None,
            "normalized_cidr": security.network(prefix) if prefix else None,
            "remote_group_id": None,
            "remote_address_group_id": None,
            **other,
        }
        self.oracle.security_group_rules[row["id"]] = row
        self.fabric.tell(security.rule_of(SimpleNamespace(**row)))
        return str(row["id"])

    def delete_rule(self, name: str) -> None:
        """A rule goes."""
        del self.oracle.security_group_rules[name]
        self.fabric.forget(Ref("rule", name))

    def address_group(self, name: str, *addresses: str) -> None:
        """An address group; again, with other addresses, for a change."""
        old = self.oracle.address_groups.get(name)
        row = {"id": name, "key": old["key"] if old else self._key(), "addresses": addresses}
        self.oracle.address_groups[name] = row
        self.fabric.tell(security.address_group_of(SimpleNamespace(**row), addresses))

    def port(
        self,
        name: str,
        network: str,
        host: str,
        *ips: str,
        groups: Iterable[str] = (),
        pairs: Iterable[tuple[str, str]] = (),
        secure: bool = True,
    ) -> str:
        """A port, plugged at its host; returns its MAC."""
        groups, pairs = sorted(groups) if secure else [], list(pairs)
        endpoint = self.fabric.port(name, network, host, *ips, groups=groups, pairs=pairs, secure=secure)
        self.oracle.ports[name] = {
            "id": name,
            "network_id": network,
            "admin_state_up": True,
            "device_owner": "compute:nova",
            "binding:host_id": host,
            "mac_address": endpoint.mac,
            "fixed_ips": [{"subnet_id": network, "ip_address": ip} for ip in ips],
            "allowed_address_pairs": [
                {"ip_address": cidr, **({"mac_address": mac} if mac else {})} for mac, cidr in pairs
            ],
            "port_security_enabled": secure,
            "security_groups": groups,
        }
        return endpoint.mac

    def regroup(self, port: str, *groups: str) -> None:
        """A port gets other security groups."""
        self.oracle.ports[port] = {**self.oracle.ports[port], "security_groups": sorted(groups)}
        self.fabric.change(port, groups=groups)

    def delete_port(self, port: str) -> None:
        """A port goes."""
        host = self.oracle.ports.pop(port)["binding:host_id"]
        self.oracle.connections.pop(port, None)
        self.fabric.unplug(port, host)
        self.fabric.forget(Ref("endpoint", port))

    def mac(self, port: str) -> str:
        """A port's MAC address."""
        return str(self.oracle.ports[port]["mac_address"])

    def ip(self, port: str, version: int = 4) -> str:
        """A port's first address of an IP version."""
        ips = [fixed["ip_address"] for fixed in self.oracle.ports[port]["fixed_ips"]]
        return str(next(ip for ip in ips if (":" in ip) == (version == 6)))

    def _key(self) -> int:
        self._keys += 1
        return self._keys

    # Packets ------------------------------------------------------------------------------------------------------

    def packet(self, sender: str, receiver: str, protocol: int = UDP, version: int = 4, **other: Any) -> Packet:
        """A packet between two ports, by name: from port 5000 to 80 (an echo request) unless told otherwise."""
        ends = self.ip(sender, version), self.ip(receiver, version)
        made = Packet(self.mac(sender), self.mac(receiver), *ends, protocol)
        if protocol == ICMP[version]:
            return replace(made, **{"kind": 8 if version == 4 else 128, **other})
        return replace(made, **{"source_port": 5000, "target_port": 80, **other})

    def answer(self, said: Packet) -> Packet:
        """What the receiver of a packet answers."""
        return replace(said.back, source_mac=said.target_mac, target_mac=said.source_mac)

    def send(self, port: str, packet: Frame) -> set[str]:
        """Who gets what a port sends, by the oracle and by the flows alike; `WIRE` is a provider's wire."""
        expected = self.oracle.send(port, packet)
        arrivals = self.fabric.send(port, fields_of(packet))
        found = {arrival.port for arrival in arrivals}
        assert len(found) == len(arrivals), f"somebody got it twice: {arrivals}"
        return self._agreed(port, packet, expected, found | ({WIRE} if self.fabric.wire else set()))

    def send_wire(self, network: str, packet: Frame) -> set[str]:
        """Who gets what a stranger sends on the wire of a network."""
        expected = self.oracle.stranger(network, packet)
        segment = self.fabric.facts[Ref("segment", network)]
        tag = 0x1000 | segment.number if segment.kind == "vlan" else 0  # type: ignore[union-attr]
        arrivals = self.fabric.send_wire("physnet1", {**fields_of(packet), "vlan_vid": tag})
        return self._agreed(f"a stranger on {network}", packet, expected, {arrival.port for arrival in arrivals})

    def reaches(self, sender: str, receiver: str, protocol: int = UDP, version: int = 4, **other: Any) -> bool:
        """Whether a packet between two ports arrives."""
        return receiver in self.send(sender, self.packet(sender, receiver, protocol, version, **other))

    def _agreed(self, sender: str, packet: Frame, expected: set[str], found: set[str]) -> set[str]:
        if expected == found:
            return found
        lines = [f"{sender} sends {packet}", f"by the oracle: {sorted(expected)}, by the flows: {sorted(found)}"]
        for name, hypervisor in self.fabric.hypervisors.items():
            lines += [f"{name}, last packet:", *(f"  {flow_text(flow)}" for flow in hypervisor.switch().hits)]
            lines += [f"  failed: {hypervisor.engine.failed}"] if hypervisor.engine.failed else []
        raise Disagreement("\n".join(lines))
