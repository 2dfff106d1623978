//! `qmend quantize`

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::args::{BackendArgs, ImageOutputArgs, PreprocessArgs, ReadArgs, spec_parser};
use super::context::{Context, Done};
use super::{inspect, models, stages};
use crate::calibrate::Method;
use crate::data::DataSpec;
use crate::export::{plan, write_image};
use crate::quantize::{QuantizeConfig, Scales, WeightRounding};
use crate::report::Proportion;

/// Turn a float .onnx network into an integer model (.qmend)
///
/// Activations become int8 with one scale and zero point a tensor, chosen on the calibration
/// samples; weights become 8-, 4-, 3- or 2-bit integers with one scale an output channel; biases
/// int32. Preprocessing is given here once and travels in the .qmend file: raw data go in from then
/// on.
///
/// A few hundred samples like the real ones are enough; labels are not needed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The float network (.onnx)
    model: PathBuf,
    /// Calibration data: FILE, FOLDER, or either with a range as in FILE:0..256
    ///
    /// .npz, .npy, IDX, CSV or an image folder; samples in the shape that the network takes
    /// (channels first or last, see --layout), raw values as they were before the training's
    /// preprocessing.
    #[arg(long, value_name = "DATA", value_parser = spec_parser())]
    data: DataSpec,
    #[command(flatten)]
    output: ImageOutputArgs,
    /// Bits of a weight
    #[arg(long, default_value = "8", value_name = "8|4|3|2", value_parser = parse_bits)]
    weights: u8,
    /// Bits of one layer's weights, by the layer's name as `qmend inspect` shows it; may be repeated
    #[arg(long = "layer", value_name = "NAME=BITS", value_parser = parse_layer)]
    layers: Vec<(String, u8)>,
    /// Keep the weights of the first and the last layer at 8 bits
    #[arg(long)]
    keep_ends_8bit: bool,
    /// How weight scales are chosen: max (nothing clipped) or mse (least squared error); by default
    /// max at 8 bits and mse below
    #[arg(long, value_name = "max|mse", value_parser = parse_word::<Scales>)]
    scales: Option<Scales>,
    /// How weights are rounded: nearest, squant (errors cancel within a channel; needs no data),
    /// gptq (errors made up for by later weights, on the calibration data), adaround (up or down,
    /// learned on the layer's outputs) or coordinate (the best levels together, searched from
    /// gptq's)
    #[arg(long, default_value = "nearest", value_name = "nearest|squant|gptq|adaround|coordinate", value_parser = parse_word::<WeightRounding>)]
    rounding: WeightRounding,
    /// Correct biases by the mean error of each channel on the calibration data
    #[arg(long)]
    bias_correction: bool,
    /// One weight scale a layer instead of one an output channel
    #[arg(long)]
    per_tensor: bool,
    /// How activation ranges are chosen: minmax (nothing clipped), percentile:P (from the 100-Pth to
    /// the Pth percentile; P above 50, by default 99.99) or mse (least squared error)
    #[arg(long, default_value = "minmax", value_name = "minmax|percentile:P|mse", value_parser = parse_word::<Method>)]
    calibration: Method,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    backend: BackendArgs,
}

pub fn parse_bits(s: &str) -> Result<u8, String> {
    match s {
        "8" => Ok(8),
        "4" => Ok(4),
        "3" => Ok(3),
        "2" => Ok(2),
        _ => Err("weights have 8, 4, 3 or 2 bits".into()),
    }
}

fn parse_layer(s: &str) -> Result<(String, u8), String> {
    let (name, bits) = s
        .rsplit_once('=')
        .ok_or("write NAME=BITS, as /conv1/Conv=8")?;
    Ok((name.to_string(), parse_bits(bits)?))
}

/// A word that a type reads from a string.
pub fn parse_word<T: std::str::FromStr<Err: std::fmt::Display>>(s: &str) -> Result<T, String> {
    s.parse().map_err(|e: T::Err| e.to_string())
}

pub fn run(args: &Args, context: &Context) -> Result<Done> {
    context.check_targets(
        [&args.output.output],
        &[&args.model, &args.data.path],
        args.output.force,
    )?;
    let teacher = stages::Teacher::new(models::load_float(&args.model)?, args.backend.backend)?;
    let shape = teacher.shape();
    let pre = args.preprocess.preprocess(shape[2])?;
    let data = stages::data_for(&args.data, &args.read, shape, &[], &teacher.graph.name)?;
    let config = QuantizeConfig {
        bits: args.weights,
        layer_bits: args.layers.iter().cloned().collect::<BTreeMap<_, _>>(),
        keep_ends_8bit: args.keep_ends_8bit,
        scales: args.scales,
        per_tensor: args.per_tensor,
        weight_rounding: args.rounding,
        bias_correction: args.bias_correction,
        ..QuantizeConfig::default()
    };
    let bar = context.progress.start("quantize", 0);
    let model = stages::quantized(&teacher, &data, &pre, args.calibration, &config)
        .with_context(|| args.model.display().to_string())?;
    let image = write_image(&model)?;
    bar.finish(&format!(
        "{} samples, {}-bit weights",
        data.len(),
        args.weights
    ));

    let agree = Proportion::agreement(
        &teacher.classes(&data, &pre)?,
        &stages::integer_classes(&model, &data)?,
    );
    context.write(&args.output.output, &image, args.output.force)?;

    let (lo, hi) = stages::real_range(&data, &pre);
    let input = model.tensor(model.input);
    let arena = plan(&model)?.arena_bytes;
    stages::say_inputs(context, &data, &pre);
    context.say(format_args!("{}", inspect::layer_table(&model)));
    if teacher.outputs() > 1 {
        context.say(format_args!(
            "same class as the float network: {} of {} calibration samples",
            agree.percent(),
            agree.n
        ));
    }
    context.say(format_args!(
        "wrote {}: {} bytes of flash, {arena} bytes of RAM for activations",
        args.output.output.display(),
        image.len()
    ));
    Ok(Done::new(json!({
        "model": args.model,
        "output": args.output.output,
        "image_bytes": image.len(),
        "arena_bytes": arena,
        "weight_bits": args.weights,
        "rounding": args.rounding.to_string(),
        "bias_correction": args.bias_correction,
        "layers": inspect::layers_json(&model),
        "input": {"shape": shape, "scale": input.scale, "zero_point": input.zero_point, "real_range": [lo, hi]},
        "preprocess": model.preprocess,
        "calibration": {
            "n": data.len(),
            "method": args.calibration.to_string(),
            "data_sha256": data.fingerprint(),
            "agreement": agree.share(),
        },
    })))
}
