//! The power is cut in every operation on the flash: each unit that is written, each sector that is
//! erased. After the restart the old or the new image counts, whole and checked, and what was cut
//! can be done again to its end.

mod support;

use qmend_shared::image::Model;
use qmend_shared::link::frame::crc32;
use qmend_shared::patch::Patch;
use qmend_shared::slot::{
    Layout, RECORD_BYTES, Selected, SlotError, Storage, Update, apply_patch, other_image,
    roll_back, select,
};
use support::*;

/// Bytes that come with one message.
const CHUNK: usize = 256;

/// Writes an image as the link does: sectors that are right already are left out.
fn update(flash: &mut Nor, layout: &Layout, image: &[u8]) -> Result<Selected, SlotError> {
    let selected = select(flash.bytes(), layout);
    let (len, crc) = (image.len() as u32, crc32(image));
    let mut update = Update::begin(flash, layout, selected.as_ref(), len, crc)?;
    let region = update.region();
    let mut at = 0usize;
    while at < image.len() {
        let sector = flash
            .sector(region.start + at as u32)
            .ok_or(SlotError::Layout)?;
        let end = image.len().min((sector.end() - region.start) as usize);
        if region.of(flash.bytes())[at..end] != image[at..end] {
            for (i, chunk) in image[at..end].chunks(CHUNK).enumerate() {
                update.write(flash, (at + i * CHUNK) as u32, chunk)?;
            }
        }
        at = end;
    }
    update.finish(flash, layout, |_| true)
}

fn patch(flash: &mut Nor, layout: &Layout, bytes: &[u8]) -> Result<Selected, SlotError> {
    let selected = select(flash.bytes(), layout).ok_or(SlotError::Empty)?;
    let patch = Patch::parse(bytes).map_err(SlotError::Patch)?;
    // A patch that was applied before the cut was noticed is done.
    let header = patch.header();
    if (selected.record.len, selected.record.crc) == (header.target_len, header.target_crc) {
        return Ok(selected);
    }
    apply_patch(flash, layout, &selected, &patch, |_| true)
}

fn back(flash: &mut Nor, layout: &Layout) -> Result<Selected, SlotError> {
    let selected = select(flash.bytes(), layout).ok_or(SlotError::Empty)?;
    roll_back(flash, layout, &selected)
}

fn running(flash: &Nor, layout: &Layout) -> Option<Vec<u8>> {
    let selected = select(flash.bytes(), layout)?;
    Some(selected.image(flash.bytes(), layout).to_vec())
}

/// Cuts `change`, from `old` to `new`, in every one of its operations, with `seeds` kinds of damage
/// each; and the repetition once more, somewhere. Returns the number of cuts.
fn cut_everywhere(
    chip: &Chip,
    flash: &Nor,
    [old, new]: [&[u8]; 2],
    seeds: u64,
    change: impl Fn(&mut Nor) -> Result<Selected, SlotError>,
) -> u64 {
    let layout = &chip.layout;
    assert_eq!(running(flash, layout).as_deref(), Some(old));
    let mut whole = flash.clone();
    let before = whole.operations;
    change(&mut whole).expect("without a cut");
    assert_eq!(running(&whole, layout).as_deref(), Some(new));
    let operations = whole.operations - before;
    assert!(operations > 0);
    let mut cuts = 0;
    for at in 0..operations {
        for seed in 0..seeds {
            let mut flash = flash.clone();
            let mut random = Random::new(at * seeds + seed + 1);
            flash.cut_after(at, random.bits());
            loop {
                let done = change(&mut flash);
                flash.restart();
                let now = running(&flash, layout);
                let now = now.unwrap_or_else(|| panic!("{}: no image, cut {at}", chip.name));
                if done.is_ok() {
                    assert_eq!(now, new, "{}: cut {at}", chip.name);
                    break;
                }
                cuts += 1;
                assert_eq!(done, Err(SlotError::Storage));
                assert!(
                    now == old || now == new,
                    "{}: neither old nor new, cut {at}",
                    chip.name
                );
                Model::from_bytes(&now).expect("sound");
                if now == new {
                    break;
                }
                // Half of the repetitions are cut again.
                if random.below(2) == 0 {
                    flash.cut_after(random.below(operations), random.bits());
                }
            }
            // Whatever happened, the next update goes through.
            if at % 97 == 0 {
                update(&mut flash, layout, &image(9)).expect("the next update");
                assert_eq!(running(&flash, layout), Some(image(9)));
            }
        }
    }
    cuts
}

