//! The help texts.

use std::path::Path;

use super::support::*;

#[test]
fn every_command_explains_shapes_and_preprocessing() {
    let here = Path::new(".");
    for command in [
        "demo",
        "quantize",
        "localize",
        "repair",
        "eval",
        "inspect",
        "verify",
        "completions",
    ] {
        let out = qmend(here, &[command, "--help"]);
        assert!(out.status.success(), "{command}");
        // Without the line breaks, and whatever stands first in a sentence.
        let help = text(&out.stdout)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .to_lowercase();
        assert!(help.len() > 300, "{command}: {help}");
        if ["quantize", "eval"].contains(&command) {
            assert!(help.contains("real = (raw * scale - mean) / std"), "{help}");
        }
        if ["quantize", "localize", "repair", "eval", "verify"].contains(&command) {
            assert!(
                help.contains("[n, height, width, channels]") && help.contains("raw values"),
                "{command}: {help}"
            );
        }
    }
}
