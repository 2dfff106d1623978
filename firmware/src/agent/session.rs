//! An open image with its memory: inputs, runs, outputs.

use heapless::Vec;
use qmend_shared::engine;
use qmend_shared::image::Model;
#[cfg(feature = "self-test")]
use qmend_shared::link::SelfTestResult;
use qmend_shared::link::frame::crc32;
use qmend_shared::link::{Digests, ModelInfo, Refusal, Request, Response, Stats};

use crate::port::Meter;

/// Checks the image and that its tensors fit the pool.
#[inline(never)]
pub(super) fn open(image: &[u8], pool: usize) -> Result<(Model<'_>, ModelInfo), Refusal> {
    let model = Model::from_bytes(image).map_err(Refusal::BadImage)?;
    let needed = pool_bytes(&model);
    if needed > pool as u64 {
        let needed = needed.min(u32::MAX as u64) as u32;
        return Err(Refusal::PoolTooSmall {
            needed,
            capacity: pool as u32,
        });
    }
    let image = model.bytes();
    let info = ModelInfo {
        image_bytes: image.len() as u32,
        image_crc: crc32(image),
        input_len: model.input().elements() as u32,
        output_len: model.output().elements() as u32,
        operators: model.ops().count() as u16,
        arena_bytes: model.manifest().arena_bytes,
    };
    Ok((model, info))
}

/// Bytes that a model's arena, input and output take together.
pub(super) fn pool_bytes(model: &Model<'_>) -> u64 {
    (model.manifest().arena_bytes as u64)
        .saturating_add(model.input().elements())
        .saturating_add(model.output().elements())
}

/// An open image with its memory.
pub(super) struct Session<'p, 's> {
    pub model: Model<'s>,
    pub info: ModelInfo,
    /// Most data bytes in one message.
    pub chunk: usize,
    arena: &'p mut [i8],
    input: &'p mut [i8],
    output: &'p mut [i8],
    kept: &'p mut [i8],
    written: usize,
    kept_len: usize,
    runs: u32,
    /// The input of the last run.
    input_crc: u32,
    /// The run that the kept tensor is of.
    kept_run: u32,
}

impl<'p, 's> Session<'p, 's> {
    /// Splits the pool, which [`open`] has found large enough.
    pub fn new(model: Model<'s>, info: ModelInfo, chunk: usize, pool: &'p mut [i8]) -> Self {
        let (arena, rest) = pool.split_at_mut(info.arena_bytes as usize);
        let (input, rest) = rest.split_at_mut(info.input_len as usize);
        let (output, kept) = rest.split_at_mut(info.output_len as usize);
        Self {
            model,
            info,
            chunk,
            arena,
            input,
            output,
            kept,
            written: 0,
            kept_len: 0,
            runs: 0,
            input_crc: 0,
            kept_run: 0,
        }
    }

