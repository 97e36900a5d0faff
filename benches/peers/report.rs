//! What was measured, as medians and as ratios against nginx: lines while it runs, then Markdown
//! and JSON.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

const GIB: f64 = (1_u64 << 30) as f64;

/// What the CPU is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Unit {
    Gib,
    Request,
}

/// One run of one case at one server.
pub(crate) struct Sample {
    /// Of the server's processes.
    pub(crate) cpu: Duration,
    pub(crate) bytes: u64,
    pub(crate) requests: u64,
    pub(crate) wall: Duration,
    /// µs, in order.
    pub(crate) latencies: Vec<u64>,
    /// Protocol and cipher, as the client saw them.
    pub(crate) cipher: String,
}

impl Sample {
    fn cost(&self, unit: Unit) -> f64 {
        match unit {
            Unit::Gib => self.cpu.as_secs_f64() / (self.bytes as f64 / GIB),
            Unit::Request => self.cpu.as_secs_f64() * 1e6 / self.requests as f64,
        }
    }

    fn rate(&self, unit: Unit) -> f64 {
        match unit {
            Unit::Gib => self.bytes as f64 / f64::from(1 << 20) / self.wall.as_secs_f64(),
            Unit::Request => self.requests as f64 / self.wall.as_secs_f64(),
        }
    }

    fn percentile(&self, percent: usize) -> f64 {
        let at = (self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).map_or(0.0, |us| *us as f64 / 1000.0)
    }
}

/// One server in one case: all its runs.
struct Series {
    server: &'static str,
    samples: Vec<Sample>,
}

struct Case {
    section: &'static str,
    name: String,
    unit: Unit,
    all: Vec<Series>,
}

/// A single figure, of what has no samples: seconds, MiB, counts.
#[derive(Serialize, Deserialize)]
struct Fact {
    section: String,
    case: String,
    server: String,
    /// One of each round.
    values: Vec<f64>,
    unit: String,
}

/// Everything measured so far.
#[derive(Default)]
pub(crate) struct Report {
    cases: Vec<Case>,
    facts: Vec<Fact>,
    skipped: Vec<String>,
}

/// Medians of one server in one case.
#[derive(Serialize)]
struct Row<'a> {
    section: &'a str,
    case: &'a str,
    server: &'a str,
    runs: usize,
    /// CPU s per GiB, or CPU µs per request.
    cpu: f64,
    cpu_per: Unit,
    /// Median over the rounds of this one's CPU / nginx's of the same round.
    cpu_ratio: Option<f64>,
    /// MiB/s, or requests/s.
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    cipher: &'a str,
}

impl Report {
    pub(crate) fn add(&mut self, section: &'static str, case: &str, server: &'static str, unit: Unit, sample: Sample) {
        let at = self.cases.iter().position(|known| known.section == section && known.name == case);
        let at = at.unwrap_or_else(|| {
            self.cases.push(Case { section, name: case.to_owned(), unit, all: Vec::new() });
            self.cases.len() - 1
        });
        let all = &mut self.cases[at].all;
        match all.iter_mut().find(|series| series.server == server) {
            Some(series) => series.samples.push(sample),
            None => all.push(Series { server, samples: vec![sample] }),
        }
    }

    /// One more value of a figure.
    pub(crate) fn fact(&mut self, section: &str, case: &str, server: &str, unit: &str, value: f64) {
        let known = |fact: &&mut Fact| fact.section == section && fact.case == case && fact.server == server;
        if let Some(fact) = self.facts.iter_mut().find(known) {
            return fact.values.push(value);
        }
        let [section, case, server, unit] = [section, case, server, unit].map(ToOwned::to_owned);
        self.facts.push(Fact { section, case, server, values: vec![value], unit });
    }

    /// All figures, for another process.
    pub(crate) fn facts(&self) -> Result<String> {
        Ok(serde_json::to_string(&self.facts)?)
    }

    /// Those of another process.
    pub(crate) fn take_facts(&mut self, json: &str) -> Result<()> {
        self.facts.append(&mut serde_json::from_str(json)?);
        Ok(())
    }

    /// Medians so far of the figures whose name begins so.
    pub(crate) fn tell_facts(&self, section: &str, name: &str) {
        let start = format!("{name}: ");
        let told: Vec<&Fact> =
            self.facts.iter().filter(|fact| fact.section == section && fact.case.starts_with(&start)).collect();
        println!("{}", fact_table(&told));
    }

    /// Said at once, and again at the end.
    pub(crate) fn skip(&mut self, what: &str) {
        if self.skipped.iter().any(|known| known == what) {
            return;
        }
        println!("skipped: {what}");
        self.skipped.push(what.to_owned());
    }

    /// One case's medians, as a line.
    pub(crate) fn tell(&self, section: &str, name: &str) {
        for case in self.cases.iter().filter(|case| case.section == section && case.name == name) {
            println!("{name}: {}", case.all.iter().map(|series| brief(case, series)).collect::<Vec<_>>().join(" · "));
        }
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let of = |case| move |series| row(case, series);
        self.cases.iter().flat_map(|case| case.all.iter().map(of(case))).collect()
    }

