//! Operators of two operands, of which each may be a constant, broadcast, or under the output.

use core::ops::Range;

use super::place;
use crate::image::{Model, Operand, Product, Sum, TensorDesc};
use crate::kernels::{AddParams, Elements, MulParams, Source, SubParams, elementwise, shape};

// A function of two elements: of its own type, so that loops are compiled for each, or one for all.
#[cfg(feature = "fast")]
macro_rules! function {
    ($f:expr) => {
        $f
    };
}
#[cfg(not(feature = "fast"))]
macro_rules! function {
    ($f:expr) => {
        &$f as &dyn Fn(i8, i8) -> i8
    };
}

pub(super) fn mul(model: &Model, o: &Product, arena: &mut [i8]) {
    let y = model.tensor(o.output);
    let params = MulParams {
        input_zero_points: zero_points(model, &o.operands),
        output_zero_point: y.zero_point,
        multiplier: o.multiplier,
        act_min: o.act_min,
        act_max: o.act_max,
    };
    run(
        model,
        &o.operands,
        &y,
        arena,
        function!(|a, b| params.apply(a, b)),
    );
}

pub(super) fn add(model: &Model, o: &Sum, arena: &mut [i8]) {
    let y = model.tensor(o.output);
    let params = sum(model, o, &y);
    run(
        model,
        &o.operands,
        &y,
        arena,
        function!(|a, b| params.apply(a, b)),
    );
}

pub(super) fn sub(model: &Model, o: &Sum, arena: &mut [i8]) {
    let y = model.tensor(o.output);
    let params = SubParams(sum(model, o, &y));
    run(
        model,
        &o.operands,
        &y,
        arena,
        function!(|a, b| params.apply(a, b)),
    );
}

fn sum(model: &Model, o: &Sum, y: &TensorDesc) -> AddParams {
    AddParams {
        input_zero_points: zero_points(model, &o.operands),
        output_zero_point: y.zero_point,
        input_multipliers: o.input_multipliers,
        output_multiplier: o.output_multiplier,
        act_min: o.act_min,
        act_max: o.act_max,
    }
}

fn zero_points(model: &Model, operands: &[Operand; 2]) -> [i8; 2] {
    [&operands[0], &operands[1]].map(|o| match o {
        Operand::Tensor(id) => model.tensor(*id).zero_point,
        Operand::Constant(c) => c.zero_point,
    })
}

/// Where a tensor lies that is not under the output.
fn elsewhere(model: &Model, operand: &Operand, y: &TensorDesc) -> Option<Range<usize>> {
    let x = model.tensor(operand.tensor()?);
    (x.offset != y.offset).then(|| place(&x))
}

fn source<'a>(model: &Model<'a>, operand: &Operand, apart: Option<&'a [i8]>) -> Source<'a> {
    match operand {
        Operand::Constant(c) => Source {
            elements: Elements::Constant(model.constant(c)),
            shape: [1, 1, c.count as usize],
        },
        Operand::Tensor(id) => Source {
            elements: apart.map_or(Elements::Output, Elements::Tensor),
            shape: shape(model.tensor(*id).shape),
        },
    }
}

fn run(
    model: &Model,
    operands: &[Operand; 2],
    y: &TensorDesc,
    arena: &mut [i8],
    f: impl Fn(i8, i8) -> i8,
) {
    const APART: &str = "the check refuses tensors that overlap while both are needed";
    let out_place = place(y);
    let [a, b] = [&operands[0], &operands[1]].map(|o| elsewhere(model, o, y));
    let (out, [a, b]): (&mut [i8], [Option<&[i8]>; 2]) = match (a, b) {
        (None, None) => (&mut arena[out_place], [None, None]),
        (Some(a), Some(b)) if a == b => {
            let [out, x] = arena.get_disjoint_mut([out_place, a]).expect(APART);
            (out, [Some(x), Some(x)])
        }
        (Some(a), Some(b)) => {
            let [out, a, b] = arena.get_disjoint_mut([out_place, a, b]).expect(APART);
            (out, [Some(a), Some(b)])
        }
        (Some(a), None) => {
            let [out, a] = arena.get_disjoint_mut([out_place, a]).expect(APART);
            (out, [Some(a), None])
        }
        (None, Some(b)) => {
            let [out, b] = arena.get_disjoint_mut([out_place, b]).expect(APART);
            (out, [None, Some(b)])
        }
    };
    let a = source(model, &operands[0], a);
    let b = source(model, &operands[1], b);
    elementwise(shape(y.shape), &a, &b, out, f);
}
