"""RFC 3339 date-times as integer microseconds since the epoch.

Not `datetime.fromisoformat`: it accepts more than RFC 3339 and knows neither nanoseconds nor their
truncation.
"""

import re
from datetime import date

_RFC_3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]"
    r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_MICROS = 1_000_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FIRST = (date(2000, 1, 1).toordinal() - _EPOCH_DAY) * 86_400 * _MICROS
_END = (date(2101, 1, 1).toordinal() - _EPOCH_DAY) * 86_400 * _MICROS
_LAST_HOUR = 23
_LAST_MINUTE = 59


def parse_event_time(text: str) -> int | None:
    """Return microseconds since the epoch, finer digits cut off, or None where a rule is broken.

    Rules: RFC 3339 with T (or t) and a zone (Z, z or an offset up to 23:59), hours 00-23, seconds 00-59 (no
    leap second), 0 to 9 fraction digits, and a UTC year from 2000 to 2100.
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, zone_hour, zone_minute = match.groups()
    hours, minutes, seconds = int(hour), int(minute), int(second)
    if hours > _LAST_HOUR or minutes > _LAST_MINUTE or seconds > _LAST_MINUTE:
        return None
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError:  # no such day
        return None
    since_epoch = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if sign:
        ahead_hours, ahead_minutes = int(zone_hour), int(zone_minute)
        if ahead_hours > _LAST_HOUR or ahead_minutes > _LAST_MINUTE:
            return None
        ahead = (ahead_hours * 60 + ahead_minutes) * 60
        since_epoch += ahead if sign == "-" else -ahead
    micros = since_epoch * _MICROS + (int(fraction[:6].ljust(6, "0")) if fraction else 0)
    return micros if _FIRST <= micros < _END else None
