"""A day of log lines, and who is told: the template's filters, alarms and composite alarms, drilled.

A shop is so many orders a minute. An order that is not done comes back every three minutes, as the queue has it. Most
days have one thing that goes wrong, from ten o'clock on.
"""

import collections
import functools

import alarms
import metric_filter
import pytest

DAY, TEN = 1440, 600
RETRY, STUCK = 3, 9  # minutes; receives before the one that is stuck

SMALL = "a small shop"  # an order every ten minutes
MIDDLE = "a middle shop"  # one a second
FLASH = "a flash sale"  # fifty a second for twenty minutes

CLOSED = {"outcome": "closed", "confirmed": True, "level": "INFO"}
PAID = CLOSED | {"outcome": "paid", "reason": "ORDERPAID"}
NOT_FOUND = {"outcome": "not_found", "confirmed": True, "level": "WARN", "reason": "ORDERNOTEXIST"}
OPEN = {"outcome": "open", "confirmed": True, "level": "WARN", "reason": "ORDERNOTCLOSED"}
WRONG_KEY = {"outcome": "rejected", "confirmed": False, "level": "WARN", "reason": "signature"}
DOWN = {"outcome": "unknown", "confirmed": False, "level": "ERROR", "reason": "GatewayUnreachable"}
NO_QUERY = {"outcome": "unknown", "confirmed": False, "level": "ERROR", "reason": "NOTCONFIRMED", "query_cause": "NOAUTH"}
NO_SECRET = {"outcome": "not_sent", "confirmed": False, "level": "ERROR", "reason": "CredentialsUnavailable"}
FORGED = {"outcome": "unknown", "confirmed": False, "level": "ERROR", "reason": "ReplyInvalid", "cause": "its signature"}
LIMITED = {"outcome": "unknown", "confirmed": False, "level": "WARN", "reason": "rate_limited"}
TERMINAL = ("closed", "paid", "not_found")


def orders(shop, minute):
    """How many new orders are due in a minute."""
    if shop == SMALL:
        return int(minute % 10 == 0)
    return 3000 if shop == FLASH and TEN <= minute < TEN + 20 else 60


def usual(count):
    """What becomes of orders on a day like any other: a few are paid, not found, or just being paid."""
    rare = count // 60
    return [(CLOSED, count - 4 * rare), (PAID, 2 * rare), (NOT_FOUND, rare), (OPEN, rare)]


def between(minutes, fields, share=1.0):
    """What becomes of orders while something is wrong with that share of them."""
    def become(minute, count):
        if not TEN <= minute < TEN + minutes:
            return usual(count)
        hit = round(count * share)
        return [(fields, hit), *usual(count - hit)]
    return become


def single(fields, minutes):
    """What becomes of one order, the first after ten, for that time; the others are as usual."""
    return fields, minutes


