//! ONNX files into [`Graph`]s.
//!
//! `guard` walks the untrusted bytes, `onnx-rs` parses them, and each node goes to its operator's
//! file in `ops`; nodes whose operands are all known are computed in `fold`. Operators are read as
//! <https://onnx.ai/onnx/operators/> defines them for operator sets 7 to 24.
//!
//! The file's tensors are batch-first and mostly channels-first; the graph is NHWC without batch.
//! See `importer::Tensor` for how the two are kept apart.

mod constant;
mod fold;
mod guard;
mod importer;
mod input;
mod node;
mod ops;
pub mod qdq;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use onnx_rs::ast;

use importer::{Fail, Importer, Item, Tensor};
use node::OnnxNode;

use super::{ImportError, Issue, check_file_size};
use crate::graph::{Graph, ValueId, passes};

/// Operator sets whose definitions the importer follows.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=24;
const MAX_NODES: usize = 10_000;

/// Reads an ONNX file's bytes; `file` is its name in messages.
///
/// Batch normalisation and other constants are folded and clamps fused ([`passes::simplify`]); the
/// result has passed [`Graph::check`]. The input and output are NHWC where the file's are NCHW.
///
/// # Errors
/// [`ImportError`]; [`ImportError::Unsupported`] lists every node that cannot be imported.
pub fn import_onnx(bytes: &[u8], file: &str) -> Result<Graph, ImportError> {
    check_file_size(bytes.len() as u64, file)?;
    let damaged = |reason: String| ImportError::Damaged {
        file: file.into(),
        reason,
    };
    guard::check(bytes).map_err(damaged)?;
    let model = onnx_rs::parse(bytes).map_err(|e| damaged(e.to_string()))?;
    let source = model
        .graph
        .as_ref()
        .ok_or_else(|| damaged("it holds no graph".into()))?;
    let opset = opset(&model, file)?;
    check_node_count(source, file)?;
    let mut graph = convert(source, opset, file)?;
    passes::simplify(&mut graph);
    graph.check().map_err(|source| ImportError::Graph {
        file: file.into(),
        source,
    })?;
    Ok(graph)
}

fn check_node_count(source: &ast::Graph<'_>, file: &str) -> Result<(), ImportError> {
    if source.node.len() <= MAX_NODES {
        return Ok(());
    }
    Err(ImportError::TooLarge {
        file: file.into(),
        what: format!("its {} nodes", source.node.len()),
        limit: format!("{MAX_NODES} nodes"),
    })
}

fn opset(model: &ast::Model<'_>, file: &str) -> Result<i64, ImportError> {
    let (low, high) = (*OPSETS.start(), *OPSETS.end());
    let found = model
        .opset_import
        .iter()
        .find(|o| matches!(o.domain, "" | "ai.onnx"))
        .map_or(1, |o| o.version);
    if OPSETS.contains(&found) {
        return Ok(found);
    }
    Err(ImportError::Opset {
        file: file.into(),
        found,
        low,
        high,
    })
}

