//! Bars of signal-to-noise ratio per layer as an SVG file.

use std::fmt::Write;

use super::layers::Layers;
use super::metrics::Decibels;
use crate::report::fitting;

/// Width of one bar with its gap, in pixels.
const STEP: f64 = 26.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 54.0;
const TOP: f64 = 46.0;
const HEIGHT: f64 = 260.0;
/// Bars end here: what is better is as good as exact, and would only flatten the others.
const HIGHEST: f64 = 60.0;
/// Columns of a label.
const LABEL: usize = 34;

/// One bar a matched tensor in the order of execution, with a line at `threshold` dB; bars below it
/// stand out. The picture needs no other file, and its bars carry their numbers as titles.
pub fn plot(layers: &Layers, title: &str, threshold: f64) -> String {
    let values: Vec<f64> = layers
        .layers
        .iter()
        .filter_map(|l| l.metrics.sqnr().finite())
        .map(|db| db.min(HIGHEST))
        .chain([threshold, 0.0])
        .collect();
    let step = tick(&values);
    let top = (values.iter().copied().fold(0.0, f64::max) / step)
        .ceil()
        .max(1.0)
        * step;
    let bottom = (values.iter().copied().fold(0.0, f64::min) / step).floor() * step;
    let y = |db: f64| TOP + HEIGHT * (top - db.clamp(bottom, top)) / (top - bottom);
    let labels: Vec<String> = layers
        .layers
        .iter()
        .map(|l| fitting(&l.layer, LABEL))
        .collect();
    let longest = labels.iter().map(|l| l.chars().count()).max().unwrap_or(0);
    let width = (LEFT + STEP * labels.len() as f64 + RIGHT)
        .max(LEFT + 8.0 * title.chars().count() as f64 + 20.0)
        .max(400.0);
    let right = width - RIGHT + 10.0;
    let below = TOP + HEIGHT;
    let height = below + 26.0 + 5.0 * longest as f64 + 18.0;

    let mut s = String::new();
    // Writing to a string cannot fail.
    let mut line = |text: String| {
        let _ = writeln!(s, "{text}");
    };
    line(format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}" font-family="sans-serif" font-size="11" fill="#222">"##
    ));
    line(r##"<rect width="100%" height="100%" fill="#ffffff"/>"##.into());
    line(format!(
        r#"<text x="{LEFT}" y="20" font-size="14">{}</text>"#,
        escaped(title)
    ));
    let mut db = bottom;
    while db <= top + step / 2.0 {
        let at = y(db);
        line(format!(
            r##"<line x1="{LEFT}" y1="{at:.1}" x2="{:.1}" y2="{at:.1}" stroke="#dddddd"/><text x="{:.1}" y="{:.1}" text-anchor="end">{db:.0}</text>"##,
            right,
            LEFT - 6.0,
            at + 4.0
        ));
        db += step;
    }
    line(format!(
        r#"<text transform="translate(16 {:.1}) rotate(-90)" text-anchor="middle">signal-to-quantization-noise ratio (dB)</text>"#,
        TOP + HEIGHT / 2.0
    ));
    for (i, (layer, label)) in layers.layers.iter().zip(&labels).enumerate() {
        let x = LEFT + STEP * i as f64 + 5.0;
        let ratio = layer.metrics.sqnr();
        let (value, colour) = match ratio {
            Decibels::Finite(v) if v < threshold => (v, "#c0392b"),
            Decibels::Finite(v) => (v, "#2e6da4"),
            Decibels::Infinite => (top, "#7fb07f"),
            Decibels::Undefined => (0.0, "#999999"),
        };
        let (high, low) = (y(value.max(0.0)), y(value.min(0.0)));
        line(format!(
            r#"<rect x="{x:.1}" y="{high:.1}" width="{:.1}" height="{:.1}" fill="{colour}"><title>{}: {}</title></rect>"#,
            STEP - 10.0,
            (low - high).max(1.0),
            escaped(&layer.layer),
            match ratio {
                Decibels::Finite(v) => format!("{v:.2} dB"),
                Decibels::Infinite => "exact".into(),
                Decibels::Undefined => "no signal".into(),
            }
        ));
        line(format!(
            r#"<text x="{:.1}" y="{:.1}" text-anchor="middle" font-size="8">{}</text>"#,
            x + STEP / 2.0 - 5.0,
            high - 3.0,
            match ratio {
                Decibels::Finite(v) => format!("{v:.0}"),
                Decibels::Infinite => "exact".into(),
                Decibels::Undefined => "-".into(),
            }
        ));
        line(format!(
            r#"<text transform="translate({:.1} {:.1}) rotate(-60)" text-anchor="end" font-size="10">{}</text>"#,
            x + STEP / 2.0 - 3.0,
            below + 12.0,
            escaped(label)
        ));
    }
    let at = y(threshold);
    line(format!(
        r##"<line x1="{LEFT}" y1="{at:.1}" x2="{right:.1}" y2="{at:.1}" stroke="#c0392b" stroke-dasharray="5 4"/><text x="{:.1}" y="{:.1}" fill="#c0392b">{threshold} dB</text>"##,
        right + 4.0,
        at + 4.0
    ));
    line(format!(
        r##"<line x1="{LEFT}" y1="{TOP}" x2="{LEFT}" y2="{below}" stroke="#222222"/><line x1="{LEFT}" y1="{0:.1}" x2="{1:.1}" y2="{0:.1}" stroke="#222222"/>"##,
        y(0.0),
        right
    ));
    line(format!(
        r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">layer, in the order of execution</text>"#,
        (LEFT + width) / 2.0,
        height - 6.0
    ));
    s + "</svg>\n"
}

