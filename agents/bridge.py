"""What Open vSwitch's database must hold for us, and the operations that are missing to get there.

Wanted are the integration bridge (datapath type, fail mode `secure` so that a lost agent changes nothing, OpenFlow
1.4), a flow-based tunnel port per tunnel type, and a pair of patch ports per provider network. `plan` compares that
with the rows and writes one transaction; nothing when all is right. It is a function of the rows, so a bridge that
somebody deletes is made again by the same path as at the start.

Ours are rows whose Interface has `external_ids:selvedge`; of all others nothing is touched, but the set of ports of
a mapped provider bridge. On a bridge that we did not make only the three columns above are set. What cannot be done
is a `Problem` that names the option at fault, and leaves the rest to be done. Conntrack zones of ports, which
`agents.zones` decides about, are written in the same way by `change_external_ids`. Pure; called by `agents.core`.
"""

import hashlib
from typing import Any, NamedTuple

from agents.inventory import MARK, Inventory, Role
from agents.mirror import Row
from agents.ovsdb import Operations

PROTOCOLS = frozenset({"OpenFlow10", "OpenFlow13", "OpenFlow14", "OpenFlow15"})
"""The agent speaks 1.4; the others are for operators' `ovs-ofctl`."""

FAIL_MODE = "secure"


class Wanted(NamedTuple):
    """The configuration that matters here. `mappings` is physical network -> provider bridge."""

    bridge: str
    datapath_type: str
    tunnel_ip: str | None
    tunnel_types: tuple[str, ...]
    mappings: dict[str, str]


class Problem(NamedTuple):
    """Something that the operator has to change. `subject` is the option's value or the row at fault."""

    subject: str
    reason: str
    role: Role | None = None
    """What cannot be had because of it; None: nothing can."""

    def concerns(self, role: Role) -> bool:
        return self.role is None or self.role == role


class Plan(NamedTuple):
    """One transaction (empty: nothing to do), and what is left undone."""

    operations: Operations
    problems: tuple[Problem, ...]


class Port(NamedTuple):
    """A Port with its one Interface, as it must be."""

    role: Role
    bridge: str
    name: str
    type: str
    options: dict[str, str]


def patch_names(physnet: str) -> tuple[str, str]:
    """The names of a patch pair: on the integration bridge, and on the provider's bridge.

    A long name of a physical network is replaced by a digest, since interface names end at 15 characters.
    """
    short = physnet if len(physnet) <= 10 else hashlib.sha1(physnet.encode(), usedforsecurity=False).hexdigest()[:10]
    return f"sv-i-{short}", f"sv-p-{short}"


def wanted_ports(wanted: Wanted, provider_bridges: frozenset[str]) -> list[Port]:
    """All ports of ours, for those mapped bridges that exist."""
    ports = []
    if wanted.tunnel_ip is not None:
        options = {"remote_ip": "flow", "key": "flow", "local_ip": wanted.tunnel_ip}
        ports += [
            Port(Role("tunnel", kind), wanted.bridge, f"sv-{kind}", kind, options) for kind in wanted.tunnel_types
        ]
    for physnet, bridge in sorted(wanted.mappings.items()):
        if bridge in provider_bridges:
            here, there = patch_names(physnet)
            ports.append(Port(Role("patch", physnet), wanted.bridge, here, "patch", {"peer": there}))
            ports.append(Port(Role("peer", physnet), bridge, there, "patch", {"peer": here}))
    return ports


def plan(inventory: Inventory, wanted: Wanted) -> Plan:
    """The transaction that makes the database as wanted, given that its rows have been loaded."""
    return _Planner(inventory, wanted).plan()


def change_external_ids(inventory: Inventory, removed: tuple[str, ...], added: dict[str, str]) -> Operations:
    """Change keys of the integration bridge's external_ids, and leave all others alone.

    Keys in `removed` go, also those that come back with another value: an insertion into a map replaces nothing
    (RFC 7047 section 5.1).
    """
    bridge = inventory.mirror.named("Bridge", inventory.bridge)
    where = [["_uuid", "==", ["uuid", bridge]]]
    mutations: list[Any] = [["external_ids", "delete", ["set", sorted(removed)]]] if removed else []
    mutations += [["external_ids", "insert", _map(added)]] if added else []
    return [
        _present("Bridge", where, inventory.bridge),
        {"op": "mutate", "table": "Bridge", "where": where, "mutations": mutations},
    ]


