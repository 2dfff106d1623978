//! Images, patches and rollback on the agent's own code, on a thread: what is refused, what survives
//! a bad line, and that the model that runs is always the one that was committed.

use std::time::{Duration, Instant};

use qmend::device::{Device, DeviceError, HostDevice, LinkDevice, Transport};
use qmend::export::image::write_image;
use qmend::export::patch::write_patch;
use qmend::model::QuantizedModel;
use qmend_shared::image::Model;
use qmend_shared::link::frame::crc32;
use qmend_shared::link::{FrameReader, Packet, Refusal, Request, Response, write_frame};
use qmend_tests::in_process::{Pipe, quiet, start, start_raw};
use qmend_tests::random_model::{mended, random_inputs, random_network};
use rand::prelude::*;

const SLOT: usize = 1 << 16;
const POOL: usize = 1 << 16;

fn images() -> (QuantizedModel, Vec<u8>, Vec<u8>) {
    let model = random_network(30, 8, 4);
    let old = write_image(&model).unwrap();
    let new = write_image(&mended(&model, 1)).unwrap();
    assert!(old != new && old.len() > 3000);
    (model, old, new)
}

fn runs<T: Transport>(device: &mut LinkDevice<T>, model: &QuantizedModel, image: &[u8]) {
    let (_, _, crc) = device.open().unwrap();
    assert_eq!(crc, crc32(image), "another image runs");
    let mut host = HostDevice::new();
    let size = host.load(image).unwrap().input_len;
    for input in random_inputs(model, 3, 1).chunks(size) {
        let ours = host.infer(input).unwrap().output;
        assert_eq!(device.infer(input).unwrap().output, ours);
    }
}

#[test]
fn a_model_a_patch_and_a_rollback_go_over_the_link() {
    let (model, old, new) = images();
    let mut device = start(SLOT, POOL, quiet()).unwrap();
    assert!(matches!(device.open(), Err(DeviceError::NoImage)));
    assert!(matches!(device.roll_back(), Err(DeviceError::NoImage)));
    let mut seen = Vec::new();
    let first = device.flash(&old, &mut |n, of| seen.push((n, of))).unwrap();
    assert_eq!(first.sectors, old.len().div_ceil(1024));
    assert_eq!(
        (first.sectors_sent, first.bytes_sent),
        (first.sectors, old.len())
    );
    assert_eq!(
        (first.slot, first.sequence, first.already_there),
        (0, 1, false)
    );
    assert!(seen.is_sorted() && seen.last() == Some(&(old.len(), old.len())));
    runs(&mut device, &model, &old);
    assert!(device.flash(&old, &mut |_, _| ()).unwrap().already_there);

    let patch = write_patch(&old, &new).unwrap();
    let patched = device.flash_patch(&patch, &mut |_, _| ()).unwrap();
    assert_eq!((patched.slot, patched.sequence), (1, 2));
    assert_eq!(patched.bytes_sent, patch.len());
    runs(&mut device, &model, &new);
    assert!(
        device
            .flash_patch(&patch, &mut |_, _| ())
            .unwrap()
            .already_there
    );

    let status = device.roll_back().unwrap();
    assert_eq!(status.selected.unwrap().crc, crc32(&old));
    assert_eq!(status.other, Some((new.len() as u32, crc32(&new))));
    runs(&mut device, &model, &old);
    // The other slot has the new image still: nothing but its record is written.
    let again = device.flash(&new, &mut |_, _| ()).unwrap();
    assert_eq!((again.sectors_sent, again.bytes_sent), (0, 0));
    runs(&mut device, &model, &new);
    // A patch for the image that was there before is refused with both names.
    let error = device.flash_patch(
        &write_patch(&old, &mended_image(&model, 2)).unwrap(),
        &mut |_, _| (),
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains(&format!("{:08x}", crc32(&old))), "{error}");
    assert!(error.contains(&format!("{:08x}", crc32(&new))), "{error}");
    runs(&mut device, &model, &new);
}

fn mended_image(model: &QuantizedModel, n: i32) -> Vec<u8> {
    write_image(&mended(model, n)).unwrap()
}

/// An agent without the host's own caution.
struct Raw {
    pipe: Pipe,
    sequence: u8,
}

