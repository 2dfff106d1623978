//! Versions of signed images in the commit records: whatever operation the power is cut in, the
//! lowest version that rollback protection takes never falls, and what runs is never older than it and has its
//! signature beside its record.

mod support;

use qmend_shared::link::frame::crc32;
use qmend_shared::patch::Patch;
use qmend_shared::signature::{BLOCK_BYTES, Signed};
use qmend_shared::slot::{
    Layout, RECORD_BYTES, Selected, SlotError, Storage, Update, apply_signed_patch,
    highest_version, other_candidate, other_record, roll_back_signed, select_trusted,
};
use support::*;

/// A signature of this version, and of nothing else: what is verified is the agent's affair.
fn block(version: u32) -> [u8; BLOCK_BYTES] {
    let block = Signed {
        version,
        len: 1,
        crc: 2,
        key_id: [3; 8],
        hash: [4; 64],
        signature: [5; 64],
    };
    block.to_bytes()
}

/// The image that counts where only those with the signature of their version do.
fn chosen(flash: &Nor, layout: &Layout) -> Option<Selected> {
    select_trusted(flash.bytes(), layout, |c| {
        c.block == block(c.record.version)
    })
}

/// Back to the other image, with its signature.
fn back(flash: &mut Nor, layout: &Layout, selected: &Selected) -> Result<Selected, SlotError> {
    let other = other_candidate(flash.bytes(), layout, selected);
    let block = other.ok_or(SlotError::NothingToRollBackTo)?.block.to_vec();
    roll_back_signed(flash, layout, selected, &block)
}

/// An image of this number as this version.
fn update(
    flash: &mut Nor,
    layout: &Layout,
    number: i32,
    version: u32,
) -> Result<Selected, SlotError> {
    let image = image(number);
    let selected = chosen(flash, layout);
    let (len, crc) = (image.len() as u32, crc32(&image));
    let begun = Update::begin(flash, layout, selected.as_ref(), len, crc)?;
    let mut update = begun.with_version(version);
    for (i, chunk) in image.chunks(256).enumerate() {
        update.write(flash, 256 * i as u32, chunk)?;
    }
    assert_eq!(update.written(flash), image);
    update.finish_signed(flash, layout, &block(version), |_| true)
}

fn patched(flash: &mut Nor, layout: &Layout, to: i32, version: u32) -> Result<Selected, SlotError> {
    let selected = chosen(flash, layout).ok_or(SlotError::Empty)?;
    let base = selected.image(flash.bytes(), layout).to_vec();
    let bytes = patch_between(&base, &image(to));
    let patch = Patch::parse(&bytes).map_err(SlotError::Patch)?;
    apply_signed_patch(
        flash,
        layout,
        &selected,
        &patch,
        (version, &block(version)),
        |_| true,
    )
}

/// The version that runs, and the lowest that is taken.
fn versions(flash: &Nor, layout: &Layout) -> (u32, u32) {
    let selected = chosen(flash, layout).expect("an image");
    (
        selected.record.version,
        highest_version(flash.bytes(), layout),
    )
}

#[test]
fn a_power_cut_never_lowers_the_version_that_is_asked_for() {
    type Change = fn(&mut Nor, &Layout) -> Result<Selected, SlotError>;
    let changes: [(&str, Change); 3] = [
        ("update", |f, l| update(f, l, 3, 6)),
        ("patch", |f, l| patched(f, l, 3, 6)),
        // The same version in both slots: back and forth is allowed, and not older.
        ("rollback", |f, l| {
            let selected = chosen(f, l).ok_or(SlotError::Empty)?;
            back(f, l, &selected)
        }),
    ];
    let mut cuts = 0;
    for chip in chips() {
        let layout = &chip.layout;
        let mut flash = chip.flash();
        update(&mut flash, layout, 1, 5).expect("the first image");
        update(&mut flash, layout, 0, 5).expect("another of the same version");
        // Both areas of records are full: the next record erases one.
        let mut full = flash.clone();
        while has_room(
            &full,
            layout,
            1 - chosen(&full, layout).expect("one").slot(),
        ) {
            let selected = chosen(&full, layout).expect("one");
            back(&mut full, layout, &selected).expect("the other one");
        }
        for start in [&flash, &full] {
            let before = versions(start, layout);
            assert_eq!(before, (5, 5));
            for (name, change) in changes {
                let mut whole = start.clone();
                let operations = whole.operations;
                change(&mut whole, layout).expect("without a cut");
                let after = versions(&whole, layout);
                assert_eq!(after, if name == "rollback" { (5, 5) } else { (6, 6) });
                for at in 0..whole.operations - operations {
                    let mut flash = start.clone();
                    flash.cut_after(at, at + 1);
                    assert_eq!(change(&mut flash, layout), Err(SlotError::Storage));
                    flash.restart();
                    cuts += 1;
                    let (runs, lowest) = versions(&flash, layout);
                    assert!(lowest >= 5, "{}: {name}, cut {at}: {lowest}", chip.name);
                    assert_eq!(runs, lowest, "{}: {name}, cut {at}", chip.name);
                    // And on to the end.
                    if name != "rollback" {
                        update(&mut flash, layout, 3, 6).expect("once more");
                        assert_eq!(versions(&flash, layout), (6, 6));
                    }
                }
            }
        }
    }
    println!("{cuts} cuts");
    assert!(cuts > 1000, "too few cuts to mean anything: {cuts}");
}

/// Whether there is room for another record in this slot's area.
fn has_room(flash: &Nor, layout: &Layout, slot: u8) -> bool {
    let area = layout.slots[slot as usize].records.of(flash.bytes());
    area[area.len() - RECORD_BYTES - BLOCK_BYTES..]
        .iter()
        .all(|&b| b == 0xff)
}

#[test]
fn the_record_to_roll_back_to_has_its_version_and_none_where_there_is_no_record() {
    let chip = &chips()[0];
    let layout = &chip.layout;
    let mut flash = chip.flash();
    update(&mut flash, layout, 0, 7).expect("the first image");
    update(&mut flash, layout, 1, 8).expect("the second");
    let other = |flash: &Nor| {
        let selected = chosen(flash, layout).expect("one");
        other_record(flash.bytes(), layout, &selected).expect("the other one")
    };
    assert_eq!((other(&flash).version, other(&flash).sequence), (7, 1));
    assert_eq!(versions(&flash, layout), (8, 8));
    // Rolling back lowers what runs, and not what is asked for: whether it may is the agent's rule.
    let selected = chosen(&flash, layout).expect("one");
    back(&mut flash, layout, &selected).expect("back");
    assert_eq!(versions(&flash, layout), (7, 8));
    let selected = chosen(&flash, layout).expect("one");
    let area = layout.slots[1 - selected.slot() as usize].records;
    let sector = flash.sector(area.start).expect("a sector");
    flash.erase(sector).expect("it works");
    assert_eq!((other(&flash).version, other(&flash).sequence), (0, 0));
}
