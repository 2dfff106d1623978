//! tract-rate MODEL.onnx 1,49,10,1 SECONDS: samples a second, one a call, best of short rounds.
use std::time::{Duration, Instant};
use tract_onnx::prelude::*;

fn main() -> TractResult<()> {
    let args: Vec<String> = std::env::args().collect();
    let shape = args[2].split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
    let total = Duration::from_secs_f64(args[3].parse()?);
    let mut model = tract_onnx::onnx().model_for_path(&args[1])?;
    model.set_input_fact(0, f32::fact(&shape).into())?;
    let model = model.into_optimized()?.into_runnable()?;
    let mut seed = 1u32;
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    let x = Tensor::from_shape(&shape, &values)?;
    model.run(tvec!(x.clone().into()))?;
    let (begin, mut best) = (Instant::now(), 0f64);
    while begin.elapsed() < total {
        let (start, mut calls) = (Instant::now(), 0u32);
        while start.elapsed() < total / 10 {
            model.run(tvec!(x.clone().into()))?;
            calls += 1;
        }
        best = best.max(calls as f64 / start.elapsed().as_secs_f64());
    }
    println!("{best}");
    Ok(())
}
