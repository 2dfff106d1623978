//! The window attributes that convolutions and pools share.

use crate::graph::Pads;
use crate::import::onnx::importer::{Fail, Step};
use crate::import::onnx::node::OnnxNode;

/// Kernel, stride, dilation and explicit padding over height and width; one-dimensional windows
/// have height one.
pub(super) struct Window {
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) pads: Pads,
    pub(super) ceil_mode: bool,
}

fn two(v: &[usize]) -> [usize; 2] {
    match v {
        [h, w] => [*h, *w],
        [w] => [1, *w],
        _ => [1, 1],
    }
}

impl Window {
    /// Reads the attributes for an input of these spatial lengths (one or two). `weights` are the
    /// spatial lengths of a convolution's weights, which `kernel_shape` must repeat.
    pub(super) fn read(
        n: &OnnxNode<'_, '_>,
        spatial: &[usize],
        weights: Option<&[usize]>,
    ) -> Step<Window> {
        let rank = spatial.len();
        let kernel = match weights {
            Some(k) => {
                if n.has("kernel_shape") && n.sizes("kernel_shape", rank, 1, 1)? != k {
                    return Err(Fail::invalid(format!(
                        "kernel_shape differs from the weight's {k:?}"
                    )));
                }
                k.to_vec()
            }
            None if !n.has("kernel_shape") => return Err(Fail::invalid("it has no kernel_shape")),
            None => n.sizes("kernel_shape", rank, 1, 1)?,
        };
        if kernel.contains(&0) {
            return Err(Fail::invalid("its kernel is empty"));
        }
        let stride = n.sizes("strides", rank, 1, 1)?;
        let dilation = n.sizes("dilations", rank, 1, 1)?;
        let auto = n.text("auto_pad", "NOTSET")?;
        let pads = match auto {
            "NOTSET" | "" => {
                if n.ints("pads").is_some_and(|p| p.iter().any(|&p| p < 0)) {
                    return Err(Fail::unsupported(
                        "negative padding",
                        "slice the data before the network instead",
                    ));
                }
                n.sizes("pads", 2 * rank, 0, 0)?
            }
            "VALID" => vec![0; 2 * rank],
            "SAME_UPPER" | "SAME_LOWER" => {
                let (mut begin, mut end) = (vec![], vec![]);
                for i in 0..rank {
                    let total = same_padding(spatial[i], kernel[i], stride[i], dilation[i]);
                    let (small, large) = (total / 2, total - total / 2);
                    let (b, e) = if auto == "SAME_UPPER" {
                        (small, large)
                    } else {
                        (large, small)
                    };
                    begin.push(b);
                    end.push(e);
                }
                [begin, end].concat()
            }
            other => return Err(Fail::invalid(format!("auto_pad = `{other}`"))),
        };
        let ([top, left], [bottom, right]) = {
            // One-dimensional windows must not pad the height.
            let pair = |p: &[usize]| if rank == 2 { two(p) } else { [0, p[0]] };
            (pair(&pads[..rank]), pair(&pads[rank..]))
        };
        Ok(Window {
            kernel: two(&kernel),
            stride: two(&stride),
            dilation: two(&dilation),
            pads: Pads {
                top,
                left,
                bottom,
                right,
            },
            ceil_mode: n.flag("ceil_mode"),
        })
    }
}

/// Padding for which the output has `ceil(n / stride)` elements:
/// `max((ceil(n / s) - 1) s + (k - 1) d + 1 - n, 0)`.
fn same_padding(n: usize, k: usize, s: usize, d: usize) -> usize {
    let out = n.div_ceil(s);
    let needed = out
        .saturating_sub(1)
        .saturating_mul(s)
        .saturating_add((k - 1).saturating_mul(d))
        .saturating_add(1);
    needed.saturating_sub(n)
}

#[cfg(test)]
mod tests {
    use super::same_padding;

    #[test]
    fn same_padding_gives_the_rounded_up_quotient() {
        for n in 1..40usize {
            for k in 1..8 {
                for s in 1..5 {
                    for d in 1..4 {
                        let span = (k - 1) * d + 1;
                        let padded = n + same_padding(n, k, s, d);
                        let out = n.div_ceil(s);
                        assert!(padded >= span, "n {n} k {k} s {s} d {d}");
                        assert_eq!(
                            (padded - span) / s + 1,
                            out.max((n.max(span) - span) / s + 1),
                            "n {n} k {k} s {s} d {d}"
                        );
                    }
                }
            }
        }
    }
}