    pub(crate) fn json(&self, machine: &Machine) -> serde_json::Value {
        serde_json::json!({ "machine": machine, "rows": self.rows(), "facts": self.facts, "skipped": self.skipped })
    }

    pub(crate) fn markdown(&self, machine: &Machine) -> String {
        let mut text = format!("# seawall and its peers\n\n{}\n", machine.markdown());
        for (section, title) in crate::SECTIONS {
            let cases: Vec<&Case> = self.cases.iter().filter(|case| case.section == section).collect();
            let facts: Vec<&Fact> = self.facts.iter().filter(|fact| fact.section == section).collect();
            if cases.is_empty() && facts.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\n## {title}\n");
            if !cases.is_empty() {
                text.push_str(&table(
                    "server CPU, median; × is against nginx, median of the rounds",
                    &cases,
                    cost_cell,
                ));
                text.push_str(&table("throughput: MiB/s, or requests/s; p50 / p99 in ms", &cases, speed_cell));
            }
            text.push_str(&fact_table(&facts));
        }
        for what in &self.skipped {
            let _ = writeln!(text, "\nSkipped: {what}");
        }
        text
    }
}

fn row<'a>(case: &'a Case, series: &'a Series) -> Row<'a> {
    let of = |figure: &dyn Fn(&Sample) -> f64| median(series.samples.iter().map(figure).collect());
    Row {
        section: case.section,
        case: &case.name,
        server: series.server,
        runs: series.samples.len(),
        cpu: of(&|sample| sample.cost(case.unit)),
        cpu_per: case.unit,
        cpu_ratio: ratio(case, series),
        rate: of(&|sample| sample.rate(case.unit)),
        p50_ms: of(&|sample| sample.percentile(50)),
        p99_ms: of(&|sample| sample.percentile(99)),
        cipher: series.samples.first().map_or("", |sample| &sample.cipher),
    }
}

fn ratio(case: &Case, series: &Series) -> Option<f64> {
    let nginx = case.all.iter().find(|other| other.server == "nginx")?;
    let both = series.samples.iter().zip(&nginx.samples);
    Some(median(both.map(|(own, its)| own.cost(case.unit) / its.cost(case.unit)).collect()))
}

fn brief(case: &Case, series: &Series) -> String {
    let row = row(case, series);
    format!("{} {} p99 {:.1} ms", row.server, cost_cell(&row), row.p99_ms)
}

fn cost_cell(row: &Row<'_>) -> String {
    let cost = match row.cpu_per {
        Unit::Gib => format!("{:.2} s/GiB", row.cpu),
        Unit::Request => format!("{:.0} µs", row.cpu),
    };
    match row.cpu_ratio.filter(|_| row.server != "nginx") {
        Some(ratio) => format!("{cost} ({ratio:.2} ×)"),
        None => cost,
    }
}

fn speed_cell(row: &Row<'_>) -> String {
    format!("{:.0}; {:.1} / {:.1}", row.rate, row.p50_ms, row.p99_ms)
}

fn table(title: &str, cases: &[&Case], cell: impl Fn(&Row<'_>) -> String) -> String {
    let mut servers: Vec<&str> = Vec::new();
    for series in cases.iter().flat_map(|case| &case.all) {
        if !servers.contains(&series.server) {
            servers.push(series.server);
        }
    }
    let mut text = format!("\n{}\n", header(title, &servers));
    for case in cases {
        let find = |server: &&str| case.all.iter().find(|series| series.server == *server);
        let cells = servers.iter().map(|server| find(server).map_or(String::new(), |series| cell(&row(case, series))));
        let _ = writeln!(text, "| {} | {} |", case.name, cells.collect::<Vec<_>>().join(" | "));
    }
    text
}

fn fact_table(facts: &[&Fact]) -> String {
    let (mut servers, mut names): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for fact in facts {
        if !servers.contains(&fact.server.as_str()) {
            servers.push(&fact.server);
        }
        if !names.contains(&fact.case.as_str()) {
            names.push(&fact.case);
        }
    }
    if facts.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{}\n", header("medians", &servers));
    for name in names {
        let find = |server: &&str| facts.iter().find(|fact| fact.case == name && fact.server == *server);
        let cell = |fact: &&Fact| format!("{} {}", short(median(fact.values.clone())), fact.unit).trim_end().to_owned();
        let cells = servers.iter().map(|server| find(server).map(cell).unwrap_or_default());
        let _ = writeln!(text, "| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    text
}

fn header(title: &str, servers: &[&str]) -> String {
    format!("| {title} | {} |\n|---|{}", servers.join(" | "), "---|".repeat(servers.len()))
}

/// Three figures that say something.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v.fract() == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The middle one; the upper of two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
