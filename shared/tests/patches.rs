//! Patches under fire: what was damaged is refused before anything is written.

mod support;

use qmend_shared::patch::{
    HEADER_BYTES, KIND_ADD, KIND_COPY, KIND_MOVE, Patch, PatchError, zigzag,
};
use qmend_shared::slot::{SlotError, Storage, Update, apply_patch, select};
use support::*;

fn apply(patch: &Patch<'_>, base: &[u8], step: usize) -> Vec<u8> {
    let (mut reader, mut out) = (patch.reader(), Vec::new());
    let mut block = vec![0; step];
    loop {
        let n = reader.read(base, &mut block);
        out.extend_from_slice(&block[..n]);
        if n < step {
            return out;
        }
    }
}

#[test]
fn a_patch_gives_the_target_in_pieces_of_any_length() {
    let (base, target) = (image(0), image(-300));
    let bytes = patch_between(&base, &target);
    let patch = Patch::parse(&bytes).expect("a sound patch");
    patch.check(&base).expect("its base");
    for step in [1, 2, 3, 4, 7, 64, 1000, 10_000] {
        assert_eq!(apply(&patch, &base, step), target, "pieces of {step}");
    }
    println!("{} bytes for an image of {}", bytes.len(), base.len());
    assert!(matches!(patch.check(&target), Err(PatchError::Base { .. })));
}

#[test]
fn moves_reuse_any_part_of_the_base() {
    let base = b"abcdefgh";
    let mut body = Vec::new();
    varint(4 << 2 | KIND_COPY, &mut body); // abcd
    varint(zigzag(-4) << 2 | KIND_MOVE, &mut body);
    varint(2 << 2 | KIND_COPY, &mut body); // ab
    varint(zigzag(2) << 2 | KIND_MOVE, &mut body);
    varint(1 << 2 | KIND_ADD, &mut body); // efgh, the first letter one further
    varint(zigzag(1), &mut body);
    let bytes = patch_of(base, b"abcdabffgh", &body);
    let patch = Patch::parse(&bytes).expect("a sound patch");
    patch.check(base).expect("it gives the target");
    assert_eq!(apply(&patch, base, 3), b"abcdabffgh");
}

#[test]
fn of_a_thousand_damaged_patches_none_is_accepted_and_nothing_is_written() {
    let (base, target) = (image(0), image(5));
    let good = patch_between(&base, &target);
    let chip = &chips()[0];
    let mut flash = chip.flash();
    let crc = qmend_shared::link::frame::crc32(&base);
    let mut first = Update::begin(&flash, &chip.layout, None, base.len() as u32, crc).unwrap();
    first.write(&mut flash, 0, &base).unwrap();
    let selected = first.finish(&mut flash, &chip.layout, |_| true).unwrap();
    let before = flash.operations;
    let mut random = Random::new(7);
    let mut refused = [0u32; 3];
    for i in 0..1500 {
        let mut bad = good.clone();
        match i % 3 {
            // A flipped bit, as on a line.
            0 => bad[random.below(good.len() as u64) as usize] ^= 1 << random.below(8),
            // Cut off or longer.
            1 => bad.resize(
                random.below(2 * good.len() as u64) as usize,
                random.bits() as u8,
            ),
            // By hand: operations changed, and the CRC made right again.
            _ => {
                let at = HEADER_BYTES + random.below((good.len() - HEADER_BYTES) as u64) as usize;
                bad[at] = random.bits() as u8;
                bad = patch_of(&base, &target, &bad[HEADER_BYTES..]);
            }
        }
        if bad == good {
            continue;
        }
        let done = Patch::parse(&bad)
            .map_err(SlotError::Patch)
            .and_then(|p| apply_patch(&mut flash, &chip.layout, &selected, &p, |_| true));
        assert!(matches!(done, Err(SlotError::Patch(_))), "{i}: {done:?}");
        refused[i % 3] += 1;
    }
    println!("refused: {refused:?} (bits, lengths, operations)");
    assert!(refused.iter().sum::<u32>() >= 1000);
    assert_eq!(flash.operations, before, "something was written");
    assert_eq!(select(flash.bytes(), &chip.layout), Some(selected));
    let patch = Patch::parse(&good).expect("the good one");
    let after =
        apply_patch(&mut flash, &chip.layout, &selected, &patch, |_| true).expect("applies");
    assert_eq!(after.image(flash.bytes(), &chip.layout), target);
}

#[test]
fn random_operations_never_panic_and_never_read_outside_the_base() {
    let mut random = Random::new(11);
    let base = [5u8; 300];
    let mut sound = 0;
    for _ in 0..100_000 {
        let body: Vec<u8> = (0..random.below(12))
            .map(|_| random.bits() as u8 & 0x9f)
            .collect();
        // The announced length is taken from the error, so that some pass the first check.
        let mut target = vec![0u8; 0];
        for _ in 0..2 {
            let bytes = patch_of(&base, &target, &body);
            match Patch::parse(&bytes) {
                Err(PatchError::TargetLength { given, .. }) if given < 10_000 => {
                    target = vec![0; given as usize];
                }
                Err(_) => break,
                Ok(patch) => {
                    sound += 1;
                    assert_eq!(apply(&patch, &base, 17).len(), target.len());
                    break;
                }
            }
        }
    }
    assert!(sound > 1000, "only {sound} were sound");
}

#[test]
fn each_fault_is_named() {
    let good = patch_between(&image(0), &image(1));
    let with = |at: usize, value: u8| {
        let mut b = good.clone();
        b[at] = value;
        Patch::parse(&b).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(0, b'q'), PatchError::Magic(*b"qPAT"));
    assert_eq!(with(4, 2), PatchError::Version(2));
    assert_eq!(with(6, 1), PatchError::Reserved);
    assert!(matches!(with(24, 0), PatchError::Length { .. }));
    assert!(matches!(with(12, !good[12]), PatchError::Crc { .. }));
    assert_eq!(
        Patch::parse(&good[..31]).map(|_| ()),
        Err(PatchError::TooShort { given: 31 })
    );
}
