//! An agent that takes signed images only, on a thread: what is refused leaves the flash as it is,
//! and nothing runs that the key's owner has not signed.

use std::time::{Duration, Instant};

use qmend::device::{Device, DeviceError, HostDevice, LinkDevice, Transport};
use qmend::export::image::write_image;
use qmend::export::patch::write_patch;
use qmend::export::signature::SigningKey;
use qmend::model::QuantizedModel;
use qmend_firmware::agent::Trust;
use qmend_shared::link::frame::crc32;
use qmend_shared::link::{FrameReader, Packet, Refusal, Request, Response, write_frame};
use qmend_shared::signature::{BLOCK_BYTES, SIGNED_BYTES};
use qmend_tests::committed::Committed;
use qmend_tests::in_process::{Pipe, quiet, start_holding, start_trusting};
use qmend_tests::random_model::{mended, random_inputs, random_network};
use rand::prelude::*;

const SLOT: usize = 1 << 16;
const POOL: usize = 1 << 16;

struct World {
    key: SigningKey,
    model: QuantizedModel,
    /// Four images of one network.
    images: [Vec<u8>; 4],
}

impl World {
    fn new() -> Self {
        let model = random_network(30, 8, 4);
        let images = [0, 1, 2, 3].map(|n| match n {
            0 => write_image(&model).unwrap(),
            n => write_image(&mended(&model, n)).unwrap(),
        });
        let key = SigningKey::generate().unwrap();
        Self { key, model, images }
    }

    fn block(&self, n: usize, version: u32) -> [u8; BLOCK_BYTES] {
        self.key.sign(&self.images[n], version).unwrap().to_bytes()
    }

    /// An image with its signature behind it.
    fn signed(&self, n: usize, version: u32) -> Vec<u8> {
        [&self.images[n][..], &self.block(n, version)].concat()
    }

    fn patch(&self, from: usize, to: usize) -> Vec<u8> {
        write_patch(&self.images[from], &self.images[to]).unwrap()
    }

    fn trust(&self, protect: bool) -> Trust {
        Trust::only(self.key.public().0, protect)
    }

    fn device(&self, protect: bool) -> LinkDevice<Pipe> {
        let pipe = start_trusting(SLOT, POOL, quiet(), self.trust(protect));
        LinkDevice::connect(pipe, Duration::from_secs(20), None).unwrap()
    }

    fn runs(&self, device: &mut LinkDevice<Pipe>, n: usize) {
        let (_, _, crc) = device.open().unwrap();
        assert_eq!(crc, crc32(&self.images[n]), "another image runs");
        let mut host = HostDevice::new();
        let size = host.load(&self.images[n]).unwrap().input_len;
        for input in random_inputs(&self.model, 2, 1).chunks(size) {
            let ours = host.infer(input).unwrap().output;
            assert_eq!(device.infer(input).unwrap().output, ours);
        }
    }
}

fn flash(device: &mut LinkDevice<Pipe>, bytes: &[u8]) -> Result<u32, DeviceError> {
    Ok(device.flash(bytes, &mut |_, _| ())?.sequence)
}

fn patch(device: &mut LinkDevice<Pipe>, bytes: &[u8]) -> Result<u32, DeviceError> {
    Ok(device.flash_patch(bytes, &mut |_, _| ())?.sequence)
}

#[test]
fn signed_models_and_patches_are_taken_and_others_leave_the_flash_as_it_is() {
    let world = World::new();
    let mut device = world.device(true);
    assert!(matches!(
        flash(&mut device, &world.images[0]),
        Err(DeviceError::Unsigned)
    ));
    let stranger = SigningKey::generate().unwrap();
    let block = stranger.sign(&world.images[0], 9).unwrap();
    let strange = [&world.images[0][..], &block.to_bytes()].concat();
    let error = flash(&mut device, &strange).unwrap_err().to_string();
    assert!(
        error.contains(&stranger.public().id()) && error.contains(&world.key.public().id()),
        "{error}"
    );
    assert_eq!(device.transport_mut().operations(), 0);
    let trust = device.trust().unwrap();
    assert_eq!((trust.lowest, trust.version), (0, 0));

    assert_eq!(flash(&mut device, &world.signed(0, 3)).unwrap(), 1);
    world.runs(&mut device, 0);
    // The Device trait takes the image with its signature too.
    device.load(&world.signed(0, 3)).unwrap();
    let before = device.transport_mut().operations();
    let bare = world.patch(0, 1);
    assert!(matches!(
        patch(&mut device, &bare),
        Err(DeviceError::Unsigned)
    ));
    // A patch to one image with the signature of another, and the other way round.
    let other = [&bare[..], &world.block(2, 4)].concat();
    assert!(matches!(
        patch(&mut device, &other),
        Err(DeviceError::Unsigned)
    ));
    assert_eq!(device.transport_mut().operations(), before);
    let right = [&bare[..], &world.block(1, 4)].concat();
    assert_eq!(patch(&mut device, &right).unwrap(), 2);
    world.runs(&mut device, 1);
    let trust = device.trust().unwrap();
    assert_eq!((trust.lowest, trust.version), (4, 4));
}

