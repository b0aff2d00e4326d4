"""The controllers' side of the topics: `outbox` writes them, `publisher` sends them, `sweeper` tidies up.

`record` (outbox) is the last thing a transaction does: it raises the versions of the topics it changed and leaves the
messages in the table `outbox`. After commit the rows go to this process' publisher; a row is deleted when the
broker has confirmed its message. Whatever a process does not live to publish, the sweeper of another one does. Nothing
may be lost and everything may come twice or in another order: receivers go by versions (`selvedge.topics`).

`rpc` answers the agents' calls, and `subscriptions` binds their queues. `service` makes one whole of it.
"""
