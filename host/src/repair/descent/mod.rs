//! The `descent` strategy: the whole network towards the teacher's class probabilities, on more
//! inputs than were given.
//!
//! The teacher labels any input, so every round draws a fresh batch of varied and blended samples
//! ([`augment`]), runs the *integer* network on it bit for bit, and differentiates the cross-entropy
//! between its softmax and the teacher's, and the distance between their [`hidden`] activations,
//! through the surrogate. Biases and multipliers follow the gradient at once. Behind every weight
//! stands a real number that follows too; the integer changes when that number has come nearer to its
//! neighbour ([`latent`]), which takes many batches that agree; what swings about the border is drawn back
//! to its integer, more and more towards the end. A weight that changes does not move its channel's mean: the bias takes back its step times
//! the mean of its input, without which single steps at 2 bits do more harm than good.
//!
//! The holdout set judges snapshots, of the numbers as they are and of their running averages, by the
//! same cross-entropy, which is far less noisy than a count of classes; the best goes to [`State::propose`](super::State::propose) as every other edit does.

mod augment;
mod batches;
mod hidden;
mod latent;
mod search;
mod settings;
mod snapshots;
mod walk;

pub use augment::{Augment, Variations};
pub use search::run;
pub use settings::Settings;
