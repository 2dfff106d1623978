//! Strategies one after the other.

use super::run::{Context, RepairError};
use super::{Snapshot, State, descent, layer, margin, neuron};
use std::fmt;
use std::str::FromStr;

/// How weights are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The paper's: one program a suspicious neuron, for the signs of its activation.
    Neuron,
    /// One program a neuron, for the values of its float twin.
    Layer,
    /// The whole network at once, for the margins of the logits.
    Margin,
    /// The whole network at once, down the gradient of its divergence from the teacher.
    Descent,
    /// `layer` where the model is far from its teacher, then `descent`, then `margin`.
    Auto,
}

impl Strategy {
    const ALL: [Strategy; 5] = [
        Strategy::Neuron,
        Strategy::Layer,
        Strategy::Margin,
        Strategy::Descent,
        Strategy::Auto,
    ];
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Strategy::Neuron => "neuron",
            Strategy::Layer => "layer",
            Strategy::Margin => "margin",
            Strategy::Descent => "descent",
            Strategy::Auto => "auto",
        })
    }
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|k| k.to_string() == s)
            .ok_or_else(|| {
                format!("unknown strategy `{s}`; known: neuron, layer, margin, descent, auto")
            })
    }
}

/// Strategies in the order in which they run, each from where the one before it ended; written
/// `layer,margin` or `layer+margin`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Chain(Vec<Strategy>);

impl Chain {
    /// The strategies in order.
    pub fn strategies(&self) -> &[Strategy] {
        &self.0
    }
}

impl From<Strategy> for Chain {
    fn from(s: Strategy) -> Self {
        Chain(vec![s])
    }
}

impl<const N: usize> From<[Strategy; N]> for Chain {
    fn from(s: [Strategy; N]) -> Self {
        Chain(s.into())
    }
}

impl FromStr for Chain {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        s.split([',', '+'])
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Chain)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, s) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("+")?;
            }
            write!(f, "{s}")?;
        }
        Ok(())
    }
}

/// `auto` begins with `layer` where fewer than this share of the holdout set agrees with the teacher:
/// there, gradients lead nowhere.
const FAR: f64 = 0.5;
/// Share of the time that is left that `descent` takes where another strategy follows.
const DESCENT_SHARE: f64 = 0.85;

/// Runs the chain that the settings name; `candidates` gets the model after each strategy but the
/// last.
///
/// # Errors
/// [`RepairError`] where a network cannot be run or differentiated.
pub fn run(
    state: &mut State<'_>,
    context: &mut Context<'_>,
    candidates: &mut Vec<Snapshot>,
) -> Result<(), RepairError> {
    let chain = context.config.strategy.clone();
    for (i, strategy) in chain.strategies().iter().enumerate() {
        if context.stop() {
            break;
        }
        let last = i + 1 == chain.strategies().len();
        match strategy {
            Strategy::Neuron => neuron::run(state, context)?,
            Strategy::Layer => layer::run(state, context)?,
            Strategy::Margin => margin::run(state, context)?,
            Strategy::Descent => {
                let share = if last { 1.0 } else { DESCENT_SHARE };
                descent::run(state, context, share, candidates)?;
            }
            Strategy::Auto => auto(state, context, candidates)?,
        }
        if !last && !context.config.strict {
            candidates.push(state.snapshot());
        }
    }
    Ok(())
}

fn auto(
    state: &mut State<'_>,
    context: &mut Context<'_>,
    candidates: &mut Vec<Snapshot>,
) -> Result<(), RepairError> {
    let agreement = state.score().holdout as f64 / state.holdout().len().max(1) as f64;
    if context.config.strict {
        layer::run(state, context)?;
        margin::run(state, context)?;
        // Where what `layer` lost cannot be won back, `margin` alone loses less.
        if state.lost_count() > 0 && !context.stop() {
            state.return_to_lossless();
            margin::run(state, context)?;
        }
        return Ok(());
    }
    if agreement < FAR {
        layer::run(state, context)?;
        candidates.push(state.snapshot());
    }
    descent::run(state, context, DESCENT_SHARE, candidates)?;
    candidates.push(state.snapshot());
    margin::run(state, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_read_as_they_are_written() {
        for s in ["auto", "layer+margin", "descent+margin+layer"] {
            assert_eq!(s.parse::<Chain>().unwrap().to_string(), s);
        }
        assert_eq!(
            "layer,margin".parse::<Chain>().unwrap().strategies(),
            [Strategy::Layer, Strategy::Margin]
        );
        assert!(
            "layer,nonsense"
                .parse::<Chain>()
                .unwrap_err()
                .contains("nonsense")
        );
        assert!("".parse::<Chain>().is_err());
    }
}
