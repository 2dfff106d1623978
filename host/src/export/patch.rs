//! Patches (`shared/FORMAT.md`): the way from one image to another in few bytes.
//!
//! Images of one network differ in place; where the manifest changed its length, what follows is
//! shifted as a whole. So the two are aligned at one place at most, and between long equal runs the
//! cheapest sequence of copies, replacements and additions to words is found by dynamic programming
//! over the bytes.

use qmend_shared::link::frame::crc32;
use qmend_shared::patch::{
    Header, KIND_ADD, KIND_COPY, KIND_MOVE, KIND_REPLACE, Patch, PatchError, zigzag,
};
use thiserror::Error;

/// Equal runs of this length are copied without further thought.
const LONG_RUN: usize = 32;
/// Longest piece that the dynamic programming sees at once.
const PIECE: usize = 1 << 16;
/// Largest image of either side.
const MAX_IMAGE: usize = 1 << 28;

/// Why there is no patch, or no image from one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PatchFileError {
    /// An image that no microcontroller holds.
    #[error("an image of {bytes} bytes is longer than the 2^28 that patches are written for")]
    TooLong {
        /// Its length.
        bytes: u64,
    },
    /// The patch is not sound, or not for this image.
    #[error(transparent)]
    Patch(#[from] PatchError),
}

/// The patch that makes `target` of `base`.
///
/// # Errors
/// [`PatchFileError::TooLong`].
pub fn write_patch(base: &[u8], target: &[u8]) -> Result<Vec<u8>, PatchFileError> {
    for image in [base, target] {
        if image.len() > MAX_IMAGE {
            let bytes = image.len() as u64;
            return Err(PatchFileError::TooLong { bytes });
        }
    }
    let split = split(base, target);
    let shift = base.len() as i64 - target.len() as i64;
    let mut body = Body::default();
    body.aligned(base, 0, &target[..split]);
    if split < target.len() {
        let at = (split as i64 + shift).max(0) as usize;
        body.go_to(at);
        body.aligned(base, at, &target[split..]);
    }
    let body = body.finish();
    let header = Header {
        base_len: base.len() as u32,
        base_crc: crc32(base),
        target_len: target.len() as u32,
        target_crc: crc32(target),
        body_len: body.len() as u32,
    };
    Ok([&header.to_bytes(&body)[..], &body].concat())
}

/// The image that a patch makes of `base`.
///
/// # Errors
/// Where the patch is not sound, or not for this base.
pub fn apply_patch(base: &[u8], patch: &[u8]) -> Result<Vec<u8>, PatchFileError> {
    let patch = Patch::parse(patch)?;
    let len = patch.header().target_len as usize;
    if len > MAX_IMAGE {
        return Err(PatchFileError::TooLong { bytes: len as u64 });
    }
    patch.check(base)?;
    let mut target = vec![0; len];
    let n = patch.reader().read(base, &mut target);
    target.truncate(n);
    Ok(target)
}

/// Byte ranges (start, length) of `target` that differ from `base` in the same place; what is
/// longer counts as different.
pub fn changed_ranges(base: &[u8], target: &[u8]) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for (i, byte) in target.iter().enumerate() {
        if base.get(i) == Some(byte) {
            continue;
        }
        match ranges.last_mut() {
            Some((start, len)) if *start + *len == i => *len += 1,
            _ => ranges.push((i, 1)),
        }
    }
    ranges
}

/// Where the target stops to lie in step with the base's start and goes on in step with its end:
/// the place that leaves most bytes equal.
fn split(base: &[u8], target: &[u8]) -> usize {
    if base.len() == target.len() {
        return target.len();
    }
    let from_end = |i: usize| {
        let at = (base.len() + i).checked_sub(target.len())?;
        base.get(at)
    };
    let mut equal = target
        .iter()
        .enumerate()
        .filter(|(i, b)| from_end(*i) == Some(b))
        .count() as i64;
    let (mut best, mut place) = (equal, 0);
    for (i, byte) in target.iter().enumerate() {
        equal += i64::from(base.get(i) == Some(byte)) - i64::from(from_end(i) == Some(byte));
        if equal > best {
            (best, place) = (equal, i + 1);
        }
    }
    place
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Copy,
    Replace,
    Add,
}

