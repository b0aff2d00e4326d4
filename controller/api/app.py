"""The WSGI application: HTTP on one side, the machine on the other.

Routes are data: every resource of `RESOURCES` has a collection and members. Bodies are read and written by msgspec.
Whatever goes wrong ends as `{"NeutronError": {type, message, detail}}`: an `ApiError` is its own answer; a database
that is away is a 503; what is left is a defect of ours, a 500 with a line in the log and no details for the client.
"""

import logging
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import falcon
import msgspec

from controller.api import (
    address_groups,
    agents,
    default_security_group_rules,
    networks,
    ports,
    security_group_rules,
    security_groups,
    subnets,
)
from controller.api.attributes import visible_to
from controller.api.errors import (
    ApiError,
    ExtensionNotFound,
    HTTPBadRequest,
    HTTPInternalServerError,
    HTTPMethodNotAllowed,
    HTTPNotFound,
    HTTPNotImplemented,
    HTTPRequestEntityTooLarge,
    HTTPServiceUnavailable,
    MalformedRequestBody,
)
from controller.api.extensions import EXTENSIONS
from controller.api.identity import STRATEGIES, Authenticator, Identity
from controller.api.machine import Machine, Page, Record
from controller.api.query import Query, parse
from controller.api.resource import Resource
from controller.settings import Settings
from controller.store.engine import Contention, DatabaseAway, Store

LOG = logging.getLogger(__name__)

RESOURCES = (
    networks.RESOURCE,
    subnets.RESOURCE,
    ports.RESOURCE,
    security_groups.RESOURCE,
    security_group_rules.RESOURCE,
    address_groups.RESOURCE,
    default_security_group_rules.RESOURCE,
    agents.RESOURCE,
)

LARGEST_BODY = 64 * 1024 * 1024
"""Bytes of a request's body; ten thousand ports fit."""

DEEPEST = 64
"""Levels of nesting in a body. No attribute needs more than six."""

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_REVISION = re.compile(r'"?revision_number=([0-9]{1,18})"?')


def make_app(store: Store, settings: Settings, record: Record) -> Application:
    """The application. `record` is `controller.feed.outbox.record`. Raises KeyError for an unknown auth_strategy."""
    authenticate = STRATEGIES[settings.auth_strategy]
    # Errors are ours from the first byte; Falcon's own are rewritten into the same form.
    app = falcon.App(middleware=[RequestId()])
    app.req_options.strip_url_path_trailing_slash = True
    app.add_error_handler(Exception, _on_defect)
    app.add_error_handler(falcon.HTTPError, _on_http_error)
    app.add_error_handler(ApiError, _on_api_error)
    app.add_error_handler(DatabaseAway, _on_away)
    app.add_error_handler(Contention, _on_away)
    app.add_route("/", Versions())
    app.add_route("/v2.0", Index())
    app.add_route("/v2.0/extensions", Extensions())
    app.add_route("/v2.0/extensions/{alias}", OneExtension())
    for resource in RESOURCES:
        machine = Machine(resource, store, settings, record)
        app.add_route(f"/v2.0/{resource.path}", Collection(machine, authenticate))
        app.add_route(f"/v2.0/{resource.path}/{{id}}", Member(machine, authenticate))
        for action in resource.actions:
            app.add_route(f"/v2.0/{resource.path}/{{id}}/{action}", Act(machine, authenticate, action))
    application: Application = app
    return application


class RequestId:
    """Names every request, in the answer and in the log, so that a user's complaint finds its line."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        req.context.id = f"req-{uuid.uuid4()}"
        resp.set_header("X-Openstack-Request-Id", req.context.id)


class Versions:
    """Version discovery."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        link = {"rel": "self", "href": f"{_base(req)}/v2.0/"}
        _answer(resp, {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]})


class Index:
    """What there is below /v2.0."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        names = [(resource.name, resource.plural, resource.path) for resource in RESOURCES]
        listed = [
            {
                "name": name,
                "collection": plural,
                "links": [{"rel": "self", "href": f"{_base(req)}/v2.0/{path}"}],
            }
            for name, plural, path in [*names, ("extension", "extensions", "extensions")]
        ]
        _answer(resp, {"resources": listed})


class Extensions:
    """What this API claims to do beyond the core."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        _answer(resp, {"extensions": [extension.view for extension in EXTENSIONS.values()]})


