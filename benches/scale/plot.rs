//! The picture: CPU per hit against the number of blobs. Written by hand: in a README it has to be
//! readable on white and on black, so its style sheet follows the reader's colours, which no
//! plotting crate writes.

use std::fmt::Write as _;

use crate::requests::Point;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 340.0;
/// Around the axes: left, right, top, bottom.
const EDGES: [f64; 4] = [64.0, 24.0, 56.0, 52.0];

const STYLE: &str = "\
text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#57606a}\
.title{font-size:15px;font-weight:600;fill:#24292f}\
.grid{stroke:#d0d7de;stroke-width:1}\
.line{fill:none;stroke-width:2.5;stroke-linejoin:round}\
.a{stroke:#0969da}.b{stroke:#bf5700}circle.a{fill:#0969da}circle.b{fill:#bf5700}\
text.a{fill:#0969da;stroke:none}text.b{fill:#bf5700;stroke:none}\
@media(prefers-color-scheme:dark){text{fill:#9198a1}.title{fill:#f0f6fc}.grid{stroke:#3d444d}\
.a{stroke:#4493f8}.b{stroke:#f0883e}circle.a{fill:#4493f8}circle.b{fill:#f0883e}\
text.a{fill:#4493f8}text.b{fill:#f0883e}}";

type Cost = fn(&Point) -> u64;

/// Both lines, µs over a logarithm.
pub(crate) fn svg(points: &[Point]) -> String {
    let (least, most) = (points.first().map_or(1, |p| p.blobs), points.last().map_or(10, |p| p.blobs));
    let decades = (most as f64 / least as f64).log10().max(1.0);
    let top = ceiling(points.iter().map(|p| p.blob.max(p.manifest)).max().unwrap_or(1) as f64 / 1000.0);
    let [left, right, above, below] = EDGES;
    let x = |blobs: u64| left + (blobs as f64 / least as f64).log10() / decades * (WIDTH - left - right);
    let y = |us: f64| HEIGHT - below - us / top * (HEIGHT - above - below);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"CPU time per hit against the number of blobs in the cache\"><style>{STYLE}</style>\n\
         <text class=\"title\" x=\"{left}\" y=\"26\">CPU time of seawall per hit, µs</text>\n"
    );
    for step in 0..=4 {
        let us = top / 4.0 * f64::from(step);
        let at = y(us);
        let _ = writeln!(out, "<path class=\"grid\" d=\"M{left} {at:.1}H{}\"/>", WIDTH - right);
        let _ = writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{us:.0}</text>", left - 10.0, at + 4.5);
    }
    for point in points {
        let (at, name) = (x(point.blobs), thousands(point.blobs));
        let _ =
            writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>", HEIGHT - below + 20.0);
    }
    let middle = (left + WIDTH - right) / 2.0;
    let _ =
        writeln!(out, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">blobs in the cache</text>", HEIGHT - 10.0);
    let lines: [(&str, &str, Cost); 2] =
        [("a", "32 KiB blob", |point| point.blob), ("b", "manifest", |point| point.manifest)];
    for (class, name, cost) in lines {
        let at: Vec<(f64, f64)> = points.iter().map(|point| (x(point.blobs), y(cost(point) as f64 / 1000.0))).collect();
        let path: Vec<String> = at.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        let _ = writeln!(out, "<path class=\"line {class}\" d=\"M{}\"/>", path.join("L"));
        for ((x, y), point) in at.iter().zip(points) {
            let us = cost(point) as f64 / 1000.0;
            let _ = writeln!(
                out,
                "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{us:.1} µs</title></circle>"
            );
        }
        if let Some((_, y)) = at.last() {
            let _ = writeln!(
                out,
                "<text class=\"{class}\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
                WIDTH - right,
                y - 12.0
            );
        }
    }
    out + "</svg>\n"
}

/// The next round number above, a tenth of it left free.
fn ceiling(us: f64) -> f64 {
    let unit = 10_f64.powf((us * 1.1).log10().floor());
    let rounds = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].map(|times| times * unit);
    rounds.into_iter().find(|round| *round >= us * 1.1).unwrap_or(us)
}

/// 1 000 000, with spaces that do not break.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let parts: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|part| std::str::from_utf8(part).ok()).collect();
    parts.join("\u{202f}")
}
