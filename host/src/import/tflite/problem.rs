//! What is wrong with one operator.

use super::error::{TfliteError, UnsupportedOperator};
use super::file::{File, Listed};
use super::flatbuffer::Malformed;

/// What is wrong with one operator.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Problem {
    /// The file contradicts itself.
    Damaged(String),
    /// A limit.
    TooLarge { what: &'static str, limit: String },
    /// Something that is not supported, and the way out.
    Unsupported { reason: String, remedy: String },
    /// An operand comes from an operator that has been reported.
    Follows,
}

impl Problem {
    pub(super) fn unsupported(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Unsupported {
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }

    /// An operator that is none of the supported ones.
    pub(super) fn unknown_operator(supported: &[String]) -> Self {
        Self::unsupported(
            "this operator is not supported",
            format!(
                "replace it before conversion by some of {}",
                supported.join(", ")
            ),
        )
    }
}

impl From<Malformed> for Problem {
    fn from(m: Malformed) -> Self {
        Self::Damaged(m.0)
    }
}

impl Problem {
    /// The error of a whole file.
    pub(super) fn of_file(self, file: &str) -> TfliteError {
        let damaged = |reason| TfliteError::Damaged {
            file: file.to_string(),
            reason,
        };
        match self {
            Problem::Damaged(reason) => damaged(reason),
            Problem::TooLarge { what, limit } => TfliteError::TooLarge {
                file: file.to_string(),
                what,
                limit,
            },
            Problem::Unsupported { reason, remedy } => TfliteError::Unsuited {
                file: file.to_string(),
                reason,
                remedy,
            },
            Problem::Follows => {
                damaged("its operators depend on each other in a circle".to_string())
            }
        }
    }
}

/// The operators that cannot be imported.
#[derive(Default)]
pub(super) struct Issues(Vec<UnsupportedOperator>);

impl Issues {
    /// Notes an operator's problem.
    ///
    /// # Errors
    /// Damage and limits, after which nothing else is worth a look.
    pub(super) fn add(
        &mut self,
        file: &File,
        index: usize,
        listed: &Listed,
        problem: Problem,
    ) -> Result<(), TfliteError> {
        match problem {
            Problem::Unsupported { reason, remedy } => self.0.push(UnsupportedOperator {
                index,
                operator: listed.title.clone(),
                output: listed
                    .operator
                    .outputs
                    .get(0)
                    .map_or_else(String::new, |o| file.name_of(o)),
                shapes: file.shapes_of(&listed.operator.inputs),
                reason,
                remedy,
            }),
            Problem::Follows => {}
            Problem::Damaged(reason) => {
                return Err(TfliteError::Damaged {
                    file: file.name.to_string(),
                    reason: format!("operator {index} ({}): {reason}", listed.title),
                });
            }
            Problem::TooLarge { .. } => return Err(problem.of_file(file.name)),
        }
        Ok(())
    }

    /// # Errors
    /// All that were noted.
    pub(super) fn finish(self, file: &str) -> Result<(), TfliteError> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(TfliteError::Unsupported {
            file: file.to_string(),
            operators: self.0,
        })
    }
}
