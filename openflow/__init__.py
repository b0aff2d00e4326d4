"""OpenFlow for one Open vSwitch bridge: values, their bytes, the pipeline, the compilers and the channel.

The values (`fields`, `match`, `actions`, `flow`) know how they are written in the canonical form in which Open vSwitch
itself reads them back, so that the switch's tables and ours compare as bytes. `codec` reads those bytes and frames the
messages. Everything above (pipeline, compilers, programmer) works on values; only `switch` touches a socket.
"""