fn convert(source: &ast::Graph<'_>, opset: i64, file: &str) -> Result<Graph, ImportError> {
    let initializers: HashMap<&str, &ast::TensorProto<'_>> =
        source.initializer.iter().map(|t| (t.name(), t)).collect();
    let ends = |what, infos: &[&ast::ValueInfo<'_>]| ImportError::Ends {
        file: file.into(),
        what,
        names: infos.iter().map(|i| format!("`{}`", i.name)).collect(),
    };
    let inputs: Vec<_> = source
        .input
        .iter()
        .filter(|i| !initializers.contains_key(i.name))
        .collect();
    let &[input] = inputs.as_slice() else {
        return Err(ends("input", &inputs));
    };
    let outputs: Vec<_> = source.output.iter().collect();
    let &[output] = outputs.as_slice() else {
        return Err(ends("output", &outputs));
    };

    let graph = Graph {
        name: if source.name.is_empty() {
            "network".into()
        } else {
            source.name.into()
        },
        values: Vec::new(),
        nodes: Vec::new(),
        input: ValueId(0),
        output: ValueId(0),
        input_was_nchw: false,
    };
    let mut importer = Importer::new(file, opset, graph, initializers);
    for name in source
        .node
        .iter()
        .flat_map(|n| &n.input)
        .chain([&output.name])
    {
        *importer.uses.entry(name).or_default() += 1;
    }
    input::bind_input(&mut importer, input, &source.node)?;

    let mut issues = Vec::new();
    for (i, raw) in source.node.iter().enumerate() {
        let out = raw.output.first().copied().unwrap_or_default();
        let name = [raw.name, out]
            .into_iter()
            .find(|s| !s.is_empty())
            .map_or_else(|| format!("node {i}"), str::to_string);
        let node = OnnxNode { raw, name, out };
        if let Some(twice) = raw
            .output
            .iter()
            .find(|o| !o.is_empty() && importer.is_bound(o))
        {
            let reason = format!("`{twice}` is made twice");
            return Err(ImportError::Damaged {
                file: file.into(),
                reason,
            });
        }
        let item = match ops::import_node(&mut importer, &node) {
            Ok(item) => item,
            Err(Fail::Fatal(e)) => return Err(e),
            Err(Fail::Unsupported { reason, remedy }) => {
                issues.push(Issue {
                    node: node.name.clone(),
                    operator: operator(raw),
                    shapes: shapes(&mut importer, raw),
                    reason,
                    remedy,
                });
                Item::Unknown
            }
            Err(Fail::Invalid(reason)) => {
                return Err(ImportError::Node {
                    file: file.into(),
                    node: node.name.clone(),
                    operator: operator(raw),
                    shapes: shapes(&mut importer, raw),
                    reason,
                });
            }
        };
        for (i, name) in raw
            .output
            .iter()
            .enumerate()
            .filter(|(_, name)| !name.is_empty())
        {
            importer.bind(name, if i == 0 { item.clone() } else { Item::Unknown });
        }
    }
    if !issues.is_empty() {
        return Err(ImportError::Unsupported {
            file: file.into(),
            issues,
        });
    }
    finish(importer, output.name)
}

fn finish<'a>(mut importer: Importer<'a, '_>, output: &'a str) -> Result<Graph, ImportError> {
    let file = importer.file.to_string();
    let damaged = |reason| ImportError::Damaged {
        file: file.clone(),
        reason,
    };
    let fatal = |fail| match fail {
        Fail::Fatal(e) => e,
        Fail::Invalid(reason) | Fail::Unsupported { reason, .. } => damaged(reason),
    };
    let t = match importer.item(output).map_err(fatal)? {
        Item::Tensor(t) => t,
        _ => {
            return Err(damaged(format!(
                "output `{output}` does not depend on the input"
            )));
        }
    };
    let rank = t.dims.len();
    let row_major = Tensor::row_major(rank);
    let t = if t.axes == row_major {
        t
    } else {
        importer
            .lay_out(&t, Tensor::channels_first(rank))
            .map_err(fatal)?
    };
    importer.graph.output = t.id;
    Ok(importer.graph)
}

fn operator(raw: &ast::Node<'_>) -> String {
    match raw.domain {
        "" => raw.op_type.to_string(),
        domain => format!("{domain}.{}", raw.op_type),
    }
}

/// The operands' shapes as the file has them.
fn shapes<'a>(importer: &mut Importer<'a, '_>, raw: &ast::Node<'a>) -> String {
    let all: Vec<String> = raw
        .input
        .iter()
        .map(|name| match importer.item(name) {
            Ok(Item::Tensor(t)) => {
                let dims: String = t.dims.iter().map(|d| format!(",{d}")).collect();
                format!("[N{dims}]")
            }
            Ok(Item::Constant(c)) => format!("{:?}", c.shape).replace(' ', ""),
            _ if name.is_empty() => "none".into(),
            _ => "?".into(),
        })
        .collect();
    if all.is_empty() {
        "none".into()
    } else {
        all.join(" ")
    }
}
