"""The API in a test: the real application on a real database, spoken to by the same few verbs everywhere.

    api = Api(store)
    net = api.network(); api.subnet(net, "10.0.0.0/24"); port = api.port(net, host="hv1")

`api.recorded` holds the topics' changes of every committed transaction, in order.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

from falcon import testing

from controller.api.app import make_app
from controller.settings import Networks, Settings
from controller.store.engine import Store, Transaction
from controller.store.topology import Changes
from selvedge.topology import Object, Ref, ref

SETTINGS = Settings(networks=Networks(vlans={"physnet1": ((100, 109),)}, flat=("physnet1", "physnet2")))
"""`Api` draws by a seed of its own unless it is given settings: no test fails by chance."""

Json = dict[str, Any]


class Answer:
    """A response: `status`, `body` (None if empty), `error` (type of a NeutronError, '' if there is none)."""

    def __init__(self, result: testing.Result) -> None:
        self.status = result.status_code
        self.headers = result.headers
        self.body: Any = result.json if result.content else None
        problem = self.body.get("NeutronError") if isinstance(self.body, dict) else None
        self.error: str = problem["type"] if problem else ""
        self.message: str = problem["message"] if problem else ""

    def __repr__(self) -> str:
        return f"{self.status} {self.body}"


def headers(project: str, roles: str = "member,reader", user: str = "somebody") -> dict[str, str]:
    """Identity headers as keystonemiddleware sets them."""
    return {"X-User-Id": user, "X-Project-Id": project, "X-Roles": roles}


class Api:
    """A client. Without `identity` it is an administrator."""

    def __init__(
        self, store: Store, settings: Settings | None = None, identity: Mapping[str, str] | None = None
    ) -> None:
        self.store = store
        self.settings = settings = settings or replace(SETTINGS, chance=Random(1))
        self.recorded: list[Changes] = []
        self.identity = dict(identity or {})
        self.client = testing.TestClient(make_app(store, settings, self._record))

    def _record(self, transaction: Transaction, changes: Changes) -> None:
        transaction.on_commit(lambda: self.recorded.append(changes))

    def as_project(self, project: str, roles: str = "member,reader") -> "Api":
        """The same application for somebody else."""
        other = Api.__new__(Api)
        other.store, other.settings, other.recorded = self.store, self.settings, self.recorded
        other.identity, other.client = headers(project, roles), self.client
        return other

    def call(self, method: str, path: str, body: Any = None, **more: str) -> Answer:
        """Any request. `body` is JSON's value, or bytes as they are."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {**self.identity, **{name.replace("_", "-"): value for name, value in more.items()}}
        return Answer(self.client.simulate_request(method, path, body=data, headers=sent))

    def _path(self, kind: str) -> str:
        return f"/v2.0/{kind.replace('_', '-')}s"

    def get(self, path: str) -> Any:
        """The body of a GET that succeeds."""
        answer = self.call("GET", f"/v2.0/{path}")
        assert answer.status == 200, answer
        return answer.body

    def create(self, kind: str, **values: Any) -> Answer:
        """POST of one resource."""
        return self.call("POST", self._path(kind), {kind: values})

    def update(self, kind: str, id: str, **values: Any) -> Answer:
        """PUT of one resource."""
        return self.call("PUT", f"{self._path(kind)}/{id}", {kind: values})

    def delete(self, kind: str, id: str) -> Answer:
        return self.call("DELETE", f"{self._path(kind)}/{id}")

    def made(self, kind: str, **values: Any) -> Json:
        """A resource that was created without complaint."""
        answer = self.create(kind, **values)
        assert answer.status == 201, answer
        resource: Json = answer.body[kind]
        return resource

    def network(self, **values: Any) -> Json:
        return self.made("network", **values)

    def subnet(self, network: Json, cidr: str, **values: Any) -> Json:
        return self.made("subnet", network_id=network["id"], cidr=cidr, ip_version=6 if ":" in cidr else 4, **values)

    def port(self, network: Json, host: str | None = None, **values: Any) -> Json:
        if host is not None:
            values["binding:host_id"] = host
        return self.made("port", network_id=network["id"], **values)

    def group(self, **values: Any) -> Json:
        """A security group."""
        return self.made("security_group", **values)

    def rule(self, group: Json, direction: str = "ingress", **values: Any) -> Json:
        """A rule of a security group."""
        return self.made("security_group_rule", security_group_id=group["id"], direction=direction, **values)

    def default_group(self, project: str) -> Json:
        """The default group of a project, made if there is none yet."""
        query = f"security-groups?project_id={project}&name=default"
        (group,) = self.get(query)["security_groups"]
        found: Json = group
        return found

    def bulk(self, kind: str, bodies: list[Json]) -> Answer:
        return self.call("POST", self._path(kind), {f"{kind}s": bodies})


def addresses(port: Json) -> list[str]:
    """A port's addresses in order."""
    return [one["ip_address"] for one in port["fixed_ips"]]


def replay(recorded: list[Changes]) -> dict[str, dict[Ref, Object]]:
    """What somebody holds who applied every change: topic → objects by name; topics without objects are absent."""
    held: dict[str, dict[Ref, Object]] = {}
    for changes in recorded:
        for topic, (upserts, deletes) in changes.items():
            objects = held.setdefault(topic, {})
            for name in deletes:
                del objects[name]
            objects.update((ref(thing), thing) for thing in upserts)
    return {topic: objects for topic, objects in held.items() if objects}
