//! How much memory the process has taken.

/// Starts a new measurement of [`peak_bytes`], where the system can (Linux); elsewhere the peak is
/// that of the whole run so far, or unknown.
pub fn reset_peak() {
    // "5" resets the high-water mark (proc(5)). Where that is not allowed the mark stays: a larger
    // peak is reported, never a smaller one.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that the process has had resident since [`reset_peak`], in bytes; `None` where
/// the system does not say.
pub fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_covers_what_was_allocated_since_the_reset() {
        if peak_bytes().is_none() {
            println!("SKIPPED: this system does not tell its peak memory in /proc/self/status");
            return;
        }
        reset_peak();
        let before = peak_bytes().expect("it did a moment ago");
        let big = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = peak_bytes().expect("it did a moment ago");
        assert!(big.iter().step_by(4096).all(|&b| b == 1));
        assert!(after >= before && after >= 64 << 20, "{before} {after}");
    }
}