def a_day(shop, wrong, more=()):
    """The day's lines: for each minute the fields of lines, and how many there were."""
    lines = collections.defaultdict(list)
    waiting = collections.defaultdict(list)
    the_one = wrong if isinstance(wrong, tuple) else None
    become = (lambda minute, count: usual(count)) if the_one else wrong
    for minute in range(DAY):
        arrived = [(orders(shop, minute), 1)] + waiting.pop(minute, [])
        for count, receives in arrived:
            for fields, how_many in become(minute, count) if count else []:
                if not how_many:
                    continue
                lines[minute].append((at(fields, receives), how_many))
                if fields["outcome"] not in TERMINAL:
                    waiting[minute + RETRY].append((how_many, receives + 1))
        if the_one and TEN <= minute < TEN + the_one[1] and (minute - TEN) % RETRY == 0:
            lines[minute].append((at(the_one[0], (minute - TEN) // RETRY + 1), 1))
    for minute, fields in more:
        lines[minute].append((tuple(fields.items()), 1))
    return lines


def at(fields, receives):
    """The line of an attempt."""
    late = 60 * RETRY * (receives - 1)
    stuck = {"stuck": True} if receives > STUCK and fields["outcome"] not in TERMINAL else {}
    return tuple(({"message": "order", "receives": receives, "overdue_s": late, "attempts": 1} | fields | stuck).items())


def rung(template, lines):
    """Each alarm that was on, and how often each composite alarm rang."""
    made = functools.cache(lambda line: metric_filter.metrics(template, dict(line)))
    metrics = collections.defaultdict(dict)
    for minute, counted in lines.items():
        for line, how_many in counted:
            for name, values in made(line).items():
                for (*_, value) in values:
                    total, count = metrics[name].get(minute, (0, 0))
                    metrics[name][minute] = (total + value * how_many, count + how_many)
    states = alarms.states(template, metrics, DAY)
    ever = {name.removesuffix("Alarm") for name, on in states.items() if any(on)}
    calls = []
    for group in ("UrgentAlarm", "MorningAlarm"):
        is_on = functools.cache(functools.partial(alarms.composite, template, group))
        on = [is_on(frozenset(name for name, minutes in states.items() if minutes[minute])) for minute in range(DAY)]
        calls.append(sum(now and not before for before, now in zip([False, *on], on)))
    return ever, *calls


HOURS = 60
SENT_WRONGLY = {"message": "no order", "outcome": "not_sent", "level": "ERROR", "reason": "UnsupportedEvent"}
NOT_PUBLISHED = {"message": "outcome event not published", "level": "ERROR", "cause": "AccessDeniedException"}
NO_READ = {"message": "the secret could not be read", "level": "WARN", "cached": True}
USUAL = between(0, CLOSED)


@pytest.mark.parametrize(("shop", "what", "wrong", "more", "expected", "urgent", "morning"), [
    (SMALL, "nothing", USUAL, [], set(), 0, 0),
    (MIDDLE, "nothing", USUAL, [], set(), 0, 0),
    (MIDDLE, "a key is rotated in two minutes", between(2, WRONG_KEY), [], set(), 0, 0),
    (SMALL, "a key is wrong for five hours", between(5 * HOURS, WRONG_KEY), [], {"OrdersRejected", "OrdersStuck"}, 1, 0),
    (MIDDLE, "a key is wrong for five hours", between(5 * HOURS, WRONG_KEY), [], {"OrdersRejected", "OrdersStuck"}, 1, 0),
    (SMALL, "WeChat Pay is down for 20 minutes", between(20, DOWN), [], set(), 0, 0),
    (MIDDLE, "WeChat Pay is down for 20 minutes", between(20, DOWN), [], {"OrdersFailed"}, 0, 1),
    (SMALL, "WeChat Pay is down for six hours", between(6 * HOURS, DOWN), [], {"OrdersFailed", "OrdersStuck"}, 1, 1),
    (MIDDLE, "WeChat Pay is down for six hours", between(6 * HOURS, DOWN), [], {"OrdersFailed", "OrdersStuck"}, 1, 1),
    (SMALL, "orders of another merchant", between(5 * HOURS, NOT_FOUND), [], {"MostNotFound", "OrdersNotFound"}, 1, 1),
    (MIDDLE, "orders of another merchant", between(5 * HOURS, NOT_FOUND), [], {"MostNotFound", "OrdersNotFound"}, 1, 1),
    (MIDDLE, "one sub-merchant of ten is wrong", between(5 * HOURS, NOT_FOUND, 0.1), [], {"OrdersNotFound"}, 0, 1),
    (MIDDLE, "queries are not allowed", between(3 * HOURS, NO_QUERY), [],
     {"OrdersNotConfirmed", "OrdersFailed", "OrdersStuck"}, 1, 1),
    (MIDDLE, "the secret is gone for six minutes", between(6, NO_SECRET), [], {"CredentialsUnavailable"}, 1, 0),
    (MIDDLE, "one order is being paid for an hour", single(OPEN, 60), [], {"OrdersStuck"}, 1, 0),
    (MIDDLE, "one forged reply", single(FORGED, 1), [], {"RepliesNotVerified"}, 1, 0),
    (FLASH, "the rate limit is met", between(25, LIMITED, 0.3), [], set(), 0, 0),
    (FLASH, "WeChat Pay is down meanwhile", between(20, DOWN), [], {"OrdersFailed"}, 0, 1),
    (MIDDLE, "the bus takes no events for 20 minutes", USUAL, [(TEN + at, NOT_PUBLISHED) for at in range(20)],
     {"EventsNotPublished"}, 1, 0),
    (MIDDLE, "the secret can't be read anew for 20 minutes", USUAL, [(TEN + at, NO_READ) for at in range(20)],
     {"SecretNotRead"}, 0, 1),
    (SMALL, "a rule sends something else", USUAL, [(TEN + 20 * at, SENT_WRONGLY) for at in range(4)],
     {"EventsNotUnderstood"}, 0, 1),
    (SMALL, "one invalid message is redelivered", USUAL,
     [(TEN + 3 * at, SENT_WRONGLY | {"receives": at + 1}) for at in range(10)], set(), 0, 0),
], ids=lambda value: value if isinstance(value, str) else "")
def test_a_day(expanded, shop, what, wrong, more, expected, urgent, morning):
    assert rung(expanded, a_day(shop, wrong, more)) == (expected, urgent, morning)


def test_periods_slide(expanded):
    """Two minutes reach two periods of five minutes, however they lie, and never three."""
    for offset in range(5):
        def wrong(minute, count, offset=offset):
            return between(2, WRONG_KEY)(minute - offset, count)
        assert rung(expanded, a_day(MIDDLE, wrong)) == (set(), 0, 0), offset


@pytest.mark.parametrize(("on", "rings"), [
    ({"QueueStalledAlarm"}, True), ({"QueueStalledAlarm", "OrdersFailedAlarm"}, False), ({"DeadLetterAlarm"}, True),
    ({"QueueFullAlarm"}, True), ({"FunctionErrorsAlarm"}, True), ({"InvalidOrdersAlarm"}, False)])
def test_what_is_urgent(expanded, on, rings):
    assert alarms.composite(expanded, "UrgentAlarm", on) is rings
