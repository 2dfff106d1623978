//! What a repair may change where the file that the result goes into sets limits.

use crate::model::Linear;
use crate::quantize::scaled_multiplier;
use std::collections::{BTreeMap, BTreeSet};

/// Limits of a repair. By default there are none.
#[derive(Clone, Debug, PartialEq)]
pub struct Freedom {
    /// Whether multipliers may change.
    pub multipliers: bool,
    /// Nodes whose multipliers must stay.
    pub fixed_multipliers: BTreeSet<usize>,
    /// Nodes whose multipliers follow from a float32 weight scale a channel, with the scales of their
    /// input and output: a new one becomes the nearest that such a scale gives.
    pub scaled_multipliers: BTreeMap<usize, [f32; 2]>,
    /// Weights do not become smaller than this (TFLite's specification of int8 leaves out -128).
    pub smallest_weight: i8,
    /// Nodes whose weights must stay.
    pub fixed_weights: BTreeSet<usize>,
    /// Nodes whose biases must stay.
    pub fixed_biases: BTreeSet<usize>,
}

impl Default for Freedom {
    fn default() -> Self {
        Self {
            multipliers: true,
            fixed_multipliers: BTreeSet::new(),
            scaled_multipliers: BTreeMap::new(),
            smallest_weight: i8::MIN,
            fixed_weights: BTreeSet::new(),
            fixed_biases: BTreeSet::new(),
        }
    }
}

impl Freedom {
    /// Whether the multipliers of a node may change.
    pub fn multipliers_of(&self, node: usize) -> bool {
        self.multipliers && !self.fixed_multipliers.contains(&node)
    }

    /// Brings new integers of a node within the limits; what may not change is as in `old`.
    pub fn conform(&self, node: usize, old: &Linear, new: &mut Linear) {
        if !self.multipliers_of(node) {
            new.multipliers.clone_from(&old.multipliers);
        }
        if let Some([input, output]) = self.scaled_multipliers.get(&node) {
            for (new, old) in new.multipliers.iter_mut().zip(&old.multipliers) {
                if new != old {
                    *new = scaled_multiplier(*new, *input, *output).map_or(*old, |(_, m)| m);
                }
            }
        }
        if self.fixed_biases.contains(&node) {
            new.bias.clone_from(&old.bias);
        }
        if self.fixed_weights.contains(&node) {
            new.weights.clone_from(&old.weights);
        }
        for (new, old) in new.weights.iter_mut().zip(&old.weights) {
            if new != old {
                *new = (*new).max(self.smallest_weight);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Multiplier;

    fn linear(weight: i8, bias: i32, mantissa: i32) -> Linear {
        Linear {
            weights: vec![weight, -128],
            bits: 8,
            bias: vec![bias],
            multipliers: vec![Multiplier {
                mantissa,
                exponent: 0,
            }],
            act_min: -128,
            act_max: 127,
        }
    }

    #[test]
    fn only_what_is_free_changes() {
        let (old, all) = (linear(1, 10, 1 << 30), linear(-128, 20, 3 << 29));
        let conformed = |f: Freedom| {
            let mut new = all.clone();
            f.conform(4, &old, &mut new);
            new
        };
        assert_eq!(conformed(Freedom::default()), all);
        let limits = Freedom {
            multipliers: false,
            smallest_weight: -127,
            ..Freedom::default()
        };
        // The -128 that was there before stays.
        assert_eq!(conformed(limits), linear(-127, 20, 1 << 30));
        let fixed = Freedom {
            fixed_multipliers: [4].into(),
            ..Freedom::default()
        };
        assert_eq!(conformed(fixed), linear(-128, 20, 1 << 30));
        let scaled = Freedom {
            scaled_multipliers: [(4, [0.3, 0.7])].into(),
            ..Freedom::default()
        };
        let m = conformed(scaled).multipliers[0];
        let (_, near) = scaled_multiplier(all.multipliers[0], 0.3, 0.7).expect("ordinary scales");
        assert!(m == near && m != all.multipliers[0], "{m:?}");
        let fixed = Freedom {
            fixed_weights: [4].into(),
            fixed_biases: [3].into(),
            ..Freedom::default()
        };
        assert_eq!(conformed(fixed), linear(1, 20, 3 << 29));
    }
}