#[test]
fn an_older_version_is_refused_and_the_same_one_is_not() {
    let world = World::new();
    let mut device = world.device(true);
    flash(&mut device, &world.signed(0, 5)).unwrap();
    flash(&mut device, &world.signed(1, 6)).unwrap();
    let before = device.transport_mut().operations();
    // What was right once, recorded on the line and sent again.
    let error = flash(&mut device, &world.signed(0, 5)).unwrap_err();
    let (version, lowest) = (5, 6);
    assert!(
        matches!(error, DeviceError::OldVersion { version: v, lowest: l } if (v, l) == (version, lowest)),
        "{error}"
    );
    let back = [&world.patch(1, 0)[..], &world.block(0, 5)].concat();
    assert!(matches!(
        patch(&mut device, &back),
        Err(DeviceError::OldVersion { .. })
    ));
    // Nor by rolling back.
    let error = device.roll_back().unwrap_err();
    assert!(
        matches!(
            error,
            DeviceError::OldVersion {
                version: 5,
                lowest: 6
            }
        ),
        "{error}"
    );
    assert_eq!(device.transport_mut().operations(), before);
    world.runs(&mut device, 1);
    // The same version is none that is older: there and back again.
    flash(&mut device, &world.signed(2, 6)).unwrap();
    assert_eq!(
        device.roll_back().unwrap().selected.unwrap().crc,
        crc32(&world.images[1])
    );
    world.runs(&mut device, 1);
    // The image that is there, as a newer version: its record alone is new, and 6 is too old now.
    let sequence = flash(&mut device, &world.signed(1, 8)).unwrap();
    assert_eq!(device.trust().unwrap().lowest, 8);
    assert_eq!(flash(&mut device, &world.signed(1, 8)).unwrap(), sequence);
    assert!(matches!(
        flash(&mut device, &world.signed(2, 7)),
        Err(DeviceError::OldVersion { .. })
    ));
    world.runs(&mut device, 1);
}

#[test]
fn without_rollback_protection_older_versions_come_back() {
    let world = World::new();
    let mut device = world.device(false);
    flash(&mut device, &world.signed(0, 5)).unwrap();
    flash(&mut device, &world.signed(1, 6)).unwrap();
    device.roll_back().unwrap();
    world.runs(&mut device, 0);
    flash(&mut device, &world.signed(2, 1)).unwrap();
    world.runs(&mut device, 2);
    assert!(matches!(
        flash(&mut device, &world.images[1]),
        Err(DeviceError::Unsigned)
    ));
}

/// An agent without the host's own caution.
struct Raw {
    pipe: Pipe,
    sequence: u8,
}

impl Raw {
    fn refusal(&mut self, body: Request<'_>) -> Option<String> {
        self.ask(body, |answer| match answer {
            Response::Refused(refusal) => Some(format!("{refusal:?}")),
            _ => None,
        })
    }

