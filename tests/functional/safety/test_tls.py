"""TLS of the broker's connections: what is verified, what a log says when it fails, and that it heals by itself."""

import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from selvedge import rpc
from selvedge.topics import HOSTS, segment_topic
from tests.functional.feed_ends import Controller, Host, truth, until
from tests.functional.safety.certificates import Authority, Pair
from tests.functional.safety.conftest import Guarded

Start = Callable[..., Host]

pytestmark = pytest.mark.usefixtures("controller")

PATIENCE = 1.0
"""Seconds in which an agent tries several times."""


class Complaints:
    """What the agents here have logged as wrong."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def of(self, name: str) -> list[str]:
        records = self._caplog.records
        return [one.getMessage() for one in records if one.name == name and one.levelno >= logging.WARNING]

    def wait(self, host: Host) -> str:
        """The feed's line, which is the only one however often it tries; the calls wait, or say the same once."""
        until([host], lambda: bool(self.of("agents.session")), 60.0)
        time.sleep(PATIENCE)
        (line,) = self.of("agents.session")
        assert len(self.of("agents.calls")) <= 1
        assert host.session.counters["connects"] == 0 and not host.answers
        return line


@pytest.fixture
def complaints(caplog: pytest.LogCaptureFixture) -> Complaints:
    return Complaints(caplog)


@pytest.fixture(scope="module")
def stranger(state: Path) -> Authority:
    """An authority that nobody here trusts."""
    return Authority(state / "stranger", "Somebody else's authority")


@pytest.fixture
def files(tmp_path: Path) -> Pair:
    """Where an agent's certificate and key are, or will be."""
    return Pair(tmp_path / "agent.pem", tmp_path / "agent.key")


def install(pair: Pair, at: Pair) -> None:
    shutil.copy(pair.cert, at.cert)
    shutil.copy(pair.key, at.key)


@pytest.fixture
def gamma(guarded: Guarded, start: Start, files: Pair) -> Callable[[], Host]:
    """Starts gamma's agent, which logs in with the certificate in `files`."""
    tls = {"ssl": True, "ca_file": guarded.authority.file, "cert_file": files.cert, "key_file": files.key}
    return lambda: start("gamma", HOSTS, login="certificate", **tls)


@pytest.fixture
def made(guarded: Guarded, stranger: Authority) -> dict[str, Callable[[], Pair]]:
    """Certificates for gamma: a good one, and some that must not do."""
    return {
        "good": lambda: guarded.authority.sign("selvedge-agent.gamma"),
        "expired": lambda: guarded.authority.sign("selvedge-agent.gamma", days=-1),
        "foreign": lambda: stranger.sign("selvedge-agent.gamma"),
        "unknown": lambda: guarded.authority.sign("selvedge-agent.nobody"),
    }


def gets_through(host: Host) -> None:
    """Calls are answered and the feed is read."""
    until([host], lambda: host.session.counters["connects"] == 1 and bool(host.answers), 60.0)
    host.report()
    until([host], lambda: host.topics.synced and bool(host.objects(HOSTS)))


def test_an_agent_with_a_password_works_over_tls_and_misses_nothing(
    guarded: Guarded, start: Start, controller: Controller
) -> None:
    segment = controller.network()
    (port,) = controller.ports(segment, "delta")
    topic = segment_topic(segment)
    host = start("delta", HOSTS, topic, ssl=True, ca_file=guarded.authority.file)
    host.calls.submit("claim", rpc.Claim("delta", ("port",)))
    gets_through(host)
    applied = host.topics.counters.applied
    controller.toggle_often(port, 100)
    until([host], lambda: host.topics.counters.applied >= applied + 100, 60.0)
    assert host.objects(topic) == truth(controller, topic) and host.topics.counters.gaps == 0


def test_an_agent_with_a_certificate_needs_no_password(
    made: dict[str, Callable[[], Pair]], files: Pair, gamma: Callable[[], Host]
) -> None:
    install(made["good"](), files)
    host = gamma()
    host.calls.submit("claim", rpc.Claim("gamma", ("port",)))
    gets_through(host)


def test_a_broker_of_another_authority_is_refused_until_its_own_is_trusted(
    guarded: Guarded, start: Start, stranger: Authority, tmp_path: Path, complaints: Complaints
) -> None:
    trusted = tmp_path / "ca.pem"
    shutil.copy(stranger.file, trusted)
    host = start("delta", HOSTS, ssl=True, ca_file=trusted)
    host.calls.submit("claim", rpc.Claim("delta", ("port",)))
    line = complaints.wait(host)
    assert "CERTIFICATE_VERIFY_FAILED" in line and str(guarded.passwords["delta"]) not in line
    shutil.copy(guarded.authority.file, trusted)
    gets_through(host)


def test_a_broker_of_another_name_is_refused(guarded: Guarded, start: Start, complaints: Complaints) -> None:
    """Given a certificate that names 127.0.0.1 only, `localhost` is somebody else."""
    url = guarded.url("delta", tls=True, place="localhost")
    host = start("delta", url=url, ssl=True, ca_file=guarded.authority.file)
    host.calls.submit("claim", rpc.Claim("delta", ("port",)))
    line = complaints.wait(host)
    assert "Hostname mismatch" in line and "'localhost'" in line


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("expired", "may not take our certificate /"),
        ("foreign", "may not take our certificate /"),
        ("unknown", "ACCESS_REFUSED"),
    ],
)
def test_a_certificate_that_the_broker_does_not_take_is_named_in_the_log_and_may_be_replaced(
    wrong: str,
    said: str,
    made: dict[str, Callable[[], Pair]],
    request: pytest.FixtureRequest,
    complaints: Complaints,
) -> None:
    files: Pair = request.getfixturevalue("files")
    install(made[wrong](), files)
    host: Host = request.getfixturevalue("gamma")()
    host.calls.submit("claim", rpc.Claim("gamma", ("port",)))
    assert said in complaints.wait(host)
    install(made["good"](), files)
    gets_through(host)
