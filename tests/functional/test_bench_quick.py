"""Every benchmark runs, says what the issue of its JSON says, and finds the shape that the design promises.

Numbers of a smoke run mean nothing, so no time is looked at: shape only (flows per port, no flow-mod on a restart, no
message to those who are not concerned). What breaks parts is in `test_chaos_quick`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 240
"""A smoke run takes half a minute; this is where it counts as hung."""

CHANGES = ("member_here", "member_elsewhere", "rule_changed", "address_added")
WHAT = ("flow_mods", "policy_flow_mods", "ms")

NAMES = {
    "wire": {"first_reply_ms", "active_ms", "claimed_first_reply_ms"},
    "bulk": {"bulk_s", "flows", "flows_per_port"},
    "restart": {"resync_s", "flow_mods", "flow_changes", "lost", "vswitchd_forwarding_s"},
    "codec": {"encode_per_s", "decode_per_s", "install_per_s", "readback_s"},
    "fanout": {"done_ms", "messages", "uninterested_messages"},
    "security": {"bulk_s", "flows", *(f"{change}_{what}" for change in CHANGES for what in WHAT)},
    "members": {"flows", "policy_flows", "flows_per_member", "agent_peak_rss_mb", "added_flow_mods", "added_ms"},
    "policy-traffic": {"tcp_mbit_per_s", "udp_mbit_per_s", "udp_packets_per_s", "rtt_us", "megaflows", "masks"},
}


pytestmark = pytest.mark.early


def of(*names: str) -> pytest.MarkDecorator:
    """The benchmarks that a test is of. All tests of one go to one process, which runs it once (see `turns`)."""
    return pytest.mark.parametrize("name", names)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The JSON documents of smoke runs that were made already."""
    return {}