    fn ask<R>(&mut self, body: Request<'_>, read: impl Fn(Response<'_>) -> R) -> R {
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        let sequence = self.sequence;
        let mut scratch = vec![0; 8192];
        let mut wire = Vec::new();
        let packet = Packet { sequence, body };
        let sent = write_frame(&packet, &mut scratch, |bytes| {
            wire.extend_from_slice(bytes);
            Ok::<(), ()>(())
        });
        sent.unwrap().unwrap();
        self.pipe.send(&wire).unwrap();
        let mut reader = Box::new(FrameReader::<16384>::new());
        loop {
            let deadline = Instant::now() + Duration::from_secs(20);
            for byte in self.pipe.receive(deadline).unwrap().expect("an answer") {
                let Some(Ok(message)) = reader.push(byte) else {
                    continue;
                };
                let (packet, rest): (Packet<Response<'_>>, _) =
                    postcard::take_from_bytes(message).unwrap();
                assert!(rest.is_empty());
                if packet.sequence == sequence {
                    return read(packet.body);
                }
            }
        }
    }

    /// Announces, writes and commits; the first refusal.
    fn write(&mut self, block: &[u8], image: &[u8], crc: u32) -> Option<String> {
        let len = image.len() as u32;
        self.refusal(Request::Authorize { block })
            .or_else(|| self.refusal(Request::BeginImage { len, crc }))
            .or_else(|| {
                image.chunks(4096).enumerate().find_map(|(i, data)| {
                    let offset = 4096 * i as u32;
                    self.refusal(Request::WriteImage { offset, data })
                })
            })
            .or_else(|| self.refusal(Request::Commit { crc }))
    }

    fn patch(&mut self, block: &[u8], patch: &[u8], crc: u32) -> Option<String> {
        let len = patch.len() as u32;
        self.refusal(Request::Authorize { block })
            .or_else(|| self.refusal(Request::BeginPatch { len }))
            .or_else(|| {
                patch.chunks(4096).enumerate().find_map(|(i, data)| {
                    let offset = 4096 * i as u32;
                    self.refusal(Request::WritePatch { offset, data })
                })
            })
            .or_else(|| self.refusal(Request::Commit { crc }))
    }

    fn running(&mut self) -> u32 {
        self.ask(Request::OpenImage, |answer| match answer {
            Response::Model(info) => info.image_crc,
            other => panic!("{other:?}"),
        })
    }
}

fn damage(bytes: &[u8], rng: &mut StdRng) -> Vec<u8> {
    loop {
        let mut bad = bytes.to_vec();
        let at = rng.random_range(0..bad.len());
        match rng.random_range(0..4) {
            0 | 1 => bad[at] ^= 1 << rng.random_range(0..8),
            2 => bad.truncate(at.max(1)),
            _ => {
                let end = (at + rng.random_range(1..50)).min(bad.len());
                rng.fill(&mut bad[at..end]);
            }
        }
        if bad != bytes {
            return bad;
        }
    }
}

#[test]
fn of_a_thousand_damaged_signatures_images_and_patches_the_device_takes_none() {
    let world = World::new();
    let pipe = start_trusting(SLOT, POOL, quiet(), world.trust(true));
    let mut device = Raw { pipe, sequence: 0 };
    let crc = [0, 1].map(|n| crc32(&world.images[n]));
    assert_eq!(
        device.write(&world.block(0, 1), &world.images[0], crc[0]),
        None
    );
    let (block, good) = (world.block(1, 2), world.patch(0, 1));
    let mut rng = StdRng::seed_from_u64(6);
    let mut refused = std::collections::BTreeMap::new();
    for i in 0..1200 {
        let before = device.pipe.operations();
        let said = match i % 4 {
            // The signature: not one erasure, whichever way it goes on.
            0 => {
                let bad = damage(&block, &mut rng);
                let said = device.write(&bad, &world.images[1], crc[1]);
                assert_eq!(said.as_deref(), Some("BadSignature"), "{i}");
                let (len, crc) = (world.images[1].len() as u32, crc[1]);
                let begun = device.refusal(Request::BeginImage { len, crc });
                assert_eq!(begun.as_deref(), Some("Unsigned"), "{i}");
                begun
            }
            // The patch, with a sound checksum where there is room for one: what it gives is not what
            // was signed.
            1 | 2 => {
                let mut bad = damage(&good, &mut rng);
                // A checksum that alone was damaged would be right again.
                while i % 4 == 2 && reseal(&mut bad) == good {
                    bad = damage(&good, &mut rng);
                }
                device.patch(&block, &bad, crc[1])
            }
            // The image, announced with the CRC that it has, or with that of the signed one.
            _ => {
                let bad = damage(&world.images[1], &mut rng);
                let announced = [crc32(&bad), crc[1]][i / 4 % 2];
                device.write(&block, &bad, announced)
            }
        };
        let said = said.unwrap_or_else(|| panic!("{i}: taken"));
        let kind = said.split([' ', '{', '(']).next().unwrap_or_default();
        *refused.entry((i % 4, kind.to_string())).or_insert(0) += 1;
        if i % 4 != 3 {
            assert_eq!(
                device.pipe.operations(),
                before,
                "{i}: written after {said}"
            );
        }
        assert_eq!(device.running(), crc[0], "{i}: another image runs");
    }
    println!("refused (0 signatures, 1 and 2 patches, 3 images): {refused:?}");
    assert_eq!(device.patch(&block, &good, crc[1]), None);
    assert_eq!(device.running(), crc[1]);
}