impl Raw {
    fn start(pool: usize) -> Self {
        Self {
            pipe: start_raw(SLOT, pool, quiet()),
            sequence: 0,
        }
    }

    /// Sends a request, and gives the answer to `read`.
    fn ask<R>(&mut self, body: Request<'_>, read: impl Fn(Response<'_>) -> R) -> R {
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        let sequence = self.sequence;
        self.pipe.send(&frame(&Packet { sequence, body })).unwrap();
        self.answer(|packet| (packet.sequence == sequence).then(|| read(packet.body)))
    }

    fn answer<R>(&mut self, accept: impl Fn(Packet<Response<'_>>) -> Option<R>) -> R {
        let mut reader = Box::new(FrameReader::<16384>::new());
        loop {
            let deadline = Instant::now() + Duration::from_secs(20);
            let bytes = self.pipe.receive(deadline).unwrap().expect("an answer");
            for byte in bytes {
                let Some(Ok(message)) = reader.push(byte) else {
                    continue;
                };
                let (packet, rest) = postcard::take_from_bytes(message).unwrap();
                assert!(rest.is_empty());
                if let Some(result) = accept(packet) {
                    return result;
                }
            }
        }
    }

    fn refusal(&mut self, body: Request<'_>) -> Option<String> {
        self.ask(body, |answer| match answer {
            Response::Refused(refusal) => Some(format!("{refusal:?}")),
            _ => None,
        })
    }

    fn done(&mut self, body: Request<'_>) {
        let name = format!("{body:?}");
        assert_eq!(self.refusal(body), None, "{name:.60}");
    }

    fn write(&mut self, image: &[u8]) -> Option<String> {
        let (len, crc) = (image.len() as u32, crc32(image));
        self.done(Request::BeginImage { len, crc });
        for (i, data) in image.chunks(4096).enumerate() {
            let offset = 4096 * i as u32;
            self.done(Request::WriteImage { offset, data });
        }
        self.refusal(Request::Commit { crc })
    }

    fn patch(&mut self, patch: &[u8], crc: u32) -> Option<String> {
        let len = patch.len() as u32;
        self.done(Request::BeginPatch { len });
        for (i, data) in patch.chunks(4096).enumerate() {
            let offset = 4096 * i as u32;
            self.done(Request::WritePatch { offset, data });
        }
        self.refusal(Request::Commit { crc })
    }

    fn running(&mut self) -> u32 {
        self.ask(Request::OpenImage, |answer| match answer {
            Response::Model(info) => info.image_crc,
            other => panic!("{other:?}"),
        })
    }
}

fn frame(message: &impl serde::Serialize) -> Vec<u8> {
    let mut scratch = vec![0; 8192];
    let mut wire = Vec::new();
    let sent = write_frame(message, &mut scratch, |bytes| {
        wire.extend_from_slice(bytes);
        Ok::<(), ()>(())
    });
    sent.unwrap().unwrap();
    wire
}

#[test]
fn of_a_thousand_damaged_images_and_patches_the_device_takes_none() {
    let (_, old, new) = images();
    let good = write_patch(&old, &new).unwrap();
    let mut device = Raw::start(POOL);
    assert_eq!(device.write(&old), None);
    let mut rng = StdRng::seed_from_u64(3);
    let damage = |bytes: &[u8], rng: &mut StdRng| {
        let mut bad = bytes.to_vec();
        match rng.random_range(0..3) {
            0 => {
                let at = rng.random_range(0..bad.len());
                bad[at] ^= 1 << rng.random_range(0..8);
            }
            1 => bad.truncate(rng.random_range(1..bad.len())),
            _ => {
                let at = rng.random_range(0..bad.len());
                let end = (at + rng.random_range(1..50)).min(bad.len());
                rng.fill(&mut bad[at..end]);
            }
        }
        bad
    };
    let mut refused = [0; 2];
    for i in 0..1000 {
        let (bad, said) = if i % 5 == 0 {
            // Announced with the CRC that it has: its own check has to find it.
            let bad = damage(&new, &mut rng);
            let said = (bad != new).then(|| device.write(&bad));
            (bad != new, said)
        } else {
            let bad = damage(&good, &mut rng);
            let said = (bad != good).then(|| device.patch(&bad, crc32(&new)));
            (bad != good, said)
        };
        if !bad {
            continue;
        }
        let said = said.flatten().expect("refused");
        let expected = if i % 5 == 0 { "BadImage" } else { "Slot" };
        assert!(said.contains(expected), "{i}: {said}");
        refused[(i % 5 != 0) as usize] += 1;
        assert_eq!(device.running(), crc32(&old), "{i}: another image runs");
    }
    println!("refused: {refused:?} (images, patches)");
    assert!(refused[0] >= 190 && refused[1] >= 790);
    assert_eq!(device.patch(&good, crc32(&new)), None);
    assert_eq!(device.running(), crc32(&new));
}

