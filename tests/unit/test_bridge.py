"""The integration bridge in the database: what is missing is done in one transaction, and a second plan is empty.

The database here is a small one of our own that carries out the operations we emit (RFC 7047 section 5.2) on rows and
answers with the monitor's updates, so that every plan is followed by the plan of its result. The same operations go to
a real ovsdb-server in tests/functional/test_ovsdb.py.
"""

from agents.bridge import PROTOCOLS, Plan, Wanted, change_external_ids, patch_names, plan
from agents.inventory import Inventory, Role
from tests.unit.rows import Rows

WANTED = Wanted("br-int", "netdev", "192.0.2.1", ("geneve", "vxlan"), {"physnet1": "br-ex"})


def settle(rows: Rows, wanted: Wanted) -> tuple[Inventory, Plan]:
    """Plan, carry out, and plan again: the second plan must be empty."""
    inventory = Inventory(wanted.bridge)
    inventory.load(rows.initial())
    first = plan(inventory, wanted)
    inventory.update(rows.commit(first.operations))
    second = plan(inventory, wanted)
    assert second.operations == [], "carrying out a plan must leave nothing to do"
    assert second.problems == first.problems
    return inventory, first


def options(rows: Rows, name: str) -> dict[str, str]:
    found: dict[str, str] = rows.named("Interface", name)["options"]
    return found


def test_everything_is_made_on_an_empty_database() -> None:
    """An empty database with a provider bridge gets br-int, both tunnel ports and the patch pair."""
    rows = Rows()
    rows.bridge("br-ex")
    inventory, first = settle(rows, WANTED)
    bridge = rows.named("Bridge", "br-int")
    assert (bridge["datapath_type"], bridge["fail_mode"], bridge["protocols"]) == ("netdev", "secure", PROTOCOLS)
    assert rows.ports("br-int") == {"br-int", "sv-geneve", "sv-vxlan", "sv-i-physnet1"}
    assert rows.ports("br-ex") == {"br-ex", "sv-p-physnet1"}
    assert options(rows, "sv-geneve") == {"remote_ip": "flow", "key": "flow", "local_ip": "192.0.2.1"}
    assert options(rows, "sv-i-physnet1") == {"peer": "sv-p-physnet1"}
    assert options(rows, "sv-p-physnet1") == {"peer": "sv-i-physnet1"}
    assert first.problems == ()
    assert set(inventory.roles) == {
        Role("tunnel", "geneve"),
        Role("tunnel", "vxlan"),
        Role("patch", "physnet1"),
        Role("peer", "physnet1"),
    }


def test_a_bridge_of_somebody_else_keeps_what_is_not_ours() -> None:
    """br-int made by os-vif: only our three columns change, its ports stay, protocols are added to and not replaced."""
    rows = Rows()
    rows.bridge("br-int", protocols=frozenset({"OpenFlow11"}), datapath_type="netdev")
    rows.port("br-int", "tap1", external_ids={"iface-id": "p1"})
    rows.bridge("br-ex")
    settle(rows, WANTED)
    assert rows.named("Bridge", "br-int")["protocols"] == PROTOCOLS | {"OpenFlow11"}
    assert rows.named("Bridge", "br-int")["fail_mode"] == "secure"
    assert "tap1" in rows.ports("br-int")


def test_system_datapath_is_the_empty_string_too() -> None:
    """Open vSwitch's default datapath type is written "" or "system"; neither is changed into the other."""
    rows = Rows()
    rows.bridge("br-int", protocols=PROTOCOLS, fail_mode="secure", datapath_type="")
    inventory = Inventory("br-int")
    inventory.load(rows.initial())
    assert plan(inventory, WANTED._replace(datapath_type="system", tunnel_ip=None, mappings={})).operations == []


def test_a_missing_provider_bridge_is_a_problem_of_its_mapping_only() -> None:
    """Two mappings, one bridge missing: the other is made, the problem names the option, and it heals by itself."""
    rows = Rows()
    rows.bridge("br-ex")
    wanted = WANTED._replace(mappings={"physnet1": "br-ex", "physnet2": "br-gone"})
    inventory, first = settle(rows, wanted)
    assert [problem.subject for problem in first.problems] == ["bridge_mappings physnet2:br-gone"]
    assert Role("patch", "physnet1") in inventory.roles
    rows.bridge("br-gone")
    inventory, later = settle(rows, wanted)
    assert later.problems == ()
    assert Role("patch", "physnet2") in inventory.roles


