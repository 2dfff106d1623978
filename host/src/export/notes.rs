//! What an image carries for the host alone: names, preprocessing, class labels.
//!
//! The device never opens the notes, and nothing in them changes a bit of a result.

use serde::{Deserialize, Serialize};

use super::ExportError;
use crate::model::{Preprocess, QuantizedModel};

/// The notes of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Notes {
    /// One per operator, in execution order.
    pub node_names: Vec<String>,
    /// One per tensor.
    pub tensor_names: Vec<String>,
    /// From raw data to real input.
    pub preprocess: Preprocess,
    /// Class names, or none.
    pub labels: Vec<String>,
    /// Bottom and right padding of the windows for which it is more than the output's shape needs
    /// (and so has no effect): index of the operator, rows below, columns right.
    pub pads_after: Vec<(u32, u32, u32)>,
}

/// The message in an image: postcard's variant number is the version.
#[derive(Serialize, Deserialize)]
enum Message {
    V1(Notes),
}

impl Notes {
    /// The notes of a model, without paddings.
    pub fn of(model: &QuantizedModel) -> Self {
        Self {
            node_names: model.nodes.iter().map(|n| n.name.clone()).collect(),
            tensor_names: model.tensors.iter().map(|t| t.name.clone()).collect(),
            preprocess: model.preprocess.clone(),
            labels: model.labels.clone(),
            pads_after: Vec::new(),
        }
    }

    /// The message's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(&Message::V1(self.clone())).expect("writing to memory cannot fail")
    }

    /// Reads the message of an image with so many operators and tensors. An image without notes is
    /// given numbers for names.
    ///
    /// # Errors
    ///
    /// Bytes that are no notes, or names in another number than what they name.
    pub fn from_bytes(bytes: &[u8], nodes: usize, tensors: usize) -> Result<Self, ExportError> {
        let fail = |problem: String| Err(ExportError::Notes { problem });
        if bytes.is_empty() {
            return Ok(Self {
                node_names: (0..nodes).map(|i| format!("op{i}")).collect(),
                tensor_names: (0..tensors).map(|i| format!("tensor{i}")).collect(),
                ..Self::default()
            });
        }
        let notes = match postcard::take_from_bytes::<Message>(bytes) {
            Ok((Message::V1(notes), [])) => notes,
            Ok((_, rest)) => return fail(format!("are followed by {} unknown bytes", rest.len())),
            Err(e) => return fail(format!("cannot be read ({e})")),
        };
        if notes.node_names.len() != nodes || notes.tensor_names.len() != tensors {
            return fail(format!(
                "name {} operators and {} tensors where there are {nodes} and {tensors}",
                notes.node_names.len(),
                notes.tensor_names.len()
            ));
        }
        let p = &notes.preprocess;
        let numbers = [p.scale]
            .into_iter()
            .chain(p.mean.iter().copied())
            .chain(p.std.iter().copied());
        if numbers.into_iter().any(|v| !v.is_finite()) || p.std.contains(&0.0) {
            return fail("hold a preprocessing that is not finite".into());
        }
        Ok(notes)
    }
}
