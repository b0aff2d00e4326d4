"""Errors of the switch, with the names that the specification and Open vSwitch's log give them."""

import struct
from typing import NamedTuple

from openflow.actions import NICIRA
from openflow.codec.frames import ERROR, expect, xid_of


class SwitchError(NamedTuple):
    """What the switch refused, and why.

    `xid` is the refused message's; `name` like OFPBAC_BAD_OUT_PORT; `data` the beginning of the refused message (at
    least 64 bytes of it, when it has that many). `experimenter` is 0 when the error is of the specification itself.
    """

    xid: int
    name: str
    type: int
    code: int
    data: bytes
    experimenter: int = 0


_NAMES: tuple[tuple[str, str], ...] = (
    ("OFPHFC", "INCOMPATIBLE EPERM"),
    (
        "OFPBRC",
        "BAD_VERSION BAD_TYPE BAD_MULTIPART BAD_EXPERIMENTER BAD_EXP_TYPE EPERM BAD_LEN BUFFER_EMPTY BUFFER_UNKNOWN "
        "BAD_TABLE_ID IS_SLAVE BAD_PORT BAD_PACKET MULTIPART_BUFFER_OVERFLOW MULTIPART_REQUEST_TIMEOUT "
        "MULTIPART_REPLY_TIMEOUT",
    ),
    (
        "OFPBAC",
        "BAD_TYPE BAD_LEN BAD_EXPERIMENTER BAD_EXP_TYPE BAD_OUT_PORT BAD_ARGUMENT EPERM TOO_MANY BAD_QUEUE "
        "BAD_OUT_GROUP MATCH_INCONSISTENT UNSUPPORTED_ORDER BAD_TAG BAD_SET_TYPE BAD_SET_LEN BAD_SET_ARGUMENT",
    ),
    (
        "OFPBIC",
        "UNKNOWN_INST UNSUP_INST BAD_TABLE_ID UNSUP_METADATA UNSUP_METADATA_MASK BAD_EXPERIMENTER BAD_EXP_TYPE "
        "BAD_LEN EPERM DUP_INST",
    ),
    (
        "OFPBMC",
        "BAD_TYPE BAD_LEN BAD_TAG BAD_DL_ADDR_MASK BAD_NW_ADDR_MASK BAD_WILDCARDS BAD_FIELD BAD_VALUE BAD_MASK "
        "BAD_PREREQ DUP_FIELD EPERM",
    ),
    (
        "OFPFMFC",
        "UNKNOWN TABLE_FULL BAD_TABLE_ID OVERLAP EPERM BAD_TIMEOUT BAD_COMMAND BAD_FLAGS CANT_SYNC BAD_PRIORITY",
    ),
    (
        "OFPGMFC",
        "GROUP_EXISTS INVALID_GROUP WEIGHT_UNSUPPORTED OUT_OF_GROUPS OUT_OF_BUCKETS CHAINING_UNSUPPORTED "
        "WATCH_UNSUPPORTED LOOP UNKNOWN_GROUP CHAINED_GROUP BAD_TYPE BAD_COMMAND BAD_BUCKET BAD_WATCH EPERM",
    ),
    ("OFPPMFC", "BAD_PORT BAD_HW_ADDR BAD_CONFIG BAD_ADVERTISE EPERM"),
    ("OFPTMFC", "BAD_TABLE BAD_CONFIG EPERM"),
    ("OFPQOFC", "BAD_PORT BAD_QUEUE EPERM"),
    ("OFPSCFC", "BAD_FLAGS BAD_LEN EPERM"),
    ("OFPRRFC", "STALE UNSUP BAD_ROLE"),
    (
        "OFPMMFC",
        "UNKNOWN METER_EXISTS INVALID_METER UNKNOWN_METER BAD_COMMAND BAD_FLAGS BAD_RATE BAD_BURST BAD_BAND "
        "BAD_BAND_VALUE OUT_OF_METERS OUT_OF_BANDS",
    ),
    ("OFPTFFC", "BAD_TABLE BAD_METADATA - - - EPERM"),
    ("OFPBPC", "BAD_TYPE BAD_LEN BAD_VALUE TOO_MANY DUP_TYPE BAD_EXPERIMENTER BAD_EXP_TYPE BAD_EXP_VALUE EPERM"),
    ("OFPACFC", "INVALID UNSUPPORTED EPERM"),
    (
        "OFPMOFC",
        "UNKNOWN MONITOR_EXISTS INVALID_MONITOR UNKNOWN_MONITOR BAD_COMMAND BAD_FLAGS BAD_TABLE_ID BAD_OUT",
    ),
    (
        "OFPBFC",
        "UNKNOWN EPERM BAD_ID BUNDLE_EXIST BUNDLE_CLOSED OUT_OF_BUNDLES BAD_TYPE BAD_FLAGS MSG_BAD_LEN MSG_BAD_XID "
        "MSG_UNSUP MSG_CONFLICT MSG_TOO_MANY MSG_FAILED TIMEOUT BUNDLE_IN_PROGRESS",
    ),
)
"""Error types in the order of their numbers (OpenFlow 1.4, 7.5.4), each with its codes in the order of theirs."""