const KINDS: [Kind; 3] = [Kind::Copy, Kind::Replace, Kind::Add];

/// Operations as they are found, those of one kind joined.
#[derive(Default)]
struct Body {
    bytes: Vec<u8>,
    /// The last operation: kind, bytes of the target, and what follows its head.
    open: Option<(Kind, usize, Vec<u8>)>,
    place: usize,
}

impl Body {
    fn push(&mut self, kind: Kind, len: usize, payload: &[u8]) {
        self.place += len;
        match &mut self.open {
            Some((open, total, bytes)) if *open == kind => {
                *total += len;
                bytes.extend_from_slice(payload);
            }
            _ => {
                self.close();
                self.open = Some((kind, len, payload.to_vec()));
            }
        }
    }

    fn close(&mut self) {
        if let Some((kind, len, payload)) = self.open.take() {
            let (count, code) = match kind {
                Kind::Copy => (len, KIND_COPY),
                Kind::Replace => (len, KIND_REPLACE),
                Kind::Add => (len / 4, KIND_ADD),
            };
            varint((count as u32) << 2 | code, &mut self.bytes);
            self.bytes.extend(payload);
        }
    }

    fn go_to(&mut self, at: usize) {
        self.close();
        let by = at as i64 - self.place as i64;
        if by != 0 {
            // Images are shorter than 2^28, so the zigzag code fits its 30 bits.
            varint(zigzag(by as i32) << 2 | KIND_MOVE, &mut self.bytes);
        }
        self.place = at;
    }

    fn finish(mut self) -> Vec<u8> {
        self.close();
        self.bytes
    }

    /// The target's bytes against the base's from `at` on.
    fn aligned(&mut self, base: &[u8], at: usize, target: &[u8]) {
        let base = base.get(at..).unwrap_or(&[]);
        let both = base.len().min(target.len());
        let mut from = 0;
        while from < both {
            let run = equal_run(&base[from..both], &target[from..both]);
            if run >= LONG_RUN {
                self.push(Kind::Copy, run, &[]);
                from += run;
                continue;
            }
            // Up to the next long run, or as much as is looked at together.
            let mut to = from + run;
            while to < both && to - from < PIECE {
                let run = equal_run(&base[to..both], &target[to..both]);
                if run >= LONG_RUN {
                    break;
                }
                to += run.max(1);
            }
            // The upper bytes of the last word that changes are equal, and belong to it.
            let to = (to + 3).min(both);
            self.cheapest(&base[from..to], &target[from..to]);
            from = to;
        }
        if both < target.len() {
            let rest = &target[both..];
            self.push(Kind::Replace, rest.len(), rest);
        }
    }

    /// The cheapest operations for a piece, both sides of one length.
    fn cheapest(&mut self, base: &[u8], target: &[u8]) {
        let n = target.len();
        const NEVER: u32 = u32::MAX / 2;
        // cost[i][k]: of the first i bytes where the last operation is of kind k; came[i][k]: the
        // kind before that step.
        let mut cost = vec![[NEVER; 3]; n + 1];
        let mut came = vec![[0u8; 3]; n + 1];
        cost[0] = [0; 3];
        for i in 0..n {
            for k in 0..3 {
                let (step, price, head) = match KINDS[k] {
                    Kind::Copy if base[i] == target[i] => (1, 0, 2),
                    Kind::Copy => continue,
                    Kind::Replace => (1, 1, 1),
                    Kind::Add if i + 4 <= n => (4, varint_len(delta(base, target, i)), 1),
                    Kind::Add => continue,
                };
                for before in 0..3 {
                    let head = if before == k && i > 0 { 0 } else { head };
                    let total = cost[i][before].saturating_add(price + head);
                    if total < cost[i + step][k] {
                        cost[i + step][k] = total;
                        came[i + step][k] = before as u8;
                    }
                }
            }
        }
        let mut steps = Vec::new();
        let (mut i, mut k) = (n, (0..3).min_by_key(|&k| cost[n][k]).unwrap_or(1));
        while i > 0 {
            steps.push(KINDS[k]);
            let before = came[i][k] as usize;
            i -= if KINDS[k] == Kind::Add { 4 } else { 1 };
            k = before;
        }
        let mut i = 0;
        for &kind in steps.iter().rev() {
            match kind {
                Kind::Copy => self.push(kind, 1, &[]),
                Kind::Replace => self.push(kind, 1, &target[i..i + 1]),
                Kind::Add => {
                    let mut code = Vec::new();
                    varint(delta(base, target, i), &mut code);
                    self.push(kind, 4, &code);
                }
            }
            i += if kind == Kind::Add { 4 } else { 1 };
        }
    }
}

