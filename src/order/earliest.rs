//! The earliest time at which an order may be closed: the later of the caller's own `close_at` and five minutes after its
//! creation, which WeChat Pay asks for.

use std::time::{Duration, SystemTime};

use time::{Date, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset, format_description::well_known::Rfc3339};

use super::Problem;

/// "订单生成后不能马上调用关单接口,最短调用时间间隔为5分钟": an earlier close can return SUCCESS and not stick.
const MIN_AGE: Duration = Duration::from_mins(5);

/// How far in the future a creation may be: clocks differ by less, and time zones by more.
const MAX_CREATED_AHEAD: Duration = Duration::from_mins(10);

/// How far ahead `close_at` may be: a day, and what clocks may differ by.
const MAX_CLOSE_AHEAD: Duration = Duration::from_mins(24 * 60 + 5);

/// A time so little ahead has come: clocks differ.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// `time_start`: when the order was created, `yyyyMMddHHmmss` in Beijing time (UTC+8), as in unifiedorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeStart(SystemTime);

impl TimeStart {
    /// The field's name on the wire of unifiedorder, and in the event.
    pub(crate) const NAME: &'static str = "time_start";

    const IN_THE_FUTURE: Problem = Problem::new("晚于当前时间,应为北京时间", "is in the future; expected Beijing time");

    /// Takes a date that is in the calendar.
    ///
    /// # Errors
    /// [`Problem`] has the rule when it isn't one.
    pub fn parse(value: &str) -> Result<Self, Problem> {
        beijing_time(value).map(Self).ok_or(Problem::new(
            "须为yyyyMMddHHmmss格式的北京时间",
            "must be a date in the form yyyyMMddHHmmss, Beijing time",
        ))
    }
}

/// `close_at`: when to close the order, at the earliest; RFC 3339 with an offset, since a local time without one would be
/// eight hours early from a server in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseAt(SystemTime);

impl CloseAt {
    /// The field's name in the event.
    pub(crate) const NAME: &'static str = "close_at";

    const TOO_FAR_AHEAD: Problem = Problem::new("最多可晚于当前时间24小时", "must be at most 24 hours ahead");

    const BEFORE_TIME_START: Problem = Problem::new("不能早于 time_start", "must not be before time_start");

    /// Takes a time of RFC 3339, with or without a fraction of a second.
    ///
    /// # Errors
    /// [`Problem`] has the rule when it isn't one.
    pub fn parse(value: &str) -> Result<Self, Problem> {
        rfc3339(value).map(Self).ok_or(Problem::new(
            "须为带时区的RFC 3339时间,如2026-11-28T12:30:00+08:00",
            "must be an RFC 3339 time with an offset, such as 2026-11-28T12:30:00+08:00",
        ))
    }

    /// # Errors
    /// [`Problem`] when the order is to be closed before it was created.
    pub(super) fn check_against(self, time_start: Option<TimeStart>) -> Result<Self, Problem> {
        match time_start {
            Some(TimeStart(created)) if self.0 < created => Err(Self::BEFORE_TIME_START),
            _ => Ok(self),
        }
    }
}

/// What an order waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// For being five minutes old.
    Age,
    /// For its `close_at`.
    CloseAt,
}

/// An order's earliest time that has not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What the order waits for.
    pub wait_for: WaitFor,
    /// The earliest time.
    until: SystemTime,
    /// What is left until then.
    left: Duration,
}

impl Wait {
    /// Whole seconds that are left, rounded up.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.left.as_secs() + u64::from(self.left.subsec_nanos() > 0)
    }

    /// The earliest time as RFC 3339 in UTC, in whole seconds, rounded up.
    #[must_use]
    pub fn until(self) -> String {
        let until = OffsetDateTime::from(self.until);
        let until = if until.nanosecond() == 0 { until } else { until + time::Duration::SECOND };
        let (date, time) = (until.date(), until.time());
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            time.hour(),
            time.minute(),
            time.second()
        )
    }
}

