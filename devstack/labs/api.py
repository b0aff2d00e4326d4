"""A small client of Selvedge's REST API (Neutron's v2.0), with nothing to install: the lab's own eyes and hands.

    api = Api("http://127.0.0.1:9696")
    network = api.create("network", name="blue")
    api.list("ports", network_id=network["id"])

Kinds are named as bodies name them (`security_group`); paths have hyphens. One kept-alive connection per thread,
because benchmarks count milliseconds.
"""

import http.client
import json
import threading
import urllib.parse
from typing import Any

from devstack.labs.process import LabError

Resource = dict[str, Any]


class Refused(LabError):
    """The API's answer was an error: `status` is HTTP's, `kind` Neutron's exception name."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(f"the API answers {status} {kind}: {message}")
        self.status = status
        self.kind = kind


class Api:
    """The API at `url`, e.g. http://127.0.0.1:9696, asked as an administrator."""

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        self.url = url.rstrip("/")
        parts = urllib.parse.urlsplit(self.url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._timeout = timeout
        self._local = threading.local()

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer (None when it is empty). Raises `Refused`, or LabError if nobody answers."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        for last in (False, True):
            kept = getattr(self._local, "connection", None)
            connection = kept or http.client.HTTPConnection(*self._address, timeout=self._timeout)
            self._local.connection = connection
            try:
                connection.request(method, path, data, headers)
                response = connection.getresponse()
                content = response.read()
                break
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._local.connection = None
                # A kept connection may have ended meanwhile; only what was not sent twice for sure is sent again.
                if last or kept is None or not isinstance(error, http.client.RemoteDisconnected | ConnectionError):
                    raise LabError(f"the API at {self.url} does not answer: {error}") from error
        if response.status >= 400:
            raise _refusal(response.status, content)
        return json.loads(content) if content else None

    def create(self, kind: str, **attributes: Any) -> Resource:
        """POST one resource; `kind` in the singular, as the body names it."""
        answer: Resource = self.request("POST", _path(f"{kind}s"), {kind: attributes})[kind]
        return answer

    def create_many(self, kind: str, bodies: list[Resource]) -> list[Resource]:
        """POST several at once, all or nothing."""
        answer: list[Resource] = self.request("POST", _path(f"{kind}s"), {f"{kind}s": bodies})[f"{kind}s"]
        return answer

    def show(self, kind: str, identity: str) -> Resource:
        answer: Resource = self.request("GET", _path(f"{kind}s", identity))[kind]
        return answer

    def list(self, kinds: str, **filters: str) -> list[Resource]:
        query = f"?{urllib.parse.urlencode(filters)}" if filters else ""
        answer: list[Resource] = self.request("GET", _path(kinds) + query)[kinds]
        return answer

    def update(self, kind: str, identity: str, **attributes: Any) -> Resource:
        answer: Resource = self.request("PUT", _path(f"{kind}s", identity), {kind: attributes})[kind]
        return answer

    def act(self, kind: str, identity: str, action: str, **attributes: Any) -> Resource:
        """PUT of an action on a resource, such as `add_addresses` of an address group."""
        answer: Resource = self.request("PUT", _path(f"{kind}s", identity, action), attributes)[kind]
        return answer

    def delete(self, kind: str, identity: str) -> None:
        self.request("DELETE", _path(f"{kind}s", identity))

    def answers(self) -> bool:
        """Whether the API is there."""
        try:
            self.request("GET", "/v2.0/networks?limit=1")
        except LabError:
            return False
        return True


def _path(kinds: str, *further: str) -> str:
    return "/".join(("/v2.0", kinds.replace("_", "-"), *further))


def _refusal(status: int, content: bytes) -> Refused:
    try:
        error = json.loads(content)["NeutronError"]
        return Refused(status, error["type"], error["message"])
    except (ValueError, KeyError, TypeError):
        return Refused(status, http.client.responses.get(status, ""), content[:200].decode(errors="replace"))
