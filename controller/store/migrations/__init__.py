"""Alembic's home: `env` for its command line, `versions` the revisions, oldest first by number."""
