"""Strategies of hypothesis for what comes from outside and should not be: texts, JSON, requests of the API.

Wholly random bytes are refused at the first door. So most of this has the right form, with names and values from both
sides of every border: real identifiers and broken ones, numbers that fit a column and that do not, texts that no
database takes.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes

import falcon.testing
from hypothesis import strategies as st

from controller.api.app import RESOURCES
from tests.rest import Api

TEXT = (
    st.sampled_from(
        ["", " ", "\0", "a\0b", "é", "\U0001f600", "\ud800", "\u202e", "\n", "x" * 300, "9" * 5000, "%", "'"]
    )
    | st.sampled_from(
        ["10.0.0.9", "10.0.0.0/24", "fd00::/64", "fd00::1", "0.0.0.0/0", "10.0.0.1/33", "fa:16:3e:00:00:09"]
    )
    | st.sampled_from(
        ["--", "None", "true", "1", "hv1", "../..", "tcp", "IPv4", "ingress", "geneve", "vlan", "physnet1"]
    )
)
NUMBER = st.sampled_from(
    [0, 1, -1, 2, 6, 80, 100, 4094, 4095, 65536, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**40, 1.5]
)
LEAF = st.none() | st.booleans() | NUMBER | TEXT
JSON: st.SearchStrategy[Any] = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "GET", "POST", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE"])
HEADERS = st.dictionaries(
    st.sampled_from(["If-Match", "X-Roles", "X-Project-Id", "X-User-Id", "Content-Type", "Host", "X-Forwarded-Host"])
    | st.sampled_from(["Content-Encoding", "Transfer-Encoding", "Accept", "X-Openstack-Request-Id", "X-Auth-Token"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20)
    | st.sampled_from(["admin", "member", "revision_number=1", "revision_number=" + "9" * 30, "gzip", "\xff"]),
    max_size=3,
)
QUERIES = ["limit", "marker", "page_reverse", "sort_key", "sort_dir", "fields", "not_such", "fixed_ips", "alive"]


class Request(NamedTuple):
    """A request of HTTP, as the server hands it over: percent-signs of the path are resolved."""

    method: str
    path: bytes
    query: bytes
    headers: Mapping[str, str]
    body: bytes


def encoded(value: Any) -> bytes:
    """As clients do: JSON with escapes, so that lone surrogates get through."""
    return json.dumps(value).encode()


@st.composite
def requests(draw: st.DrawFn, known: Mapping[str, list[str]]) -> Request:
    """A request about one kind of resource. `known`: plural → identifiers that there are."""
    resource = draw(st.sampled_from(RESOURCES))
    identities = sorted({one for ids in known.values() for one in ids})
    value = st.sampled_from(identities) | JSON
    names = list(resource.attributes)
    own = draw(st.sampled_from(known.get(resource.plural) or identities) | TEXT)
    tail = draw(st.sampled_from(["", "", "/" + "x" * 5, *(f"/{action}" for action in resource.actions)]))
    collection = draw(st.booleans())
    path = f"/v2.0/{resource.path}" + ("" if collection else f"/{own}{tail}")
    fields = draw(st.dictionaries(st.sampled_from(names) | TEXT, value, max_size=6))
    body = {resource.name: fields}
    if resource.name == "port" and draw(st.booleans()):
        fields["network_id"] = draw(st.sampled_from(known["networks"]))
    pairs = draw(st.lists(st.tuples(st.sampled_from(names + QUERIES) | TEXT, value), max_size=4))
    query = "&".join(f"{_quoted(name)}={_quoted(said)}" for name, said in pairs)
    return Request(
        draw(METHODS),
        draw(st.just(path.encode(errors="surrogatepass")) | st.binary(max_size=12).map(b"/v2.0/".__add__)),
        draw(st.just(query.encode()) | st.binary(max_size=30)),
        draw(HEADERS),
        draw(
            st.just(encoded(body))
            | st.just(encoded({resource.plural: [fields, body]}))
            | JSON.map(encoded)
            | st.binary(max_size=40)
        ),
    )


def _quoted(value: Any) -> str:
    return quote_from_bytes((value if isinstance(value, str) else str(value)[:500]).encode(errors="surrogatepass"))


def send(api: Api, request: Request) -> tuple[int, bytes]:
    """Status and body of the answer, from the application itself: no client that would refuse to send it."""
    environment = falcon.testing.create_environ("/", method=request.method, body=request.body, headers=request.headers)
    environment["PATH_INFO"] = request.path.decode("latin-1")
    environment["QUERY_STRING"] = request.query.decode("latin-1")
    started: list[str] = []

    def start(status: str, headers: object, error: object = None, /) -> Callable[[bytes], object]:
        started.append(status)
        return started.append  # type: ignore[return-value]  # which nobody calls

    answer = b"".join(api.client.app(environment, start))
    return int(started[0].split()[0]), answer
