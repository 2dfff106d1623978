//! What a repair may change where the file that the result goes into sets limits.

use crate::model::Linear;
use std::collections::BTreeSet;

/// Limits of a repair. By default there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freedom {
    /// Whether multipliers may change.
    pub multipliers: bool,
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
            smallest_weight: i8::MIN,
            fixed_weights: BTreeSet::new(),
            fixed_biases: BTreeSet::new(),
        }
    }
}

impl Freedom {
    /// Brings new integers of a node within the limits; what may not change is as in `old`.
    pub fn conform(&self, node: usize, old: &Linear, new: &mut Linear) {
        if !self.multipliers {
            new.multipliers.clone_from(&old.multipliers);
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
            fixed_weights: [4].into(),
            fixed_biases: [3].into(),
            ..Freedom::default()
        };
        assert_eq!(conformed(fixed), linear(1, 20, 3 << 29));
    }
}
