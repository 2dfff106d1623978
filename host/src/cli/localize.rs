//! `qmend localize`

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use super::args::{BackendArgs, PreprocessArgs, ReadArgs, spec_parser};
use super::context::{Context, Done, UserError};
use super::quantize::parse_word;
use super::{models, stages};
use crate::data::DataSpec;
use crate::localize::{Localization, Metric, Neuron, Ranked, localize};
use crate::model::QuantizedModel;
use crate::report::{Table, short_name};

/// Rank the neurons that quantization damaged
///
/// A test fails where the integer model gives another class than the float network. A neuron (an
/// output channel) counts as activated in a test where quantization changed its sign after the
/// activation function. From how often that happens in failing and in passing tests, each metric
/// computes a suspiciousness; labels are not needed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The float network (.onnx, .tflite)
    model: PathBuf,
    /// The integer model made of it (.qmend, int8 .tflite)
    quant: PathBuf,
    /// Data that the network was not trained on: FILE, FOLDER, or either with a range as in
    /// FILE:0..2500; raw values as `quantize` took them
    #[arg(long, value_name = "DATA", value_parser = spec_parser())]
    data: DataSpec,
    /// Metric to rank by: tarantula, ochiai, dstar, jaccard, ample, euclid, wong3, or random as the
    /// control
    #[arg(long, default_value = "ochiai", value_name = "METRIC", value_parser = parse_word::<Metric>)]
    metric: Metric,
    /// Rank the neurons of this layer only: its name, or its number as `qmend inspect` shows it
    #[arg(long, value_name = "NAME|NUMBER")]
    layer: Option<String>,
    /// Show this many neurons; 0 for all
    #[arg(long, default_value_t = 20, value_name = "N")]
    top: usize,
    /// Seed of the random control
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    backend: BackendArgs,
}

pub fn run(args: &Args, context: &Context) -> Result<Done> {
    let teacher = stages::Teacher::new(models::load_float(&args.model)?, args.backend.backend)?;
    let mut quant = models::load_integer(&args.quant)?;
    let model = &quant.model;
    stages::check_pair(&teacher, model)?;
    let only = match &args.layer {
        Some(layer) => Some(chosen(model, layer)?),
        None => None,
    };
    let data = stages::integer_data(
        context,
        &args.data,
        &args.read,
        &mut quant,
        (&args.preprocess, &args.quant),
    )?;
    let model = quant.model;
    let matched = stages::matched_layers(context, &teacher.graph, &model);
    let bar = context.progress.start("localize", 0);
    let reals = data.real(0..data.len(), &model.preprocess);
    let found = localize(
        &teacher.graph,
        &teacher.net,
        &model,
        &reals,
        &data.model_inputs(&model),
    )?;
    bar.finish(&format!(
        "{} tests, {} of them failing",
        data.len(),
        found.failing
    ));
    if found.failing == 0 {
        context.warn(
            "no test fails: the integer model agrees with the float network on all of this data",
        );
    }

    let ranking: Vec<Place> = places(&found, args.metric, args.seed)
        .into_iter()
        .filter(|p| only.is_none_or(|node| p.neuron.node == node))
        .collect();
    let top = if args.top == 0 {
        ranking.len()
    } else {
        args.top.min(ranking.len())
    };
    let head = [
        "rank", "in layer", "layer", "channel", "Caf", "Cas", "Cnf", "Cns",
    ];
    let others = Metric::ALL.into_iter().filter(|&m| m != Metric::Random);
    let mut table = Table::new(
        head.into_iter()
            .map(String::from)
            .chain(others.clone().map(|m| m.to_string())),
    );
    let mut neurons = Vec::new();
    for place in ranking.iter().take(top) {
        let n = place.neuron;
        let s = n.spectrum;
        let counts = [s.caf, s.cas, s.cnf, s.cns].map(|c| c.to_string());
        let start = [
            place.rank.to_string(),
            place.in_layer.to_string(),
            short_name(found.layer_name(n.node)),
            n.channel.to_string(),
        ];
        let scores = others.clone().map(|m| format!("{:.4}", m.score(s)));
        table.row(start.into_iter().chain(counts).chain(scores));
        neurons.push(neuron_json(&found, place));
    }
    context.say(layer_table(&found, args.metric));
    context.say(format_args!(
        "the {top} most suspicious neurons{} by {}:",
        only.map_or(String::new(), |node| format!(
            " of {}",
            short_name(found.layer_name(node))
        )),
        args.metric
    ));
    context.say(table);
    Ok(Done::new(json!({
        "metric": args.metric,
        "tests": data.len(),
        "passing": found.passing,
        "failing": found.failing,
        "neurons": neurons,
        "layers": layers_json(&found),
        "matched": matched,
        "data_sha256": data.fingerprint(),
    })))
}

