//! Ctrl-C: the first asks the running stage to stop at the next safe point, the second ends the
//! program.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Exit code of a program that a SIGINT ended.
const EXIT_INTERRUPTED: i32 = 130;

/// From now on Ctrl-C sets the flag that [`asked`] reads.
pub fn listen() {
    // Where a handler cannot be set, Ctrl-C ends the program at once, as it would without one.
    let _ = ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(EXIT_INTERRUPTED);
        }
        use std::io::Write;
        let _ = writeln!(
            std::io::stderr(),
            "\nstopping at the next safe point (Ctrl-C again to end at once)"
        );
    });
}

/// Whether the user asked to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
