//! A figure over a day, as a line.

/// Points that a line has: what is more is summed up.
const POINTS: usize = 144;
/// How high it is.
const HEIGHT: f64 = 24.0;

/// It, drawn by the server.
pub(super) struct Line {
    /// As `polyline` takes them.
    pub(super) points: String,
    /// The same in words, for who hovers or listens.
    pub(super) title: String,
}

impl Line {
    /// Of steps in order; the last is not over. `what`: what was counted, of so many.
    pub(super) fn of(values: &[u64], what: impl Fn(u64) -> String) -> Line {
        let each = values.len().div_ceil(POINTS).max(1);
        let sums: Vec<u64> =
            values.chunks(each).map(|some| some.iter().copied().fold(0, u64::saturating_add)).collect();
        let most = sums.iter().copied().max().unwrap_or_default();
        let place = |(n, value): (usize, &u64)| {
            let share = if most == 0 { 0.0 } else { *value as f64 / most as f64 };
            format!("{n},{:.1}", HEIGHT - 1.0 - share * (HEIGHT - 2.0))
        };
        let points: Vec<String> = sums.iter().enumerate().map(place).collect();
        let (sum, minutes) = (values.iter().copied().fold(0, u64::saturating_add), each);
        let title = format!("{} in 24 hours; at most {} in {minutes} minutes", what(sum), what(most));
        Line { points: points.join(" "), title }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_line() {
        let count = |count: u64| format!("{count} pulls");
        let mut day = vec![0; 1440];
        (day[0], day[9], day[1439]) = (3, 1, 2);
        let line = Line::of(&day, count);
        let points: Vec<&str> = line.points.split(' ').collect();
        assert_eq!((points.len(), points[0], points[1], points[143]), (144, "0,1.0", "1,23.0", "143,12.0"));
        assert_eq!(line.title, "6 pulls in 24 hours; at most 4 pulls in 10 minutes");
        assert_eq!(Line::of(&[], count).points, "");
        assert!(Line::of(&[u64::MAX; 1440], count).points.starts_with("0,1.0 1,1.0"));
    }
}
