//! Constants of the operators that have no weights.

mod add;
mod lut;
mod softmax;

pub(super) use add::add;
pub(super) use lut::lut;
pub(super) use softmax::softmax;
