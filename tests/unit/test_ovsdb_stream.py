"""The pure part of the database client: documents out of a byte stream, and what went wrong in a transaction."""

import json

import pytest

from agents.ovsdb import BrokenStream, Framer, failure


def test_documents_are_found_in_any_chunks() -> None:
    """Documents with brackets and quotes inside strings, cut at every place, come out whole."""
    documents = [{"a": 'x"}{][\\'}, {"id": None, "result": [[], {"b": "é{"}]}, [], {"": {}}]
    stream = b"".join(json.dumps(document, ensure_ascii=False).encode() for document in documents)
    for size in (1, 2, 3, 7, len(stream)):
        framer = Framer()
        found = [
            json.loads(each)
            for start in range(0, len(stream), size)
            for each in framer.feed(stream[start : start + size])
        ]
        assert found == documents


def test_brackets_that_never_opened_break_the_stream() -> None:
    with pytest.raises(BrokenStream):
        Framer().feed(b'{"a": 1}]')


def test_the_first_failed_operation_is_the_reason() -> None:
    """RFC 7047, section 4.1.3: an error object among the results, or one result more than operations at commit."""
    error = {"error": "timed out", "details": "wait"}
    assert failure([{"count": 1}, {}], 2) is None
    assert failure([{}, error, None], 3) == "timed out: wait"
    assert failure([{}, {}, {"error": "constraint violation"}], 2) == "constraint violation"
    assert failure([{}], 2) == "unexpected reply [{}]"
