//! Gradients through the integer network.
//!
//! Rounding has no useful derivative, so the gradient is the *straight-through* one: each operator
//! is differentiated as the real function that it approximates, at the real values that its integer
//! inputs stand for. A clamp (fused activation, or the ends of int8) stops the gradient where the
//! unclamped value lies beyond it. Source of the estimator: Bengio, Leonard, Courville, "Estimating
//! or Propagating Gradients Through Stochastic Neurons" (2013).
//!
//! Samples of a batch are independent, so one backward pass gives every sample's own gradient. All
//! activations are known beforehand, so the pass goes node by node from the end. Linear nodes, sums,
//! means and tables have rules of their own ([`linear`], [`rule`]), which need no forward pass;
//! the rest is Burn's autodiff, with one node's tape at a time.

mod linear;
mod pass;
mod real;
mod rule;

#[cfg(test)]
mod test_network;
#[cfg(test)]
mod tests;

pub use pass::{Seeds, Surrogate};
