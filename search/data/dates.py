"""Dates written as texts: the order of their parts, and the time that they name."""

from __future__ import annotations

import datetime
import re
from enum import StrEnum

_TIME = r"(?:[T\s]\s*(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?\s*Z?)?"
_YEAR_FIRST = re.compile(rf"\s*(\d{{4}})([-/.])(\d{{1,2}})\2(\d{{1,2}}){_TIME}\s*", re.ASCII)
_YEAR_LAST = re.compile(rf"\s*(\d{{1,2}})([-/.])(\d{{1,2}})\2(\d{{4}}){_TIME}\s*", re.ASCII)
# A time, and how far it is from UTC, or the name of a time zone.
_WITH_OFFSET = re.compile(
    r"(.*\d:\d{2}(?::\d{2}(?:[.,]\d+)?)?)\s*(?:(?:UTC|GMT)?[+-]\d{2}(?::?\d{2})?|[A-Z]{3,4})\s*", re.ASCII
)
_EPOCH = datetime.date(1970, 1, 1).toordinal()


class Order(StrEnum):
    """The order of year, month and day."""

    YMD = "ymd"
    DMY = "dmy"
    MDY = "mdy"


_YMD, _NONE = frozenset((Order.YMD,)), frozenset[Order]()


def orders_of(text: str) -> frozenset[Order]:
    """Return the orders in which a text is a date; more than one for 01/02/2024, none if it is not a date.

    With dots the day is first: nobody writes 02.13.2024.
    """
    if seconds_of(text, Order.YMD) is not None:
        return _YMD
    if (match := _YEAR_LAST.fullmatch(text)) is None:
        return _NONE
    candidates = (Order.DMY,) if match[2] == "." else (Order.DMY, Order.MDY)
    return frozenset(order for order in candidates if _seconds(match, order) is not None)


def has_offset(text: str) -> bool:
    """Return whether a text is a date and time with an offset from UTC (`2024-03-01T12:00+02:00`), or with a zone's name."""
    match = _WITH_OFFSET.fullmatch(text)
    return match is not None and bool(orders_of(match[1]))


def seconds_of(text: str, order: Order) -> int | None:
    """Return the whole seconds since 1970 of a date; None if the text is not a date in this order."""
    match = (_YEAR_FIRST if order is Order.YMD else _YEAR_LAST).fullmatch(text)
    return None if match is None else _seconds(match, order)


def _seconds(match: re.Match[str], order: Order) -> int | None:
    first, _, second, third, hour, minute, second_of_minute = match.groups("0")
    if order is Order.YMD:
        year, month, day = first, second, third
    else:
        year, month, day = (third, second, first) if order is Order.DMY else (third, first, second)
    time = (int(hour), int(minute), int(second_of_minute))
    if time[0] > 23 or time[1] > 59 or time[2] > 59:
        return None
    try:
        days = datetime.date(int(year), int(month), int(day)).toordinal() - _EPOCH
    except ValueError:
        return None
    return days * 86400 + time[0] * 3600 + time[1] * 60 + time[2]
