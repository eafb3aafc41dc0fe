//! Dates of header fields (RFC 5322 section 3.3).

use jiff::{Timestamp, Zoned, tz::TimeZone};

/// The date-time of RFC 5322 in the machine's time zone: `Sat, 21 Nov 2026 16:35:25 +0100`.
pub fn format(at: Timestamp) -> String {
    let zoned = Zoned::new(at, TimeZone::system());
    zoned.strftime("%a, %d %b %Y %H:%M:%S %z").to_string()
}

/// Whether a Date field's value is a date that receivers understand. Comments and surplus
/// blanks are ignored without recursion.
pub fn is_valid(value: &str) -> bool {
    if value.len() > 200 {
        return false;
    }
    let mut depth = 0u32;
    let mut plain = String::new();
    for c in value.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    let plain = plain.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let (weekday, rest) = match plain.split_once(',') {
        Some((weekday, rest)) => (Some(weekday.trim()), rest.trim()),
        None => (None, plain.as_str()),
    };
    let known = |names: &[&str], word: &str| names.iter().any(|n| n.eq_ignore_ascii_case(word));
    if weekday.is_some_and(|w| !known(&["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"], w)) {
        return false;
    }
    let words: Vec<&str> = rest.split(' ').collect();
    let [day, month, year, time, zone] = words.as_slice() else {
        return false;
    };
    let number = |text: &str, from: u32, to: u32| {
        !text.is_empty()
            && text.len() <= 4
            && text.bytes().all(|b| b.is_ascii_digit())
            && text.parse().is_ok_and(|n: u32| (from..=to).contains(&n))
    };
    let mut clock = time.split(':');
    let clock_valid = clock.next().is_some_and(|h| number(h, 0, 23))
        && clock.next().is_some_and(|m| number(m, 0, 59))
        && clock.next().is_none_or(|s| number(s, 0, 60))
        && clock.next().is_none();
    let zone_valid = match zone.strip_prefix(['+', '-']) {
        Some(digits) => digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()),
        None => known(
            &[
                "UT", "GMT", "EST", "EDT", "CST", "CDT", "MST", "MDT", "PST", "PDT", "Z",
            ],
            zone,
        ),
    };
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    number(day, 1, 31)
        && known(&months, month)
        && number(year, 0, 9999)
        && clock_valid
        && zone_valid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_or_not() {
        for date in [
            "Sat, 21 Nov 2026 16:35:25 +0100",
            "21 Nov 2026 16:35 GMT",
            "Fri, 11 Jul 2003 21:00:37 -0700 (PDT)",
            " Sat,  1 Nov 26 1:02:03 +0000",
        ] {
            assert!(is_valid(date), "{date}");
        }
        let comments = format!("{}Sat, 21 Nov 2026 16:35:25 +0100", "(".repeat(10_000));
        for date in [
            "",
            "21.11.2026 16:35",
            "Sat, 21 Nov 9999999 16:35:25 +0100",
            "Sat, 32 Nov 2026 16:35:25 +0100",
            "Sa, 21 Nov 2026 16:35:25 +0100",
            "Sat, 21 Okt 2026 16:35:25 +0100",
            &comments,
        ] {
            assert!(!is_valid(date), "{date:.40}");
        }
        assert!(is_valid(&super::format(Timestamp::now())));
    }
}
