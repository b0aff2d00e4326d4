"""What agents say about ports: claims, wiring, releasing; in bulk, on every database."""

from collections.abc import Sequence

import pytest

from controller.store import bindings
from controller.store.engine import Store, Transaction
from controller.store.topology import Changes, snapshots
from selvedge.rpc import Wired
from selvedge.topics import host_topic
from selvedge.topology import Binding, Ref, ref
from tests.rest import Api, Json, replay

NOWHERE = "eb5fb9bf-29b3-4bc2-a1d1-41a9d9d4d9a1"


class Agent:
    """The calls of one host's agent."""

    def __init__(self, api: Api, host: str) -> None:
        self.api = api
        self.host = host

    def _record(self, transaction: Transaction, changes: Changes) -> None:
        transaction.on_commit(lambda: self.api.recorded.append(changes))

    def claim(self, *ports: str) -> dict[str, str]:
        return self.api.store.transaction(lambda tx: bindings.claim(tx, self.host, ports, self._record))

    def wired(self, up: Sequence[str] = (), down: Sequence[str] = (), unplugged: Sequence[str] = ()) -> tuple[str, ...]:
        request = Wired(self.host, tuple(up), tuple(down), tuple(unplugged))
        return self.api.store.transaction(lambda tx: bindings.wired(tx, request, self._record))


@pytest.fixture
def hv1(api: Api) -> Agent:
    return Agent(api, "hv1")


@pytest.fixture
def hv2(api: Api) -> Agent:
    return Agent(api, "hv2")


def state(api: Api, port: Json) -> tuple[str, str, str]:
    now = api.get(f"ports/{port['id']}")["port"]
    return now["binding:host_id"], now["binding:vif_type"], now["status"]


def test_a_claim_takes_what_belongs_nowhere(api: Api, hv1: Agent, hv2: Agent) -> None:
    network = api.network()
    api.subnet(network, "10.0.0.0/24")
    free, bound = api.port(network), api.port(network, host="hv2")
    assert hv1.claim(free["id"], bound["id"], NOWHERE) == {
        free["id"]: "claimed",
        bound["id"]: "elsewhere",
        NOWHERE: "unknown",
    }
    assert state(api, free) == ("hv1", "ovs", "DOWN")
    assert state(api, bound) == ("hv2", "ovs", "DOWN")
    changes = api.recorded[-1]
    ((binding,), gone) = changes[host_topic("hv1")]
    assert isinstance(binding, Binding)
    assert (binding.id, gone) == (free["id"], ())
    assert hv1.claim(free["id"]) == {free["id"]: "claimed"}
    assert api.recorded[-1] is changes
    assert hv2.claim(free["id"]) == {free["id"]: "elsewhere"}
    assert hv2.claim(bound["id"]) == {bound["id"]: "claimed"}


def test_a_port_is_active_once_it_is_wired(api: Api, hv1: Agent, hv2: Agent) -> None:
    network = api.network()
    port = api.port(network, host="hv1")
    assert hv2.wired(up=[port["id"], NOWHERE]) == tuple(sorted((port["id"], NOWHERE)))
    assert state(api, port)[2] == "DOWN"
    before = len(api.recorded)
    assert hv1.wired(up=[port["id"]]) == ()
    assert hv1.wired(up=[port["id"]]) == ()
    assert state(api, port) == ("hv1", "ovs", "ACTIVE")
    assert api.get(f"ports/{port['id']}")["port"]["revision_number"] == 2
    assert hv1.wired(down=[port["id"]]) == ()
    assert state(api, port) == ("hv1", "ovs", "DOWN")
    assert len(api.recorded) == before


def test_a_claimed_port_is_released_when_it_is_unplugged(api: Api, hv1: Agent, hv2: Agent) -> None:
    port = api.port(api.network())
    hv1.claim(port["id"])
    hv1.wired(up=[port["id"]])
    assert state(api, port)[2] == "ACTIVE"
    hv1.wired(up=[port["id"]], down=[port["id"]])
    assert state(api, port) == ("hv1", "ovs", "DOWN"), "a port that is merely down stays where it is"
    hv1.wired(up=[port["id"]], down=[port["id"]], unplugged=[port["id"]])
    assert state(api, port) == ("", "unbound", "DOWN")
    assert api.recorded[-1][host_topic("hv1")] == ((), (Ref("binding", port["id"]),))
    assert hv1.wired(up=[port["id"]]) == (port["id"],)
    assert hv2.claim(port["id"]) == {port["id"]: "claimed"}
    assert state(api, port)[0] == "hv2"


def test_a_request_makes_a_claim_a_binding(api: Api, hv1: Agent) -> None:
    port = api.port(api.network())
    hv1.claim(port["id"])
    api.update("port", port["id"], **{"binding:host_id": "hv1"})
    hv1.wired(unplugged=[port["id"]])
    assert state(api, port) == ("hv1", "ovs", "DOWN")


def test_moving_a_port_takes_it_down_until_its_new_host_wires_it(api: Api, hv1: Agent, hv2: Agent) -> None:
    port = api.port(api.network(), host="hv1")
    hv1.wired(up=[port["id"]])
    api.update("port", port["id"], **{"binding:host_id": "hv2"})
    assert state(api, port) == ("hv2", "ovs", "DOWN")
    assert hv1.wired(unplugged=[port["id"]]) == (port["id"],)
    hv2.wired(up=[port["id"]])
    assert state(api, port) == ("hv2", "ovs", "ACTIVE")


def test_a_thousand_ports_in_one_call_and_changes_are_a_snapshot(api: Api, hv1: Agent, store: Store) -> None:
    network = api.network()
    api.subnet(network, "10.0.0.0/16")
    made = api.bulk("port", [{"network_id": network["id"]}] * 1000).body["ports"]
    ids = [port["id"] for port in made]
    assert set(hv1.claim(*ids).values()) == {"claimed"}
    assert hv1.wired(up=ids) == ()
    assert len(api.get("ports?status=ACTIVE&fields=id")["ports"]) == 1000
    held = replay(api.recorded)
    found = store.read(lambda conn: snapshots(conn, held))
    assert {one.topic: {ref(thing): thing for thing in one.objects} for one in found} == held
    hv1.wired(unplugged=ids[:500])
    assert len(replay(api.recorded)[host_topic("hv1")]) == 500
