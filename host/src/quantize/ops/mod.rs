//! Constants of the operators that have no weights.

mod add;
mod lut;
mod product;
mod softmax;

pub(crate) use add::{add, broadcast};
pub(crate) use lut::{lut, table};
pub(crate) use product::product;
pub(crate) use softmax::softmax;
