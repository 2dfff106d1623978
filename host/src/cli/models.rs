//! Reading models, float and integer, by their content.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::args::PreprocessArgs;
use super::context::UserError;
use crate::export::{read_image, write_image};
use crate::graph::Graph;
use crate::import::{load_graph, load_qdq};
use crate::model::QuantizedModel;

/// First bytes of an image.
const IMAGE_MAGIC: &[u8] = b"QMND";
/// Images are for microcontrollers; a longer file is no image.
const MAX_IMAGE: u64 = 256 << 20;

/// A model of either kind.
#[derive(Debug)]
pub enum AnyModel {
    /// A float network.
    Float(Box<Graph>),
    /// An integer network.
    Integer(Box<Integer>),
}

/// An integer network with the bytes that it came in.
#[derive(Debug)]
pub struct Integer {
    pub model: QuantizedModel,
    pub image: Vec<u8>,
}

/// Whether a file starts like an image.
pub fn is_image(path: &Path) -> Result<bool> {
    let mut start = [0u8; 4];
    let mut file = File::open(path).map_err(|e| {
        UserError::new(
            format!("{}: cannot be read ({e})", path.display()),
            "check the path and its permissions",
        )
    })?;
    // A shorter file is not an image; what else it may be, its own reader says.
    Ok(file.read_exact(&mut start).is_ok() && start == IMAGE_MAGIC)
}

/// Reads a model of either kind.
pub fn load_any(path: &Path) -> Result<AnyModel> {
    if is_image(path)? || load_qdq(path)?.is_some() {
        Ok(AnyModel::Integer(Box::new(load_integer(path)?)))
    } else {
        Ok(AnyModel::Float(Box::new(load_float(path)?)))
    }
}

/// Reads a float network, named after its file.
pub fn load_float(path: &Path) -> Result<Graph> {
    if is_image(path)? {
        return Err(UserError::new(
            format!(
                "{}: an integer model, where the float network belongs",
                path.display()
            ),
            "MODEL is the float .onnx, QUANT the .qmend that was made of it",
        )
        .into());
    }
    let mut graph = load_graph(path)?;
    // Exporters call every graph "main_graph" or "torch_jit"; the file's name says more.
    if let Some(stem) = path.file_stem() {
        graph.name = stem.to_string_lossy().into_owned();
    }
    Ok(graph)
}

/// Reads an integer model. Preprocessing may be given for a file that brings none; a .qmend has its
/// own.
pub fn load_integer_with(path: &Path, preprocess: &PreprocessArgs) -> Result<Integer> {
    let mut file = load_integer(path)?;
    if preprocess.is_empty() {
        return Ok(file);
    }
    if is_image(path)? {
        preprocess.refuse_for(path)?;
    }
    let channels = file.model.tensor(file.model.input).shape[2];
    file.model.preprocess = preprocess.preprocess(channels)?;
    file.image = write_image(&file.model).with_context(|| path.display().to_string())?;
    Ok(file)
}

/// Reads an image, or a QDQ network as onnxruntime's quantization writes it.
pub fn load_integer(path: &Path) -> Result<Integer> {
    if let Some(mut model) = load_qdq(path)? {
        if let Some(stem) = path.file_stem() {
            model.name = stem.to_string_lossy().into_owned();
        }
        let image = write_image(&model).with_context(|| path.display().to_string())?;
        return Ok(Integer { model, image });
    }
    if !is_image(path)? {
        return Err(UserError::new(
            format!("{}: not an integer model (.qmend)", path.display()),
            "make one with `qmend quantize MODEL --data CAL -o FILE.qmend`",
        )
        .into());
    }
    let shown = || path.display().to_string();
    let file = File::open(path).with_context(shown)?;
    let mut image = Vec::new();
    file.take(MAX_IMAGE + 1)
        .read_to_end(&mut image)
        .with_context(shown)?;
    if image.len() as u64 > MAX_IMAGE {
        return Err(UserError::new(
            format!("{}: longer than {MAX_IMAGE} bytes", shown()),
            "such a file is no image",
        )
        .into());
    }
    let model = read_image(&image).with_context(shown)?;
    Ok(Integer { model, image })
}