/// The earliest time of an order, whether or not it has come.
pub(super) fn earliest(time_start: Option<TimeStart>, close_at: Option<CloseAt>) -> Option<(SystemTime, WaitFor)> {
    let of_age = time_start.map(|TimeStart(created)| (created + MIN_AGE, WaitFor::Age));
    let asked = close_at.map(|CloseAt(time)| (time, WaitFor::CloseAt));
    of_age.into_iter().chain(asked).max_by_key(|(time, _)| *time)
}

/// What is left until an order's earliest time, if that has not come.
///
/// # Errors
/// The field that is too far ahead.
pub(super) fn wait(
    time_start: Option<TimeStart>,
    close_at: Option<CloseAt>,
    now: SystemTime,
) -> Result<Option<Wait>, (&'static str, Problem)> {
    let ahead = |time: SystemTime| time.duration_since(now).unwrap_or_default();
    if time_start.is_some_and(|TimeStart(created)| ahead(created) > MAX_CREATED_AHEAD) {
        return Err((TimeStart::NAME, TimeStart::IN_THE_FUTURE));
    }
    if close_at.is_some_and(|CloseAt(time)| ahead(time) > MAX_CLOSE_AHEAD) {
        return Err((CloseAt::NAME, CloseAt::TOO_FAR_AHEAD));
    }
    let wait = earliest(time_start, close_at).map(|(until, wait_for)| Wait { wait_for, until, left: ahead(until) });
    Ok(wait.filter(|wait| wait.left > CLOCK_TOLERANCE))
}

fn beijing_time(value: &str) -> Option<SystemTime> {
    if value.len() != 14 || !value.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| value.get(range)?.parse::<u8>().ok();
    let year = value.get(0..4)?.parse().ok()?;
    let date = Date::from_calendar_date(year, number(4..6)?.try_into().ok()?, number(6..8)?).ok()?;
    let time = Time::from_hms(number(8..10)?, number(10..12)?, number(12..14)?).ok()?;
    let beijing = UtcOffset::from_hms(8, 0, 0).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_offset(beijing).into())
}

