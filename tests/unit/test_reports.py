"""When the agent reports: at its start, at intervals, and soon after the feed has come back, once."""

from agents.reports import SPREAD, Reports

V1, V2 = {"hosts": 1}, {"hosts": 2}


def reported(host: str = "hv1") -> Reports:
    """An agent whose feed is up and whose first report was answered at 0; the next is due at 30."""
    reports = Reports(host, 30.0, 0.0)
    reports.sent()
    reports.feed_up(0.0)
    reports.done(V1, V1, 0.0)
    assert reports.due == 30.0
    return reports


def test_the_feed_comes_back_and_the_report_is_soon() -> None:
    """Given a report that would be due in twenty seconds, the return of the feed makes it due within the spread."""
    reports = reported()
    reports.feed_up(10.0)
    assert reports.due is not None and 10.0 <= reports.due <= 10.0 + SPREAD
    reports.sent()
    reports.done(V1, V1, 11.0)
    assert reports.due == 41.0, "and that is all"


def test_a_report_on_its_way_serves_for_the_return() -> None:
    """Given a report that was asked while the broker was away and is answered after its return, no other is needed when
    no topic has moved; if one has, that report said too little, and another follows."""
    for versions, due in ((V1, 50.0), (V2, None)):
        reports = reported()
        reports.sent()
        reports.feed_up(19.0)
        reports.done(V1, versions, 20.0)
        assert reports.due is not None
        assert reports.due == due if due else 20.0 <= reports.due <= 20.0 + SPREAD


def test_one_that_was_sent_after_the_return_is_not_repeated_however_much_moves() -> None:
    reports = reported()
    reports.feed_up(10.0)
    reports.sent()
    reports.done(V1, V2, 11.0)
    assert reports.due == 41.0


def test_the_first_time_that_the_feed_is_up_needs_no_report() -> None:
    """Given an agent that has just started, everything is asked for anyway."""
    reports = Reports("hv1", 30.0, 0.0)
    reports.sent()
    reports.done(V1, V1, 1.0)
    reports.feed_up(2.0)
    assert reports.due == 31.0


def test_hosts_do_not_report_all_at_once() -> None:
    """Given a hundred hosts whose feed returns at one moment, their reports are spread over all of the time."""
    moments = []
    for number in range(100):
        reports = reported(f"hv{number}")
        reports.feed_up(0.0)
        moments.append(reports.due or 0.0)
    parts = [sum(n / 5 <= moment / SPREAD < (n + 1) / 5 for moment in moments) for n in range(5)]
    assert min(parts) > 5, parts


def test_a_refused_report_is_repeated_sooner() -> None:
    reports = reported()
    reports.sent()
    reports.refused(30.0, 5.0)
    assert reports.due == 35.0
