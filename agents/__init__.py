"""The daemon of a hypervisor: learns the topology its ports need, and keeps Open vSwitch equal to it.

One thread (`reactor`) owns all state; threads around it do the waiting and only put events into its queue: `session`
(the feed), `calls` (questions to the controllers), `ovsdb`. `topics` is the replica of the feed, a machine without I/O.
Read `topics` next, then `reactor`.
"""
