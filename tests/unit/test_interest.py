"""Which topics a host needs."""

from agents.interest import topics
from selvedge.topology import Binding


def test_a_host_without_ports_needs_two_topics() -> None:
    assert topics("hv1", []) == {"hosts", "host/hv1"}


def test_each_segment_of_a_bound_port_once() -> None:
    """Three ports on two segments: two segment topics, whether the ports are plugged or not."""
    bindings = [Binding("p1", "s1"), Binding("p2", "s1"), Binding("p3", "s2")]
    assert topics("hv1", bindings) == {"hosts", "host/hv1", "segment/s1", "segment/s2"}
