//! Convolutions and pools against the definitions, computed channels-first.

use super::build::{Net, assert_close, int, ints, noise, text};

/// What a window operator does, over `[c, h, w]`.
#[derive(Clone, Copy, Debug)]
struct Window {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    /// Top, left, bottom, right.
    pads: [usize; 4],
}

impl Window {
    fn output(&self, [_, h, w]: [usize; 3], ceil: bool) -> [usize; 2] {
        [0, 1].map(|i| {
            let n = [h, w][i];
            let span = (self.kernel[i] - 1) * self.dilation[i] + 1;
            let room = n + self.pads[i] + self.pads[i + 2] - span;
            let s = self.stride[i];
            let out = if ceil { room.div_ceil(s) } else { room / s } + 1;
            if ceil && (out - 1) * s >= n + self.pads[i] {
                out - 1
            } else {
                out
            }
        })
    }

    /// The taps of an output position that lie inside the input: (kernel row, kernel column, row, column).
    fn taps(&self, at: [usize; 2], [_, h, w]: [usize; 3]) -> Vec<[usize; 4]> {
        let mut taps = Vec::new();
        for ky in 0..self.kernel[0] {
            for kx in 0..self.kernel[1] {
                let y =
                    (at[0] * self.stride[0] + ky * self.dilation[0]) as i64 - self.pads[0] as i64;
                let x =
                    (at[1] * self.stride[1] + kx * self.dilation[1]) as i64 - self.pads[1] as i64;
                if (0..h as i64).contains(&y) && (0..w as i64).contains(&x) {
                    taps.push([ky, kx, y as usize, x as usize]);
                }
            }
        }
        taps
    }
}

fn pairs(v: [usize; 2]) -> [i64; 2] {
    v.map(|x| x as i64)
}

/// The definition's convolution with weights OIHW.
fn conv(x: &[f32], shape: [usize; 3], w: &[f32], o: usize, groups: usize, win: Window) -> Vec<f32> {
    let [oh, ow] = win.output(shape, false);
    let [c, h, wd] = shape;
    let (ig, og) = (c / groups, o / groups);
    let mut y = Vec::new();
    for oc in 0..o {
        for i in 0..oh * ow {
            let mut sum = 0.0f64;
            for [ky, kx, r, q] in win.taps([i / ow, i % ow], shape) {
                for ic in 0..ig {
                    let weight = w[((oc * ig + ic) * win.kernel[0] + ky) * win.kernel[1] + kx];
                    sum += f64::from(weight) * f64::from(x[((oc / og * ig + ic) * h + r) * wd + q]);
                }
            }
            y.push(sum as f32);
        }
    }
    y
}

fn check_conv(win: Window, groups: usize, auto: Option<&'static str>) {
    let (shape, o) = ([4, 7, 6], 8);
    let [kh, kw] = win.kernel;
    let dims = [8, (4 / groups) as i64, kh as i64, kw as i64];
    let w = noise(dims.iter().product::<i64>() as usize, 3);
    let mut attributes = vec![
        int("group", groups as i64),
        ints("strides", &pairs(win.stride)),
        ints("dilations", &pairs(win.dilation)),
    ];
    attributes.push(match auto {
        Some(name) => text("auto_pad", name),
        None => ints("pads", &win.pads.map(|p| p as i64)),
    });
    let net =
        Net::new(&[4, 7, 6])
            .floats("w", &dims, &w)
            .node("Conv", &["x", "w"], "y", attributes);
    let x = noise(4 * 7 * 6, 1);
    assert_close(&net.run(&x), &conv(&x, shape, &w, o, groups, win));
}

#[test]
fn convolutions_follow_the_definition_for_groups_strides_dilations_and_uneven_padding() {
    for groups in [1, 2, 4] {
        for (stride, dilation) in [([1, 1], [1, 1]), ([2, 3], [1, 1]), ([1, 2], [2, 1])] {
            check_conv(
                Window {
                    kernel: [3, 2],
                    stride,
                    dilation,
                    pads: [1, 0, 2, 1],
                },
                groups,
                None,
            );
            check_conv(
                Window {
                    kernel: [1, 1],
                    stride,
                    dilation,
                    pads: [0; 4],
                },
                groups,
                None,
            );
        }
    }
}

#[test]
fn auto_pad_splits_an_odd_padding_as_its_name_says() {
    // Height 7, kernel 4, stride 2: 4 outputs need 10 rows, 3 are added. Width 6, kernel 3, stride 1: 2.
    let win = |pads| Window {
        kernel: [4, 3],
        stride: [2, 1],
        dilation: [1, 1],
        pads,
    };
    check_conv(win([1, 1, 2, 1]), 1, Some("SAME_UPPER"));
    check_conv(win([2, 1, 1, 1]), 1, Some("SAME_LOWER"));
    check_conv(win([0; 4]), 1, Some("VALID"));
    // Height 7, stride 3: 3 outputs need 3 + 6 rows; dilation 2 makes the kernel of 3 span 5: 4 are added.
    check_conv(
        Window {
            kernel: [3, 1],
            stride: [3, 2],
            dilation: [2, 1],
            pads: [2, 0, 2, 0],
        },
        2,
        Some("SAME_UPPER"),
    );
}

