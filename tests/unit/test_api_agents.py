"""Agents as the API shows them, from the reports that they send."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from controller.store import agents, schema
from controller.store.clock import moment, timestamp
from controller.store.engine import Transaction
from controller.store.topology import Changes
from selvedge.rpc import Report
from selvedge.topology import Host, Ref
from tests.rest import Api


def report(api: Api, host: str = "hv1", tunnel_ip: str | None = "192.0.2.1", **said: str | int) -> None:
    request = Report(host=host, tunnel_ip=tunnel_ip, configurations=dict(said), started_at="2026-01-31T09:30:00Z")

    def record(transaction: Transaction, changes: Changes) -> None:
        transaction.on_commit(lambda: api.recorded.append(changes))

    api.store.transaction(lambda transaction: agents.report(transaction, request, record))


def test_an_agent_appears_by_its_report(api: Api) -> None:
    report(api, datapath_type="netdev", flows=7)
    (agent,) = api.get("agents")["agents"]
    assert api.get(f"agents/{agent['id']}")["agent"] == agent
    expected = {
        "agent_type": "Selvedge agent",
        "binary": "selvedge-agent",
        "topic": "N/A",
        "host": "hv1",
        "alive": True,
        "admin_state_up": True,
        "configurations": {"datapath_type": "netdev", "flows": 7},
        "description": None,
        "started_at": "2026-01-31 09:30:00",
    }
    assert {name: agent[name] for name in expected} == expected
    assert set(agent) == {*expected, "id", "created_at", "heartbeat_timestamp"}
    report(api, flows=8)
    assert api.get("agents")["agents"][0]["configurations"] == {"flows": 8}


def test_a_silent_agent_is_not_alive(api: Api) -> None:
    report(api)
    report(api, host="hv2")
    long_ago = timestamp(datetime.now(UTC) - timedelta(seconds=76))
    silent = update(schema.agents).where(schema.agents.c.host == "hv2").values(heartbeat_timestamp=long_ago)
    api.store.transaction(lambda transaction: transaction.execute(silent))
    assert {agent["host"]: agent["alive"] for agent in api.get("agents")["agents"]} == {"hv1": True, "hv2": False}
    for query, hosts in (("alive=true", ["hv1"]), ("alive=False", ["hv2"]), ("host=hv2", ["hv2"])):
        assert [agent["host"] for agent in api.get(f"agents?{query}")["agents"]] == hosts


def test_tunnel_ends_are_told_when_they_change(api: Api) -> None:
    report(api)
    report(api)
    report(api, tunnel_ip="192.0.2.9")
    report(api, host="hv2", tunnel_ip=None)
    report(api, tunnel_ip=None)
    assert api.recorded == [
        {"hosts": ((Host("hv1", 1, "192.0.2.1"),), ())},
        {"hosts": ((Host("hv1", 1, "192.0.2.9"),), ())},
        {"hosts": ((), (Ref("host", "hv1"),))},
    ]


def test_an_administrator_describes_and_removes_an_agent(api: Api) -> None:
    report(api)
    id = api.get("agents?fields=id")["agents"][0]["id"]
    answer = api.update("agent", id, description="rack 7", admin_state_up=False)
    assert (answer.body["agent"]["description"], answer.body["agent"]["admin_state_up"]) == ("rack 7", False)
    assert api.get(f"agents/{id}")["agent"] == answer.body["agent"]
    assert api.update("agent", id, host="hv2").status == 400
    assert api.delete("agent", id).status == 204
    assert api.recorded[-1] == {"hosts": ((), (Ref("host", "hv1"),))}
    assert api.delete("agent", id).error == "AgentNotFound"
    report(api)
    assert api.recorded[-1] == {"hosts": ((Host("hv1", 2, "192.0.2.1"),), ())}


def test_a_port_s_details_are_its_host_s(api: Api) -> None:
    """Stock Nova and os-vif plug by these: bridge and datapath are what the agent says it has."""
    report(api, datapath_type="netdev", integration_bridge="br-cloud")
    port = api.port(api.network(), host="hv1")
    details = port["binding:vif_details"]
    assert (details["datapath_type"], details["bridge_name"]) == ("netdev", "br-cloud")


@pytest.mark.parametrize("text", ["2026-01-31T09:30:00Z", "1999-12-31T23:59:59Z"])
def test_stored_times_are_read_as_they_are_written(text: str) -> None:
    assert timestamp(moment(text)) == text