#[test]
fn whatever_operation_the_power_is_cut_in_the_old_or_the_new_image_runs() {
    let (old, new) = (image(0), image(3));
    let small = patch_between(&old, &new);
    let mut total = 0;
    for chip in chips() {
        let layout = &chip.layout;
        let mut flash = chip.flash();
        layout.check(&flash).expect("a sound layout");
        assert_eq!(running(&flash, layout), None);
        update(&mut flash, layout, &old).expect("the first image");

        // Into a slot that was never used, and into one that holds an older image.
        let mut cuts = vec![cut_everywhere(&chip, &flash, [&old, &new], 3, |f| {
            update(f, layout, &new)
        })];
        let mut used = flash.clone();
        update(&mut used, layout, &image(-7)).expect("another image");
        update(&mut used, layout, &old).expect("and back");
        cuts.push(cut_everywhere(&chip, &used, [&old, &new], 2, |f| {
            update(f, layout, &new)
        }));
        cuts.push(cut_everywhere(&chip, &flash, [&old, &new], 2, |f| {
            patch(f, layout, &small)
        }));
        // Where the other slot holds nearly the same image, few sectors are written.
        let mut near = flash.clone();
        update(&mut near, layout, &image(1)).expect("a near image");
        back(&mut near, layout).expect("back to the old one");
        cuts.push(cut_everywhere(&chip, &near, [&old, &new], 2, |f| {
            patch(f, layout, &small)
        }));
        // Rollback, in an area with room and in one that is full and erased first.
        let mut newer = flash.clone();
        update(&mut newer, layout, &new).expect("a newer image");
        let rolls = |f: &mut Nor| match running(f, layout) {
            Some(now) if now == old => Ok(select(f.bytes(), layout).expect("it runs")),
            _ => back(f, layout),
        };
        cuts.push(cut_everywhere(&chip, &newer, [&new, &old], 8, rolls));
        let area = layout.slots[0].records.len as usize / RECORD_BYTES;
        for _ in 0..area - 1 {
            back(&mut newer, layout).expect("there");
            back(&mut newer, layout).expect("and back");
        }
        cuts.push(cut_everywhere(&chip, &newer, [&new, &old], 8, rolls));
        println!("{}: cuts {cuts:?}", chip.name);
        total += cuts.iter().sum::<u64>();
    }
    println!("{total} cuts: in each the old or the new image ran, checked");
    assert!(total > 10_000, "too few cuts to mean anything: {total}");
}

#[test]
fn only_changed_sectors_are_written() {
    let (old, new) = (image(0), image(3));
    let chip = &chips()[0];
    let mut flash = chip.flash();
    update(&mut flash, &chip.layout, &old).expect("the first image");
    update(&mut flash, &chip.layout, &old).expect("the same in the other slot");
    let before = flash.operations;
    patch(&mut flash, &chip.layout, &patch_between(&old, &new)).expect("a patch");
    let patched = flash.operations - before;
    let before = flash.operations;
    update(&mut flash, &chip.layout, &new).expect("the other slot too");
    let changed = old
        .chunks(1024)
        .zip(new.chunks(1024))
        .filter(|(a, b)| a != b)
        .count() as u64;
    println!("{changed} of 6 sectors differ: {patched} operations");
    assert!(changed < 6, "the images differ in every sector");
    let most = changed * (1 + 256) + 8;
    assert!(patched <= most && flash.operations - before <= most);
    // A slot that holds the image already takes no more than its record.
    update(&mut flash, &chip.layout, &new).expect("nothing to do");
    let before = flash.operations;
    update(&mut flash, &chip.layout, &new).expect("nothing to do");
    assert_eq!(flash.operations - before, 8);
}

