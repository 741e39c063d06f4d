"""When a schedule is due: cron's form in the time of a place, its change of clocks included.

Five fields as in Debian's cron, a sixth for seconds at the end, and the short forms such as `@daily`. A time that the
clocks leave out is made up for right after the gap; one that comes twice counts once, unless the schedule is for every
hour or minute.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from proxy.errors import Unprocessable

SHORT = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
LONGEST = 200
"""Characters of a schedule or of the name of a timezone."""
SHOWN = 60


class Schedule:
    """The times of a schedule. `timezone` is a name of the IANA's; none is UTC. Raises `Unprocessable`."""

    def __init__(self, text: str, timezone: str | None) -> None:
        self._zone = zone(timezone)
        self._text = _arranged(text)
        try:
            CronSim(self._text, datetime.now(self._zone))
        except CronSimError as error:
            raise _bad(text, str(error)) from error

    def after(self, at: float) -> float | None:
        """The first time after that moment, in seconds since 1970; None if there is none for fifty years."""
        for found in CronSim(self._text, datetime.fromtimestamp(at, self._zone)):
            # Told in local time, so the second of two equal hours can be taken for the first.
            if found.timestamp() > at:
                return found.timestamp()
        return None


def zone(name: str | None) -> tzinfo:
    """Raises `Unprocessable` for a name that is not the IANA's."""
    if name is None:
        return UTC
    try:
        return ZoneInfo(name[:LONGEST])
    except (ValueError, OSError, KeyError) as error:
        raise Unprocessable(
            f"`timezone`: there is no timezone `{name[:SHOWN]}`; take a name of the IANA's, as `Europe/Berlin`.",
            param="timezone",
        ) from error


def _arranged(text: str) -> str:
    """The schedule as it is reckoned with here: seconds come first."""
    fields = SHORT.get(text.strip().lower(), text).split()
    if len(text) > LONGEST or len(fields) not in (5, 6):
        raise _bad(text, "Wrong number of fields")
    return " ".join(fields if len(fields) == 5 else (fields[5], *fields[:5]))


def _bad(text: str, reason: str) -> Unprocessable:
    return Unprocessable(
        f"`schedule`: `{text[:SHOWN]}` is not in cron's form ({reason.lower()}); it is minute, hour, day of the month, "
        "month, day of the week, as `*/5 * * * *` for every five minutes.",
        param="schedule",
    )
