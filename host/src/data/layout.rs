//! From the axes of a file to NHWC.

use std::path::Path;

use super::array::Array;
use super::{DataError, Layout, Values};

/// Shape of one sample and all values in NHWC order.
///
/// `[n]` is one feature a sample and `[n, f]` a vector `[1, 1, f]`; `[n, a, b]` is an image of one
/// channel, or a sequence where the model takes one; `[n, a, b, c]` is NHWC or NCHW. For a model
/// that takes a flat vector the order of the file is kept.
pub(super) fn arrange(
    path: &Path,
    array: Array,
    layout: Layout,
    expected: Option<[usize; 3]>,
) -> Result<([usize; 3], Values), DataError> {
    let Array { shape, values } = array;
    let ambiguous = |what: String| {
        Err(DataError::AmbiguousLayout {
            path: path.into(),
            what,
        })
    };
    let per_sample: usize = shape.iter().skip(1).product();
    let fitting = expected.filter(|e| e.iter().product::<usize>() == per_sample);
    if let Some(e @ [1, 1, _]) = fitting {
        return Ok((e, values));
    }
    match shape[..] {
        [_] => Ok(([1, 1, 1], values)),
        [n, f] => match fitting {
            Some([h, w, c]) if c > 1 && h * w > 1 => match layout {
                Layout::Nhwc => Ok(([h, w, c], values)),
                Layout::Nchw => Ok(([h, w, c], channels_last(values, n, c, h * w))),
                Layout::Auto => ambiguous(format!(
                    "rows of {f} values could be [{h}, {w}, {c}] (channels last) or [{c}, {h}, {w}] (channels first)"
                )),
            },
            _ => Ok(([1, 1, f], values)),
        },
        [n, a, b] => match fitting {
            Some([1, l, c] | [l, 1, c]) if l > 1 && c > 1 => {
                let first = match layout {
                    Layout::Nhwc => false,
                    Layout::Nchw => true,
                    Layout::Auto if a == b => {
                        return ambiguous(format!("[{a}, {b}] could be [length, channels] or [channels, length]"));
                    }
                    Layout::Auto => (a, b) == (c, l),
                };
                if first { Ok(([1, b, a], channels_last(values, n, a, b))) } else { Ok(([1, a, b], values)) }
            }
            _ => Ok(([a, b, 1], values)),
        },
        [n, a, b, c] => {
            let (last, first) = ([a, b, c], [b, c, a]);
            // One channel, or one position: both readings are the same bytes.
            let same = (a == 1 && c == 1) || (b * c == 1) || (a * b == 1);
            let nchw = match (layout, expected) {
                (Layout::Nhwc, _) => false,
                (Layout::Nchw, _) => true,
                (Layout::Auto, Some(e)) if e == last && e == first && !same => {
                    return ambiguous(format!("{last:?} fits the model's input {e:?} in either layout"));
                }
                (Layout::Auto, Some(e)) if e == last => false,
                (Layout::Auto, Some(e)) if e == first => true,
                (Layout::Auto, _) => !is_channels(c) && is_channels(a),
            };
            if nchw { Ok((first, channels_last(values, n, a, b * c))) } else { Ok((last, values)) }
        }
        _ => Err(DataError::Malformed {
            path: path.into(),
            what: format!("samples of shape {shape:?}"),
            help: "samples are [n, features], [n, height, width], [n, height, width, channels] or [n, channels, height, width]".into(),
        }),
    }
}

fn is_channels(c: usize) -> bool {
    matches!(c, 1 | 3 | 4)
}

