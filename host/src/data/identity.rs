//! What a dataset is, as a number, and whether two share samples.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use sha2::{Digest, Sha256};

use super::{Dataset, Values};

impl Dataset {
    /// SHA-256 in hexadecimal over shape, element type, values and labels (not the path): the data
    /// hash of certificates.
    pub fn fingerprint(&self) -> String {
        let mut h = Sha256::new();
        h.update(b"qmend data 1");
        for d in self.shape.into_iter().chain([self.len()]) {
            h.update((d as u64).to_le_bytes());
        }
        match &self.values {
            Values::U8(v) => {
                h.update([1]);
                h.update(v);
            }
            Values::I8(v) => {
                h.update([2]);
                chunked(&mut h, v, |x| x.to_le_bytes());
            }
            Values::F32(v) => {
                h.update([3]);
                chunked(&mut h, v, |x| x.to_le_bytes());
            }
        }
        match &self.labels {
            None => h.update([0]),
            Some(l) => {
                h.update([1]);
                chunked(&mut h, l, |x| x.to_le_bytes());
            }
        }
        h.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The bytes of sample `i` as reals, so that equal values compare equal whatever their type.
    fn key(&self, i: usize) -> Vec<u32> {
        let e = self.elements();
        let at = i * e..(i + 1) * e;
        // Adding zero turns -0 into +0, which is the same value.
        match &self.values {
            Values::U8(v) => v[at].iter().map(|&x| (x as f32).to_bits()).collect(),
            Values::I8(v) => v[at].iter().map(|&x| (x as f32).to_bits()).collect(),
            Values::F32(v) => v[at].iter().map(|&x| (x + 0.0).to_bits()).collect(),
        }
    }
}

fn chunked<T: Copy, const N: usize>(h: &mut Sha256, v: &[T], bytes: impl Fn(T) -> [u8; N]) {
    let mut buffer = Vec::with_capacity(4096 * N);
    for part in v.chunks(4096) {
        buffer.clear();
        buffer.extend(part.iter().flat_map(|&x| bytes(x)));
        h.update(&buffer);
    }
}

/// Samples that two datasets share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// How many samples of the second set are also in the first.
    pub count: usize,
    /// One such pair: index in the first set, index in the second.
    pub first: Option<(usize, usize)>,
}

/// Counts the samples of `b` whose values are also a sample of `a`; labels do not matter.
pub fn overlap(a: &Dataset, b: &Dataset) -> Overlap {
    let none = Overlap {
        count: 0,
        first: None,
    };
    if a.elements() != b.elements() {
        return none;
    }
    let hasher = RandomState::new();
    let mut seen: HashMap<u64, Vec<usize>> = HashMap::with_capacity(a.len());
    for i in 0..a.len() {
        seen.entry(hasher.hash_one(a.key(i))).or_default().push(i);
    }
    (0..b.len()).fold(none, |o, j| {
        let key = b.key(j);
        let hit = seen
            .get(&hasher.hash_one(&key))
            .and_then(|s| s.iter().find(|&&i| a.key(i) == key));
        match hit {
            Some(&i) => Overlap {
                count: o.count + 1,
                first: o.first.or(Some((i, j))),
            },
            None => o,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(v: &[u8], labels: Option<Vec<u32>>) -> Dataset {
        Dataset {
            source: "t".into(),
            shape: [1, 1, 2],
            values: Values::U8(v.to_vec()),
            labels,
            class_names: Vec::new(),
        }
    }

    #[test]
    fn the_fingerprint_sees_every_part_but_the_path() {
        let a = bytes(&[1, 2, 3, 4], Some(vec![0, 1]));
        let print = a.fingerprint();
        assert_eq!(print.len(), 64);
        assert_eq!(
            print,
            Dataset {
                source: "elsewhere".into(),
                ..a.clone()
            }
            .fingerprint()
        );
        let others = [
            bytes(&[1, 2, 3, 5], Some(vec![0, 1])),
            bytes(&[1, 2, 3, 4], Some(vec![1, 0])),
            bytes(&[1, 2, 3, 4], None),
            Dataset {
                shape: [2, 1, 1],
                ..a.clone()
            },
            Dataset {
                values: Values::I8(vec![1, 2, 3, 4]),
                ..a.clone()
            },
            Dataset {
                values: Values::F32(vec![1.0, 2.0, 3.0, 4.0]),
                ..a
            },
        ];
        for o in others {
            assert_ne!(print, o.fingerprint(), "{o:?}");
        }
    }

    #[test]
    fn the_fingerprint_is_the_sha_256_of_the_documented_bytes() {
        let mut plain = b"qmend data 1".to_vec();
        for d in [1u64, 1, 2, 1] {
            plain.extend(d.to_le_bytes());
        }
        plain.push(2);
        plain.extend([0xff, 0x05]);
        plain.push(1);
        plain.extend(7u32.to_le_bytes());
        let want: String = Sha256::digest(&plain)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let d = Dataset {
            values: Values::I8(vec![-1, 5]),
            ..bytes(&[], Some(vec![7]))
        };
        assert_eq!(d.fingerprint(), want);
    }

    #[test]
    fn shared_samples_are_found_across_types() {
        let a = bytes(&[1, 2, 3, 4, 5, 6], None);
        let b = Dataset {
            values: Values::F32(vec![9.0, 9.0, 3.0, 4.0, 5.0, 6.0, 5.0, 6.5]),
            ..a.clone()
        };
        assert_eq!(
            overlap(&a, &b),
            Overlap {
                count: 2,
                first: Some((1, 1))
            }
        );
        let c = bytes(&[2, 1, 4, 3], None);
        assert_eq!(
            overlap(&a, &c),
            Overlap {
                count: 0,
                first: None
            }
        );
    }
}
