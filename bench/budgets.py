"""What the numbers must be on a quiet machine of two cores, as data. The table of a run says met or missed."""

from collections.abc import Mapping
from typing import NamedTuple


class Budget(NamedTuple):
    """`statistic` of result `name` under `params` (a subset of its own) must not exceed `limit` (`least`: reach it)."""

    benchmark: str
    name: str
    params: Mapping[str, str | int]
    statistic: str
    limit: float
    least: bool = False


BUDGETS = (
    Budget("wire", "first_reply_ms", {"where": "remote", "present": 0}, "median", 12),
    Budget("wire", "open_first_reply_ms", {"where": "remote", "present": 0}, "median", 10),
    Budget("wire", "first_reply_ms", {"where": "remote", "present": 0}, "p99", 30),
    Budget("wire", "active_ms", {"present": 0}, "median", 30),
    Budget("wire", "claimed_first_reply_ms", {"where": "remote", "present": 0}, "median", 30),
    Budget("wire", "first_reply_ms", {"where": "remote", "present": 1000}, "median", 15),
    Budget("wire", "first_reply_ms", {"where": "remote", "present": 1000}, "p99", 45),
    Budget("wire", "active_ms", {"present": 1000}, "median", 45),
    Budget("wire", "claimed_first_reply_ms", {"where": "remote", "present": 1000}, "median", 45),
    Budget("bulk", "bulk_s", {"ports": 1000}, "median", 4),
    Budget("bulk", "flows", {"ports": 1000}, "max", 9 * 1000 + 200),
    Budget("bulk", "agent_peak_rss_mb", {"ports": 1000}, "max", 120),
    Budget("restart", "resync_s", {"ports": 1000}, "median", 1),
    Budget("restart", "flow_mods", {}, "max", 0),
    Budget("restart", "lost", {}, "max", 0),
    Budget("restart", "vswitchd_forwarding_s", {"ports": 1000}, "median", 1.5),
    Budget("fanout", "done_ms", {"hosts": 16, "members": 16}, "median", 50),
    Budget("fanout", "uninterested_messages", {}, "max", 0),
    Budget("security", "bulk_s", {"ports": 1000}, "median", 5),
    Budget("security", "flows", {"ports": 1000}, "max", 9 * 1000 + 200),
    Budget("security", "member_elsewhere_policy_flow_mods", {}, "max", 0),
    Budget("security", "member_elsewhere_flow_mods", {}, "max", 2),
    Budget("security", "member_elsewhere_ms", {"ports": 1000}, "median", 30),
    Budget("security", "rule_changed_flow_mods", {}, "max", 20),
    Budget("security", "rule_changed_ms", {"ports": 1000}, "median", 50),
    Budget("members", "added_policy_flow_mods", {}, "max", 0),
    Budget("members", "added_flow_mods", {}, "max", 2),
    *(
        Budget("policy-traffic", "masks", {"where": where, "host": host, "groups": groups}, "median", limit)
        for where, host, limit in (("across", "hv1", 7), ("across", "hv2", 9), ("same", "hv1", 11))
        for groups in ("default", "stateful")
    ),
    *(
        Budget("recovery", "lost", {"fault": fault}, "max", 0)
        for fault in (
            "agent SIGTERM",
            "agent SIGKILL",
            "broker away",
            "broker away long, nothing changed",
            "broker wiped",
            "link cut",
            "controller killed before it published",
            "database away",
            "controllers and broker restarted",
        )
    ),
    Budget("recovery", "in_sync_s", {"fault": "agent SIGKILL", "ports": 1000}, "median", 1),
    Budget("recovery", "in_sync_s", {"fault": "vswitchd SIGKILL", "ports": 1000}, "median", 1.5),
    *(
        Budget("recovery", "in_sync_s", {"fault": fault}, "max", 2)
        for fault in ("broker away", "broker away long, nothing changed", "broker wiped")
    ),
    Budget("recovery", "messages", {"fault": "broker away long, nothing changed"}, "max", 1),
    Budget("recovery", "in_sync_s", {"fault": "controller killed before it published"}, "max", 1),
    *(
        Budget("chaos", name, {}, "max", 0)
        for name in (
            "lost_packets",
            "lost_beside_a_plug",
            "wrong_packets",
            "broken_connections",
            "lost_changes",
            "handed_out_twice",
            "drift",
            "deaths",
            "defects",
        )
    ),
    Budget("codec", "encode_per_s", {}, "median", 200_000, least=True),
    Budget("codec", "readback_s", {"flows": 50_000}, "median", 0.5),
)


def verdict(
    benchmark: str,
    name: str,
    params: Mapping[str, str | int],
    numbers: Mapping[str, float],
    table: tuple[Budget, ...] = BUDGETS,
) -> str:
    """One line for people: every budget of this number and whether it is met; empty if it has none."""
    lines = []
    for budget in table:
        if budget.benchmark == benchmark and budget.name == name and budget.params.items() <= params.items():
            value = numbers[budget.statistic]
            met = value >= budget.limit if budget.least else value <= budget.limit
            sign = "≥" if budget.least else "≤"
            lines.append(f"{budget.statistic} {sign} {budget.limit:g}: {'met' if met else 'MISSED'}")
    return "; ".join(lines)