#[test]
fn ten_thousand_fuzzed_frames_leave_the_model_as_it_is() {
    let (model, old, new) = images();
    let mut device = Raw::start(POOL);
    assert_eq!(device.write(&old), None);
    let input: Vec<u8> = random_inputs(&model, 1, 1)
        .iter()
        .map(|&x| x as u8)
        .collect();
    let data = &input[..];
    let run = |device: &mut Raw| {
        assert_eq!(device.running(), crc32(&old));
        device.done(Request::WriteInput { offset: 0, data });
        device.ask(Request::Run, |answer| match answer {
            Response::Ran { output, .. } => output.to_vec(),
            other => panic!("{other:?}"),
        })
    };
    let expected = run(&mut device);
    let mut rng = StdRng::seed_from_u64(8);
    let (len, crc) = (new.len() as u32, crc32(&new));
    let patch = write_patch(&old, &new).unwrap();
    let chunk = &new[..1024];
    let messages: Vec<Vec<u8>> = [
        Request::BeginImage { len, crc },
        Request::WriteImage {
            offset: 0,
            data: chunk,
        },
        Request::BeginPatch {
            len: patch.len() as u32,
        },
        Request::WritePatch {
            offset: 0,
            data: &patch,
        },
        Request::Commit { crc },
        Request::RollBack { from: 1 },
        Request::SectorDigests { first: 3 },
        Request::Run,
    ]
    .map(|body| postcard::to_stdvec(&Packet { sequence: 9, body }).unwrap())
    .into();
    // Damaged on the line: bits, bytes left out, bytes that came from nowhere. Each is named, none
    // is taken for a message.
    for _ in 0..5000 {
        let body = messages.choose(&mut rng).unwrap();
        let good = frame_of(body);
        let mut bad = good.clone();
        let at = rng.random_range(1..bad.len() - 1);
        match rng.random_range(0..3) {
            0 => bad[at] ^= 1 << rng.random_range(0..8),
            1 => drop(bad.remove(at)),
            _ => bad.insert(at, rng.random()),
        }
        if bad == good {
            continue;
        }
        device.pipe.send(&bad).unwrap();
        let bad_message = Response::Refused(Refusal::BadMessage);
        let named = device.answer(|packet| Some(packet.body == bad_message));
        assert!(named, "a damaged frame was answered");
    }
    assert_eq!(run(&mut device), expected);
    // A peer with the right framing and wrong messages. Whatever it asks, nothing that was not
    // checked may count.
    for i in 0..5000 {
        let mut bad = messages.choose(&mut rng).unwrap().clone();
        let at = rng.random_range(1..bad.len().min(12));
        bad[at] = rng.random();
        bad.truncate(rng.random_range(1..=bad.len()));
        device.pipe.send(&frame_of(&bad)).unwrap();
        if i % 500 == 499 {
            // Late answers are passed over by their numbers.
            device.sequence = 100;
            assert_eq!(run(&mut device), expected, "after {i} messages");
        }
    }
    assert_eq!(device.write(&new), None);
    assert_eq!(device.running(), crc32(&new));
}

/// A sound frame around any bytes.
fn frame_of(message: &[u8]) -> Vec<u8> {
    struct Bytes<'a>(&'a [u8]);
    impl serde::Serialize for Bytes<'_> {
        fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeTuple;
            let mut tuple = s.serialize_tuple(self.0.len())?;
            self.0.iter().try_for_each(|b| tuple.serialize_element(b))?;
            tuple.end()
        }
    }
    frame(&Bytes(message))
}

