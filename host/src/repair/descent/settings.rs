//! Settings of `descent`.

/// Settings of `descent`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Rounds for one of [`rounds`](crate::repair::RepairConfig::rounds).
    pub rounds_each: usize,
    /// Samples drawn for a round, as far as memory allows.
    pub batch: usize,
    /// How far a weight's real number goes over all rounds if every batch agrees, in steps.
    pub weight_path: f32,
    /// Largest move of a weight in a round, in steps.
    pub weight_rate: f32,
    /// How strongly a weight's real number is drawn to its integer at the end of a descent; the pull
    /// grows from nothing. At 1 and half of the way to the next integer it is as strong as a gradient that every batch agrees on.
    pub damping: f32,
    /// First move of a bias, in deviations of the pre-activation, and of a multiplier, relative; it
    /// falls to nothing by half a cosine.
    pub fine_rate: f32,
    /// What the hidden activations count beside the class probabilities; 0 for nothing.
    pub hidden: f32,
    /// Share that a running average of the real numbers keeps of itself in a round.
    pub keep: f32,
    /// How many times a batch is used again on average: the teacher, in float, is what takes longest.
    pub replays: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rounds_each: 60,
            batch: 128,
            weight_path: 2.0,
            weight_rate: 0.02,
            damping: 1.0,
            fine_rate: 0.005,
            hidden: 1.0,
            keep: 0.95,
            replays: 3,
        }
    }
}
