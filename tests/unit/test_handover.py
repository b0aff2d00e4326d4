"""How a port comes under a policy, and how it passes from one to the next: postures in the course of time."""

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.handover import DRAIN, LEARN, Handover
from openflow.facts import Posture
from selvedge.topology import Ref

WEB, DB, BOTH = ("web",), ("db",), ("db", "web")
NUMBERS: dict[tuple[str, ...], int] = {(): 0, WEB: 1, DB: 2, BOTH: 3}


class Host:
    """Local ports, what is known of groups, and what the facts are by what was told."""

    def __init__(self) -> None:
        self.handover = Handover()
        self.known: set[str] = set()
        self.now = 100.0
        self.told: dict[str, Posture] = {}
        self.groups: dict[str, tuple[str, ...]] = {}

    def port(self, name: str, groups: tuple[str, ...]) -> None:
        self.groups[name] = groups
        self.handover.want(name, "s1", NUMBERS[groups], groups)

    def step(self, seconds: float = 0.0) -> tuple[tuple[Posture, ...], tuple[Ref, ...]]:
        self.now += seconds
        upserts, deletes = self.handover.step(self.now, self.known.issuperset)
        assert not {posture.id for posture in upserts} & {name.id for name in deletes}
        for name in deletes:
            del self.told[name.id]
        self.told |= {posture.id: posture for posture in upserts}
        assert self.told == self.handover.postures
        return upserts, deletes

    def posture(self, name: str) -> tuple[int, int] | None:
        """Policy and what is sent."""
        self.step()
        posture = self.told.get(name)
        return None if posture is None else (posture.policy, posture.sends)


def test_the_first_posture_waits_for_the_rules() -> None:
    """Nothing is in force, so nothing passes, until all that the groups need is known; then all at once."""
    host = Host()
    host.port("p1", BOTH)
    host.known = {"web"}
    assert host.posture("p1") is None
    assert [(groups, list(ports)) for groups, ports in host.handover.awaited()] == [(BOTH, ["p1"])]
    host.known = {"web", "db"}
    assert host.step() == ((Posture("p1", "s1", 3, BOTH, 3),), ())
    assert host.step(60) == ((), ())
    assert host.handover.deadline() is None


def test_a_port_without_groups_waits_for_nobody() -> None:
    host = Host()
    host.port("p1", ())
    assert host.posture("p1") == (0, 0)


def test_a_thousand_ports_of_one_set_ask_once() -> None:
    host, asked = Host(), []
    for number in range(1000):
        host.port(f"p{number}", WEB)

    def known(groups: tuple[str, ...]) -> bool:
        asked.append(groups)
        return True

    upserts, _ = host.handover.step(host.now, known)
    assert (len(upserts), asked) == (1000, [WEB])


def test_the_old_policy_stays_until_the_new_one_is_known() -> None:
    """A live port gets another group, whose rules have to be fetched first: no moment without a policy."""
    host = Host()
    host.known = {"web"}
    host.port("p1", WEB)
    assert host.posture("p1") == (1, 1)
    host.port("p1", BOTH)
    host.step(30)
    assert host.posture("p1") == (1, 1)
    host.known = {"web", "db"}
    assert host.posture("p1") == (3, 1)


def test_a_gained_group_is_sent_later_than_it_is_obeyed() -> None:
    """Receivers learn the new number first: for a quarter of a second the port sends as what it was."""
    host = Host()
    host.known = {"web", "db"}
    host.port("p1", WEB)
    host.step()
    host.port("p1", BOTH)
    assert host.posture("p1") == (3, 1)
    assert host.handover.deadline() == host.now + LEARN
    host.step(LEARN / 2)
    assert host.posture("p1") == (3, 1)
    host.step(LEARN / 2)
    assert host.posture("p1") == (3, 3)


def test_a_lost_group_is_lost_at_once() -> None:
    """Both when a group goes and when one is exchanged for another: nobody may take the port for what it was."""
    host = Host()
    host.known = {"web", "db"}
    for before, after in ((BOTH, WEB), (WEB, DB), (WEB, ())):
        host.port("p1", before)
        host.step(10)
        host.step(10)
        host.port("p1", after)
        assert host.posture("p1") == (NUMBERS[after], NUMBERS[after])


def test_the_first_group_is_sent_at_once() -> None:
    """Whoever had no group loses nothing while receivers learn its number."""
    host = Host()
    host.known = {"web"}
    host.port("p1", ())
    host.step()
    host.port("p1", WEB)
    assert host.posture("p1") == (1, 1)


