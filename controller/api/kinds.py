"""Kinds of values: each takes what a client sent and returns what is stored, or says in one clause why it does not fit.

A kind is a function; those with parameters are made by a function (`string(255)`, `one_of(4, 6)`). They accept what
Neutron's validators accept and normalise as its converters do; `tests/unit/test_attributes_against_neutron_lib.py`
compares, and lists every difference with its reason. Kinds know no database and no settings.
"""

import ipaddress
import re
import unicodedata
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

Kind = Callable[[Any], Any]


class Unfit(Exception):
    """The value is not of this kind; the text is the reason without a full stop."""


_TRUE = {"1", "t", "true", "on", "y", "yes"}
_FALSE = {"0", "f", "false", "off", "n", "no"}
_MAC = re.compile(r"[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}|[0-9a-f]{4}(?:\.[0-9a-f]{4}){2}|[0-9a-f]{12}", re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_LARGEST = 2**31 - 1


def shown(value: Any) -> str:
    """`value` in quotes, cut short if it is long."""
    text = str(value)
    return f"'{text}'" if len(text) <= 200 else f"'{text[:200]}…'"


def boolean(value: Any) -> bool:
    """true and false, and the words and numbers that stand for them."""
    word = str(value).strip().lower() if isinstance(value, (bool, int, str)) else ""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise Unfit(f"{shown(value)} cannot be converted to boolean")


def integer(low: int = -_LARGEST, high: int = _LARGEST) -> Kind:
    """A whole number in low … high, also as text."""

    def kind(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise Unfit(f"{shown(value)} is not an integer")
        text = str(value).strip()  # which takes more for space than int() does
        if not _INTEGER.fullmatch(text):
            raise Unfit(f"{shown(value)} is not an integer")
        number = int(text)
        if number < low:
            raise Unfit(f"{shown(value)} is too small - must be at least '{low}'")
        if number > high:
            raise Unfit(f"{shown(value)} is too large - must be no larger than '{high}'")
        return number

    return kind


def string(longest: int) -> Kind:
    """Text of at most `longest` characters."""

    def kind(value: Any) -> str:
        if not isinstance(value, str):
            raise Unfit(f"{shown(value)} is not a valid string")
        if len(value) > longest:
            raise Unfit(f"{shown(value)} exceeds maximum length of {longest}")
        if "\0" in value or not _storable(value):
            raise Unfit(
                f"{shown(value.encode('utf-8', 'backslashreplace').decode())} holds a character that is no text"
            )
        return value

    return kind


def _storable(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def name(longest: int = 255) -> Kind:
    """One line of printable text without blanks at its ends."""
    text = string(longest)

    def kind(value: Any) -> str:
        word: str = text(value)
        if word.strip() != word or not (word.isprintable() or all(map(_printable, word))):
            raise Unfit(f"{shown(value)} is not a valid string")
        return word

    return kind


def _printable(character: str) -> bool:
    category = unicodedata.category(character)
    return category == "Zs" or category[0] not in "CZ"


def bytes_string(longest: int) -> Kind:
    """Text of at most `longest` bytes in UTF-8, without control characters: it becomes part of a routing key."""
    text = string(longest)

    def kind(value: Any) -> str:
        word: str = text(value)
        if len(word.encode()) > longest:
            raise Unfit(f"{shown(value)} exceeds maximum length of {longest} bytes")
        if not all(map(_printable, word)):
            raise Unfit(f"{shown(value)} is not a valid string")
        return word

    return kind


def one_of(*values: Any) -> Kind:
    """One of these."""

    def kind(value: Any) -> Any:
        # 4 is neither True nor 4.0 here; Python's own equality says otherwise.
        for known in values:
            if type(value) is type(known) and value == known:
                return value
        listed = ", ".join(shown(known) for known in values)
        raise Unfit(f"{shown(value)} is not in [{listed}]")

    return kind


def or_none(inner: Kind) -> Kind:
    """`inner`, or null."""
    return lambda value: None if value is None else inner(value)


def none_is(substitute: Any, inner: Kind) -> Kind:
    """`inner`, with null standing for `substitute`."""
    return lambda value: inner(substitute() if callable(substitute) else substitute) if value is None else inner(value)


def uuid_text(value: Any) -> str:
    """A UUID, in the form in which it came: identifiers are compared as text."""
    if isinstance(value, str):
        try:
            if str(uuid.UUID(value)).replace("-", "") == value.lower().replace("-", "").strip("{}"):
                return value
        except ValueError:
            pass
    raise Unfit(f"{shown(value)} is not a valid UUID")


def mac(value: Any) -> str:
    """A MAC in lower case with colons."""
    if not isinstance(value, str) or not _MAC.fullmatch(value):
        raise Unfit(f"{shown(value)} is not a valid MAC address")
    digits = re.sub("[^0-9a-f]", "", value.lower())
    if digits in ("000000000000", "ffffffffffff"):
        raise Unfit(f"{shown(value)} is not a valid MAC address")
    return ":".join(digits[place : place + 2] for place in range(0, 12, 2))


def unicast_mac(value: Any) -> str:
    """A MAC that one station may have."""
    address = mac(value)
    if int(address[1], 16) & 1:
        raise Unfit(f"{shown(value)} is a multicast MAC address")
    return address


def ip_address(value: Any) -> str:
    """An address in canonical form."""
    if isinstance(value, str):
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            pass
        else:
            if "%" not in value:
                return str(address)
    raise Unfit(f"{shown(value)} is not a valid IP address")


def cidr(value: Any) -> str:
    """A subnet in canonical form: no host bits, always with the length of its prefix."""
    if not isinstance(value, str):
        raise Unfit(f"{shown(value)} is not a valid IP subnet")
    try:
        interface = ipaddress.ip_interface(value)
    except ValueError:
        raise Unfit(f"{shown(value)} is not a valid IP subnet") from None
    mask = value.partition("/")[2]
    if "%" in value or not (mask.isascii() and mask.isdigit()):
        raise Unfit(f"{shown(value)} isn't a recognized IP subnet cidr, '{interface.network}' is recommended")
    return str(interface.network)


def subnet(value: Any) -> str:
    """A subnet in canonical form, however its prefix is written; host bits are cleared, as Neutron does."""
    if isinstance(value, str) and "%" not in value:
        try:
            return str(ipaddress.ip_interface(value).network)
        except ValueError:
            pass
    raise Unfit(f"{shown(value)} is not a valid IP subnet")


def exact_cidr(value: Any) -> str:
    """A subnet whose host bits are zero: 10.0.0.1/24 is somebody's mistake."""
    network = cidr(value)
    if ipaddress.ip_interface(value).ip != ipaddress.ip_network(network).network_address:
        raise Unfit(f"{shown(value)} isn't a recognized IP subnet cidr, '{network}' is recommended")
    return network


def address_or_cidr(value: Any) -> str:
    """An address, or a subnet in canonical form; nothing that is multicast."""
    text = exact_cidr(value) if isinstance(value, str) and "/" in value else ip_address(value)
    if ipaddress.ip_network(text).network_address.is_multicast:
        raise Unfit(f"{shown(value)} is a multicast IP address")
    return text


def list_of(inner: Kind, *, unique: bool = False) -> Kind:
    """A list of `inner`. With `unique`, items that are written alike in their canonical form are one too many."""

    def kind(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise Unfit(f"{shown(value)} is not a list")
        items = [inner(item) for item in value]
        if unique:
            seen: set[str] = set()
            for item in items:
                if repr(item) in seen:
                    raise Unfit(f"Duplicate items in the list: {shown(item)}")
                seen.add(repr(item))
        return items

    return kind


def record(required: dict[str, Kind], optional: dict[str, Kind] | None = None, *, others: bool = False) -> Kind:
    """A dictionary with these keys. Null for an optional key is as if it were absent.

    Other keys are refused, or passed over with `others`.
    """
    known = {**required, **(optional or {})}

    def kind(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Unfit(f"{shown(value)} is not a dictionary")
        for key in required:
            if key not in value:
                raise Unfit(f"{shown(value)} has no key '{key}'")
        for key in value:
            if key not in known and not others:
                raise Unfit(f"{shown(value)} has the unknown key {shown(key)}")
        return {
            key: kind_of(value[key]) for key, kind_of in known.items() if key in required or value.get(key) is not None
        }

    return kind


def dictionary(largest: int) -> Kind:
    """Any dictionary whose JSON has at most `largest` bytes."""

    def kind(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Unfit(f"{shown(value)} is not a dictionary")
        try:
            written = msgspec.json.encode(value)
        except (UnicodeEncodeError, msgspec.MsgspecError):
            raise Unfit("it holds a character that is no text") from None
        if len(written) > largest:
            raise Unfit(f"it is larger than {largest} bytes")
        return value

    return kind
