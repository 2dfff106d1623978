//! One node of the file, with typed access to its attributes.

use onnx_rs::ast::{Attribute, Node, TensorProto};

use super::importer::{Fail, Step};

/// A node of the file.
pub(super) struct OnnxNode<'a, 'b> {
    pub(super) raw: &'b Node<'a>,
    /// Unique and not empty.
    pub(super) name: String,
    /// Name of the first output.
    pub(super) out: &'a str,
}

impl<'a, 'b> OnnxNode<'a, 'b> {
    /// Name of operand `i`; `None` if it is left out.
    pub(super) fn input(&self, i: usize) -> Option<&'a str> {
        self.raw.input.get(i).copied().filter(|n| !n.is_empty())
    }

    fn find(&self, name: &str) -> Option<&'b Attribute<'a>> {
        self.raw.attribute.iter().find(|a| a.name == name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.find(name).map_or(default, |a| a.i)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.int(name, 0) != 0
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        self.find(name).map_or(default, |a| a.f)
    }

    pub(super) fn ints(&self, name: &str) -> Option<&'b [i64]> {
        self.find(name).map(|a| a.ints.as_slice())
    }

    pub(super) fn floats(&self, name: &str) -> Option<&'b [f32]> {
        self.find(name).map(|a| a.floats.as_slice())
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&'b TensorProto<'a>> {
        self.find(name).and_then(|a| a.t.as_ref())
    }

    pub(super) fn text(&self, name: &str, default: &'b str) -> Step<&'b str> {
        match self.find(name) {
            None => Ok(default),
            Some(a) => std::str::from_utf8(a.s)
                .map_err(|_| Fail::invalid(format!("attribute {name} is not text"))),
        }
    }

    /// An attribute of `n` numbers, none below `least`.
    pub(super) fn sizes(
        &self,
        name: &str,
        n: usize,
        least: i64,
        default: usize,
    ) -> Step<Vec<usize>> {
        let Some(v) = self.ints(name) else {
            return Ok(vec![default; n]);
        };
        if v.len() != n || v.iter().any(|&x| x < least || x > i64::from(u32::MAX)) {
            return Err(Fail::invalid(format!(
                "attribute {name} = {v:?} should be {n} numbers not below {least}"
            )));
        }
        Ok(v.iter().map(|&x| x as usize).collect())
    }
}
