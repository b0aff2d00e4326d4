"""What neutron-lib does not define: Neutron's attributes of security groups, in the form of neutron-lib's definitions.

Source: Neutron's `extensions/securitygroup.py` and `extensions/security_groups_default_rules.py` (2025.2), put down
here as facts about the API: which attributes there are, who may set them, what they are if nobody says, which values
they take. The judgement of values is written anew.
"""

from typing import Any

from neutron_lib import constants, exceptions
from neutron_lib.api import converters, validators
from neutron_lib.utils import net

ANY = (None, "any")
PORTS = range(65536)


def _protocol(value: Any) -> str | None:
    if value in ANY:
        return None
    try:
        number = int(value)
    except (ValueError, TypeError):
        if isinstance(value, str) and value.lower() in constants.IP_PROTOCOL_MAP:
            return value.lower()
        raise exceptions.InvalidInput(error_message=value) from None
    if number not in range(256):
        raise exceptions.InvalidInput(error_message=value)
    return str(value)


def _ethertype(value: Any) -> str:
    for known in ("IPv4", "IPv6"):
        if isinstance(value, str) and value.lower() == known.lower():
            return known
    raise exceptions.InvalidInput(error_message=value)


def _port(value: Any) -> int | None:
    if value is None:
        return None
    if int(value) in PORTS:
        return int(value)
    raise exceptions.InvalidInput(error_message=value)


def _prefix(value: Any) -> str | None:
    if not value:
        return None
    try:
        network = net.AuthenticIPNetwork(value)
    except Exception:
        # netaddr's own errors, and what it stumbles over.
        raise exceptions.InvalidInput(error_message=value) from None
    return f"{network.ip}/{network.prefixlen}"


def _name(value: Any, longest: int | None = None) -> str | None:
    """What Neutron registers under this name; neutron-lib's validators are found by `type:` names."""
    message: str | None = validators.validate_string(value, longest)
    if message is None and value.lower() == "default":
        raise exceptions.InvalidInput(error_message=value)
    return message


def register() -> None:
    """Once, before definitions are used."""
    if "type:name_not_default" not in validators.validators:
        validators.add_validator("name_not_default", _name)


def _shown(*, post: bool = False, put: bool = False, **more: Any) -> dict[str, Any]:
    return {
        "allow_post": post,
        "allow_put": put,
        "is_visible": True,
        "is_filter": True,
        "is_sort_key": True,
        **more,
    }


_ID = _shown(validate={"type:uuid": None})

_ALLOWANCE: dict[str, dict[str, Any]] = {
    "direction": _shown(post=True, validate={"type:values": ["ingress", "egress"]}),
    "ethertype": _shown(post=True, default="IPv4", convert_to=_ethertype, validate={"type:values": ["IPv4", "IPv6"]}),
    "protocol": _shown(post=True, default=None, convert_to=_protocol),
    "port_range_min": _shown(post=True, default=None, convert_to=_port),
    "port_range_max": _shown(post=True, default=None, convert_to=_port),
    "remote_ip_prefix": _shown(post=True, default=None, convert_to=_prefix),
    "remote_group_id": _shown(post=True, default=None),
}

_TENANT = _shown(post=True, required_by_policy=True, validate={"type:string": 255})
_FLAG = {"allow_post": True, "allow_put": False, "is_visible": True, "is_filter": True}

GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "security_groups": {
        "id": _ID,
        "name": _shown(post=True, put=True, default="", validate={"type:name_not_default": 255}),
        "tenant_id": _TENANT,
        "security_group_rules": {"allow_post": False, "allow_put": False, "is_visible": True},
    },
    "security_group_rules": {
        "id": _ID,
        "tenant_id": _TENANT,
        "security_group_id": _shown(post=True, required_by_policy=True, validate={"type:string": 36}),
        **_ALLOWANCE,
    },
    "ports": {
        "security_groups": {
            "allow_post": True,
            "allow_put": True,
            "is_visible": True,
            "is_filter": True,
            "convert_to": converters.convert_none_to_empty_list,
            "validate": {"type:uuid_list": None},
            "default": constants.ATTR_NOT_SPECIFIED,
        }
    },
}
"""The extension `security-group`."""

TEMPLATE: dict[str, dict[str, dict[str, Any]]] = {
    "default_security_group_rules": {
        "id": _ID,
        "tenant_id": {**_TENANT, "is_visible": False, "is_filter": False, "is_sort_key": False},
        "description": {
            "allow_post": True,
            "allow_put": False,
            "is_visible": True,
            "is_filter": True,
            "default": "",
            "validate": {"type:string": 1024},
        },
        **_ALLOWANCE,
        "remote_address_group_id": _shown(post=True, default=None),
        "used_in_default_sg": {**_FLAG, "convert_to": converters.convert_to_boolean},
        "used_in_non_default_sg": {**_FLAG, "convert_to": converters.convert_to_boolean},
    }
}
"""The extension `security-groups-default-rules`."""
