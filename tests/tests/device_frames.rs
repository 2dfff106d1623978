//! Frames under fire: whatever arrives, a message is taken for good only when it is what was sent.

use qmend_shared::link::{FrameReader, Packet, Request, write_frame};
use rand::prelude::*;

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

fn accepted<const N: usize>(reader: &mut FrameReader<N>, wire: &[u8]) -> Vec<Vec<u8>> {
    wire.iter()
        .filter_map(|&b| reader.push(b)?.ok().map(<[u8]>::to_vec))
        .collect()
}

#[test]
fn random_bytes_are_never_taken_for_a_message_and_never_panic() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut reader = FrameReader::<300>::new();
    let mut frames = 0u32;
    for density in [2u32, 16, 256, 2000] {
        let bytes: Vec<u8> = (0..500_000)
            .map(|_| {
                if rng.random_ratio(1, density) {
                    0
                } else {
                    rng.random_range(1..=255)
                }
            })
            .collect();
        for &b in &bytes {
            if let Some(result) = reader.push(b) {
                frames += 1;
                assert!(result.is_err(), "noise passed for a message");
            }
        }
    }
    assert!(
        frames > 100_000,
        "too few frames to mean anything: {frames}"
    );
}

#[test]
fn no_damage_to_one_byte_changes_a_message_unseen() {
    let mut rng = StdRng::seed_from_u64(2);
    for len in [0usize, 1, 5, 253, 254, 255, 600] {
        let data: Vec<u8> = (0..len)
            .map(|_| {
                if rng.random_ratio(1, 4) {
                    0
                } else {
                    rng.random()
                }
            })
            .collect();
        let packet = Packet {
            sequence: 9,
            body: Request::WriteImage {
                offset: 77,
                data: &data,
            },
        };
        let good = frame(&packet);
        let mut reader = FrameReader::<1024>::new();
        let message = accepted(&mut reader, &good).remove(0);
        for at in 0..good.len() {
            for value in [0, 1, 255, good[at] ^ 0x10, good[at].wrapping_add(1)] {
                if value == good[at] {
                    continue;
                }
                let mut bad = good.clone();
                bad[at] = value;
                // A second, whole frame must come through behind a final zero.
                bad.push(0);
                bad.extend_from_slice(&good);
                let got = accepted(&mut FrameReader::<1024>::new(), &bad);
                assert_eq!(
                    got,
                    std::slice::from_ref(&message),
                    "length {len}, byte {at} became {value}"
                );
            }
        }
    }
}

#[test]
fn messages_come_through_in_order_between_cut_frames_and_noise() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut reader = FrameReader::<256>::new();
    let mut wire = Vec::new();
    let mut sent = Vec::new();
    for sequence in 0..200u8 {
        let packet = Packet {
            sequence,
            body: Request::Digest {
                first: rng.random(),
            },
        };
        let whole = frame(&packet);
        match rng.random_range(0..3) {
            0 => wire.extend_from_slice(&whole[..rng.random_range(0..whole.len() - 1)]),
            1 => wire.extend((0..rng.random_range(0..600)).map(|_| rng.random_range(1..=255u8))),
            _ => {}
        }
        wire.push(0);
        wire.extend_from_slice(&whole);
        sent.push(postcard::to_stdvec(&packet).unwrap());
    }
    assert_eq!(accepted(&mut reader, &wire), sent);
}

#[test]
fn random_messages_inside_sound_frames_never_panic_the_decoder() {
    let mut rng = StdRng::seed_from_u64(4);
    for _ in 0..200_000 {
        let bytes: Vec<u8> = (0..rng.random_range(0..40)).map(|_| rng.random()).collect();
        let _ = postcard::take_from_bytes::<Packet<Request<'_>>>(&bytes);
        let _ = postcard::take_from_bytes::<Packet<qmend_shared::link::Response<'_>>>(&bytes);
    }
}
