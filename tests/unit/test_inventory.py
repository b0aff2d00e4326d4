"""What is plugged where: rows of Open vSwitch's database in, changed roles out."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.inventory import Inventory, Plugged, Role
from tests.unit.rows import Rows


def port(name: str) -> Role:
    return Role("port", name)


class World:
    """Rows, and an inventory that follows them by the monitor's updates."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.rows.bridge("br-int")
        self.rows.bridge("br-ex")
        self.inventory = Inventory("br-int")
        self.inventory.load(self.rows.initial())
        self.seen = self.rows.snapshot()

    def sync(self) -> dict[Role, Plugged | None]:
        changed = self.inventory.update(self.rows.updates_since(self.seen))
        self.seen = self.rows.snapshot()
        return changed

    def set(self, interface: str, **values: object) -> None:
        self.rows.named("Interface", interface).update(values)


def test_a_plug_is_seen_with_its_openflow_port() -> None:
    """The interface appears first without a number, and then vswitchd gives it one."""
    world = World()
    world.rows.port("br-int", "tap1", external_ids={"iface-id": "p1"}, mtu=1442)
    assert world.sync() == {port("p1"): Plugged("tap1", 0, 1442)}
    world.set("tap1", ofport=7)
    assert world.sync() == {port("p1"): Plugged("tap1", 7, 1442)}
    world.rows.delete_port("tap1")
    assert world.sync() == {port("p1"): None}
    assert world.inventory.roles == {}


def test_iface_id_set_after_the_port_was_added() -> None:
    """libvirt adds the port in one transaction, a script sets iface-id in a second one, and changes it in a third."""
    world = World()
    world.rows.port("br-int", "tap1", ofport=3)
    assert world.sync() == {}
    world.set("tap1", external_ids={"iface-id": "p1"})
    assert world.sync() == {port("p1"): Plugged("tap1", 3)}
    world.set("tap1", external_ids={"iface-id": "p2"})
    assert world.sync() == {port("p1"): None, port("p2"): Plugged("tap1", 3)}


def test_interfaces_of_other_bridges_are_none_of_our_business() -> None:
    world = World()
    world.rows.port("br-ex", "tap1", external_ids={"iface-id": "p1"}, ofport=3)
    assert world.sync() == {}


def test_one_port_on_two_interfaces() -> None:
    """A left-over interface of a dead VM has the same iface-id: the working one wins; among equals the lowest name."""
    world = World()
    world.rows.port("br-int", "tap1", external_ids={"iface-id": "p1"}, ofport=-1, error="No such device")
    world.rows.port("br-int", "tap2", external_ids={"iface-id": "p1"}, ofport=9)
    world.rows.port("br-int", "tap3", external_ids={"iface-id": "p1"}, ofport=4)
    assert world.sync() == {port("p1"): Plugged("tap2", 9, others=("tap3", "tap1"))}
    world.rows.delete_port("tap2")
    assert world.sync() == {port("p1"): Plugged("tap3", 4, others=("tap1",))}


def test_an_interface_that_cannot_work_names_its_error() -> None:
    world = World()
    world.rows.port("br-int", "tap1", external_ids={"iface-id": "p1"}, ofport=-1, error="could not open tap1")
    world.rows.port("br-int", "tap2", external_ids={"iface-id": "p2"}, ofport=-1)
    changed = world.sync()
    assert changed[port("p1")] == Plugged("tap1", 0, None, "could not open tap1")
    assert changed[port("p2")] == Plugged("tap2", 0, None, "Open vSwitch gave it no OpenFlow port")


def test_a_reconnect_tells_only_what_differs() -> None:
    """ovsdb-server was away while one port came and one went: the new load tells these two."""
    world = World()
    for name in ("p1", "p2", "p3"):
        world.rows.port("br-int", name, external_ids={"iface-id": name}, ofport=3)
    world.sync()
    world.rows.delete_port("p2")
    world.rows.port("br-int", "p4", external_ids={"iface-id": "p4"}, ofport=5)
    assert world.inventory.load(world.rows.initial()) == {port("p2"): None, port("p4"): Plugged("p4", 5)}


def test_a_forged_mark_gives_no_role() -> None:
    """external_ids:selvedge with nonsense, or of a peer's kind on br-int, is no tunnel and no tenant's port."""
    world = World()
    world.rows.port("br-int", "x1", external_ids={"selvedge": "peer/physnet1"}, ofport=3)
    world.rows.port("br-int", "x2", external_ids={"selvedge": "", "iface-id": "p1"}, ofport=4)
    world.rows.port("br-ex", "x3", external_ids={"selvedge": "tunnel/geneve"}, ofport=5)
    assert world.sync() == {}


INTERFACES = [f"tap{number}" for number in range(4)]
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.sampled_from(INTERFACES),
            st.sampled_from(["br-int", "br-ex"]),
            st.sampled_from([{}, {"iface-id": "p1"}, {"iface-id": "p2"}, {"selvedge": "tunnel/geneve"}]),
            st.sampled_from([None, -1, 1, 2]),
        ),
        st.tuples(st.just("delete"), st.sampled_from(INTERFACES)),
        st.tuples(st.just("ids"), st.sampled_from(INTERFACES), st.sampled_from([{}, {"iface-id": "p1"}])),
        st.tuples(st.just("ofport"), st.sampled_from(INTERFACES), st.sampled_from([None, -1, 1, 2])),
        st.tuples(st.just("bridge"), st.sampled_from(["br-int", "br-ex"])),
        st.tuples(st.just("sync")),
    ),
    max_size=25,
)


@given(steps)
@settings(max_examples=150, deadline=None)
def test_following_changes_equals_loading_anew(steps: list[tuple[Any, ...]]) -> None:
    """Law: whatever happens, in whatever batches, the inventory is what a fresh load of the same rows gives."""
    world = World()
    told: dict[Role, Plugged] = {}

    def follow() -> None:
        for role, plugged in world.sync().items():
            if plugged is None:
                del told[role]
            else:
                assert told.get(role) != plugged, "a role that did not change was told"
                told[role] = plugged

    for step, *arguments in steps:
        exists = any(row["name"] == arguments[0] for row in world.rows.tables["Interface"].values()) if arguments else 0
        if step == "add" and not exists:
            name, bridge, ids, ofport = arguments
            if any(row["name"] == bridge for row in world.rows.tables["Bridge"].values()):
                world.rows.port(bridge, name, external_ids=dict(ids), ofport=ofport)
        elif step == "delete" and exists:
            world.rows.delete_port(arguments[0])
        elif step == "ids" and exists:
            world.set(arguments[0], external_ids=dict(arguments[1]))
        elif step == "ofport" and exists:
            world.set(arguments[0], ofport=arguments[1])
        elif step == "bridge":
            if exists:
                world.rows.delete_bridge(arguments[0])
            else:
                world.rows.bridge(arguments[0])
        elif step == "sync":
            follow()
    follow()
    fresh = Inventory("br-int")
    fresh.load(world.rows.initial())
    assert world.inventory.roles == fresh.roles == told
    assert world.inventory.own() == fresh.own()
