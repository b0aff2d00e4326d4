"""The controller: REST in front, one database, and the feed of topology that goes out to the agents.

A request becomes one transaction of `store`: rows of resources, versions of topics, rows of the outbox. After commit
`feed` publishes. `api` holds the declarations of resources and the one machine that serves them all, `ipam` the pure
arithmetic of addresses, `settings` every number an operator may set. Every worker process is a whole controller;
they share nothing but the database and the broker. This package imports `selvedge` and nothing else of ours.
"""
