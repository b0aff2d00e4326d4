"""What an agent sends in a call, any text: it is done, or refused with one sentence, before anything is touched."""

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.feed.callers import Callers
from controller.feed.outbox import Outbox
from controller.feed.rpc import LARGEST_SAID, MOST, Calls, Counters, Endpoint, check
from controller.store.engine import Store
from selvedge import rpc, wire
from tests.garbage import JSON, TEXT
from tests.rest import Api

BOUNDED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
NAMES = st.lists(TEXT | st.just("11111111-1111-1111-1111-111111111111"), max_size=3)
VERSIONS = st.dictionaries(TEXT | st.sampled_from(["hosts", "host/hv1"]), st.integers(-1, 2**64) | JSON, max_size=3)
HOST = st.sampled_from(["hv1"] * 4 + ["", "x y", "h" * 201, "\0"])
OWN = {
    "report": {"tunnel_ip": TEXT | st.none(), "configurations": JSON, "started_at": TEXT, "topics": VERSIONS},
    "subscribe": {"topics": VERSIONS, "drop": NAMES},
    "claim": {"ports": NAMES},
    "wired": {"up": NAMES, "down": NAMES, "unplugged": NAMES | JSON},
}
FORMS: dict[str, type[Any]] = {
    "report": rpc.Report,
    "subscribe": rpc.Subscribe,
    "claim": rpc.Claim,
    "wired": rpc.Wired,
}
CALLS = st.sampled_from(sorted(OWN)).flatmap(
    lambda method: st.tuples(st.just(method), st.fixed_dictionaries({"host": HOST, **OWN[method]}) | JSON)
)


@pytest.fixture
def endpoint(store: Store) -> Endpoint:
    """Without a broker: a subscription that is not refused goes no further than to the broker's door."""
    api = Api(store)
    api.port(api.network(), host="hv1")
    outbox = Outbox(lambda rows: None)
    return Endpoint(Calls(store, outbox, None), Counters(), Callers("shared"))  # type: ignore[arg-type]


def sealed(value: Any) -> str:
    """A text as `wire` writes it, around any JSON that can be written."""
    try:
        return wire.to_text(wire.encode(value))
    except (UnicodeEncodeError, OverflowError):
        return wire.to_text(wire.encode(None))


@BOUNDED
@given(call=CALLS)
def test_any_request_is_done_or_refused(endpoint: Endpoint, call: tuple[str, Any]) -> None:
    """Given requests of the right form with any values, and of no form, nothing is raised but `Refused`."""
    method, value = call
    try:
        if method == "subscribe":
            check(wire.decode(wire.from_text(sealed(value)), rpc.Subscribe))
            return
        reply = endpoint._logged(method, FORMS[method], sealed(value), {})
        assert wire.from_text(reply)
    except (rpc.Refused, wire.Unreadable) as error:
        assert str(error) and len(str(error)) < 1000


@BOUNDED
@given(text=st.text(max_size=60) | st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode()) | JSON)
def test_any_argument_is_refused_and_counted(endpoint: Endpoint, text: Any) -> None:
    before = endpoint._counters.refused
    with pytest.raises(rpc.Refused):
        endpoint._logged("claim", rpc.Claim, text, {})
    assert endpoint._counters.refused == before + 1 and endpoint._counters.failed == 0


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (rpc.Report("hv1", "10.0.0.1/24", {}, "now"), "tunnel end point"),
        (rpc.Report("hv1", "fe80::1%eth0", {}, "now"), "tunnel end point"),
        (rpc.Report("hv1", "", {}, "now"), "tunnel end point"),
        (rpc.Report("hv1", None, {"x": "y" * LARGEST_SAID}, "now"), "are the most"),
        (rpc.Report("hv1", None, {"x": "\0"}, "now"), "NUL"),
        (rpc.Report("hv1", None, {}, "n" * 33), "not a time"),
        (rpc.Report("hv1", None, {}, "now", {"\0": 1}), "not a topic"),
        (rpc.Claim("hv1", ("\0",)), "not a port's id"),
        (rpc.Claim("hv1", ("x" * 65,)), "not a port's id"),
        (rpc.Wired("hv1", down=("a b",)), "not a port's id"),
        (rpc.Claim("hv1", ("x",) * (MOST + 1)), "are the most"),
    ],
)
def test_what_no_database_takes_or_no_host_could_read_is_refused(request_: Any, reason: str) -> None:
    """A tunnel end point that is no address would be every host's trouble; a NUL is an error of PostgreSQL's."""
    with pytest.raises(rpc.Refused, match=reason):
        check(request_)


def test_what_agents_send_is_let_through() -> None:
    port = "11111111-1111-1111-1111-111111111111"
    for sound in (
        rpc.Report("hv-1.example", "fd00::1", {"counts": {"ports": 1}}, "2026-01-01T00:00:00+00:00", {"hosts": 3}),
        rpc.Report("hv1", None, {}, ""),
        rpc.Claim("hv1", (port,)),
        rpc.Wired("hv1", (port,), (port,), (port,)),
    ):
        check(sound)
        msgspec.json.encode(sound)
