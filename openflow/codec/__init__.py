"""OpenFlow 1.4 with Nicira's extensions, as bytes. No sockets, no state but the framer's buffer.

- `frames`: a stream of bytes → whole messages; the header; message types.
- `session`: hello, echo, features, set_config, barrier, flushes of connections, and Geneve options (TLV table).
- `flows`, `groups`, `bundles`: what changes the switch and what dumps it. Dumps become {key: body} without decoding,
  since `openflow.flow` writes the same bytes.
- `errors`: what the switch refused, with the names of the specification.
- `packets`: packet_in and packet_out.
- `decode`: match, action, flow and group values back from bytes; `text`: a flow as ovs-ofctl would print it. For
  tests, the operator's tools and the interpreter; nothing on the way to the switch decodes.

Every function that makes a message takes `xid` (transaction id, 32 bits) and returns bytes. Every function that reads
one raises `frames.BadMessage` when the bytes are not what they say they are. Numbers are those of "OpenFlow Switch
Specification 1.4.0" and of Open vSwitch's nicira-ext.h; os_ken is the oracle of the tests.
"""