#[test]
fn a_spoilt_newer_image_gives_way_to_the_older_one() {
    let chip = &chips()[0];
    let (old, new) = (image(0), image(3));
    let mut flash = chip.flash();
    update(&mut flash, &chip.layout, &old).expect("the old image");
    update(&mut flash, &chip.layout, &new).expect("the new image");
    flash.spoil(chip.layout.slots[1].image.start as usize + 4000);
    assert_eq!(running(&flash, &chip.layout), Some(old.clone()));
    let selected = select(flash.bytes(), &chip.layout).expect("the old one");
    assert_eq!(other_image(flash.bytes(), &chip.layout, &selected), None);
    assert_eq!(
        roll_back(&mut flash, &chip.layout, &selected),
        Err(SlotError::NothingToRollBackTo)
    );
    update(&mut flash, &chip.layout, &new).expect("once more");
    assert_eq!(running(&flash, &chip.layout), Some(new));
}

#[test]
fn an_update_that_was_not_committed_is_not_rolled_back_to() {
    let chip = &chips()[0];
    let mut flash = chip.flash();
    update(&mut flash, &chip.layout, &image(0)).expect("the first image");
    update(&mut flash, &chip.layout, &image(1)).expect("the second");
    let before = flash.clone();
    let mut whole = flash.clone();
    update(&mut whole, &chip.layout, &image(2)).expect("the third");
    // All but the record's last unit is written.
    flash.cut_after(whole.operations - before.operations - 1, 4);
    assert!(update(&mut flash, &chip.layout, &image(2)).is_err());
    flash.restart();
    if running(&flash, &chip.layout) == Some(image(1)) {
        let selected = select(flash.bytes(), &chip.layout).expect("the second");
        assert_eq!(
            roll_back(&mut flash, &chip.layout, &selected),
            Err(SlotError::NothingToRollBackTo)
        );
    }
}

#[test]
fn what_does_not_fit_or_is_out_of_order_is_refused_before_anything_is_erased() {
    let chip = &chips()[0];
    let layout = &chip.layout;
    let mut flash = chip.flash();
    update(&mut flash, layout, &image(0)).expect("the first image");
    let selected = select(flash.bytes(), layout);
    let before = flash.operations;
    // Slot 1 has 8 KiB.
    let error = Update::begin(&flash, layout, selected.as_ref(), 8193, 0).map(|_| ());
    let (needed, capacity) = (8193, 8192);
    assert_eq!(error, Err(SlotError::TooLong { needed, capacity }));
    let mut u = Update::begin(&flash, layout, selected.as_ref(), 6000, 0).expect("it fits");
    for (offset, len) in [
        (4, 4),
        (1000, 4),
        (0, 6),
        (0, 6004),
        (6004, 4),
        (u32::MAX, 8),
    ] {
        let written = u.write(&mut flash, offset, &vec![0; len]);
        assert_eq!(
            written,
            Err(SlotError::Order { expected: 0 }),
            "{offset} {len}"
        );
    }
    assert_eq!(flash.operations, before);
    u.write(&mut flash, 0, &[1; 8]).expect("the first bytes");
    let once = flash.operations;
    u.write(&mut flash, 0, &[1; 8]).expect("repeated");
    u.write(&mut flash, 4, &[1; 4]).expect("repeated in part");
    assert_eq!(flash.operations, once);
    let other = u.write(&mut flash, 4, &[2; 4]);
    assert_eq!(other, Err(SlotError::Order { expected: 8 }));
    // What is there is not what was announced: the first image goes on.
    assert!(matches!(
        u.finish(&mut flash, layout, |_| true),
        Err(SlotError::Crc { wanted: 0, .. })
    ));
    let unsound = vec![7; 64];
    assert!(matches!(
        update(&mut flash, layout, &unsound),
        Err(SlotError::Image(_))
    ));
    assert_eq!(running(&flash, layout), Some(image(0)));
}

#[test]
fn a_layout_that_does_not_fit_the_sectors_is_refused() {
    let chip = &chips()[0];
    let flash = chip.flash();
    for change in 0..6 {
        let mut layout = chip.layout;
        let slot = &mut layout.slots[change % 2];
        match change {
            0 => slot.image.start += 4,
            1 => slot.image.len -= 4,
            2 => slot.records.len = 0,
            3 => slot.image.start = 1 << 30,
            4 => slot.records = slot.image,
            _ => slot.image.len = u32::MAX,
        }
        assert_eq!(layout.check(&flash), Err(SlotError::Layout), "{change}");
    }
}
