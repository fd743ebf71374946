//! How old an order is: WeChat Pay asks for five minutes between an order's creation and its close.

use std::time::{Duration, SystemTime};

use time::{Date, PrimitiveDateTime, Time, UtcOffset};

use super::Problem;

/// "订单生成后不能马上调用关单接口,最短调用时间间隔为5分钟": an earlier close can return SUCCESS and not stick.
const MIN_AGE: Duration = Duration::from_mins(5);

/// How far in the future a creation may be: more than any time zone's mistake, less than a typing error in the date.
const MAX_AHEAD: Duration = Duration::from_hours(24);

/// `time_start`: when the order was created, `yyyyMMddHHmmss` in Beijing time (UTC+8), as in unifiedorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeStart(SystemTime);

impl TimeStart {
    /// The field's name on the wire of unifiedorder, and in the event.
    pub const NAME: &'static str = "time_start";

    /// Takes a date that is in the calendar.
    ///
    /// # Errors
    /// [`Problem`] has the rule when it isn't one.
    pub fn parse(value: &str) -> Result<Self, Problem> {
        moment(value).map(Self).ok_or(Problem {
            zh: "须为yyyyMMddHHmmss格式的北京时间",
            en: "must be a date in the form yyyyMMddHHmmss, Beijing time",
        })
    }

    /// The order's age at `now`.
    #[must_use]
    pub fn age(self, now: SystemTime) -> Age {
        match self.0.duration_since(now) {
            Ok(ahead) if ahead > MAX_AHEAD => Age::FarFuture,
            _ => match (self.0 + MIN_AGE).duration_since(now) {
                Ok(wait) if !wait.is_zero() => Age::TooYoung(wait),
                _ => Age::OldEnough,
            },
        }
    }
}

/// Whether an order is old enough to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It was created five minutes ago or earlier.
    OldEnough,
    /// It was created less than five minutes ago, or in the future as a clock that is wrong has it; the time until it is
    /// old enough.
    TooYoung(Duration),
    /// It was created more than 24 hours in the future: no clock is that wrong.
    FarFuture,
}

fn moment(value: &str) -> Option<SystemTime> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(unix_seconds)
    }

    #[test]
    fn it_is_beijing_time() {
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
    fn an_order_is_too_young_until_it_is_five_minutes_old() {
        let created = TimeStart(at(1_000_000));
        let young = |seconds| Age::TooYoung(Duration::from_secs(seconds));
        for (now, expected) in [
            (1_000_000, young(300)),
            (1_000_299, young(1)),
            (1_000_300, Age::OldEnough),
            (2_000_000, Age::OldEnough),
            (999_900, young(400)),
            (1_000_000 - 86_400, young(86_700)),
            (1_000_000 - 86_401, Age::FarFuture),
        ] {
            assert_eq!(created.age(at(now)), expected, "{now}");
        }
        let just = at(1_000_300) - Duration::from_millis(1);
        assert_eq!(created.age(just), Age::TooYoung(Duration::from_millis(1)));
    }
}
