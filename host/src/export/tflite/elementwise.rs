//! Sums, differences and products, with a constant among the operands or not, and resizing.

use super::TfliteExportError;
use super::file::{FileTensor, Value, element};
use super::write::{Operator, Writer, inexpressible};
use crate::import::tflite::{nearest_positions, schema_codes as code, schema_options as options};
use crate::model::{ConstantOperand, Node, Op};

impl Writer<'_> {
    /// ADD, SUB or MUL of operands that need not be alike.
    pub(super) fn elementwise(
        &mut self,
        node: &Node,
        inputs: &mut Vec<i32>,
    ) -> Result<Operator, TfliteExportError> {
        let (found, kind, act_min, act_max, constant) = match &node.op {
            Op::Mul(p) => (code::MUL, options::MUL, p.act_min, p.act_max, &p.constant),
            Op::Sub(s) => (code::SUB, options::SUB, s.act_min, s.act_max, &s.constant),
            Op::BroadcastAdd(s) => (code::ADD, options::ADD, s.act_min, s.act_max, &s.constant),
            _ => unreachable!("asked for element-wise operators only"),
        };
        if let Some(c) = constant {
            let tensor = self.constant(node, c);
            inputs.insert(c.position.min(inputs.len()), tensor);
        }
        let act = self.fused(node, act_min, act_max)?;
        Ok((found, 2, Some((kind, vec![(0, Value::I8(act))]))))
    }

    fn constant(&mut self, node: &Node, c: &ConstantOperand) -> i32 {
        self.file.tensor(FileTensor {
            name: format!("{}/constant", node.name),
            shape: vec![c.values.len() as i32],
            element: element::INT8,
            data: Some(c.values.iter().map(|v| *v as u8).collect()),
            scales: vec![c.scale],
            zero_point: i64::from(c.zero_point),
            axis: 0,
        })
    }

    /// RESIZE_NEAREST_NEIGHBOR, by whichever of its conventions chooses these rows and columns.
    pub(super) fn resize(
        &mut self,
        node: &Node,
        (rows, columns): (&[usize], &[usize]),
        inputs: &mut Vec<i32>,
    ) -> Result<Operator, TfliteExportError> {
        let [h, w, _] = self.model.tensor(node.inputs[0]).shape;
        let found = [(false, false), (true, false), (false, true), (true, true)]
            .into_iter()
            .find(|&(corners, centers)| {
                nearest_positions(h, rows.len(), corners, centers) == rows
                    && nearest_positions(w, columns.len(), corners, centers) == columns
            });
        let Some((corners, centers)) = found else {
            return Err(inexpressible(
                self.model,
                node,
                "its rows and columns follow none of TFLite's conventions".into(),
                "write a .qmend instead, which holds any",
            ));
        };
        let size = [rows.len() as i32, columns.len() as i32];
        inputs.push(self.integers(format!("{}/size", node.name), vec![2], &size));
        let fields = vec![(0, Value::Bool(corners)), (1, Value::Bool(centers))];
        let version = if centers { 3 } else { 2 };
        Ok((
            code::RESIZE_NEAREST_NEIGHBOR,
            version,
            Some((options::RESIZE_NEAREST_NEIGHBOR, fields)),
        ))
    }
}