STANDARD: dict[tuple[int, int], str] = {
    (number, code): f"{prefix}_{name}"
    for number, (prefix, names) in enumerate(_NAMES)
    for code, name in enumerate(names.split())
    if name != "-"
}

OF_NICIRA: dict[int, str] = {
    2: "NXBRC_NXM_INVALID",
    3: "NXBRC_NXM_BAD_TYPE",
    4: "NXBRC_MUST_BE_ZERO",
    5: "NXBRC_BAD_REASON",
    9: "NXBRC_FM_BAD_EVENT",
    10: "NXBRC_UNENCODABLE_ERROR",
    11: "NXBAC_MUST_BE_ZERO",
    12: "NXFMFC_HARDWARE",
    13: "NXFMFC_BAD_TABLE_ID",
    15: "NXBAC_BAD_CONJUNCTION",
    16: "NXTTMFC_BAD_COMMAND",
    17: "NXTTMFC_BAD_OPT_LEN",
    18: "NXTTMFC_BAD_FIELD_IDX",
    19: "NXTTMFC_TABLE_FULL",
    20: "NXTTMFC_ALREADY_MAPPED",
    21: "NXTTMFC_DUP_ENTRY",
    22: "OFPBFC_BAD_VERSION",
    23: "NXQOFC_QUEUE_ERROR",
    34: "NXR_NOT_SUPPORTED",
    35: "NXR_STALE",
    36: "NXST_NOT_CONFIGURED",
    37: "NXFMFC_INVALID_TLV_FIELD",
    38: "NXTTMFC_INVALID_TLV_DEL",
    39: "NXBAC_BAD_HEADER_TYPE",
    40: "NXBAC_UNKNOWN_ED_PROP",
    41: "NXBAC_BAD_ED_PROP",
    42: "NXBAC_CT_DATAPATH_SUPPORT",
    43: "NXBMC_CT_DATAPATH_SUPPORT",
    44: "NXTFFC_DUP_TABLE",
}
"""Open vSwitch's own errors, which come as experimenter errors (ofp-errors.h; asked of ovs-ofctl, number by number)."""

_EXPERIMENTER_ERROR = 0xFFFF


def error(data: bytes) -> SwitchError:
    """Reads an error message. A number without a name is named by its numbers; `xid` is that of the refused message."""
    expect(data, ERROR, 12, "error message")
    kind, code = struct.unpack_from("!HH", data, 8)
    xid = xid_of(data)
    if kind == _EXPERIMENTER_ERROR and len(data) >= 16:
        (experimenter,) = struct.unpack_from("!I", data, 12)
        name = OF_NICIRA.get(code) if experimenter == NICIRA else None
        name = name or f"error {code} of experimenter {experimenter:#x}"
        return SwitchError(xid, name, kind, code, data[16:], experimenter)
    name = STANDARD.get((kind, code), f"error type {kind} code {code}")
    return SwitchError(xid, name, kind, code, data[12:])
