"""fanout: one more port on a segment with members on k hosts of many: until all k know it, and what others notice.

Members are bound ports, one on each of the first k hosts. One round: a POST of a port bound to the first host; the
clock starts when it is sent and stops at the last change of a flow in any of the k switches, each watched by a flow
monitor of our own (`openflow_watch`), which costs nothing while nothing happens. Hosts without members must be
untouched: no change in their switches, no message to their agents (`messages_received` of their counters, read before
and after all rounds of a k).
"""

import time
from concurrent.futures import ThreadPoolExecutor

from bench.measures import Result
from bench.openflow_watch import Change, Watch, follow
from bench.outcome import Outcome, Terms, WrongShape
from bench.stage import Net, Stage

QUIET_S = 0.3


def add_port(
    stage: Stage, network: Net, watches: dict[str, Watch], members: list[str], pool: ThreadPoolExecutor
) -> tuple[float, dict[str, list[Change]]]:
    """When the POST was sent, and what changed in each switch until all had been quiet."""
    for watch in watches.values():
        watch.changes()
    began = time.monotonic()
    posted = pool.submit(stage.bound, network, "hv1", 1)
    changes = follow(watches, members, QUIET_S, 10.0)
    posted.result()
    return began, changes


def one_size(stage: Stage, watches: dict[str, Watch], members: int, rounds: int) -> list[Result]:
    """All rounds with members on the first `members` hosts."""
    hosts = list(stage.hypervisors)
    with_members, without = hosts[:members], hosts[members:]
    network = stage.network()
    for host in with_members:
        stage.bound(network, host, 1)
    done, controls = [], []
    before = stage.statuses()
    with ThreadPoolExecutor(1) as pool:
        for _ in range(rounds):
            began, changes = add_port(stage, network, watches, with_members, pool)
            silent = [host for host in with_members if not changes[host]]
            disturbed = [host for host in without if changes[host]]
            if silent or disturbed:
                raise WrongShape(f"a port of {members} members' segment: no flow on {silent}, flows on {disturbed}")
            done.append((max(found[-1].time for found in changes.values() if found) - began) * 1000)
            controls.append(float(sum(map(len, changes.values()))))
    after = stage.statuses()
    received = {host: after[host]["messages_received"] - before[host]["messages_received"] for host in hosts}
    woken = {host: after[host]["wakeups"] - before[host]["wakeups"] for host in hosts}
    params = {"hosts": len(hosts), "members": members}
    for port in stage.api.list("ports", network_id=network.id):
        stage.api.delete("port", port["id"])
    stage.api.delete("network", network.id)
    for host in with_members:
        stage.wait_empty(host)
    return [
        Result("done_ms", "ms", tuple(done), params),
        Result("flow_changes", "flows", tuple(controls), params),
        Result("messages", "messages", (sum(received.values()) / rounds,), params),
        Result("agents_reached", "agents", (float(sum(1 for count in received.values() if count)),), params),
        Result("uninterested_messages", "messages", (float(sum(received[host] for host in without)),), params),
        Result("uninterested_wakeups", "wakeups", (float(sum(woken[host] for host in without)),), params),
    ]


def run(terms: Terms) -> Outcome:
    hosts, sizes, rounds = (3, (1, 2, 3), 5) if terms.quick else (16, (1, 4, 8, 16), 40)
    results: list[Result] = []
    with Stage(hosts, terms.say) as stage:
        watches = {host: stage.watch(host) for host in stage.hypervisors}
        for watch in watches.values():
            watch.subscribe()
        for members in sizes:
            terms.say(f"{rounds} ports on a segment with members on {members} of {hosts} hosts")
            results += one_size(stage, watches, members, rounds)
        costs = stage.ledger.costs()
        for watch in watches.values():
            watch.close()
    return Outcome(tuple(results), costs)