class _Planner:
    def __init__(self, inventory: Inventory, wanted: Wanted) -> None:
        self._inventory, self._mirror, self._wanted = inventory, inventory.mirror, wanted
        self._operations: Operations = []
        self._problems: list[Problem] = []
        self._added: dict[str, list[list[str]]] = {}  # bridge name -> references of new Ports
        self._removed: dict[str, list[list[str]]] = {}  # bridge UUID -> references of Ports that go

    def plan(self) -> Plan:
        wanted = self._wanted
        made = self._bridge()
        bridges = frozenset(
            b for b in wanted.mappings.values() if b != wanted.bridge and self._mirror.named("Bridge", b)
        )
        for physnet, bridge in sorted(wanted.mappings.items()):
            if bridge not in bridges:
                reason = "it is the integration bridge" if bridge == wanted.bridge else "there is no such bridge"
                self._problems.append(Problem(f"bridge_mappings {physnet}:{bridge}", reason, Role("patch", physnet)))
        ports = wanted_ports(wanted, bridges)
        own = self._inventory.own()
        for role in own.keys() - {port.role for port in ports}:
            self._remove(own[role])
        if made or self._mirror.named("Bridge", wanted.bridge) is not None:
            for port in ports:
                self._port(port, own.get(port.role))
        self._commit_sets()
        return Plan(self._operations, tuple(self._problems))

    def _bridge(self) -> bool:
        """The integration bridge itself; whether it is made by this transaction."""
        wanted = self._wanted
        uuid = self._mirror.named("Bridge", wanted.bridge)
        if uuid is not None:
            update = self._corrections(self._mirror.rows["Bridge"][uuid])
            if update:
                self._operations.append(_update("Bridge", uuid, update))
            return False
        for table in ("Port", "Interface"):
            if self._mirror.named(table, wanted.bridge) is not None:
                self._problems.append(
                    Problem(f"integration_bridge {wanted.bridge}", f"another bridge has a {table} of that name")
                )
                return False
        row = self._corrections({"datapath_type": None, "fail_mode": None, "protocols": frozenset()})
        self._operations += [
            _absent("Bridge", wanted.bridge),
            _insert("Interface", "interface", {"name": wanted.bridge, "type": "internal"}),
            _insert("Port", "port", {"name": wanted.bridge, "interfaces": ["named-uuid", "interface"]}),
            _insert("Bridge", "bridge", {"name": wanted.bridge, "ports": ["named-uuid", "port"]} | row),
            {
                "op": "mutate",
                "table": "Open_vSwitch",
                "where": [],
                "mutations": [["bridges", "insert", ["set", [["named-uuid", "bridge"]]]]],
            },
        ]
        return True

    def _corrections(self, row: Row) -> Row:
        update: Row = {}
        datapath_type = row["datapath_type"]
        if datapath_type is not None and (datapath_type or "system") == self._wanted.datapath_type:
            pass
        else:
            update["datapath_type"] = self._wanted.datapath_type
        if row["fail_mode"] != FAIL_MODE:
            update["fail_mode"] = FAIL_MODE
        if not row["protocols"] >= PROTOCOLS:
            update["protocols"] = ["set", sorted(row["protocols"] | PROTOCOLS)]
        return update

    def _port(self, port: Port, own: str | None) -> None:
        bridge = self._mirror.named("Bridge", port.bridge)
        if own is not None:
            row = self._mirror.rows["Interface"][own]
            if row["name"] == port.name and self._inventory.holder(own)[1] == bridge:
                options = row["options"] | port.options  # an operator may add options (tos, csum …)
                if row["type"] != port.type or row["options"] != options:
                    self._operations.append(_update("Interface", own, {"type": port.type, "options": _map(options)}))
                return
            self._remove(own)
        for table in ("Port", "Interface"):
            uuid = self._mirror.named(table, port.name)
            if uuid is not None and (own is None or uuid not in (own, self._inventory.holder(own)[0])):
                role = Role("patch", port.role.id) if port.role.kind == "peer" else port.role
                reason = "the name is taken by a row that is not Selvedge's"
                self._problems.append(Problem(f"{table} {port.name}", reason, role))
                return
        number = len(self._operations)
        interface = {
            "name": port.name,
            "type": port.type,
            "options": _map(port.options),
            "external_ids": _map({MARK: f"{port.role.kind}/{port.role.id}"}),
        }
        self._operations += [
            _insert("Interface", f"interface{number}", interface),
            _insert("Port", f"port{number}", {"name": port.name, "interfaces": ["named-uuid", f"interface{number}"]}),
        ]
        self._added.setdefault(port.bridge, []).append(["named-uuid", f"port{number}"])

    def _remove(self, interface: str) -> None:
        port, bridge = self._inventory.holder(interface)
        if port is not None and bridge is not None:
            self._removed.setdefault(bridge, []).append(["uuid", port])

    def _commit_sets(self) -> None:
        """Ports hang on a bridge's set; a bridge that went meanwhile fails the transaction instead of losing ports."""
        added = {self._mirror.named("Bridge", name) or name: ports for name, ports in self._added.items()}
        for bridge in sorted(self._removed.keys() | added.keys()):
            where = [["_uuid", "==", ["uuid", bridge]]]
            if bridge in self._mirror.rows["Bridge"]:
                name = self._mirror.rows["Bridge"][bridge]["name"]
                self._operations.append(_present("Bridge", where, name))
            else:  # the one that this transaction makes
                where = [["name", "==", bridge]]
            mutations: list[Any] = []
            if bridge in self._removed:
                mutations.append(["ports", "delete", ["set", self._removed[bridge]]])
            if bridge in added:
                mutations.append(["ports", "insert", ["set", added[bridge]]])
            self._operations.append({"op": "mutate", "table": "Bridge", "where": where, "mutations": mutations})


def _insert(table: str, name: str, row: Row) -> dict[str, Any]:
    return {"op": "insert", "table": table, "uuid-name": name, "row": row}


def _update(table: str, uuid: str, row: Row) -> dict[str, Any]:
    return {"op": "update", "table": table, "where": [["_uuid", "==", ["uuid", uuid]]], "row": row}


def _absent(table: str, name: str) -> dict[str, Any]:
    return _wait(table, [["name", "==", name]], [])


def _present(table: str, where: list[Any], name: str) -> dict[str, Any]:
    return _wait(table, where, [{"name": name}])


def _wait(table: str, where: list[Any], rows: list[Row]) -> dict[str, Any]:
    """RFC 7047 section 5.2.6: fails the transaction at once if the rows are not these."""
    return {
        "op": "wait",
        "timeout": 0,
        "table": table,
        "where": where,
        "columns": ["name"],
        "until": "==",
        "rows": rows,
    }


def _map(values: dict[str, str]) -> list[Any]:
    return ["map", sorted([key, value] for key, value in values.items())]