    #[inline(never)]
    pub fn answer<E>(
        &mut self,
        request: Request<'_>,
        meter: &mut impl Meter,
        send: impl FnOnce(Response<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut crcs = Vec::<u8, { 4 * Digests::MAX }>::new();
        let answer = match request {
            Request::OpenImage => Ok(Response::Model(self.info)),
            Request::WriteInput { offset, data } => self.write_input(offset, data),
            Request::Run => self.run(meter, &mut |_, _| ()).map(|ticks| {
                let head = &self.output[..self.output.len().min(self.chunk)];
                Response::Ran {
                    run: self.runs,
                    input_crc: self.input_crc,
                    ticks,
                    output: as_bytes(head),
                }
            }),
            Request::ReadOutput { offset, len } => {
                part(self.runs, self.output, offset, len, self.chunk)
            }
            Request::Digest { first } => {
                let range = first as usize..first as usize + Digests::MAX;
                let ran = self.run(meter, &mut |operator, tensor| {
                    if range.contains(&operator) {
                        // The range holds no more operators than the vector has room for.
                        let _ = crcs.extend_from_slice(&crc32(as_bytes(tensor)).to_le_bytes());
                    }
                });
                let of = self.input_crc;
                ran.map(|_| {
                    Response::Digests(Digests {
                        first,
                        of,
                        crcs: &crcs,
                    })
                })
            }
            Request::Keep { operator } => self.keep(operator, meter),
            Request::ReadKept { offset, len } => {
                let kept = self.kept.get(..self.kept_len).unwrap_or(&[]);
                part(self.kept_run, kept, offset, len, self.chunk)
            }
            #[cfg(feature = "self-test")]
            Request::SelfTest { vector } => self.self_test(vector).map(Response::SelfTest),
            #[cfg(not(feature = "self-test"))]
            Request::SelfTest { .. } => Err(Refusal::Unsupported),
            Request::Stats => {
                let (stack_high_water, stack_watched) = meter.stack();
                Ok(Response::Stats(Stats {
                    arena_bytes: self.info.arena_bytes,
                    pool_used: (self.arena.len() + self.input.len() + self.output.len()) as u32,
                    stack_high_water,
                    stack_watched,
                    runs: self.runs,
                    clock: meter.kind(),
                }))
            }
            // The image is being read: it is written only after BeginImage.
            _ => Err(Refusal::OutOfRange),
        };
        send(answer.unwrap_or_else(Response::Refused))
    }

    /// Runs one of the self-tests that the image carries. The last run's output is lost.
    #[cfg(feature = "self-test")]
    pub fn self_test(&mut self, vector: u32) -> Result<SelfTestResult, Refusal> {
        self.runs = self.runs.saturating_add(1);
        super::self_test::run(&self.model, vector, self.arena, self.output)
    }

    fn write_input<'b>(&mut self, offset: u32, data: &[u8]) -> Result<Response<'b>, Refusal> {
        let offset = offset as usize;
        let target = self
            .input
            .get_mut(offset..)
            .and_then(|rest| rest.get_mut(..data.len()));
        match target {
            Some(target) if offset <= self.written => {
                for (to, &from) in target.iter_mut().zip(data) {
                    *to = from as i8;
                }
                self.written = offset + data.len();
                Ok(Response::Done)
            }
            _ => Err(Refusal::OutOfRange),
        }
    }

    // One copy for all requests: the engine is in it.
    #[inline(never)]
    fn run(
        &mut self,
        meter: &mut impl Meter,
        observe: &mut dyn FnMut(usize, &[i8]),
    ) -> Result<u64, Refusal> {
        if self.written != self.input.len() {
            return Err(Refusal::InputIncomplete {
                written: self.written as u32,
                needed: self.input.len() as u32,
            });
        }
        self.runs = self.runs.saturating_add(1);
        self.input_crc = crc32(as_bytes(self.input));
        meter.start();
        let result = engine::run_with(
            &self.model,
            self.arena,
            self.input,
            self.output,
            |operator, _, tensor| observe(operator, tensor),
        );
        let ticks = meter.stop();
        result.map(|()| ticks).map_err(Refusal::RunFailed)
    }

    fn keep(
        &mut self,
        operator: u16,
        meter: &mut impl Meter,
    ) -> Result<Response<'static>, Refusal> {
        if operator >= self.info.operators {
            return Err(Refusal::NoSuchOperator);
        }
        // Taken out for the run, which borrows the rest of the session.
        let kept = core::mem::take(&mut self.kept);
        let mut len = 0;
        let ran = self.run(meter, &mut |index, tensor| {
            if index == operator as usize {
                len = tensor.len();
                if let Some(target) = kept.get_mut(..len) {
                    target.copy_from_slice(tensor);
                }
            }
        });
        self.kept = kept;
        let capacity = self.kept.len();
        self.kept_len = if len <= capacity { len } else { 0 };
        self.kept_run = self.runs;
        ran?;
        if len > capacity {
            return Err(Refusal::PoolTooSmall {
                needed: len as u32,
                capacity: capacity as u32,
            });
        }
        Ok(Response::Kept {
            run: self.runs,
            input_crc: self.input_crc,
            operator,
            len: len as u32,
        })
    }
}

fn part<'b>(
    run: u32,
    tensor: &'b [i8],
    offset: u32,
    len: u16,
    chunk: usize,
) -> Result<Response<'b>, Refusal> {
    let len = len as usize;
    match tensor
        .get(offset as usize..)
        .and_then(|rest| rest.get(..len))
    {
        Some(part) if len <= chunk => Ok(Response::Data {
            run,
            data: as_bytes(part),
        }),
        _ => Err(Refusal::OutOfRange),
    }
}

pub(super) fn as_bytes(elements: &[i8]) -> &[u8] {
    // SAFETY: i8 and u8 have one size and alignment, and every bit pattern is a value of both.
    unsafe { core::slice::from_raw_parts(elements.as_ptr().cast(), elements.len()) }
}
