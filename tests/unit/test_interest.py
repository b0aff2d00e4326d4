"""Which topics a host needs."""

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agents.interest import Interest, topics
from selvedge.topology import Rule


def rule(group: str, key: int = 1, **values: Any) -> Rule:
    return Rule(f"rule-{key}", key, group, "ingress", 4, **values)


RULES = {
    "web": [rule("web", 1), rule("web", 2, remote_group="lb"), rule("web", 3, remote_addresses="office")],
    "lb": [rule("lb", 4, cidr="0.0.0.0/0"), rule("lb", 5, remote_group="lb")],
}


def known(group: str) -> Iterable[Rule]:
    return RULES.get(group, [])


def asks(interest: Interest) -> bool:
    """Whether the function has to be asked again, as it is then."""
    changed, interest.changed = interest.changed, False
    return changed


def test_a_host_without_ports_needs_two_topics() -> None:
    assert topics("hv1", [], [], known) == {"hosts", "host/hv1"}


def test_each_segment_of_a_bound_port_once() -> None:
    """Three ports on two segments: two segment topics, whether the ports are plugged or not."""
    interest = Interest("hv1")
    for port, segment in (("p1", "s1"), ("p2", "s1"), ("p3", "s2")):
        interest.need(port, segment, ())
    assert interest.topics(known) == {"hosts", "host/hv1", "segment/s1", "segment/s2"}


def test_the_rules_of_a_ports_groups_and_whom_they_name() -> None:
    """Group web has a rule for members of lb and one for an address group: their topics are needed, lb's rules not."""
    assert topics("hv1", ["s1"], ["web"], known) == {
        "hosts",
        "host/hv1",
        "segment/s1",
        "group/web",
        "members/lb",
        "addresses/office",
    }


def test_a_group_whose_rules_have_not_come_needs_its_rules_only() -> None:
    assert topics("hv1", [], ["new"], known) == {"hosts", "host/hv1", "group/new"}


def test_one_more_port_of_a_known_group_changes_nothing() -> None:
    """A thousand ports of one segment and one set of groups ask once; the last that goes asks again."""
    interest = Interest("hv1")
    interest.need("p0", "s1", ("lb", "web"))
    assert asks(interest)
    for number in range(1, 1000):
        interest.need(f"p{number}", "s1", ("lb", "web"))
        interest.need(f"p{number}", "s1", ("lb", "web"))
    assert not asks(interest)
    for number in range(999):
        interest.forget(f"p{number}")
    assert not asks(interest)
    interest.forget("p999")
    assert asks(interest)
    assert interest.topics(known) == {"hosts", "host/hv1"}


needs = st.tuples(st.sampled_from(["s1", "s2"]), st.sampled_from([(), ("web",), ("lb",), ("lb", "web"), ("new",)]))


@given(st.lists(st.tuples(st.sampled_from(["p1", "p2", "p3"]), st.none() | needs), max_size=20))
def test_counting_equals_the_function(steps: list[tuple[str, tuple[str, tuple[str, ...]] | None]]) -> None:
    """Law: after whatever comes and goes, the topics are the function of those who are there; and if nothing is said to
    have changed, they are the ones of before."""
    interest, there = Interest("hv1"), dict[str, tuple[str, tuple[str, ...]]]()
    before = interest.topics(known)
    interest.changed = False
    for who, need in steps:
        if need is None:
            interest.forget(who)
            there.pop(who, None)
        else:
            interest.need(who, *need)
            there[who] = need
        groups = {group for _, groups in there.values() for group in groups}
        now = interest.topics(known)
        assert now == topics("hv1", {segment for segment, _ in there.values()}, groups, known)
        assert interest.changed or now == before
        before, interest.changed = now, False
