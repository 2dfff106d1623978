//! Layers of both kinds of network for people and programs: names, windows, activations.

use serde_json::{Value, json};

use crate::graph::{self, Activation, Pads};
use crate::import::tflite::fused_activation;
use crate::model::{Node, Op, Tensor};

/// A sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    pads: Pads,
}

impl Window {
    /// Of a float operator.
    pub fn of_float(op: &graph::Op) -> Option<Self> {
        match op {
            graph::Op::Conv2d(c) => Some(Self {
                kernel: [*c.weights.shape.get(1)?, *c.weights.shape.get(2)?],
                stride: c.stride,
                dilation: c.dilation,
                pads: c.pads,
            }),
            graph::Op::MaxPool(p) | graph::Op::AveragePool(p) => Some(Self {
                kernel: p.kernel,
                stride: p.stride,
                dilation: p.dilation,
                pads: p.pads,
            }),
            _ => None,
        }
    }

    /// Of an integer operator.
    pub fn of_integer(op: &Op) -> Option<Self> {
        match op {
            Op::Conv2d(c) => Some(Self {
                kernel: c.kernel,
                stride: c.stride,
                dilation: c.dilation,
                pads: c.pads,
            }),
            Op::MaxPool(p) | Op::AveragePool(p) => Some(Self {
                kernel: p.kernel,
                stride: p.stride,
                dilation: p.dilation,
                pads: p.pads,
            }),
            _ => None,
        }
    }

    /// Kernel, stride and padding (rows above, columns left, rows below, columns right) in words;
    /// dilation stands with the kernel where there is any.
    pub fn cells(window: Option<&Self>) -> [String; 3] {
        let Some(w) = window else {
            return ["-", "-", "-"].map(String::from);
        };
        let by = |[a, b]: [usize; 2]| format!("{a}x{b}");
        let kernel = match w.dilation {
            [1, 1] => by(w.kernel),
            gaps => format!("{} dilation {}", by(w.kernel), by(gaps)),
        };
        let p = w.pads;
        let padding = match p {
            p if p == Pads::default() => "none".into(),
            p if [p.left, p.bottom, p.right] == [p.top; 3] => p.top.to_string(),
            p => format!("{},{},{},{}", p.top, p.left, p.bottom, p.right),
        };
        [kernel, by(w.stride), padding]
    }

    /// Its fields for programs; none where there is no window.
    pub fn json(window: Option<&Self>) -> Value {
        let Some(w) = window else {
            return Value::Null;
        };
        json!({
            "kernel": w.kernel,
            "stride": w.stride,
            "dilation": w.dilation,
            "padding": {"top": w.pads.top, "left": w.pads.left, "bottom": w.pads.bottom, "right": w.pads.right},
        })
    }
}

/// The function that a float operator ends in; none where it ends in none.
pub fn float_activation(op: &graph::Op) -> Option<String> {
    let f = match op {
        graph::Op::Conv2d(c) => c.activation,
        graph::Op::FullyConnected(f) => f.activation,
        graph::Op::Affine(a) => a.activation,
        graph::Op::Add { activation } | graph::Op::Activation(activation) => *activation,
        _ => return None,
    };
    Some(match f {
        Activation::Identity => return None,
        Activation::Relu => "relu".into(),
        Activation::Clip { lo: 0.0, hi: 6.0 } => "relu6".into(),
        Activation::Clip { lo, hi } => format!("clip {lo}..{hi}"),
        Activation::LeakyRelu { alpha } => format!("leaky relu {alpha}"),
        Activation::Sigmoid => "sigmoid".into(),
        Activation::Tanh => "tanh".into(),
        Activation::HardSwish => "hard swish".into(),
        Activation::HardSigmoid { .. } => "hard sigmoid".into(),
    })
}

/// The fused activation of an integer operator: a name where it is one of TFLite's at the output's
/// scale, else the range of its outputs; none where nothing is cut off.
///
/// An output whose zero point is the smallest integer is a RELU's, or that of any function that is
/// never negative: both cut off the same.
pub fn integer_activation(node: &Node, output: &Tensor) -> Option<String> {
    let (min, max) = match &node.op {
        Op::MaxPool(p) | Op::AveragePool(p) => (p.act_min, p.act_max),
        Op::Add(a) => (a.act_min, a.act_max),
        op => op.linear().map(|l| (l.act_min, l.act_max))?,
    };
    if (min, max) == (i8::MIN, i8::MAX) {
        return (node.op.linear().is_some() && output.zero_point == i8::MIN).then(|| "relu".into());
    }
    Some(
        match fused_activation(min, max, output.scale, output.zero_point) {
            Some(1) => "relu".into(),
            Some(2) => "relu n1 to 1".into(),
            Some(3) => "relu6".into(),
            _ => format!("{min}..{max}"),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Conv2d, Linear, TensorId};

    fn conv(act: (i8, i8), pads: Pads, dilation: [usize; 2]) -> Node {
        Node {
            name: "c".into(),
            op: Op::Conv2d(Conv2d {
                kernel: [3, 5],
                stride: [2, 1],
                dilation,
                pads,
                groups: 1,
                linear: Linear {
                    weights: vec![0; 15],
                    bits: 8,
                    bias: vec![0],
                    multipliers: vec![crate::model::Multiplier::ZERO],
                    act_min: act.0,
                    act_max: act.1,
                },
            }),
            inputs: vec![TensorId(0)],
            output: TensorId(1),
        }
    }

    #[test]
    fn windows_and_activations_are_said_in_few_words() {
        let t = |zero_point| Tensor {
            name: "y".into(),
            shape: [1, 1, 1],
            scale: 0.05,
            zero_point,
        };
        let pads = Pads {
            bottom: 1,
            ..Pads::default()
        };
        let node = conv((-28, 92), pads, [1, 1]);
        let w = Window::of_integer(&node.op);
        assert_eq!(Window::cells(w.as_ref()), ["3x5", "2x1", "0,0,1,0"]);
        assert_eq!(integer_activation(&node, &t(-28)).as_deref(), Some("relu6"));
        assert_eq!(integer_activation(&node, &t(0)).as_deref(), Some("-28..92"));
        let node = conv((-128, 127), Pads::default(), [2, 2]);
        let w = Window::of_integer(&node.op);
        assert_eq!(
            Window::cells(w.as_ref()),
            ["3x5 dilation 2x2", "2x1", "none"]
        );
        assert_eq!(integer_activation(&node, &t(3)), None);
        assert_eq!(integer_activation(&node, &t(-128)).as_deref(), Some("relu"));
        assert_eq!(Window::of_integer(&Op::Reshape), None);
        assert_eq!(Window::json(w.as_ref())["stride"], json!([2, 1]));
    }
}