def test_a_provider_bridge_may_not_be_the_integration_bridge() -> None:
    rows = Rows()
    _, first = settle(rows, WANTED._replace(mappings={"physnet1": "br-int"}))
    assert "integration bridge" in first.problems[0].reason


def test_a_name_that_is_taken_is_a_problem_and_the_row_is_left_alone() -> None:
    """Somebody's own port is called sv-geneve: it is not touched, and VXLAN works all the same."""
    rows = Rows()
    rows.bridge("br-ex")
    rows.port("br-ex", "sv-geneve", type="internal")
    inventory, first = settle(rows, WANTED)
    assert any("sv-geneve" in problem.subject for problem in first.problems)
    assert rows.named("Interface", "sv-geneve")["type"] == "internal"
    assert Role("tunnel", "vxlan") in inventory.roles
    assert Role("tunnel", "geneve") not in inventory.roles


def test_integration_bridges_name_taken_by_a_port() -> None:
    rows = Rows()
    rows.bridge("br-ex")
    rows.port("br-ex", "br-int")
    _, first = settle(rows, WANTED)
    assert any(problem.subject == "integration_bridge br-int" for problem in first.problems)


def test_configuration_changes_move_and_remove_our_ports_only() -> None:
    """Another tunnel address, one type less, the mapping elsewhere: strangers' ports stay as they are."""
    rows = Rows()
    rows.bridge("br-ex")
    rows.bridge("br-other")
    rows.port("br-ex", "eth1")
    settle(rows, WANTED)
    wanted = WANTED._replace(tunnel_ip="192.0.2.9", tunnel_types=("geneve",), mappings={"physnet1": "br-other"})
    settle(rows, wanted)
    assert rows.ports("br-int") == {"br-int", "sv-geneve", "sv-i-physnet1"}
    assert rows.ports("br-ex") == {"br-ex", "eth1"}
    assert rows.ports("br-other") == {"br-other", "sv-p-physnet1"}
    assert options(rows, "sv-geneve")["local_ip"] == "192.0.2.9"
    settle(rows, wanted._replace(mappings={}, tunnel_ip=None))
    assert rows.ports("br-int") == {"br-int"}
    assert rows.ports("br-other") == {"br-other"}


def test_an_operators_additional_option_stays() -> None:
    rows = Rows()
    rows.bridge("br-ex")
    settle(rows, WANTED)
    options(rows, "sv-geneve")["csum"] = "true"
    options(rows, "sv-geneve")["key"] = "7"
    settle(rows, WANTED)
    assert options(rows, "sv-geneve") == {"remote_ip": "flow", "key": "flow", "local_ip": "192.0.2.1", "csum": "true"}


def test_a_deleted_bridge_is_made_again() -> None:
    """Somebody deletes br-int: the same plan as at the start; the provider's end, still there, is not made twice."""
    rows = Rows()
    rows.bridge("br-ex")
    settle(rows, WANTED)
    rows.delete_bridge("br-int")
    inventory, _ = settle(rows, WANTED)
    assert rows.ports("br-int") == {"br-int", "sv-geneve", "sv-vxlan", "sv-i-physnet1"}
    assert rows.ports("br-ex") == {"br-ex", "sv-p-physnet1"}
    assert Role("patch", "physnet1") in inventory.roles


def test_external_ids_of_others_stay() -> None:
    """Keys go, come, and get another value in one transaction; what os-vif or an operator wrote is left alone."""
    rows = Rows()
    rows.bridge("br-int", external_ids={"bridge-id": "br-int", "a": "1", "b": "2"})
    inventory = Inventory("br-int")
    inventory.load(rows.initial())
    inventory.update(rows.commit(change_external_ids(inventory, ("a", "b", "gone"), {"b": "3", "c": "4"})))
    assert inventory.external_ids == {"bridge-id": "br-int", "b": "3", "c": "4"}
    rows.delete_bridge("br-int")
    inventory.load(rows.initial())
    assert inventory.external_ids is None


def test_patch_names_fit_an_interfaces_name() -> None:
    names = {
        name
        for physnet in ("physnet1", "a-very-long-physical-network", "a-very-long-physical-netwerk")
        for name in patch_names(physnet)
    }
    assert len(names) == 6
    assert max(map(len, names)) <= 15
