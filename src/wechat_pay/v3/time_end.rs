//! `success_time` as API v2 writes it.

use time::{Date, PrimitiveDateTime, Time, UtcOffset};

/// RFC 3339 (`2018-06-08T10:34:56+08:00`) → `yyyyMMddHHmmss` in Beijing time, without fractions of a second.
pub(super) fn from_rfc_3339(text: &str) -> Option<String> {
    let (date, time) = text.split_once(['T', 't'])?;
    let (time, offset) = time.split_at_checked(time.find(['Z', 'z', '+', '-'])?)?;
    let time = match time.split_once('.') {
        Some((time, fraction)) => Some(time).filter(|_| number::<u64>(fraction).is_some())?,
        None => time,
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let date = Date::from_calendar_date(year.into(), narrow(month)?.try_into().ok()?, narrow(day)?).ok()?;
    let time = Time::from_hms(narrow(hour)?, narrow(minute)?, narrow(second)?).ok()?;
    let moment = PrimitiveDateTime::new(date, time).assume_offset(parse_offset(offset)?);
    let beijing = moment.checked_to_offset(UtcOffset::from_hms(8, 0, 0).ok()?)?;
    let ((year, month, day), (hour, minute, second)) = (beijing.to_calendar_date(), beijing.to_hms());
    let month = u8::from(month);
    (0..=9999).contains(&year).then(|| format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}"))
}

fn parse_offset(offset: &str) -> Option<UtcOffset> {
    if matches!(offset, "Z" | "z") {
        return Some(UtcOffset::UTC);
    }
    let (sign, offset) = offset.split_at_checked(1)?;
    let [hours, minutes] = numbers(offset, ':', [2, 2])?;
    let sign = if sign == "-" { -1 } else { 1 };
    let part = |number: u16| i8::try_from(number).ok().map(|number| sign * number);
    UtcOffset::from_hms(part(hours)?, part(minutes)?, 0).ok()
}

/// Numbers of so many digits each.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[u16; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (found, digits) in numbers.iter_mut().zip(digits) {
        *found = number(parts.next().filter(|part| part.len() == digits)?)?;
    }
    parts.next().is_none().then_some(numbers)
}

fn number<T: std::str::FromStr>(digits: &str) -> Option<T> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn narrow(number: u16) -> Option<u8> {
    number.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_in_beijing_time() {
        for (success_time, expected) in [
            ("2018-06-08T10:34:56+08:00", Some("20180608103456")),
            ("2018-06-08T02:34:56Z", Some("20180608103456")),
            ("2018-06-08T02:34:56.789Z", Some("20180608103456")),
            ("2026-12-31T23:00:00-01:30", Some("20270101083000")),
            ("2028-02-29T23:59:59+08:00", Some("20280229235959")),
            ("2018-06-08 10:34:56+08:00", None),
            ("2018-06-08T10:34:56", None),
            ("2018-06-08T10:34+08:00", None),
            ("2018-13-08T10:34:56+08:00", None),
            ("2026-02-29T10:34:56+08:00", None),
            ("2018-06-08T24:34:56+08:00", None),
            ("2018-06-08T10:34:56+8", None),
            ("2018-06-08T10:34:56+99:00", None),
            ("2018-06-08T10:34:56.x+08:00", None),
            ("2018-06-08T10:34:56.+08:00", None),
            ("9999-12-31T23:59:59-08:00", None),
            ("20180608103456", None),
            ("+018-06-08T10:34:56+08:00", None),
            ("", None),
            ("T", None),
        ] {
            assert_eq!(from_rfc_3339(success_time).as_deref(), expected, "{success_time}");
        }
    }
}
