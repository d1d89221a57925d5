//! Office hours as a policy writes them: days of the week, times of the day, a fixed offset from UTC. It knows no
//! time zones, whose rules change behind a policy's back, and reads no clock.

use alloc::string::String;
use core::fmt;

const DAY: u64 = 86_400;
const MINUTES_OF_DAY: u32 = 1_440;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// When somebody is there, e.g. `mon-fri 09:00-17:00 +01:00`: from the first minute on, until before the last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hours {
    text: String,
    days: [bool; 7],
    /// Minutes of the local day.
    from: u32,
    to: u32,
    /// Minutes that local time is ahead of UTC.
    offset: i64,
}

impl Hours {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        read(text).ok_or(
            "hours are written like \"mon-fri 09:00-17:00 +01:00\": days (mon-fri or mon,wed), from-to within one day \
             (at most 24:00), and the offset from UTC",
        )
    }

    /// Whether it is open at this time.
    #[must_use]
    pub fn is_open(&self, unix: u64) -> bool {
        let local = self.local(unix);
        let minute = local.rem_euclid(i64::try_from(DAY).unwrap_or(1)).div_euclid(60);
        let open = i64::from(self.from)..i64::from(self.to);
        self.is_day(local) && open.contains(&minute)
    }

    /// The first time it is open, from this time on.
    #[must_use]
    pub fn opens(&self, unix: u64) -> u64 {
        if self.is_open(unix) {
            return unix;
        }
        let day = i64::try_from(DAY).unwrap_or(1);
        let today = self.local(unix).div_euclid(day);
        let opening = |ahead: i64| {
            let begin = today.saturating_add(ahead).saturating_mul(day);
            let local = begin.saturating_add(i64::from(self.from).saturating_mul(60));
            let utc = local.saturating_sub(self.offset.saturating_mul(60));
            u64::try_from(utc).ok().filter(|utc| *utc > unix && self.is_day(local))
        };
        (0..=7).find_map(opening).unwrap_or(u64::MAX)
    }

    fn local(&self, unix: u64) -> i64 {
        let unix = i64::try_from(unix).unwrap_or(i64::MAX);
        unix.saturating_add(self.offset.saturating_mul(60))
    }

    /// Day 0 of Unix time was a Thursday.
    fn is_day(&self, local: i64) -> bool {
        let day = local.div_euclid(i64::try_from(DAY).unwrap_or(1)).saturating_add(3).rem_euclid(7);
        usize::try_from(day).ok().and_then(|day| self.days.get(day)).copied().unwrap_or(false)
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn read(text: &str) -> Option<Hours> {
    let mut parts = text.split(' ');
    let (days, times, offset) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (from, to) = times.split_once('-')?;
    let (from, to) = (minutes(from)?, minutes(to)?);
    let (sign, offset) = match offset.strip_prefix('+') {
        Some(ahead) => (1, ahead),
        None => (-1, offset.strip_prefix('-')?),
    };
    let offset = minutes(offset).filter(|minutes| *minutes <= 14 * 60)?;
    let hours = Hours {
        text: text.into(),
        days: read_days(days)?,
        from,
        to,
        offset: i64::from(offset).saturating_mul(sign),
    };
    (from < to && to <= MINUTES_OF_DAY).then_some(hours)
}

fn read_days(text: &str) -> Option<[bool; 7]> {
    let number = |day: &str| DAYS.iter().position(|known| *known == day);
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || (first == last && part.contains('-')) {
            return None;
        }
        for (day, open) in days.iter_mut().enumerate().skip(first) {
            if day <= last && core::mem::replace(open, true) {
                return None;
            }
        }
    }
    Some(days)
}

/// `HH:MM`, up to 24:00.
fn minutes(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        if digits { text.parse::<u32>().ok() } else { None }
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    let all = hours.checked_mul(60)?.checked_add(minutes)?;
    (minutes < 60 && all <= MINUTES_OF_DAY).then_some(all)
}
