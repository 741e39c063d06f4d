"""When schedules are due, in any place and through every change of its clocks."""

from __future__ import annotations

import random
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from proxy.errors import Unprocessable
from proxy.runs.schedules import Schedule


def times(schedule: str, timezone: str | None, start: str, count: int) -> list[str]:
    """The times that follow `start`, in UTC and to the second."""
    at, found = datetime.fromisoformat(f"{start}+00:00").timestamp(), []
    due = Schedule(schedule, timezone)
    for _ in range(count):
        following = due.after(at)
        assert following is not None
        assert following > at
        at = following
        found.append(datetime.fromtimestamp(at, ZoneInfo("UTC")).strftime("%Y-%m-%d %H:%M:%S"))
    return found


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("*/5 * * * *", ["2026-11-21 05:10:00", "2026-11-21 05:15:00"]),
        ("0 9 * * *", ["2026-11-21 09:00:00", "2026-11-22 09:00:00"]),
        ("0 9 * * MON-FRI", ["2026-11-23 09:00:00", "2026-11-24 09:00:00"]),
        ("0 0 13 * 5", ["2026-11-27 00:00:00", "2026-12-04 00:00:00"]),
        ("0 0 29 2 *", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
        ("0 9 L * *", ["2026-11-30 09:00:00", "2026-12-31 09:00:00"]),
        ("0 0 * * 7", ["2026-11-22 00:00:00", "2026-11-29 00:00:00"]),
        ("30 5 1 1 * 7", ["2027-01-01 05:30:07", "2028-01-01 05:30:07"]),
        ("* * * * * */20", ["2026-11-21 05:05:40", "2026-11-21 05:06:00"]),
        ("@hourly", ["2026-11-21 06:00:00", "2026-11-21 07:00:00"]),
        (" @Daily ", ["2026-11-22 00:00:00", "2026-11-23 00:00:00"]),
        ("@weekly", ["2026-11-22 00:00:00", "2026-11-29 00:00:00"]),
        ("@monthly", ["2026-12-01 00:00:00", "2027-01-01 00:00:00"]),
        ("@yearly", ["2027-01-01 00:00:00", "2028-01-01 00:00:00"]),
    ],
)
def test_a_schedule_without_a_timezone_is_in_utc(schedule: str, expected: list[str]) -> None:
    """The first eight, the sixth field and the short forms as the official server reckons them."""
    assert times(schedule, None, "2026-11-21 05:05:20", 2) == expected


@pytest.mark.parametrize(
    ("schedule", "timezone", "start", "expected"),
    [
        ("0 9 * * *", "Europe/Berlin", "2026-03-28 00:00:00", ["2026-03-28 08:00:00", "2026-03-29 07:00:00"]),
        ("0 9 * * *", "America/New_York", "2026-10-31 00:00:00", ["2026-10-31 13:00:00", "2026-11-01 14:00:00"]),
        ("0 9 * * *", "Asia/Kolkata", "2026-01-01 00:00:00", ["2026-01-01 03:30:00", "2026-01-02 03:30:00"]),
        # 02:30 is left out on the 29th of March: it is made up for at 03:00.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00:00", ["2026-03-29 01:00:00", "2026-03-30 00:30:00"]),
        # 02:30 comes twice on the 25th of October: the first counts.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00:00", ["2026-10-25 00:30:00", "2026-10-26 01:30:00"]),
        # Half hours go on as if nothing had happened.
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-25 00:15:00",
            ["2026-10-25 00:30:00", "2026-10-25 01:00:00", "2026-10-25 01:30:00", "2026-10-25 02:00:00"],
        ),
        ("0 * * * *", "Europe/Berlin", "2026-03-29 00:00:00", ["2026-03-29 01:00:00", "2026-03-29 02:00:00"]),
    ],
)
def test_a_schedule_follows_the_clocks_of_its_place(
    schedule: str, timezone: str, start: str, expected: list[str]
) -> None:
    assert times(schedule, timezone, start, len(expected)) == expected


def test_the_second_of_two_equal_hours_does_not_make_a_time_due_again() -> None:
    assert times("30 2 * * *", "Europe/Berlin", "2026-10-25 01:10:00", 1) == ["2026-10-26 01:30:00"]


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        "x",
        "* * * *",
        "* * * * * * *",
        "61 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "*/0 * * * *",
        "5-1 * * * *",
        "* * * * * 60",
        "0 0 30 2 *",
        "@reboot",
        "@every 5m",
        "١ * * * *",
        "9" * 5000 + " * * * *",
        "* * * * *\0",
    ],
)
def test_a_bad_schedule_is_refused_with_an_example(schedule: str) -> None:
    with pytest.raises(Unprocessable, match=r"`schedule`.*`\*/5 \* \* \* \*`") as refused:
        Schedule(schedule, None)
    assert refused.value.param == "schedule"
    assert len(refused.value.message) < 300


@pytest.mark.parametrize(
    "timezone", ["", "Mars/Olympus", "europe/berlin ", "Europe", "../../etc/passwd", "/etc/localtime", "\0", "x" * 5000]
)
def test_a_bad_timezone_is_refused_with_an_example(timezone: str) -> None:
    with pytest.raises(Unprocessable, match=r"`timezone`.*`Europe/Berlin`") as refused:
        Schedule("* * * * *", timezone)
    assert refused.value.param == "timezone"
    assert len(refused.value.message) < 200


def test_whatever_is_asked_is_a_schedule_or_refused() -> None:
    parts, chance = (
        ["*", "/", "-", ",", "#", "L", "W", "LW", "0", "5", "31", "MON", "feb", "60", "999", "", "@"],
        random.Random(7),
    )
    for _ in range(3000):
        fields = ["".join(chance.choices(parts, k=chance.randint(1, 4))) for _ in range(chance.randint(4, 7))]
        try:
            following = Schedule(" ".join(fields), chance.choice([None, "Europe/Berlin"])).after(1e9)
        except Unprocessable:
            continue
        assert following is None or following > 1e9