def test_a_group_that_is_lost_while_another_is_learnt() -> None:
    """web → web and db → db within a quarter of a second: what is sent must not go on to say web."""
    host = Host()
    host.known = {"web", "db"}
    host.port("p1", WEB)
    host.step()
    host.port("p1", BOTH)
    assert host.posture("p1") == (3, 1)
    host.port("p1", DB)
    assert host.posture("p1") == (2, 2)
    host.step(10)
    assert host.posture("p1") == (2, 2)


def test_a_change_of_mind() -> None:
    """Back to what is in force before the other policy was known; what is being learnt goes on to be."""
    host = Host()
    host.known = {"web", "db"}
    host.port("p1", WEB)
    host.step()
    host.port("p1", BOTH)
    assert host.posture("p1") == (3, 1)
    host.known = {"web"}
    host.port("p1", DB)
    host.step()
    host.known = {"web", "db"}
    host.port("p1", BOTH)
    assert host.posture("p1") == (3, 1)
    host.step(LEARN)
    assert host.posture("p1") == (3, 3)


def test_the_old_policy_drains() -> None:
    """Packets between two lookups still name the old policy: its rules stay for a while, once for all ports."""
    host = Host()
    host.known = {"web", "db"}
    for name in ("p1", "p2"):
        host.port(name, WEB)
    host.step()
    host.port("p1", DB)
    host.step()
    host.step(1.5)
    host.port("p2", DB)
    host.step()
    drain = "drain/1/s1"
    assert host.told[drain] == Posture(drain, "s1", 1, WEB, 1)
    host.step(1.0)
    assert drain in host.told
    assert host.handover.deadline() == host.now + DRAIN - 1.0
    assert host.step(DRAIN - 1.0) == ((), (Ref("posture", drain),))


def test_no_rules_need_no_draining() -> None:
    host = Host()
    host.known = {"web"}
    host.port("p1", ())
    host.step()
    host.port("p1", WEB)
    host.step()
    assert set(host.told) == {"p1"}


def test_a_port_that_goes_leaves_nothing() -> None:
    """Unbound, or its port security switched off; in force or still waiting."""
    host = Host()
    host.known = {"web", "db"}
    for name, groups in (("p1", WEB), ("p2", ("unknown",))):
        host.groups[name] = groups
        host.handover.want(name, "s1", 9, groups)
    host.step()
    host.port("p1", BOTH)
    host.step()
    for name in ("p1", "p2", "p3"):
        host.handover.forget(name)
    host.step()
    assert list(host.handover.awaited()) == []
    host.step(DRAIN)
    assert host.told == {}
    assert host.handover.deadline() is None


sets = st.sampled_from([(), WEB, DB, BOTH])
acts = st.one_of(
    st.tuples(st.just("port"), st.sampled_from(["p1", "p2"]), sets),
    st.tuples(st.just("forget"), st.sampled_from(["p1", "p2"]), st.just(())),
    st.tuples(st.just("learn"), st.just(""), sets),
    st.tuples(st.just("step"), st.sampled_from(["0", "0.1", "0.3", "2.5", "12.5"]), st.just(())),
)


@given(st.lists(acts, max_size=30))
@settings(max_examples=300)
def test_whatever_changes_no_port_claims_too_much(steps: list[tuple[str, str, tuple[str, ...]]]) -> None:
    """Law: a posture is of a set of groups that is known; a port that had one keeps having one; what a port sends is
    never more than what it is under, after it is known; every policy that a port leaves drains; and in the end the
    posture is the wish."""
    host, numbers = Host(), {number: set(groups) for groups, number in NUMBERS.items()}
    for verb, name, groups in steps:
        live = set(host.told) - {drain for drain in host.told if drain.startswith("drain/")}
        before = dict(host.told)
        if verb == "port":
            host.port(name, groups)
        elif verb == "forget":
            host.groups.pop(name, None)
            host.handover.forget(name)
            live.discard(name)
        elif verb == "learn":
            host.known |= set(groups)
        host.step(float(name) if verb == "step" else 0.0)
        assert live <= set(host.told)
        for posture in host.told.values():
            assert host.known.issuperset(posture.groups)
            assert numbers[posture.sends] <= set(posture.groups)
            assert posture.policy == NUMBERS[posture.groups]
        for port in live:
            if before[port].policy not in (0, host.told[port].policy):
                assert f"drain/{before[port].policy}/s1" in host.told
    host.known = {"web", "db"}
    for _ in range(3):
        host.step(DRAIN)
    assert {name: (posture.groups, posture.sends) for name, posture in host.told.items()} == {
        name: (groups, NUMBERS[groups]) for name, groups in host.groups.items()
    }
    assert host.handover.deadline() is None