def document(name: str, documents: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The JSON document of a smoke run of `name`; it is run once."""
    if name not in documents:
        path = directory / f"{name}.json"
        done = subprocess.run(
            [sys.executable, "-m", "bench", name, "--quick", "--json", str(path)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert name in done.stdout
        documents[name] = json.loads(path.read_text())
    found: dict[str, Any] = documents[name]
    return found


def results(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = [result for result in document["results"] if result["name"] == name]
    assert found, f"{document['benchmark']} has no result {name}"
    return found


@of(*NAMES)
def test_a_smoke_run_writes_the_document(name: str, documents: dict[str, Any], tmp_path: Path) -> None:
    """Whoever reads the JSON finds the same keys for every benchmark, and the results it is named for."""
    assert_written(document(name, documents, tmp_path), name, NAMES[name])


def assert_written(found: dict[str, Any], name: str, names: set[str]) -> None:
    """The document is whole, and has the results called `names`."""
    assert set(found) == {"benchmark", "versions", "results", "daemons"}
    assert found["benchmark"] == name
    assert {"selvedge", "python", "openvswitch"} <= set(found["versions"])
    assert {result["name"] for result in found["results"]} >= names
    for result in found["results"]:
        assert set(result) == {"name", "params", "unit", "n", "median", "p95", "p99", "max"}
        assert result["n"] >= 1
        assert result["median"] <= result["p95"] <= result["p99"] <= result["max"]
    assert found["daemons"]
    for daemon in found["daemons"]:
        assert set(daemon) == {"name", "cpu_s", "peak_rss_mb"}
        assert daemon["cpu_s"] >= 0
        assert daemon["peak_rss_mb"] > 0


@of("wire")
def test_a_plug_is_measured_near_and_far_alone_and_in_a_crowd(
    name: str, documents: dict[str, Any], tmp_path: Path
) -> None:
    """A VM is plugged beside its target and across the tunnel, on an empty hypervisor and on a full one."""
    found = document(name, documents, tmp_path)
    for what in ("first_reply_ms", "active_ms"):
        places = {(result["params"]["where"], result["params"]["present"]) for result in results(found, what)}
        assert places == {("remote", 0), ("local", 0), ("remote", 50), ("local", 50)}


@of("bulk", "security")
def test_a_port_costs_at_most_nine_flows(name: str, documents: dict[str, Any], tmp_path: Path) -> None:
    """Many IPv4 ports of one network on one hypervisor in one group: flows grow with ports, by at most nine."""
    found = document(name, documents, tmp_path)
    for result in results(found, "flows"):
        # What the policy, the segment and the bridge need besides is a constant.
        assert result["max"] <= 9 * result["params"]["ports"] + 200


@of("bulk")
def test_what_a_port_costs_does_not_grow(name: str, documents: dict[str, Any], tmp_path: Path) -> None:
    """The rules of a group are there once, for however many ports."""
    few, many = results(document(name, documents, tmp_path), "flows")
    assert (many["max"] - few["max"]) / (many["params"]["ports"] - few["params"]["ports"]) <= 9


@of("restart")
def test_a_restarted_agent_changes_nothing_in_its_switch(name: str, documents: dict[str, Any], tmp_path: Path) -> None:
    """The agent ends, by SIGTERM and by SIGKILL, and starts: no flow-mod, by its own word and by a flow monitor's."""
    found = document(name, documents, tmp_path)
    for what in ("flow_mods", "flow_changes"):
        by = {result["params"]["by"]: result["max"] for result in results(found, what)}
        assert by == {"SIGTERM": 0, "SIGKILL": 0}


@of("fanout")
def test_nobody_hears_of_what_does_not_concern_them(name: str, documents: dict[str, Any], tmp_path: Path) -> None:
    """A port is added to a segment with members on k of three hosts: k agents hear of it, the others nothing."""
    found = document(name, documents, tmp_path)
    assert {result["params"]["members"] for result in results(found, "done_ms")} == {1, 2, 3}
    assert all(result["max"] == 0 for result in results(found, "uninterested_messages"))
    for result in results(found, "agents_reached"):
        assert result["max"] == result["params"]["members"]


@of("security")
def test_one_member_more_elsewhere_changes_no_rule(name: str, documents: dict[str, Any], tmp_path: Path) -> None:
    """A port in a group comes on another host: two flows on its segment's hosts, none where only its group matters."""
    found = document(name, documents, tmp_path)
    mods = {result["params"]["host"]: result["max"] for result in results(found, "member_elsewhere_flow_mods")}
    assert mods == {"hv1": 2, "hv3": 0}
    assert all(result["max"] == 0 for result in results(found, "member_elsewhere_policy_flow_mods"))


@of("security")
def test_a_changed_rule_is_a_few_flows_on_each_host(name: str, documents: dict[str, Any], tmp_path: Path) -> None:
    """As many as the rule's pieces, however many ports the host has."""
    found = document(name, documents, tmp_path)
    assert all(0 < result["max"] <= 20 for result in results(found, "rule_changed_flow_mods"))


@of("members")
def test_rules_do_not_notice_members(name: str, documents: dict[str, Any], tmp_path: Path) -> None:
    """A group grows on other hosts: two flows a member, and the tables that judge are as they were."""
    found = document(name, documents, tmp_path)
    assert all(result["max"] == 0 for result in results(found, "added_policy_flow_mods"))
    for network, most in (("geneve", 2), ("vlan", 3)):
        there = [result for result in found["results"] if result["params"]["network"] == network]
        assert len({result["max"] for result in there if result["name"] == "policy_flows"}) == 1
        assert all(result["max"] <= most for result in there if result["name"] == "added_flow_mods")
        assert all(result["max"] <= most for result in there if result["name"] == "flows_per_member")


@of("policy-traffic")
def test_the_cache_is_small_and_counted_twice(name: str, documents: dict[str, Any], tmp_path: Path) -> None:
    """Masks found in the dump are no more than the switch's own count of (mask, input port)."""
    found = document(name, documents, tmp_path)
    tables = {tuple(result["params"].items()): result["median"] for result in results(found, "subtables")}
    for result in results(found, "masks"):
        assert 0 < result["median"] <= tables[tuple(result["params"].items())]