fn equal_run(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// The zigzag code of the difference between two words.
fn delta(base: &[u8], target: &[u8], i: usize) -> u32 {
    let word = |b: &[u8]| i32::from_le_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
    zigzag(word(target).wrapping_sub(word(base)))
}

fn varint_len(n: u32) -> u32 {
    (32 - (n | 1).leading_zeros()).div_ceil(7)
}

fn varint(mut n: u32, to: &mut Vec<u8>) {
    while n > 0x7f {
        to.push(n as u8 | 0x80);
        n >>= 7;
    }
    to.push(n as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::prelude::*;

    fn round_trip(base: &[u8], target: &[u8]) -> usize {
        let patch = write_patch(base, target).expect("short images");
        assert_eq!(apply_patch(base, &patch).expect("it applies"), target);
        patch.len()
    }

    #[test]
    fn a_patch_leads_from_any_bytes_to_any_others() {
        let mut rng = StdRng::seed_from_u64(1);
        for case in 0..300 {
            let n = rng.random_range(0..400);
            let base: Vec<u8> = (0..n).map(|_| rng.random()).collect();
            let mut target = base.clone();
            for _ in 0..rng.random_range(0..6) {
                let at = rng.random_range(0..=target.len());
                match case % 4 {
                    0 if at < target.len() => target[at] = rng.random(),
                    1 => target.insert(at, rng.random()),
                    2 => target.truncate(at),
                    _ => target.extend((0..rng.random_range(0..40)).map(|_| rng.random::<u8>())),
                }
            }
            round_trip(&base, &target);
            round_trip(&target, &base);
        }
        round_trip(&[], &[]);
        let random: Vec<u8> = (0..200_000).map(|_| rng.random()).collect();
        let other: Vec<u8> = (0..200_000).map(|_| rng.random()).collect();
        let len = round_trip(&random, &other);
        assert!(len < 200_100, "unlike images cost no more than the image");
    }

    #[test]
    fn small_changes_cost_few_bytes() {
        let mut rng = StdRng::seed_from_u64(2);
        let base: Vec<u8> = (0..40_000).map(|_| rng.random()).collect();
        assert_eq!(round_trip(&base, &base), 32 + 3);
        // One byte in the middle: copy, replace, copy.
        let mut one = base.clone();
        one[20_000] ^= 1;
        assert!(round_trip(&base, &one) <= 32 + 3 + 2 + 3);
        // 100 words in a row, each changed by less than 64: a byte a word.
        let mut words = base.clone();
        for (i, word) in words[4000..4400].chunks_exact_mut(4).enumerate() {
            let old = i32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            let by = [-60, 60, 31][i % 3];
            word.copy_from_slice(&old.wrapping_add(by).to_le_bytes());
        }
        assert!(round_trip(&base, &words) <= 32 + 3 + 2 + 100 + 3);
        // Bytes that came in the middle shift the rest.
        let mut longer = base.clone();
        longer.splice(1000..1000, [1, 2, 3, 4, 5]);
        assert!(round_trip(&base, &longer) <= 32 + 20);
        assert!(round_trip(&longer, &base) <= 32 + 20);
    }

    #[test]
    fn changed_ranges_are_maximal() {
        let ranges = changed_ranges(b"abcdef", b"aXXdeYZ");
        assert_eq!(ranges, [(1, 2), (5, 2)]);
        assert_eq!(changed_ranges(b"abc", b"abc"), []);
    }
}
