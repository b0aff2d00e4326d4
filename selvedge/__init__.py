"""The language that controller and agents share.

Topology objects (`topology`), the replicated logs that carry them (`topics`), how both are written on the wire
(`wire`), the calls between agent and controller (`rpc`) and the names of everything on the broker (`broker`).
This package imports nothing of ours; everything else of ours may import it. Read `topology` next.
"""

__version__ = "0.1.0"
