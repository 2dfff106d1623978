//! Hostile .tflite files: thousands of damaged copies of sound ones neither bring the readers of
//! int8 and of float networks down nor make them allocate without bound.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use qmend::import::tflite::{import_tflite_float, import_tflite_int8};
use qmend_tests::golden::Arrays;

/// Counts what is allocated, and remembers the most.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grown(by: usize) {
    let now = NOW.fetch_add(by, Relaxed) + by;
    PEAK.fetch_max(now, Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/models");
const OPERATORS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/fixtures/tflite_operators/operators.npz"
);

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize
    }

    fn below(&mut self, n: usize) -> usize {
        self.next() % n.max(1)
    }
}

/// One kind of damage, chosen at random.
fn damage(sound: &[u8], r: &mut Random) -> Vec<u8> {
    let mut copy = sound.to_vec();
    // The tables stand at either end of a file; in the middle are mostly weights.
    let at = |r: &mut Random, len: usize| match r.below(3) {
        0 => r.below(len.min(2048)),
        1 => len - 1 - r.below(len.min(2048)),
        _ => r.below(len),
    };
    let word = |copy: &mut [u8], at: usize, value: u32| {
        if let Some(bytes) = copy.get_mut(at & !3..(at & !3) + 4) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    };
    match r.below(8) {
        0 => copy.truncate(r.below(sound.len())),
        1 => {
            // Random bytes, a few or a run.
            let (start, n) = (at(r, copy.len()), 1 + r.below(16));
            for b in copy.iter_mut().skip(start).take(n) {
                *b = r.next() as u8;
            }
        }
        2 => {
            // Counts and offsets: ends of ranges.
            for _ in 0..1 + r.below(3) {
                let start = at(r, copy.len());
                let value = [
                    0,
                    1,
                    4,
                    0x7fff_ffff,
                    0x8000_0000,
                    u32::MAX,
                    u32::MAX - 3,
                    1 << 24,
                ];
                word(&mut copy, start, value[r.below(value.len())]);
            }
        }
        3 => {
            // An offset that leads somewhere else in the file, or to itself.
            let start = at(r, copy.len());
            let target = [0, r.below(copy.len()), copy.len() - 1][r.below(3)];
            word(&mut copy, start, target.wrapping_sub(start & !3) as u32);
        }
        4 => {
            // A table within itself: an offset back to the root.
            let start = at(r, copy.len());
            let root = u32::from_le_bytes([sound[0], sound[1], sound[2], sound[3]]) as usize;
            word(&mut copy, start, root.wrapping_sub(start & !3) as u32);
        }
        5 => {
            // Absurd dimensions and lengths.
            let start = at(r, copy.len());
            for i in 0..1 + r.below(4) {
                let value = [65_536, 1 << 20, 1 << 28, i32::MAX as u32, 46_341][r.below(5)];
                word(&mut copy, start + 4 * i, value);
            }
        }
        6 => {
            // A piece of the file over another one.
            let n = 4 + r.below(64);
            let from = r.below(copy.len().saturating_sub(n));
            let to = r.below(copy.len().saturating_sub(n));
            let piece = copy[from..(from + n).min(sound.len())].to_vec();
            for (to, b) in copy.iter_mut().skip(to).zip(piece) {
                *to = b;
            }
        }
        _ => {
            let start = at(r, copy.len());
            if let Some(b) = copy.get_mut(start) {
                *b ^= 1 << r.below(8);
            }
        }
    }
    copy
}

/// The sound files, by name: networks of one operator, and whole ones where they are there.
fn files() -> Vec<(String, Vec<u8>)> {
    let mut arrays = Arrays::open(Path::new(OPERATORS));
    let names: Vec<String> = arrays
        .names()
        .iter()
        .filter_map(|n| n.strip_suffix(".network").map(String::from))
        .collect();
    let mut files: Vec<(String, Vec<u8>)> = names
        .into_iter()
        .map(|n| {
            let bytes = arrays.bytes(&format!("{n}.network"));
            (n, bytes)
        })
        .collect();
    match std::fs::read_dir(DATA) {
        Err(_) => println!("SKIPPED: whole networks among the damaged files: {DATA} is absent"),
        Ok(folder) => {
            let mut paths: Vec<PathBuf> = folder
                .filter_map(|entry| entry.ok().map(|e| e.path()))
                .filter(|p| p.extension().is_some_and(|e| e == "tflite"))
                .collect();
            paths.sort();
            for path in paths {
                let bytes = std::fs::read(&path).expect("readable");
                files.push((path.display().to_string(), bytes));
            }
        }
    }
    files
}

#[test]
fn damaged_files_are_refused_or_read_within_bounded_memory() {
    let mut r = Random(0x9e37_79b9_7f4a_7c15);
    let (mut tried, mut read, mut most) = (0u32, 0u32, (0usize, String::new()));
    for (name, sound) in files() {
        // Large files have thousands of weights for one offset.
        let rounds = if sound.len() > 10_000 { 2_000 } else { 300 };
        for _ in 0..rounds {
            let copy = damage(&sound, &mut r);
            for float in [false, true] {
                let before = NOW.load(Relaxed);
                PEAK.store(before, Relaxed);
                let whole = if float {
                    import_tflite_float(&copy, "damaged").is_ok()
                } else {
                    import_tflite_int8(&copy, "damaged").is_ok()
                };
                let peak = PEAK.load(Relaxed) - before;
                // A file's numbers may be shared by several operators; 16 times its size, and what
                // an error message and the fixed limits on names and lists take, are enough for
                // every file that is sound.
                let bound = 16 * copy.len() + (4 << 20);
                assert!(
                    peak <= bound,
                    "{name}: a copy of {} bytes made {peak} bytes be allocated",
                    copy.len()
                );
                tried += 1;
                read += u32::from(whole);
                if peak > most.0 {
                    most = (peak, name.clone());
                }
            }
        }
    }
    println!(
        "{tried} readings of damaged files, {read} of them of files that were still whole; at most {} KiB were allocated at once ({})",
        most.0 >> 10,
        most.1
    );
    assert!(read > 100 && tried - read > 1000, "{read} of {tried}");
}
