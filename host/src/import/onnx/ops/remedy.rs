//! What to do about operators that are not supported.

use onnx_rs::ast::OpType;

use crate::import::onnx::importer::Fail;

/// Operators that can work on activations.
pub(super) fn is_supported(op: &OpType<'_>) -> bool {
    use OpType::*;
    matches!(
        op,
        Conv | Gemm
            | MatMul
            | BatchNormalization
            | Relu
            | LeakyRelu
            | PRelu
            | Sigmoid
            | Tanh
            | HardSwish
            | HardSigmoid
            | Clip
            | Min
            | Max
            | Add
            | Sub
            | Mul
            | Div
            | Sum
            | Neg
            | MaxPool
            | AveragePool
            | GlobalAveragePool
            | GlobalMaxPool
            | ReduceMean
            | ReduceSum
            | ReduceMax
            | Flatten
            | Reshape
            | Squeeze
            | Unsqueeze
            | Transpose
            | Pad
            | Concat
            | Softmax
            | Identity
            | Dropout
            | Cast
    )
}

pub(super) fn unknown_domain(domain: &str) -> Fail {
    Fail::unsupported(
        format!("the operator domain `{domain}` is not supported"),
        "export with standard ONNX operators only (in PyTorch: no custom or contrib operators, and functions inlined)",
    )
}

pub(super) fn unsupported(op: &OpType<'_>) -> Fail {
    use OpType::*;
    let remedy = match op {
        LogSoftmax => {
            "end the exported model before it (return the logits): the class with the largest value is the same"
        }
        ArgMax | TopK => {
            "end the exported model before it (return the logits); qmend picks the class itself"
        }
        QuantizeLinear
        | DequantizeLinear
        | DynamicQuantizeLinear
        | QLinearConv
        | QLinearMatMul
        | ConvInteger
        | MatMulInteger => {
            "give the float model from before quantization: qmend quantizes it itself"
        }
        Elu | Selu | Celu | Gelu | Mish | Softplus | Softsign | ThresholdedRelu | Erf => {
            "use ReLU, ReLU6, LeakyReLU, HardSwish, sigmoid or tanh in its place and fine-tune"
        }
        ConvTranspose | Upsample | Resize | MaxUnpool | DepthToSpace => {
            "up-sampling is not supported: end the network before it, or use an architecture without it"
        }
        LSTM | GRU | RNN | Loop | If | Scan => {
            "control flow and recurrent layers are not supported: use convolutions over time, or export the model with fixed control flow"
        }
        InstanceNormalization
        | LayerNormalization
        | GroupNormalization
        | LpNormalization
        | MeanVarianceNormalization => {
            "normalisation that depends on the sample cannot be folded: train with batch normalisation"
        }
        Slice | Split | Gather | GatherND | GatherElements | Expand | Tile => {
            "on activations only constant shape arithmetic with it is supported: change the model so that layers use whole tensors"
        }
        Attention | Einsum => {
            "attention is not supported: use a convolutional or fully connected network"
        }
        Custom(_) => "it is not an operator of ONNX's own set: export with standard operators only",
        _ => {
            "it has no integer counterpart here: remove it from the exported part of the model, or express it by supported operators (see the documentation's list)"
        }
    };
    Fail::unsupported("this operator is not supported on activations", remedy)
}