#[test]
fn one_dimensional_convolutions_run_with_height_one() {
    let (x, w) = (noise(3 * 11, 1), noise(5 * 3 * 3, 2));
    let net = Net::new(&[3, 11]).floats("w", &[5, 3, 3], &w).node(
        "Conv",
        &["x", "w"],
        "y",
        vec![ints("strides", &[2]), ints("pads", &[1, 2])],
    );
    let win = Window {
        kernel: [1, 3],
        stride: [1, 2],
        dilation: [1, 1],
        pads: [0, 1, 0, 2],
    };
    assert_eq!(net.graph().shape(net.graph().input), [1, 11, 3]);
    assert_close(&net.run(&x), &conv(&x, [3, 1, 11], &w, 5, 1, win));
}

fn pool(
    x: &[f32],
    shape: [usize; 3],
    win: Window,
    ceil: bool,
    f: impl Fn(&[f32]) -> f32,
) -> Vec<f32> {
    let [c, h, w] = shape;
    let [oh, ow] = win.output(shape, ceil);
    let mut y = Vec::new();
    for ch in 0..c {
        for i in 0..oh * ow {
            let taps = win.taps([i / ow, i % ow], shape);
            let inside: Vec<f32> = taps
                .iter()
                .map(|[_, _, r, q]| x[(ch * h + r) * w + q])
                .collect();
            y.push(f(&inside));
        }
    }
    y
}

#[test]
fn pools_follow_the_definition_with_and_without_ceil_mode() {
    let x = noise(2 * 7 * 6, 5);
    let shape = [2, 7, 6];
    for (kernel, stride, pads) in [
        ([2, 2], [2, 2], [0, 0, 0, 0]),
        ([3, 2], [2, 2], [1, 0, 1, 1]),
        ([3, 3], [3, 2], [1, 1, 1, 1]),
        // Rounded up, a fourth window would start behind the input: it must not be made.
        ([2, 2], [3, 3], [1, 1, 1, 1]),
    ] {
        for ceil in [false, true] {
            let win = Window {
                kernel,
                stride,
                dilation: [1, 1],
                pads,
            };
            let attributes = || {
                vec![
                    ints("kernel_shape", &pairs(kernel)),
                    ints("strides", &pairs(stride)),
                    ints("pads", &pads.map(|p| p as i64)),
                    int("ceil_mode", i64::from(ceil)),
                ]
            };
            let max = Net::new(&[2, 7, 6]).node("MaxPool", &["x"], "y", attributes());
            let largest = |v: &[f32]| v.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_close(&max.run(&x), &pool(&x, shape, win, ceil, largest));
            let mean = Net::new(&[2, 7, 6]).node("AveragePool", &["x"], "y", attributes());
            assert_close(
                &mean.run(&x),
                &pool(&x, shape, win, ceil, |v| {
                    v.iter().sum::<f32>() / v.len() as f32
                }),
            );
        }
    }
}

#[test]
fn a_mean_that_counts_padding_divides_by_the_whole_kernel() {
    let x = noise(2 * 7 * 6, 6);
    let net = |ceil| {
        Net::new(&[2, 7, 6]).node(
            "AveragePool",
            &["x"],
            "y",
            vec![
                ints("kernel_shape", &[3, 3]),
                ints("strides", &[2, 2]),
                ints("pads", &[1, 1, 1, 1]),
                int("count_include_pad", 1),
                int("ceil_mode", ceil),
            ],
        )
    };
    let win = Window {
        kernel: [3, 3],
        stride: [2, 2],
        dilation: [1, 1],
        pads: [1; 4],
    };
    assert_close(
        &net(0).run(&x),
        &pool(&x, [2, 7, 6], win, false, |v| v.iter().sum::<f32>() / 9.0),
    );
    assert_eq!(net(0).kinds(), ["Pad", "AveragePool"]);
    // Width 6: rounding up adds a window, and exporters disagree about its divisor.
    assert!(net(1).error().contains("count_include_pad"));
}

#[test]
fn a_mean_over_the_whole_map_is_recognised_as_global() {
    let whole = Net::new(&[3, 4, 5]).node(
        "AveragePool",
        &["x"],
        "y",
        vec![ints("kernel_shape", &[4, 5])],
    );
    assert_eq!(whole.kinds(), ["GlobalAveragePool"]);
    let part = Net::new(&[3, 4, 5]).node(
        "AveragePool",
        &["x"],
        "y",
        vec![ints("kernel_shape", &[4, 4])],
    );
    assert_eq!(part.kinds(), ["AveragePool"]);
}

#[test]
fn windows_that_do_not_fit_are_invalid_and_named() {
    let net = Net::new(&[1, 3, 3])
        .floats("w", &[1, 1, 5, 5], &[0.0; 25])
        .node("Conv", &["x", "w"], "y", vec![]);
    let error = net.error();
    assert!(
        error.contains("test.onnx: node `y` (Conv, inputs [N,1,3,3] [1,1,5,5])"),
        "{error}"
    );
    assert!(error.contains("spans 5"), "{error}");
    let huge = vec![ints("kernel_shape", &[2, 2]), ints("strides", &[0, 1])];
    assert!(
        Net::new(&[1, 3, 3])
            .node("MaxPool", &["x"], "y", huge)
            .error()
            .contains("strides")
    );
    let huge = vec![
        ints("kernel_shape", &[2, 2]),
        ints("pads", &[i64::MAX, 0, 0, 0]),
    ];
    assert!(
        Net::new(&[1, 3, 3])
            .node("MaxPool", &["x"], "y", huge)
            .error()
            .contains("pads")
    );
}
