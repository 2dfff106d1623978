//! From a file's bytes to the integer network: the ends, and operator after operator.

use super::call::Call;
use super::error::{TfliteError, UnsupportedOperator};
use super::flatbuffer::{Malformed, Tables, Vector};
use super::network::{MAX_SHOWN, Network, Problem, text};
use super::schema::{self, ElementType, Operator, SubGraph, code};
use super::{names, ops};
use crate::model::{Preprocess, QuantizedModel, Rounding};

/// Most operators of a file.
const MAX_OPERATORS: usize = 4096;
/// Most tensors of a file.
const MAX_TENSORS: usize = 1 << 16;

/// Reads an int8 TFLite network.
///
/// `name` stands for the file in messages and becomes the network's name. The result computes with
/// [`Rounding::Tflm`], TFLM's arithmetic; set [`QuantizedModel::rounding`] to
/// [`Rounding::LiteRtReference`] for that of LiteRT's reference kernels. There is one node for
/// every operator, in the file's order, named after its output tensor (QUANTIZE of a float input
/// and DEQUANTIZE into a float output excepted); tensors have the file's names. Input and output
/// are int8; their real values are those of the file's input and output.
///
/// # Errors
/// See [`TfliteError`]; operators that cannot be imported are listed all at once.
pub fn import_tflite_int8(bytes: &[u8], name: &str) -> Result<QuantizedModel, TfliteError> {
    let importer = Importer { file: name };
    importer.run(bytes)
}

struct Importer<'f> {
    file: &'f str,
}

