//! `strftime_now(format)`: today's date for the templates that print one, in the C locale.
//! The time is handed in with each render, so that a render can be repeated and tests can pin the date.
//! Time zones are not its business: the caller passes local time, broken into seconds since the epoch as if UTC.

use crate::error::python_error;
use minijinja::Error;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
];

/// A calendar date and time of day.
struct Civil {
    year: i64,
    month: u32,
    day: u32,
    weekday: usize,
    day_of_year: u32,
    hour: u32,
    minute: u32,
    second: u32,
}

impl Civil {
    /// Proleptic Gregorian calendar from days since 1970-01-01, counted in 400-year eras that start on 1 March.
    fn from_epoch(seconds: i64) -> Civil {
        let days = seconds.div_euclid(86400);
        let time = seconds.rem_euclid(86400) as u32;
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Civil {
            year,
            month,
            day,
            weekday: (days + 4).rem_euclid(7) as usize,
            day_of_year: ordinal(year, month, day),
            hour: time / 3600,
            minute: time / 60 % 60,
            second: time % 60,
        }
    }
}

fn ordinal(year: i64, month: u32, day: u32) -> u32 {
    const BEFORE: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    BEFORE[month as usize - 1] + day + u32::from(leap && month > 2)
}

/// Formats `seconds` as Python's datetime.strftime does; a directive it does not know is an error that names it.
pub fn strftime(seconds: i64, format: &str) -> Result<String, Error> {
    let time = Civil::from_epoch(seconds);
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let unpadded = chars.next_if_eq(&'-').is_some();
        let directive = chars.next().unwrap_or('%');
        let text = directive_text(&time, directive)?;
        out.push_str(if unpadded { strip_zeros(&text) } else { &text });
    }
    Ok(out)
}

fn strip_zeros(text: &str) -> &str {
    let stripped = text.trim_start_matches('0');
    if stripped.is_empty() { "0" } else { stripped }
}

fn directive_text(time: &Civil, directive: char) -> Result<String, Error> {
    let hour12 = (time.hour + 11) % 12 + 1;
    let month = MONTHS[time.month as usize - 1];
    Ok(match directive {
        'Y' => time.year.to_string(),
        'y' => format!("{:02}", time.year.rem_euclid(100)),
        'm' => format!("{:02}", time.month),
        'd' => format!("{:02}", time.day),
        'e' => format!("{:2}", time.day),
        'B' => month.to_string(),
        'b' | 'h' => month[..3].to_string(),
        'A' => DAYS[time.weekday].to_string(),
        'a' => DAYS[time.weekday][..3].to_string(),
        'w' => time.weekday.to_string(),
        'u' => (if time.weekday == 0 { 7 } else { time.weekday }).to_string(),
        'j' => format!("{:03}", time.day_of_year),
        'H' => format!("{:02}", time.hour),
        'I' => format!("{hour12:02}"),
        'M' => format!("{:02}", time.minute),
        'S' => format!("{:02}", time.second),
        'p' => if time.hour < 12 { "AM" } else { "PM" }.to_string(),
        'f' => "000000".to_string(),
        'z' | 'Z' => String::new(),
        'n' => "\n".to_string(),
        't' => "\t".to_string(),
        'F' => format!("{}-{:02}-{:02}", time.year, time.month, time.day),
        'T' | 'X' => format!("{:02}:{:02}:{:02}", time.hour, time.minute, time.second),
        'R' => format!("{:02}:{:02}", time.hour, time.minute),
        'D' | 'x' => format!("{:02}/{:02}/{:02}", time.month, time.day, time.year.rem_euclid(100)),
        '%' => "%".to_string(),
        other => return Err(python_error("ValueError", format!("strftime_now: unknown directive %{other}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn dates_match_the_calendar() {
        let cases = [
            (0, "%Y-%m-%d %A %j", "1970-01-01 Thursday 001"),
            (951_782_400, "%d %b %Y %a", "29 Feb 2000 Tue"),
            (1_795_392_000, "%B %d, %Y", "November 23, 2026"),
            (-1, "%Y-%m-%d %H:%M:%S", "1969-12-31 23:59:59"),
            (1_735_689_599, "%-d %j %I:%M %p", "31 366 11:59 PM"),
        ];
        for (seconds, format, expected) in cases {
            assert_eq!(strftime(seconds, format).unwrap(), expected);
        }
        assert!(strftime(0, "%Q").is_err());
    }
}
