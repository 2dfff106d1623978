//! `qmend bench engine`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rand::prelude::*;
use serde_json::json;

use super::super::context::{Context, Done};
use super::super::models;
use crate::engine::{Engine, Isa};
use crate::report::Table;

/// How many samples a second the host's integer engine computes
///
/// Inputs are random integers. The engine is bit for bit the device's; what it is fast for is
/// repair, which evaluates thousands of samples after every edit.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The integer model: .qmend, int8 .tflite or QDQ .onnx
    model: PathBuf,
    /// Samples a run
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    samples: u32,
    /// Repeat runs for so long
    #[arg(long, default_value = "2", value_name = "SECONDS", value_parser = super::super::repair::parse_seconds)]
    time: Duration,
    /// Use these vector instructions rather than the best that the machine has
    #[arg(long, value_enum)]
    isa: Option<Vectors>,
    /// Show each operator's share, measured on one thread
    #[arg(long)]
    layers: bool,
}

/// Vector instructions by name.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Vectors {
    /// What the compiler makes of plain loops
    Portable,
    /// AArch64
    Neon,
    /// x86-64
    Avx2,
    /// x86-64
    Avx512Vnni,
}

impl Vectors {
    fn isa(self) -> Isa {
        match self {
            Vectors::Portable => Isa::Portable,
            Vectors::Neon => Isa::Neon,
            Vectors::Avx2 => Isa::Avx2,
            Vectors::Avx512Vnni => Isa::Avx512Vnni,
        }
    }
}

/// Runs the benchmark.
pub fn run(args: &Args, context: &Context) -> Result<Done> {
    let model = models::load_integer(&args.model)?.model;
    let isa = args.isa.map_or_else(Isa::detect, Vectors::isa);
    if !Isa::available().contains(&isa) {
        let there = Isa::available();
        bail!("this machine has no {isa:?}; --isa can be one of {there:?} here, or be left out");
    }
    let engine = Engine::with_isa(&model, isa)?;
    let mut random = StdRng::seed_from_u64(0);
    let n = args.samples as usize;
    let inputs: Vec<i8> = (0..n * engine.input_elements())
        .map(|_| random.random())
        .collect();
    let bar = context.progress.start("run", 0);
    let begin = Instant::now();
    let mut rates = Vec::new();
    while rates.is_empty() || begin.elapsed() < args.time {
        let start = Instant::now();
        std::hint::black_box(engine.run(&inputs));
        rates.push(n as f64 / start.elapsed().as_secs_f64());
        bar.update(rates.len() as u64, "");
    }
    bar.finish(&format!("{} runs of {n} samples", rates.len()));
    rates.sort_by(f64::total_cmp);
    let (median, best) = (rates[rates.len() / 2], rates[rates.len() - 1]);
    let macs: Vec<usize> = model.nodes.iter().map(|node| model.macs(node)).collect();
    let total_macs: usize = macs.iter().sum();
    let threads = rayon::current_num_threads();
    let isa = format!("{isa:?}");
    context.say(format_args!(
        "{median:.0} samples a second (best {best:.0}) on {threads} threads, {isa}: {:.1} G multiply-accumulates a second",
        median * total_macs as f64 / 1e9
    ));

    let mut layers = Vec::new();
    if args.layers {
        let times = engine.profile(&inputs);
        let total: f64 = times.iter().map(Duration::as_secs_f64).sum();
        let mut table = Table::new(["operator", "kind", "MACs", "us a sample", "share"]);
        for (i, time) in times.iter().enumerate() {
            let (node, time) = (&model.nodes[i], time.as_secs_f64());
            table.row([
                node.name.clone(),
                node.op.kind().to_string(),
                if macs[i] > 0 {
                    macs[i].to_string()
                } else {
                    "-".into()
                },
                format!("{:.2}", 1e6 * time / n as f64),
                format!("{:.1} %", 100.0 * time / total),
            ]);
            layers.push(json!({
                "name": node.name, "kind": node.op.kind(), "macs": macs[i],
                "seconds_a_sample": time / n as f64,
            }));
        }
        context.say(table);
    }
    Ok(Done::new(json!({
        "model": args.model,
        "samples_a_second": median,
        "best_samples_a_second": best,
        "runs": rates.len(),
        "samples": n,
        "threads": threads,
        "isa": isa,
        "macs": total_macs,
        "layers": layers,
    })))
}
