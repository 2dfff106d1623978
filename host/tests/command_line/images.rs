//! Images (.qmend) that are not whole.

use qmend::export::read_image;

use super::support::*;

#[test]
fn an_image_with_a_flipped_bit_is_refused() {
    let dir = quantized("4");
    let good = std::fs::read(dir.path().join("m.qmend")).expect("the image");
    assert!(read_image(&good).is_ok());
    let flipped = |bit: usize| {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        bad
    };
    // Knuth's multiplier spreads the thousand places over the file.
    let place = |i: usize| (i + 1).wrapping_mul(2_654_435_761) % (8 * good.len());
    for i in 0..1000 {
        assert!(read_image(&flipped(place(i))).is_err(), "bit {}", place(i));
    }
    for bit in (0..16 * 8).step_by(9).chain((0..25).map(place)) {
        put(dir.path(), "m.qmend", flipped(bit));
        refused(
            dir.path(),
            &["eval", "m.qmend", "--data", &images("0..1")],
            &["m.qmend"],
        );
    }
}

#[test]
fn an_image_cut_short_or_with_a_tail_is_refused() {
    let dir = quantized("4");
    let good = std::fs::read(dir.path().join("m.qmend")).expect("the image");
    let long = [&good[..], &[0]].concat();
    for bad in [
        &good[..4],
        &good[..17],
        &good[..good.len() / 2],
        &good[..good.len() - 1],
        &long,
    ] {
        put(dir.path(), "bad.qmend", bad);
        refused(dir.path(), &["inspect", "bad.qmend"], &["bad.qmend"]);
    }
}
