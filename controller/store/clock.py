"""The time, in the form in which it is stored: UTC text that sorts (`2026-01-31T09:30:00Z`)."""

from datetime import UTC, datetime

FORM = "%Y-%m-%dT%H:%M:%SZ"


def timestamp(moment: datetime | None = None) -> str:
    """`moment` (default: now), to the second."""
    return (moment or datetime.now(UTC)).strftime(FORM)


def moment(text: str) -> datetime:
    """The inverse of `timestamp`. Raises ValueError."""
    return datetime.strptime(text, FORM).replace(tzinfo=UTC)