/// A step of 1, 2 or 5 times a power of ten that gives at most eight lines.
fn tick(values: &[f64]) -> f64 {
    let span =
        values.iter().copied().fold(1.0, f64::max) - values.iter().copied().fold(0.0, f64::min);
    let mut power = 1.0;
    loop {
        for step in [1.0, 2.0, 5.0] {
            if span / (step * power) <= 8.0 {
                return step * power;
            }
        }
        power *= 10.0;
    }
}

/// Text as XML; control characters, which XML has no way to write, become spaces.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{LayerReport, Metrics};
    use crate::model::Tensor;

    fn layer(name: &str, float: &[f32], int: &[i8]) -> LayerReport {
        let t = Tensor {
            name: name.into(),
            shape: [1, 1, 1],
            scale: 1.0,
            zero_point: 0,
        };
        let mut metrics = Metrics::default();
        metrics.add(float, int, &t, (-128, 127));
        LayerReport {
            node: None,
            layer: name.into(),
            kind: "Conv2d",
            tensor: name.into(),
            metrics,
            added_noise: None,
        }
    }

    #[test]
    fn every_layer_has_a_bar_and_names_cannot_break_the_file() {
        let layers = Layers {
            layers: vec![
                layer("<a & \"b\">", &[100.0], &[99]),
                layer("bad", &[1.0], &[-3]),
                layer("exact", &[1.0], &[1]),
                layer("none", &[0.0], &[0]),
            ],
            unmatched: vec![],
            samples: 1,
            same_class: 1,
        };
        let svg = plot(&layers, "a < b", 10.0);
        assert_eq!(svg.matches("<title>").count(), 4);
        assert!(
            svg.contains("&lt;a &amp; &quot;b&quot;&gt;: 40.00 dB"),
            "{svg}"
        );
        // 16 to 1 in noise: the bar hangs below zero and is in the colour of those under the line.
        assert!(
            svg.contains("bad: -12.04 dB") && svg.contains("#c0392b\"><title>bad"),
            "{svg}"
        );
        assert!(svg.contains("exact: exact") && svg.contains("none: no signal"));
        for open in ["<svg", "<rect", "<text"] {
            assert!(svg.contains(open));
        }
        let (opened, closed) = (svg.matches("<text").count(), svg.matches("</text>").count());
        assert_eq!(opened, closed);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(tick(&[10.0, 0.0]), 2.0);
        assert_eq!(tick(&[43.0, 0.0]), 10.0);
        assert_eq!(tick(&[8.0, -8.0]), 2.0);
        assert_eq!(tick(&[]), 1.0);
    }
}
