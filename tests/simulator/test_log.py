"""The log: ids, pages, and what happens when it is full or cleared."""

from simulator.log import RequestLog


def filled(capacity: int, count: int) -> RequestLog:
    log = RequestLog(capacity)
    for index in range(count):
        log.begin(float(index))
    return log


def test_entries_are_numbered_from_one_and_shown_after_an_id() -> None:
    log = filled(10, 5)
    assert [entry.id for entry in log.entries()] == [1, 2, 3, 4, 5]
    assert [entry.id for entry in log.entries(after=3)] == [4, 5]
    assert log.entries(after=5) == []
    assert log.entries(after=99) == []


def test_request_ids_differ_within_and_between_simulators() -> None:
    ids = {entry.request_id for log in (filled(10, 5), filled(10, 5)) for entry in log.entries()}
    assert len(ids) == 10


def test_a_full_log_drops_the_oldest_and_says_how_many() -> None:
    log = filled(3, 5)
    assert [entry.id for entry in log.entries()] == [3, 4, 5]
    assert [entry.id for entry in log.entries(after=4)] == [5]
    assert log.dropped == 2


def test_a_cleared_log_goes_on_counting() -> None:
    log = filled(3, 5)
    log.clear()
    assert (log.entries(), log.dropped) == ([], 0)
    assert log.begin(9).id == 6
    assert [entry.id for entry in log.entries(after=2)] == [6]


def test_what_is_shown_does_not_change_any_more() -> None:
    log = RequestLog(3)
    entry = log.begin(0)
    shown = log.entries()[0]
    entry.charges.append((1, 5))
    entry.status = 200
    assert (shown.charges, shown.status) == ([], None)
