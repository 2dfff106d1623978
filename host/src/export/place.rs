//! Where buffers lie that are alive at known times, so that few bytes are needed.
//!
//! Buffers are placed one at a time in the gaps that the buffers alive at the same time leave. With
//! the best gap, three orders are tried (greedy by size with best fit: Pisarchyk and Lee, "Efficient
//! Memory Management for Deep Neural Net Inference", 2020). Where that is above the largest sum of
//! buffers alive at once, below which no placement can be, orders with the lowest gap are searched:
//! one of them is the smallest placement there is (its buffers ordered by their offsets).

use rand::{Rng, SeedableRng, rngs::StdRng};

/// A piece of memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    pub bytes: usize,
    /// Times are inclusive: the model's input is written at 0, node `i` runs at `i + 1`.
    pub from: usize,
    pub to: usize,
}

impl Buffer {
    fn meets(&self, other: &Buffer) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

/// The largest sum of buffers alive at once.
pub(super) fn lower_bound(buffers: &[Buffer]) -> usize {
    // The sum is largest at a time at which a buffer begins.
    let alive_at = |t: usize| buffers.iter().filter(move |b| (b.from..=b.to).contains(&t));
    let sums = buffers
        .iter()
        .map(|b| alive_at(b.from).map(|b| b.bytes).sum());
    sums.max().unwrap_or(0)
}

/// Which gap a buffer goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    Smallest,
    Lowest,
}

/// Steps of the search: pairs of buffers looked at.
const SEARCH: usize = 20_000_000;

/// Orders tried at most.
const TRIES: usize = 4000;

/// Each buffer's offset, and the bytes needed for all.
pub(super) fn arrange(buffers: &[Buffer]) -> (Vec<usize>, usize) {
    let mut best = orders(buffers)
        .into_iter()
        .map(|order| place(buffers, &order, Gap::Smallest))
        .min_by_key(|(_, bytes)| *bytes)
        .unwrap_or_default();
    let bound = lower_bound(buffers);
    let n = buffers.len();
    if best.1 <= bound || n < 2 {
        return best;
    }
    // Moves of one buffer in the order, kept where they are no worse; started anew now and then.
    let mut rng = StdRng::seed_from_u64(0);
    let tries = (SEARCH / (n * n)).min(TRIES);
    let mut order: Vec<usize> = Vec::new();
    let mut current = usize::MAX;
    for i in 0..tries {
        if i % (TRIES / 16) == 0 {
            order = orders(buffers)[i / (TRIES / 16) % 3].clone();
            if i / (TRIES / 16) >= 3 {
                for k in (1..n).rev() {
                    order.swap(k, rng.random_range(0..=k));
                }
            }
            current = usize::MAX;
        }
        let (from, to) = (rng.random_range(0..n), rng.random_range(0..n));
        let moved = order.remove(from);
        order.insert(to, moved);
        let next = place(buffers, &order, Gap::Lowest);
        if next.1 <= current {
            current = next.1;
        } else {
            let moved = order.remove(to);
            order.insert(from, moved);
        }
        if next.1 < best.1 {
            best = next;
            if best.1 <= bound {
                break;
            }
        }
    }
    best
}

/// Orders in which buffers are placed.
fn orders(buffers: &[Buffer]) -> [Vec<usize>; 3] {
    let by = |key: &dyn Fn(&Buffer) -> usize| {
        let mut order: Vec<usize> = (0..buffers.len()).collect();
        order.sort_by_key(|&b| (std::cmp::Reverse(key(&buffers[b])), buffers[b].from));
        order
    };
    let length = |b: &Buffer| b.to - b.from + 1;
    [
        by(&|b| b.bytes),
        by(&|b| length(b) * b.bytes),
        by(&|b| length(b)),
    ]
}

/// Places buffers in an order; the offsets, and the bytes for all.
fn place(buffers: &[Buffer], order: &[usize], gap_choice: Gap) -> (Vec<usize>, usize) {
    let mut offsets = vec![0usize; buffers.len()];
    // Sorted by offset.
    let mut placed: Vec<usize> = Vec::with_capacity(buffers.len());
    let mut arena = 0;
    for &b in order {
        let buffer = &buffers[b];
        let mut end = 0;
        let mut best: Option<(usize, usize)> = None;
        for &p in placed.iter().filter(|&&p| buffers[p].meets(buffer)) {
            let gap = offsets[p].saturating_sub(end);
            let better =
                best.is_none_or(|(smallest, _)| gap_choice == Gap::Smallest && gap < smallest);
            if gap >= buffer.bytes && better {
                best = Some((gap, end));
            }
            end = end.max(offsets[p] + buffers[p].bytes);
        }
        offsets[b] = best.map_or(end, |(_, at)| at);
        arena = arena.max(offsets[b] + buffer.bytes);
        let at = placed.partition_point(|&p| offsets[p] <= offsets[b]);
        placed.insert(at, b);
    }
    (offsets, arena)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(rng: &mut StdRng, count: usize, times: usize) -> Vec<Buffer> {
        (0..count)
            .map(|_| {
                let from = rng.random_range(0..times);
                Buffer {
                    bytes: rng.random_range(1..200) * 4,
                    from,
                    to: from + rng.random_range(0..times / 2),
                }
            })
            .collect()
    }

    #[test]
    fn random_buffers_never_share_bytes_while_both_are_alive() {
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..100 {
            let count = rng.random_range(1..30);
            let buffers = random(&mut rng, count, 12);
            let all = orders(&buffers)
                .into_iter()
                .flat_map(|o| [Gap::Smallest, Gap::Lowest].map(|gap| place(&buffers, &o, gap)))
                .chain([arrange(&buffers)]);
            for (offsets, arena) in all {
                assert!(arena >= lower_bound(&buffers));
                for a in 0..buffers.len() {
                    assert!(offsets[a] + buffers[a].bytes <= arena);
                    assert_eq!(offsets[a] % 4, 0);
                    for b in 0..a {
                        let apart = offsets[a] + buffers[a].bytes <= offsets[b]
                            || offsets[b] + buffers[b].bytes <= offsets[a];
                        assert!(apart || !buffers[a].meets(&buffers[b]));
                    }
                }
            }
        }
    }

    /// The smallest arena, by every order.
    fn smallest(buffers: &[Buffer], order: &mut Vec<usize>, best: &mut usize) {
        if order.len() == buffers.len() {
            *best = (*best).min(place(buffers, order, Gap::Lowest).1);
            return;
        }
        for b in 0..buffers.len() {
            if !order.contains(&b) {
                order.push(b);
                smallest(buffers, order, best);
                order.pop();
            }
        }
    }

    #[test]
    fn small_arrangements_are_the_smallest_that_any_order_gives() {
        let mut rng = StdRng::seed_from_u64(8);
        let (mut above_bound, mut greedy_was_worse) = (0, 0);
        for _ in 0..150 {
            let count = rng.random_range(2..8);
            let buffers = random(&mut rng, count, 8);
            let mut best = usize::MAX;
            smallest(&buffers, &mut Vec::new(), &mut best);
            assert_eq!(arrange(&buffers).1, best, "{buffers:?}");
            above_bound += (best > lower_bound(&buffers)) as usize;
            let greedy = orders(&buffers).map(|o| place(&buffers, &o, Gap::Smallest).1);
            greedy_was_worse += greedy.iter().all(|g| *g > best) as usize;
        }
        assert!(greedy_was_worse > 0, "the search had nothing to do");
        println!("{above_bound} of 150 above the bound, greedy worse in {greedy_was_worse}");
    }
}
