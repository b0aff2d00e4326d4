"""Benchmarks on the lab: real broker, database, switches and packets; a table for people, JSON for everybody else.

`bench/run NAME` is the command (`__main__`). `measures` holds samples and what is said about them, `budgets` what they
should be, `ledger` what the daemons cost, `prober` sends the packets, `streamer` streams of them, `openflow_watch` sees
a switch's flows change from outside, `datapath` its cache, `witness` one plug, and the lab gives the API and the
database of a switch: no number here is taken from a daemon's own word where it can be seen from outside. `stage` puts a
lab and its topology up, `policies` a security group of ten rules, `ghosts` hosts that are records only. The benchmarks
are `wire`, `bulk`, `restart`, `codec`, `fanout`, `security`, `members`, `policy_traffic`.
"""