/// Makes a patch's own checksum agree with what became of it.
fn reseal(patch: &mut [u8]) -> &[u8] {
    if patch.len() < 32 {
        return patch;
    }
    let body = (patch.len() - 32) as u32;
    patch[24..28].copy_from_slice(&body.to_le_bytes());
    let (head, rest) = patch.split_at(32);
    let crc = crc32(&[&head[..28], rest].concat());
    patch[28..32].copy_from_slice(&crc.to_le_bytes());
    patch
}

/// Changes the four bytes at `at` so that all bytes have this CRC-32: it is linear, so the bits to
/// flip solve 32 equations.
fn forge(bytes: &mut [u8], at: usize, crc: u32) {
    let start = crc32(bytes);
    let mut rows: Vec<(u32, u32)> = Vec::new();
    for bit in 0..32 {
        bytes[at + bit / 8] ^= 1 << (bit % 8);
        let mut row = (crc32(bytes) ^ start, 1u32 << bit);
        bytes[at + bit / 8] ^= 1 << (bit % 8);
        for r in &rows {
            if row.0 & r.0 & r.0.wrapping_neg() != 0 {
                row = (row.0 ^ r.0, row.1 ^ r.1);
            }
        }
        if row.0 != 0 {
            rows.push(row);
        }
    }
    let mut left = (start ^ crc, 0u32);
    for r in &rows {
        if left.0 & r.0 & r.0.wrapping_neg() != 0 {
            left = (left.0 ^ r.0, left.1 ^ r.1);
        }
    }
    for (byte, flip) in bytes[at..at + 4].iter_mut().zip(left.1.to_le_bytes()) {
        *byte ^= flip;
    }
    assert_eq!(crc32(bytes), crc, "the equations have a solution");
}

#[test]
fn an_image_with_the_length_and_crc_of_the_signed_one_is_still_not_it() {
    let world = World::new();
    let pipe = start_trusting(SLOT, POOL, quiet(), world.trust(true));
    let mut device = Raw { pipe, sequence: 0 };
    let crc = [0, 1].map(|n| crc32(&world.images[n]));
    assert_eq!(
        device.write(&world.block(0, 1), &world.images[0], crc[0]),
        None
    );
    let mut forged = world.images[1].clone();
    let at = forged.len() / 2;
    forged[at] ^= 0x55;
    forge(&mut forged, at + 1, crc[1]);
    assert_ne!(forged, world.images[1]);
    let block = world.block(1, 2);
    let said = device.write(&block, &forged, crc[1]);
    assert_eq!(said.as_deref(), Some("OtherThanSigned"));
    assert_eq!(device.running(), crc[0]);
    // A patch to it is found out before anything is written.
    let before = device.pipe.operations();
    let patch = write_patch(&world.images[0], &forged).unwrap();
    let said = device.patch(&block, &patch, crc[1]);
    assert_eq!(said.as_deref(), Some("OtherThanSigned"));
    assert_eq!(device.pipe.operations(), before);
    assert_eq!(device.running(), crc[0]);
    // The host does not even send it.
    let mut device = world.device(true);
    let file = [&forged[..], &block].concat();
    assert!(matches!(
        flash(&mut device, &file),
        Err(DeviceError::OtherThanSigned)
    ));
    assert_eq!(device.transport_mut().operations(), 0);
}

#[test]
fn a_signature_speaks_of_one_image_and_may_be_repeated() {
    let world = World::new();
    let pipe = start_trusting(SLOT, POOL, quiet(), world.trust(true));
    let mut device = Raw { pipe, sequence: 0 };
    let [zero, one] = [0, 1].map(|n| &world.images[n]);
    let block = world.block(0, 1);
    let authorize = Request::Authorize { block: &block };
    // The image of another signature, and nothing announced at all.
    assert_eq!(
        device.write(&block, one, crc32(one)).as_deref(),
        Some("Unsigned")
    );
    assert_eq!(device.pipe.operations(), 0);
    assert_eq!(device.refusal(authorize), None);
    assert_eq!(device.refusal(authorize), None);
    assert_eq!(device.write(&block, zero, crc32(zero)), None);
    // Announcing another one in between takes the first one's leave to be committed.
    let (len, crc) = (one.len() as u32, crc32(one));
    let (second, third) = (world.block(1, 2), world.block(2, 2));
    assert_eq!(device.refusal(Request::Authorize { block: &second }), None);
    assert_eq!(device.refusal(Request::BeginImage { len, crc }), None);
    for (i, data) in one.chunks(4096).enumerate() {
        let offset = 4096 * i as u32;
        assert_eq!(device.refusal(Request::WriteImage { offset, data }), None);
    }
    assert_eq!(device.refusal(Request::Authorize { block: &third }), None);
    let said = device.refusal(Request::Commit { crc });
    assert_eq!(said.as_deref(), Some("OtherThanSigned"));
    assert_eq!(device.running(), crc32(zero));
    // While an image is open, it can be announced too; the refused one leaves nothing announced.
    assert_eq!(device.refusal(Request::Authorize { block: &second }), None);
    let mut bad = second;
    bad[SIGNED_BYTES] ^= 1;
    let said = device.refusal(Request::Authorize { block: &bad });
    assert_eq!(said, Some(format!("{:?}", Refusal::BadSignature)));
    let said = device.refusal(Request::BeginImage { len, crc });
    assert_eq!(said.as_deref(), Some("Unsigned"));
    assert_eq!(device.write(&second, one, crc), None);
    assert_eq!(device.running(), crc);
}