fn rfc3339(value: &str) -> Option<SystemTime> {
    // The library takes any character between date and time.
    let has_its_separator = value.as_bytes().get(10).is_some_and(|separator| separator.eq_ignore_ascii_case(&b'T'));
    has_its_separator.then(|| OffsetDateTime::parse(value, &Rfc3339).ok())?.map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(unix_seconds)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn time_start_is_beijing_time() {
        // date -d '2026-11-23T08:00:00+08:00' +%s
        assert_eq!(TimeStart::parse("20261123080000"), Ok(TimeStart(at(1_795_392_000))));
    }

    #[test]
    fn what_is_not_in_the_calendar_is_no_date() {
        for wrong in [
            "",
            "2026112308000",
            "202611230800000",
            "2026-11-23T08:00",
            "20261323080000",
            "20260229080000",
            "20261123240000",
            "20261123086000",
            "20261123080060",
            "+2261123080000",
            "２０２６１１２３",
        ] {
            assert!(TimeStart::parse(wrong).is_err(), "{wrong}");
        }
        assert!(TimeStart::parse("20280229235959").is_ok(), "a leap day");
    }

    #[test]
    fn close_at_is_rfc_3339_with_an_offset() {
        let half = Duration::from_millis(500);
        for (value, expected) in [
            ("2026-11-23T08:00:00+08:00", at(1_795_392_000)),
            ("2026-11-23T00:00:00Z", at(1_795_392_000)),
            ("2026-11-22T19:00:00-05:00", at(1_795_392_000)),
            ("2026-11-23T00:00:00.000Z", at(1_795_392_000)),
            ("2026-11-23T08:00:00.5+08:00", at(1_795_392_000) + half),
            ("2026-11-23T00:00:00.500000000Z", at(1_795_392_000) + half),
            ("2026-11-23t00:00:00z", at(1_795_392_000)),
        ] {
            assert_eq!(CloseAt::parse(value), Ok(CloseAt(expected)), "{value}");
        }
        for wrong in [
            "",
            "2026-11-23",
            "2026-11-23T08:00:00",
            "2026-11-23 08:00:00+08:00",
            "2026-11-23_08:00:00+08:00",
            "2026-11-23T08:00+08:00",
            "2026-11-23T08:00:00+0800",
            "2026-11-23T08:00:00+08",
            "2026-11-23T08:00:00.+08:00",
            "2026-11-23T08:00:00+08:00 ",
            " 2026-11-23T08:00:00+08:00",
            "2026-02-29T08:00:00+08:00",
            "2026-11-23T24:00:00+08:00",
            "20261123T080000Z",
            "20261123080000",
            "1795392000",
            "tomorrow",
        ] {
            assert!(CloseAt::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_order_waits_until_the_later_of_close_at_and_five_minutes_after_its_creation() {
        let now = at(1_000_000);
        for (time_start, close_at, expected) in [
            (None, None, None),
            (Some(1_000_000), None, Some((WaitFor::Age, 300))),
            (Some(1_000_600), None, Some((WaitFor::Age, 900))),
            (Some(999_706), None, Some((WaitFor::Age, 6))),
            (Some(999_705), None, None),
            (Some(999_700), None, None),
            (Some(1), None, None),
            (None, Some(1_000_006), Some((WaitFor::CloseAt, 6))),
            (None, Some(1_000_005), None),
            (None, Some(1), None),
            (None, Some(1_086_700), Some((WaitFor::CloseAt, 86_700))),
            (Some(999_900), Some(1_000_100), Some((WaitFor::Age, 200))),
            (Some(999_900), Some(1_000_300), Some((WaitFor::CloseAt, 300))),
            (Some(999_000), Some(1_000_300), Some((WaitFor::CloseAt, 300))),
            (Some(999_900), Some(999_900), Some((WaitFor::Age, 200))),
            (Some(999_000), Some(999_900), None),
        ] {
            let time_start = time_start.map(|created| TimeStart(at(created)));
            let close_at = close_at.map(|time| CloseAt(at(time)));
            let wait = wait(time_start, close_at, now).unwrap();
            assert_eq!(wait.map(|wait| (wait.wait_for, wait.seconds())), expected, "{time_start:?} {close_at:?}");
        }
    }

    #[test]
    fn a_time_that_is_too_far_ahead_is_invalid_and_waiting_would_not_help() {
        let now = at(1_000_000);
        let created = |ahead| wait(Some(TimeStart(now + ahead)), None, now);
        assert!(created(seconds(600)).is_ok());
        assert_eq!(created(seconds(601)), Err((TimeStart::NAME, TimeStart::IN_THE_FUTURE)));
        let asked = |ahead| wait(None, Some(CloseAt(now + ahead)), now);
        assert!(asked(seconds(86_700)).is_ok());
        assert_eq!(asked(seconds(86_701)), Err((CloseAt::NAME, CloseAt::TOO_FAR_AHEAD)));
    }

    #[test]
    fn an_order_is_not_closed_before_it_was_created() {
        let close_at = |time| CloseAt(at(time)).check_against(Some(TimeStart(at(100))));
        assert_eq!(close_at(99), Err(CloseAt::BEFORE_TIME_START));
        assert_eq!(close_at(100), Ok(CloseAt(at(100))));
        assert_eq!(CloseAt(at(1)).check_against(None), Ok(CloseAt(at(1))));
    }

    #[test]
    fn what_is_left_is_rounded_up_to_whole_seconds() {
        let now = at(1_795_392_000);
        let wait = wait(None, Some(CloseAt(now + Duration::from_millis(6001))), now).unwrap().unwrap();
        assert_eq!((wait.seconds(), wait.until().as_str()), (7, "2026-11-23T00:00:07Z"));
        let wait = Wait { until: at(1_795_392_000), left: seconds(6), wait_for: WaitFor::Age };
        assert_eq!((wait.seconds(), wait.until().as_str()), (6, "2026-11-23T00:00:00Z"));
    }
}
