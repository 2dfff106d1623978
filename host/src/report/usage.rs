//! How much memory and processor time the process has taken.

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

/// Processor time of all threads so far, in user and kernel mode, in seconds; `None` where the
/// system does not say. Unlike wall time it hardly depends on what else the machine does.
pub fn cpu_seconds() -> Option<f64> {
    /// Ticks a second of the kernel's interface, whatever its own clock does (proc(5)).
    const USER_HZ: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in brackets, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i)?.parse::<f64>().ok();
    // utime and stime are fields 14 and 15 of the line, the state after the name is the third.
    Some((ticks(11)? + ticks(12)?) / USER_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_grows_with_work() {
        let Some(before) = cpu_seconds() else {
            println!("SKIPPED: this system does not tell its processor time in /proc/self/stat");
            return;
        };
        let mut x = 1u64;
        while cpu_seconds().is_some_and(|now| now < before + 0.05) {
            for _ in 0..1_000_000 {
                x = std::hint::black_box(x.wrapping_mul(6364136223846793005).wrapping_add(1));
            }
        }
        assert_ne!(x, 0);
    }

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