#[test]
fn a_device_without_a_key_takes_signed_and_unsigned_models() {
    let world = World::new();
    let pipe = start_trusting(SLOT, POOL, quiet(), Trust::built_in());
    let mut device = LinkDevice::connect(pipe, Duration::from_secs(20), None).unwrap();
    assert_eq!(device.trust().unwrap().key_id, None);
    flash(&mut device, &world.images[0]).unwrap();
    flash(&mut device, &world.signed(1, 2)).unwrap();
    world.runs(&mut device, 1);
    // Nobody has verified that version.
    assert_eq!(device.trust().unwrap().version, 0);
    let back = [&world.patch(1, 2)[..], &world.block(2, 1)].concat();
    patch(&mut device, &back).unwrap();
    world.runs(&mut device, 2);
}

/// What a probe or other firmware may have left in flash: it counts at the start where the key's owner
/// signed it as what it is, and else it is as if it were not there.
#[test]
fn what_came_into_flash_past_the_agent_runs_only_where_it_is_signed() {
    let world = World::new();
    let [good, other, ..] = &world.images;
    let block = world.block(0, 3);
    let stranger = SigningKey::generate().unwrap();
    let mut strange = stranger.sign(good, 3).unwrap();
    strange.key_id = world.key.sign(good, 3).unwrap().key_id;
    let strange = strange.to_bytes();
    let mut spoilt = block;
    spoilt[BLOCK_BYTES - 40] ^= 1;
    // Another image of the same length and CRC.
    let mut forged = good.clone();
    let at = forged.len() - 40;
    forged[at] ^= 0x55;
    forge(&mut forged, at + 8, crc32(good));
    assert!(forged.len() == good.len() && crc32(&forged) == crc32(good) && forged != *good);
    let committed = |image, version, block| Committed {
        slot: 0,
        sequence: 4,
        image,
        version,
        block,
    };
    let old_block = world.block(1, 2);
    let older = Committed {
        slot: 1,
        sequence: 3,
        ..committed(other, 2, &old_block[..])
    };
    let cases = [
        ("signed", committed(good, 3, &block[..]), true),
        ("nobody's", committed(good, 0, &[]), false),
        ("nobody's, with a version", committed(good, 3, &[]), false),
        ("a stranger's", committed(good, 3, &strange[..]), false),
        ("spoilt", committed(good, 3, &spoilt[..]), false),
        ("another version's", committed(good, 4, &block[..]), false),
        ("another image's", committed(other, 3, &block[..]), false),
        ("forged", committed(&forged, 3, &block[..]), false),
    ];
    let connect = |contents: &[Committed<'_>]| {
        let pipe = start_holding(SLOT, POOL, contents, world.trust(true));
        LinkDevice::connect(pipe, Duration::from_secs(20), None).unwrap()
    };
    for (name, newest, runs) in cases {
        let mut device = connect(&[newest]);
        match runs {
            true => world.runs(&mut device, 0),
            false => {
                let error = device.open().unwrap_err();
                assert!(matches!(error, DeviceError::NoImage), "{name}: {error}");
                // It can be flashed.
                flash(&mut device, &world.signed(2, 5)).unwrap();
                world.runs(&mut device, 2);
            }
        }
        // Of two, the newest that is signed.
        let mut device = connect(&[older, newest]);
        world.runs(&mut device, if runs { 0 } else { 1 });
    }
    // Without a key all of that runs.
    let pipe = start_holding(SLOT, POOL, &[cases[1].1], Trust::built_in());
    let mut device = LinkDevice::connect(pipe, Duration::from_secs(20), None).unwrap();
    world.runs(&mut device, 0);
}