class OneExtension:
    """One claim."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, alias: str) -> None:
        if alias not in EXTENSIONS:
            raise ExtensionNotFound(alias=alias)
        _answer(resp, {"extension": EXTENSIONS[alias].view})


class _Endpoint:
    """What collections and members have in common."""

    def __init__(self, machine: Machine, authenticate: Authenticator) -> None:
        self.machine = machine
        self.resource: Resource = machine.resource
        self.authenticate = authenticate

    def begin(self, req: falcon.Request, operation: str) -> Identity:
        """Who asks, for an operation that this resource has."""
        if operation not in self.resource.operations:
            raise HTTPMethodNotAllowed(method=req.method)
        return self.authenticate(req.env)

    def body(self, req: falcon.Request, name: str) -> Any:
        """The value of `name` in the body, which holds nothing else that matters."""
        document = _document(req)
        if not isinstance(document, dict):
            raise HTTPBadRequest(reason="Resource body required")
        if name not in document:
            raise HTTPBadRequest(reason=f"Unable to find '{name}' in request body")
        return document[name]


class Collection(_Endpoint):
    """List and create."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        identity = self.begin(req, "list")
        pairs = _pairs(req)
        seen = {one.name: one for one in visible_to(self.resource.attributes, identity)}
        settings = self.machine.settings
        query = parse(pairs, seen, self.resource.behaviour.special, settings.pagination_max_limit)
        page = self.machine.page(identity, query)
        document: dict[str, Any] = {self.resource.plural: page.views}
        if query.limit is not None:
            # Pages are found by their identifiers, whatever fields the client wants to see.
            document[f"{self.resource.plural}_links"] = self._links(req, pairs, query, page)
        _answer(resp, document)

    def _links(
        self, req: falcon.Request, pairs: list[tuple[str, str]], query: Query, page: Page
    ) -> list[dict[str, str]]:
        kept = [pair for pair in pairs if pair[0] not in ("marker", "page_reverse", "limit")]
        kept.append(("limit", str(query.limit)))
        links = []
        for rel, wanted, end, extra in (
            ("next", page.next, page.last, []),
            ("previous", page.previous, page.first, [("page_reverse", "True")]),
        ):
            if wanted:
                marker = [("marker", end)] if end is not None else []
                href = f"{_base(req)}{req.path}?{urlencode([*kept, *marker, *extra])}"
                links.append({"rel": rel, "href": href})
        return links

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        identity = self.begin(req, "create")
        document = _document(req)
        if not isinstance(document, dict) or not document:
            raise HTTPBadRequest(reason="Resource body required")
        if self.resource.plural in document:
            if not self.machine.settings.allow_bulk:
                raise HTTPNotImplemented(reason="Bulk operation not supported")
            bodies = [_unwrapped(self.resource, item) for item in _list(self.resource, document)]
            _answer(resp, {self.resource.plural: self.machine.create(identity, bodies)}, falcon.HTTP_201)
            return
        body = _mapping(self.resource.name, self.body(req, self.resource.name))
        _answer(resp, {self.resource.name: self.machine.create(identity, [body])[0]}, falcon.HTTP_201)


class Member(_Endpoint):
    """Show, update and delete."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, id: str) -> None:
        identity = self.begin(req, "show")
        wanted = frozenset(value for name, value in _pairs(req) if name == "fields" and value)
        _answer(resp, {self.resource.name: self.machine.show(identity, _plain(self.resource, id), wanted or None)})

    def on_put(self, req: falcon.Request, resp: falcon.Response, id: str) -> None:
        identity = self.begin(req, "update")
        body = _mapping(self.resource.name, self.body(req, self.resource.name))
        view = self.machine.update(identity, _plain(self.resource, id), body, _revision(req))
        _answer(resp, {self.resource.name: view})

    def on_delete(self, req: falcon.Request, resp: falcon.Response, id: str) -> None:
        identity = self.begin(req, "delete")
        self.machine.delete(identity, _plain(self.resource, id), _revision(req))
        resp.status = falcon.HTTP_204


class Act(_Endpoint):
    """One action of a member."""

    def __init__(self, machine: Machine, authenticate: Authenticator, action: str) -> None:
        super().__init__(machine, authenticate)
        self.action = action

    def on_put(self, req: falcon.Request, resp: falcon.Response, id: str) -> None:
        identity = self.authenticate(req.env)
        body = _document(req)
        if not isinstance(body, dict):
            raise HTTPBadRequest(reason="Resource body required")
        view = self.machine.act(identity, _plain(self.resource, id), self.action, body, _revision(req))
        _answer(resp, {self.resource.name: view})


def _answer(resp: falcon.Response, document: Any, status: str = falcon.HTTP_200) -> None:
    resp.status = status
    resp.content_type = "application/json"
    resp.data = msgspec.json.encode(document)


def _base(req: falcon.Request) -> str:
    """Scheme and host as the client sees them, also through a proxy."""
    return f"{req.forwarded_scheme}://{req.forwarded_host}"


def _pairs(req: falcon.Request) -> list[tuple[str, str]]:
    try:
        return parse_qsl(req.query_string, keep_blank_values=True, errors="strict", max_num_fields=5000)
    except ValueError:
        raise HTTPBadRequest(reason="The query string is not UTF-8, or has more than 5000 fields") from None


def _plain(resource: Resource, id: str) -> str:
    """An identifier as databases take it; one that no database takes names nothing."""
    try:
        id.encode()
    except UnicodeEncodeError:
        raise resource.not_found(id=id.encode(errors="replace").decode()) from None
    if "\0" in id:
        raise resource.not_found(id=id.replace("\0", "?"))
    return id


def _document(req: falcon.Request) -> Any:
    """The JSON document of a request's body, read once."""
    if "document" in req.context:
        return req.context["document"]
    if (req.content_length or 0) > LARGEST_BODY:
        raise HTTPRequestEntityTooLarge(limit=LARGEST_BODY)
    try:
        data = req.bounded_stream.read(LARGEST_BODY + 1)
    except OSError as error:  # see `controller.main`: clients' patience is limited
        raise HTTPBadRequest(reason="The request's body did not arrive in time") from error
    if len(data) > LARGEST_BODY:
        raise HTTPRequestEntityTooLarge(limit=LARGEST_BODY)
    if not data.strip():
        raise HTTPBadRequest(reason="Resource body required")
    if _depth(data) > DEEPEST:
        raise MalformedRequestBody(reason=f"it is nested deeper than {DEEPEST} levels")
    try:
        document = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise MalformedRequestBody(reason=str(error).rstrip(".")) from None
    req.context["document"] = document
    return document


