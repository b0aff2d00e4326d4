"""The operator's command: a cookie leads to the tenant's object, in words."""

import json
from pathlib import Path

import pytest

from agents import operator
from openflow import pipeline

OBJECTS = {
    "endpoint": {"7": "port-7", "8": "port-8"},
    "segment": {"3": "blue"},
    "host": {},
    "rule": {"4": "rule-4 of group web", "40": "rule-40 of group web", "5": "rule-5 of group db"},
}
PORTS = {"port-7": {"state": "up", "reason": "", "policy": 1}, "port-8": {"state": "up", "reason": "", "policy": 0}}
PORT, HOST = pipeline.cookie(pipeline.Kind.ENDPOINT, 7), pipeline.cookie(pipeline.Kind.HOST, 2)
WEB, MORE_WEB, DB = (pipeline.cookie(pipeline.Kind.RULE, key) for key in (4, 40, 5))
DUMP = f"""OFPST_FLOW reply (OF1.4) (xid=0x2):
 cookie={PORT:#x}, duration=1.2s, table=0, n_packets=4, n_bytes=240, priority=100,in_port=5 actions=goto_table:10
 cookie={HOST:#x}, duration=1.2s, table=60, n_packets=0, n_bytes=0, priority=100,reg5=0x40000002 actions=output:1
 cookie=0x0, duration=9s, table=9, n_packets=0, n_bytes=0, actions=drop
"""
RULES = f"""OFPST_FLOW reply (OF1.4) (xid=0x2):
 cookie={PORT:#x}, duration=1.2s, table=0, n_packets=4, n_bytes=240, priority=100,in_port=5 actions=set_field:0x1->reg7
 cookie={WEB:#x}, duration=1s, table=75, n_packets=1, n_bytes=9, priority=100,tcp,reg7=0x1,tp_dst=80 actions=drop
 cookie={MORE_WEB:#x}, duration=1s, table=75, n_packets=1, n_bytes=9, priority=100,ip,reg7=0x1 actions=drop
 cookie={DB:#x}, duration=1s, table=75, n_packets=1, n_bytes=9, priority=100,ip,reg7=0x10 actions=drop
"""


def test_each_flow_says_its_table_and_its_object() -> None:
    assert list(operator.annotated(DUMP.splitlines(), OBJECTS, None)) == [
        " 0 CLASSIFY       [endpoint port-7] n_packets=4, n_bytes=240, priority=100,in_port=5 actions=goto_table:10",
        "60 DELIVER        [host with key 2] n_packets=0, n_bytes=0, priority=100,reg5=0x40000002 actions=output:1",
        " 9 ?              [foreign] n_packets=0, n_bytes=0, actions=drop",
    ]


def test_only_the_flows_of_one_port() -> None:
    (line,) = operator.annotated(DUMP.splitlines(), OBJECTS, "port-7")
    assert "in_port=5" in line


def test_a_rules_flow_names_the_rule_and_its_group() -> None:
    lines = list(operator.annotated(RULES.splitlines(), OBJECTS, None))
    assert lines[1].startswith("75 INGRESS_POLICY [rule rule-4 of group web] n_packets=1")
    assert [line for line in lines if "web" in line] == list(operator.annotated(RULES.splitlines(), OBJECTS, "web"))
    (line,) = operator.annotated(RULES.splitlines(), OBJECTS, "rule-5")
    assert "reg7=0x10" in line


def test_the_flows_of_a_port_are_its_own_and_its_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port under policy 1: its own flows and that policy's rules, not those of policy 0x10; a port without groups has
    no rules."""
    (tmp_path / "status.json").write_text(json.dumps({"objects": OBJECTS, "ports": PORTS}))
    program = tmp_path / "ovs-ofctl"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{RULES}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert operator.main(["flows", "port-7", "--state-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert [line.partition("[")[2].partition("]")[0] for line in out.splitlines()] == [
        "endpoint port-7",
        "rule rule-4 of group web",
        "rule rule-40 of group web",
    ]
    assert operator.main(["flows", "port-8", "--state-dir", str(tmp_path)]) == 1


def test_a_cookie_leads_to_its_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "status.json").write_text(json.dumps({"objects": OBJECTS}))
    assert operator.main(["owner", f"{PORT:#x}", "--state-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "endpoint port-7\n"
    assert operator.main(["owner", f"{WEB:#x}", "--state-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "rule rule-4 of group web\n"


def test_no_flow_of_an_object_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The beginning of an id, or a name that nobody has: not silence, which would look like a port that is cut off."""
    (tmp_path / "status.json").write_text(json.dumps({"objects": OBJECTS}))
    program = tmp_path / "ovs-ofctl"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{DUMP}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert operator.main(["flows", "port", "--state-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "selvedge: br-int has no flow of 'port': it takes whole ids, and hosts' names\n"
    assert operator.main(["flows", "port-7", "--state-dir", str(tmp_path)]) == 0
    assert "in_port=5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["owner", "blue"], "'blue' is no cookie"),
        (["status"], "status.json: No such file or directory"),
        (["flows"], "status.json: No such file or directory"),
        (["agents", "--url", "http://127.0.0.1:1"], "Connection refused"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = [] if arguments[0] == "agents" else ["--state-dir", str(tmp_path)]
    assert operator.main([*arguments, *local]) == 1
    told = capsys.readouterr().err
    assert told.startswith("selvedge: ") and text in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("security", "lines"),
    [
        ({}, ["0 policies of 0 security groups"]),
        ({"policies": 2, "security_groups": 3, "ports_awaiting_groups": 0}, ["2 policies of 3 security groups"]),
        (
            {"policies": 2, "security_groups": 3, "ports_awaiting_groups": 7},
            ["2 policies of 3 security groups", "waiting for the rules of their groups: 7 ports"],
        ),
    ],
)
def test_status_in_one_look(
    security: dict[str, int], lines: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts in one line, who waits in another; also of an agent that was started before it had groups to tell of."""
    told = {"host": "hv1", "in_sync": True, "pid": 7, "flows": 40, "groups": 2, "problems": [], "ports": {}}
    told["counts"] = {"ports_up": 3, "ports_down": 1, **security}
    (tmp_path / "status.json").write_text(json.dumps(told))
    assert operator.main(["status", "--state-dir", str(tmp_path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    begin = "hv1: in sync, pid 7, 40 flows, 2 groups, 3 ports up, 1 down, "
    assert printed == begin + " ".join(lines)