#[test]
fn requests_may_be_repeated_and_come_in_the_wrong_order() {
    let (_, old, new) = images();
    let mut device = Raw::start(POOL);
    assert_eq!(device.write(&old), None);
    let commit = Request::Commit { crc: crc32(&old) };
    // The answer to the commit was lost.
    assert_eq!(device.refusal(commit), None);
    let (len, crc) = (new.len() as u32, crc32(&new));
    let nothing = Some("NothingBegun".to_string());
    assert_eq!(device.refusal(Request::Commit { crc }), nothing);
    let data = &new[..1024];
    assert_eq!(
        device.refusal(Request::WriteImage { offset: 0, data }),
        nothing
    );
    device.done(Request::BeginImage { len, crc });
    device.done(Request::WriteImage { offset: 0, data });
    device.done(Request::WriteImage { offset: 0, data });
    let ahead = Request::WriteImage { offset: 1500, data };
    let expected = Some(format!("{:?}", Refusal::Order { expected: 1024 }));
    assert_eq!(device.refusal(ahead), expected);
    // Half an image is not committed.
    assert!(
        device
            .refusal(Request::Commit { crc })
            .unwrap()
            .contains("Slot(Crc {")
    );
    assert_eq!(device.running(), crc32(&old));
    assert_eq!(device.write(&new), None);
    let sequence = device.ask(Request::Slots, |answer| match answer {
        Response::Slots(status) => status.selected.unwrap().sequence,
        other => panic!("{other:?}"),
    });
    // Repeated, a rollback happens once.
    device.done(Request::RollBack { from: sequence });
    device.done(Request::RollBack { from: sequence });
    assert_eq!(device.running(), crc32(&old));
    assert_eq!(device.refusal(Request::RollBack { from: 77 }), nothing);
}

#[test]
fn a_model_that_needs_too_much_memory_is_refused_by_the_device_too() {
    let (_, old, _) = images();
    let needed = Model::from_bytes(&old).unwrap().arena_bytes();
    let mut device = Raw::start(needed - 1);
    let said = device.write(&old).expect("refused");
    assert!(said.contains("NotAccepted"), "{said}");
    let patch = Request::BeginPatch { len: 10 };
    assert!(device.refusal(patch).unwrap().contains("Empty"));
}

/// Loses, repeats, damages and delays whole messages, in both directions.
struct BadLine {
    pipe: Pipe,
    rng: StdRng,
    late: Vec<u8>,
    faults: [u32; 4],
}

impl Transport for BadLine {
    fn send(&mut self, bytes: &[u8]) -> Result<(), DeviceError> {
        let mut bytes = bytes.to_vec();
        match self.rng.random_range(0..40) {
            0 => {
                self.faults[0] += 1;
                bytes.clear();
            }
            1 => {
                self.faults[1] += 1;
                bytes = bytes.repeat(2);
            }
            2 => {
                self.faults[2] += 1;
                let at = self.rng.random_range(0..bytes.len());
                bytes[at] ^= 4;
                bytes.push(0);
            }
            // Comes again after the next one.
            3 => {
                self.faults[3] += 1;
                self.late = bytes.clone();
            }
            _ => bytes.append(&mut self.late),
        }
        self.pipe.send(&bytes)
    }

    fn receive(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>, DeviceError> {
        let bytes = self.pipe.receive(deadline)?;
        Ok(bytes.map(|bytes| {
            bytes
                .into_iter()
                .filter(|_| !self.rng.random_ratio(1, 2000))
                .collect()
        }))
    }
}

#[test]
fn lost_repeated_damaged_and_late_messages_are_survived() {
    let (model, old, new) = images();
    let pipe = start_raw(SLOT, POOL, quiet());
    let line = BadLine {
        pipe,
        rng: StdRng::seed_from_u64(5),
        late: Vec::new(),
        faults: [0; 4],
    };
    let mut device = LinkDevice::connect(line, Duration::from_secs(3), None).unwrap();
    let patch = write_patch(&old, &new).unwrap();
    for _ in 0..25 {
        device.flash(&old, &mut |_, _| ()).unwrap();
        runs(&mut device, &model, &old);
        device.flash_patch(&patch, &mut |_, _| ()).unwrap();
        runs(&mut device, &model, &new);
    }
    let faults = device.transport_mut().faults;
    println!("lost, repeated, damaged, late: {faults:?}");
    assert!(faults.iter().all(|&n| n > 0));
}