/// The node of a layer with weights by its name or its number.
fn chosen(model: &QuantizedModel, layer: &str) -> Result<usize> {
    let named = |n: &usize| {
        model.nodes[*n].name == layer || layer.parse() == Ok(*n) && names_none(model, layer)
    };
    let found = model.linears().map(|(n, _)| n).find(named);
    found.ok_or_else(|| {
        let known: Vec<String> = model
            .linears()
            .map(|(n, _)| format!("{n} {}", short_name(&model.nodes[n].name)))
            .collect();
        UserError::new(
            format!("{}: no layer with weights is called {layer:?}", model.name),
            format!("the layers are {}", known.join(", ")),
        )
        .into()
    })
}

/// Whether no layer has this name.
fn names_none(model: &QuantizedModel, name: &str) -> bool {
    model.nodes.iter().all(|n| n.name != name)
}

/// Suspiciousness as JSON, which has no infinity.
fn score(m: Metric, n: &Neuron) -> Value {
    let s = m.score(n.spectrum);
    if s.is_finite() {
        json!(s)
    } else {
        json!("infinity")
    }
}

fn formulas() -> impl Iterator<Item = Metric> {
    Metric::ALL.into_iter().filter(|&m| m != Metric::Random)
}

/// A neuron with its rank in the network and in its layer, both from 1.
struct Place<'a> {
    neuron: &'a Neuron,
    rank: usize,
    in_layer: usize,
}

/// All neurons, the most suspicious first.
fn places(found: &Localization, metric: Metric, seed: u64) -> Vec<Place<'_>> {
    let by_index: HashMap<_, _> = found
        .neurons
        .iter()
        .map(|n| ((n.node, n.channel), n))
        .collect();
    let mut seen: HashMap<usize, usize> = HashMap::new();
    let ranking = found.ranking(metric, seed);
    let place = |(i, r): (usize, &Ranked)| {
        let in_layer = seen.entry(r.node).or_default();
        *in_layer += 1;
        Some(Place {
            neuron: by_index.get(&(r.node, r.channel))?,
            rank: i + 1,
            in_layer: *in_layer,
        })
    };
    ranking.iter().enumerate().filter_map(place).collect()
}

fn neuron_json(found: &Localization, place: &Place<'_>) -> Value {
    let n = place.neuron;
    let scores: serde_json::Map<_, _> = formulas().map(|m| (m.to_string(), score(m, n))).collect();
    json!({
        "rank": place.rank,
        "rank_in_layer": place.in_layer,
        "layer": found.layer_name(n.node),
        "node": n.node,
        "channel": n.channel,
        "spectrum": n.spectrum,
        "scores": scores,
    })
}

fn members(found: &Localization, node: usize) -> Vec<&Neuron> {
    found.neurons.iter().filter(|n| n.node == node).collect()
}

/// Share of failing tests in which a neuron is activated, the mean over `neurons`.
fn activated_in_failing(found: &Localization, neurons: &[&Neuron]) -> f64 {
    let active = neurons.iter().map(|n| n.spectrum.caf as f64).sum::<f64>();
    active / (found.failing.max(1) * neurons.len().max(1)) as f64
}

/// How suspicious each layer is by one metric: its largest and its mean neuron.
fn layer_table(found: &Localization, metric: Metric) -> Table {
    let mut table = Table::new([
        "#",
        "layer",
        "neurons",
        "largest",
        "mean",
        "activated in failing tests",
    ]);
    // The control has no formula; its layers are shown by the default metric.
    let metric = if metric == Metric::Random {
        Metric::Ochiai
    } else {
        metric
    };
    for (node, name) in &found.layers {
        let neurons = members(found, *node);
        let scores: Vec<f64> = neurons.iter().map(|n| metric.score(n.spectrum)).collect();
        let largest = scores.iter().copied().fold(0.0, f64::max);
        let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
        let share = 100.0 * activated_in_failing(found, &neurons);
        table.row([
            node.to_string(),
            short_name(name),
            neurons.len().to_string(),
            format!("{largest:.4}"),
            format!("{mean:.4}"),
            format!("{share:.1} %"),
        ]);
    }
    table
}

fn layers_json(found: &Localization) -> Vec<Value> {
    let layer = |(node, name): &(usize, String)| {
        let neurons = members(found, *node);
        let (mut mean, mut largest) = (serde_json::Map::new(), serde_json::Map::new());
        for m in formulas() {
            let finite: Vec<f64> = neurons
                .iter()
                .map(|n| m.score(n.spectrum))
                .filter(|s| s.is_finite())
                .collect();
            let sum: f64 = finite.iter().sum();
            mean.insert(m.to_string(), json!(sum / finite.len().max(1) as f64));
            let most = neurons
                .iter()
                .max_by(|a, b| m.score(a.spectrum).total_cmp(&m.score(b.spectrum)));
            largest.insert(m.to_string(), most.map_or(Value::Null, |n| score(m, n)));
        }
        json!({
            "layer": name,
            "node": node,
            "neurons": neurons.len(),
            "activated_in_failing": activated_in_failing(found, &neurons),
            "mean_scores": mean,
            "largest_scores": largest,
        })
    };
    found.layers.iter().map(layer).collect()
}
