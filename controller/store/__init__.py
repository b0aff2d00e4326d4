"""The database: tables (`schema`), transactions (`engine`), and what rows mean to a switch (`topology`).

`bindings` and `agents` are the transactions that agents cause; those that REST causes live in `controller.api`.
SQLAlchemy Core throughout: rows are values, nothing loads itself lazily, and a reader can count the statements.
"""