def _depth(data: bytes) -> int:
    """An upper bound of the nesting: brackets inside of strings count too, which harms nobody below `DEEPEST`."""
    if data.count(b"[") + data.count(b"{") <= DEEPEST:
        return 0
    deepest = depth = 0
    for bracket in re.finditer(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', data):
        mark = bracket.group()
        if mark in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in b"]}":
            depth -= 1
    return deepest


def _list(resource: Resource, document: Mapping[str, Any]) -> list[Any]:
    items = document[resource.plural]
    if not isinstance(items, list) or not items:
        raise HTTPBadRequest(reason="Resources required")
    return items


def _unwrapped(resource: Resource, item: Any) -> Mapping[str, Any]:
    """An item of a bulk create: the resource's body, or that wrapped in its name, as Neutron takes it."""
    if isinstance(item, dict) and set(item) == {resource.name}:
        item = item[resource.name]
    return _mapping(resource.name, item)


def _mapping(name: str, body: Any) -> Mapping[str, Any]:
    if not isinstance(body, dict):
        raise HTTPBadRequest(reason=f"The value of '{name}' in the request body is not an object")
    return body


def _revision(req: falcon.Request) -> int | None:
    header = req.get_header("If-Match")
    if header is None:
        return None
    match = _REVISION.fullmatch(header.strip())
    if match is None:
        raise HTTPBadRequest(reason="If-Match must be of the form revision_number=<number>")
    return int(match.group(1))


def _refuse(resp: falcon.Response, error: ApiError) -> None:
    _answer(resp, error.body, falcon.code_to_http_status(error.status))


def _on_api_error(req: falcon.Request, resp: falcon.Response, error: ApiError, params: Any) -> None:
    _refuse(resp, error)


def _on_away(req: falcon.Request, resp: falcon.Response, error: Exception, params: Any) -> None:
    LOG.error("%s: %s %s: %s", req.context.id, req.method, req.path, error)
    resp.set_header("Retry-After", "1")
    reason = "the database is busy" if isinstance(error, Contention) else "the database cannot be reached"
    _refuse(resp, HTTPServiceUnavailable(reason=reason))


def _on_http_error(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: Any) -> None:
    status = falcon.http_status_to_code(error.status)
    if error.headers:
        resp.set_headers(error.headers)
    if status == 404:
        _refuse(resp, HTTPNotFound())
    elif status == 405:
        _refuse(resp, HTTPMethodNotAllowed(method=req.method))
    else:
        refusal = HTTPBadRequest(reason=error.description or error.title or "Bad request")
        _answer(resp, refusal.body, falcon.code_to_http_status(status))


def _on_defect(req: falcon.Request, resp: falcon.Response, error: Exception, params: Any) -> None:
    LOG.error("%s: %s %s failed", req.context.id, req.method, req.path, exc_info=error)
    _refuse(resp, HTTPInternalServerError())