impl Importer<'_> {
    fn damaged(&self, reason: impl Into<String>) -> TfliteError {
        TfliteError::Damaged {
            file: self.file.to_string(),
            reason: reason.into(),
        }
    }

    fn malformed(&self) -> impl Fn(Malformed) -> TfliteError + '_ {
        |m| self.damaged(m.0)
    }

    /// An error of the whole file.
    fn problem(&self, p: Problem) -> TfliteError {
        match p {
            Problem::Damaged(reason) => self.damaged(reason),
            Problem::TooLarge { what, limit } => TfliteError::TooLarge {
                file: self.file.to_string(),
                what,
                limit,
            },
            Problem::Unsupported { reason, remedy } => self.damaged(format!("{reason}; {remedy}")),
            Problem::Follows => self.damaged("its operators depend on each other in a circle"),
        }
    }

    fn limit(&self, what: &'static str, found: usize, limit: usize) -> Result<(), TfliteError> {
        if found <= limit {
            return Ok(());
        }
        Err(TfliteError::TooLarge {
            file: self.file.to_string(),
            what,
            limit: limit.to_string(),
        })
    }

    fn run(&self, bytes: &[u8]) -> Result<QuantizedModel, TfliteError> {
        let model = schema::Model::new(bytes).map_err(self.malformed())?;
        let version = model.version().map_err(self.malformed())?;
        if version != 3 {
            return Err(self.damaged(format!("it has schema version {version} instead of 3")));
        }
        let codes = model.operator_codes().map_err(self.malformed())?;
        let subgraphs = model.subgraphs().map_err(self.malformed())?;
        if subgraphs.len() != 1 {
            return Err(TfliteError::Subgraphs {
                file: self.file.to_string(),
                count: subgraphs.len(),
            });
        }
        let table = subgraphs
            .get(0)
            .map_err(self.malformed())?
            .ok_or_else(|| self.damaged("it has no subgraph"))?;
        let graph = SubGraph::new(table).map_err(self.malformed())?;
        self.limit("its number of tensors", graph.tensors.len(), MAX_TENSORS)?;
        self.limit(
            "its number of operators",
            graph.operators.len(),
            MAX_OPERATORS,
        )?;
        let mut network = Network::new(graph.tensors, model.buffers().map_err(self.malformed())?);
        let input = self.end(&network, "input", &graph.inputs)?;
        network.file_output = self.end(&network, "output", &graph.outputs)? as usize;
        let operators: Vec<(Operator, i32, String)> = (0..graph.operators.len())
            .map(|i| self.operator(&graph, &codes, i))
            .collect::<Result<_, _>>()?;
        self.require_int8(&network, &operators)?;
        self.open(&mut network, input)?;
        let mut issues = Vec::new();
        for (index, (operator, code, title)) in operators.iter().enumerate() {
            let mut call = Call {
                network: &mut network,
                operator: *operator,
            };
            let problem = match ops::convert(*code, &mut call) {
                Ok(()) => continue,
                Err(problem) => problem,
            };
            for output in operator.outputs.iter().take(MAX_SHOWN) {
                network.give_up(output);
            }
            match problem {
                Problem::Unsupported { reason, remedy } => issues.push(UnsupportedOperator {
                    index,
                    operator: title.clone(),
                    output: operator
                        .outputs
                        .get(0)
                        .map_or_else(String::new, |o| network.name_of(o)),
                    shapes: network.shapes_of(&operator.inputs),
                    reason,
                    remedy,
                }),
                Problem::Follows => {}
                Problem::Damaged(reason) => {
                    return Err(self.damaged(format!("operator {index} ({title}): {reason}")));
                }
                Problem::TooLarge { .. } => return Err(self.problem(problem)),
            }
        }
        if !issues.is_empty() {
            return Err(TfliteError::Unsupported {
                file: self.file.to_string(),
                operators: issues,
            });
        }
        let (Some(input), Some(output)) = (network.input, network.output()) else {
            return Err(self.damaged("its input is never read, or its output never written"));
        };
        Ok(QuantizedModel {
            name: self.file.to_string(),
            rounding: Rounding::Tflm,
            tensors: network.tensors,
            nodes: network.nodes,
            input,
            output,
            preprocess: Preprocess::default(),
            labels: Vec::new(),
        })
    }

    /// The only input or output of the graph.
    fn end(
        &self,
        network: &Network,
        what: &'static str,
        ends: &Vector<'_, i32>,
    ) -> Result<i32, TfliteError> {
        if let (Some(index), 1) = (ends.get(0), ends.len()) {
            network.file_tensor(index).map_err(|p| self.problem(p))?;
            return Ok(index);
        }
        let names = ends
            .iter()
            .take(MAX_SHOWN)
            .map(|i| network.name_of(i))
            .collect();
        Err(TfliteError::Ends {
            file: self.file.to_string(),
            what,
            names,
        })
    }

    fn operator<'a>(
        &self,
        graph: &SubGraph<'a>,
        codes: &Tables<'a>,
        index: usize,
    ) -> Result<(Operator<'a>, i32, String), TfliteError> {
        let missing = || {
            self.damaged(format!(
                "operator {index} is missing, or has no operator code"
            ))
        };
        let table = graph
            .operators
            .get(index)
            .map_err(self.malformed())?
            .ok_or_else(missing)?;
        let operator = Operator::new(table).map_err(self.malformed())?;
        let table = codes
            .get(operator.code_index as usize)
            .map_err(self.malformed())?
            .ok_or_else(missing)?;
        let (code, custom) = schema::operator_code(&table).map_err(self.malformed())?;
        let title = match code {
            code::CUSTOM => format!("CUSTOM {}", text(&custom)),
            _ => names::operator(code),
        };
        Ok((operator, code, title))
    }

    /// Refuses networks in which no operator reads and writes int8, as a whole.
    fn require_int8(
        &self,
        network: &Network,
        operators: &[(Operator, i32, String)],
    ) -> Result<(), TfliteError> {
        let mut first = None;
        for (operator, ..) in operators {
            let (Some(x), Some(y)) = (operator.inputs.get(0), operator.outputs.get(0)) else {
                continue;
            };
            let (Ok(x), Ok(y)) = (network.file_tensor(x), network.file_tensor(y)) else {
                continue;
            };
            if x.element == ElementType::INT8 && y.element == ElementType::INT8 {
                return Ok(());
            }
            first.get_or_insert(x.element);
        }
        match first {
            Some(kind) => Err(TfliteError::NotInt8 {
                file: self.file.to_string(),
                kind: kind.to_string(),
            }),
            // What is wrong with operators that have no operands is theirs to say.
            None => Ok(()),
        }
    }

    /// Declares the input, or notes that it is float.
    fn open(&self, network: &mut Network, input: i32) -> Result<(), TfliteError> {
        let t = network.file_tensor(input).map_err(|p| self.problem(p))?;
        if t.element == ElementType::FLOAT32 {
            network.float_input = Some(input as usize);
            return Ok(());
        }
        let types = [ElementType::INT8, ElementType::UINT8];
        network.input = Some(
            network
                .declare(input, &types)
                .map_err(|p| self.problem(p))?
                .id,
        );
        Ok(())
    }
}