/// `[n][c][positions]` to `[n][positions][c]`.
fn channels_last(values: Values, n: usize, c: usize, positions: usize) -> Values {
    fn permute<T: Copy>(v: &[T], n: usize, c: usize, positions: usize) -> Vec<T> {
        let mut out = Vec::with_capacity(v.len());
        for i in 0..n {
            let sample = &v[i * c * positions..(i + 1) * c * positions];
            for p in 0..positions {
                out.extend((0..c).map(|k| sample[k * positions + p]));
            }
        }
        out
    }
    if c == 1 || positions == 1 {
        return values;
    }
    match values {
        Values::U8(v) => Values::U8(permute(&v, n, c, positions)),
        Values::I8(v) => Values::I8(permute(&v, n, c, positions)),
        Values::F32(v) => Values::F32(permute(&v, n, c, positions)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(shape: &[usize]) -> Array {
        let n: usize = shape.iter().product();
        Array {
            shape: shape.to_vec(),
            values: Values::U8((0..n).map(|i| i as u8).collect()),
        }
    }

    fn go(
        shape: &[usize],
        layout: Layout,
        expected: Option<[usize; 3]>,
    ) -> Result<([usize; 3], Vec<u8>), DataError> {
        arrange(Path::new("f"), counted(shape), layout, expected).map(|(s, v)| match v {
            Values::U8(v) => (s, v),
            _ => unreachable!(),
        })
    }

    const INTERLEAVED: [u8; 12] = [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11];

    #[test]
    fn four_axes_follow_the_model_or_the_option() {
        let plain: Vec<u8> = (0..12).collect();
        assert_eq!(
            go(&[1, 3, 2, 2], Layout::Auto, None).unwrap(),
            ([2, 2, 3], INTERLEAVED.to_vec())
        );
        assert_eq!(
            go(&[1, 3, 2, 2], Layout::Auto, Some([2, 2, 3])).unwrap().1,
            INTERLEAVED
        );
        assert_eq!(
            go(&[1, 3, 2, 2], Layout::Auto, Some([3, 2, 2])).unwrap().1,
            plain
        );
        assert_eq!(
            go(&[1, 2, 2, 3], Layout::Auto, None).unwrap(),
            ([2, 2, 3], plain.clone())
        );
        assert_eq!(go(&[1, 2, 2, 3], Layout::Nchw, None).unwrap().0, [2, 3, 2]);
        assert_eq!(
            go(&[1, 3, 2, 2], Layout::Nhwc, None).unwrap(),
            ([3, 2, 2], plain)
        );
        assert_eq!(
            go(&[2, 1, 4, 5], Layout::Auto, Some([4, 5, 1])).unwrap().0,
            [4, 5, 1]
        );
        let e = go(&[1, 3, 3, 3], Layout::Auto, Some([3, 3, 3])).unwrap_err();
        assert!(matches!(e, DataError::AmbiguousLayout { .. }));
        assert!(go(&[1, 3, 3, 3], Layout::Nchw, Some([3, 3, 3])).is_ok());
    }

    #[test]
    fn flat_rows_of_a_colour_image_need_a_word_about_their_order() {
        let e = go(&[1, 12], Layout::Auto, Some([2, 2, 3])).unwrap_err();
        assert!(e.to_string().contains("rows of 12 values"), "{e}");
        assert_eq!(
            go(&[1, 12], Layout::Nchw, Some([2, 2, 3])).unwrap(),
            ([2, 2, 3], INTERLEAVED.to_vec())
        );
        assert_eq!(
            go(&[1, 12], Layout::Auto, Some([3, 4, 1])).unwrap().0,
            [1, 1, 12]
        );
        assert_eq!(go(&[4], Layout::Auto, None).unwrap().0, [1, 1, 1]);
    }

    #[test]
    fn a_flat_model_input_keeps_the_order_of_the_file() {
        let (shape, v) = go(&[1, 3, 2, 2], Layout::Nchw, Some([1, 1, 12])).unwrap();
        assert_eq!((shape, v), ([1, 1, 12], (0..12).collect()));
    }

    #[test]
    fn sequences_are_told_from_images_by_the_model() {
        assert_eq!(go(&[1, 3, 4], Layout::Auto, None).unwrap().0, [3, 4, 1]);
        assert_eq!(
            go(&[1, 3, 4], Layout::Auto, Some([1, 3, 4])).unwrap().0,
            [1, 3, 4]
        );
        let (shape, v) = go(&[1, 3, 4], Layout::Auto, Some([1, 4, 3])).unwrap();
        assert_eq!((shape, v), ([1, 4, 3], INTERLEAVED.to_vec()));
        assert!(go(&[1, 3, 3], Layout::Auto, Some([1, 3, 3])).is_err());
        assert_eq!(
            go(&[1, 3, 3], Layout::Auto, Some([3, 3, 1])).unwrap().0,
            [3, 3, 1]
        );
    }

    #[test]
    fn five_axes_are_refused() {
        let e = go(&[1, 1, 2, 2, 3], Layout::Auto, None).unwrap_err();
        assert!(e.help().contains("[n, height, width, channels]"));
    }
}
