//! Reading models, float and integer, by their content.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::args::PreprocessArgs;
use super::context::UserError;
use crate::data::{Dataset, Values};
use crate::export::{read_image, signature, write_image};
use crate::graph::Graph;
use crate::import::tflite::{TfliteError, import_tflite_int8, import_tflite_int8_as, is_tflite};
use crate::import::{load_graph, load_qdq};
use crate::model::{Preprocess, QuantizedModel, Rounding};
use qmend_shared::signature::Signed;

/// First bytes of an image.
const IMAGE_MAGIC: &[u8] = b"QMND";
/// Images and TFLite files are for microcontrollers; a longer one is neither.
const MAX_FILE: u64 = 256 << 20;

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
    /// What a device runs.
    pub image: Vec<u8>,
    /// The file as it is: the image, a .tflite, or a QDQ .onnx; without its signature.
    pub file: Vec<u8>,
    /// The signature behind the image, which nobody has verified.
    pub signature: Option<Signed>,
}

impl Integer {
    /// What is sent to a device: the image and, where it has one that speaks of just this image, its
    /// signature.
    pub fn signed_image(&self) -> Vec<u8> {
        let mut bytes = self.image.clone();
        if let Some(block) = &self.signature
            && signature::check(&self.image, block, None).is_ok()
        {
            bytes.extend_from_slice(&block.to_bytes());
        }
        bytes
    }

    /// Whether the file is a .tflite.
    pub fn is_tflite(&self) -> bool {
        is_tflite(&self.file)
    }

    /// The network under a rounding rule; multipliers of a .tflite depend on whose arithmetic is
    /// wanted, so it is read again.
    ///
    /// # Errors
    /// As reading the file.
    pub fn under(&self, rule: Rounding, path: &Path) -> Result<QuantizedModel, TfliteError> {
        if self.is_tflite() {
            return import_tflite_int8_as(&self.file, &path.display().to_string(), rule);
        }
        Ok(QuantizedModel {
            rounding: rule,
            ..self.model.clone()
        })
    }

    /// Whether the file is a .qmend, which holds its preprocessing.
    pub fn is_image(&self) -> bool {
        self.file.starts_with(IMAGE_MAGIC)
    }

    /// Takes the preprocessing of the command line where the file can hold none, and refuses it
    /// where the file holds its own (.qmend).
    ///
    /// Without preprocessing, int8 data are such a file's input integers; their real values are
    /// what its input tensor says.
    ///
    /// # Errors
    /// [`UserError`] where preprocessing was given twice, or does not fit.
    pub fn take_preprocess(
        &mut self,
        args: &PreprocessArgs,
        path: &Path,
        data: &Dataset,
    ) -> Result<(), UserError> {
        if self.is_image() {
            return args.refuse_for(path);
        }
        let input = self.model.tensor(self.model.input);
        self.model.preprocess = match data.values {
            Values::I8(_) if args.is_empty() => Preprocess {
                scale: input.scale,
                mean: vec![input.scale * f32::from(input.zero_point)],
                std: Vec::new(),
            },
            _ => args.preprocess(input.shape[2])?,
        };
        // The image's notes hold the preprocessing.
        self.image = write_image(&self.model).map_err(|e| {
            UserError::new(
                format!("{}: {e}", path.display()),
                "leave out --scale, --mean and --std",
            )
        })?;
        Ok(())
    }
}

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A .qmend.
    Image,
    /// A .tflite, float or integer.
    Tflite,
    /// Anything else.
    Other,
}

/// Looks at a file's first bytes.
pub fn kind(path: &Path) -> Result<Kind> {
    let mut start = [0u8; 8];
    let mut file = File::open(path).map_err(|e| {
        UserError::new(
            format!("{}: cannot be read ({e})", path.display()),
            "check the path and its permissions",
        )
    })?;
    // A shorter file is neither; what else it may be, its own reader says.
    Ok(match file.read_exact(&mut start) {
        Ok(()) if start.starts_with(IMAGE_MAGIC) => Kind::Image,
        Ok(()) if is_tflite(&start) => Kind::Tflite,
        _ => Kind::Other,
    })
}

/// Reads a model of either kind.
pub fn load_any(path: &Path) -> Result<AnyModel> {
    let integer = match kind(path)? {
        Kind::Image => Some(load_integer(path)?),
        Kind::Tflite => tflite(path)?,
        Kind::Other => qdq(path)?,
    };
    Ok(match integer {
        Some(integer) => AnyModel::Integer(Box::new(integer)),
        None => AnyModel::Float(Box::new(float(path)?)),
    })
}

/// Reads a float network, named after its file.
pub fn load_float(path: &Path) -> Result<Graph> {
    match load_any(path)? {
        AnyModel::Float(graph) => Ok(*graph),
        AnyModel::Integer(_) => Err(UserError::new(
            format!(
                "{}: an integer model, where the float network belongs",
                path.display()
            ),
            "MODEL is the float .onnx or .tflite, QUANT the .qmend or int8 .tflite that was made of it",
        )
        .into()),
    }
}

fn float(path: &Path) -> Result<Graph> {
    let mut graph = load_graph(path)?;
    // Exporters call every graph "main_graph" or "torch_jit"; the file's name says more.
    if let Some(stem) = path.file_stem() {
        graph.name = stem.to_string_lossy().into_owned();
    }
    Ok(graph)
}

/// Reads an image, an int8 .tflite, or a QDQ .onnx as onnxruntime's quantization writes it.
pub fn load_integer(path: &Path) -> Result<Integer> {
    let other = |what: &str| {
        UserError::new(
            format!("{}: {what}", path.display()),
            "make one with `qmend quantize MODEL --data CAL -o FILE.qmend`",
        )
    };
    match kind(path)? {
        Kind::Image => {
            let shown = || path.display().to_string();
            let file = bytes(path)?;
            let (image, signature) = signature::take(&file).map_err(|e| {
                UserError::new(
                    format!("{}: {e}", path.display()),
                    "sign the model again with this version's `qmend sign`",
                )
            })?;
            let model = read_image(image).with_context(shown)?;
            let image = image.to_vec();
            let file = image.clone();
            Ok(Integer {
                model,
                image,
                file,
                signature,
            })
        }
        Kind::Tflite => Ok(tflite(path)?
            .ok_or_else(|| other("a float network, where the integer model belongs"))?),
        Kind::Other => Ok(qdq(path)?
            .ok_or_else(|| other("not an integer model (.qmend, int8 .tflite, QDQ .onnx)"))?),
    }
}

/// An int8 .tflite, named after its file; `None` where no operator computes in int8.
fn tflite(path: &Path) -> Result<Option<Integer>> {
    let shown = || path.display().to_string();
    let file = bytes(path)?;
    let mut model = match import_tflite_int8(&file, &shown()) {
        Ok(model) => model,
        Err(TfliteError::NotInt8 { .. }) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    if let Some(stem) = path.file_stem() {
        model.name = stem.to_string_lossy().into_owned();
    }
    let image = write_image(&model).with_context(shown)?;
    let signature = None;
    Ok(Some(Integer {
        model,
        image,
        file,
        signature,
    }))
}

/// A QDQ network, named after its file; `None` for anything else.
fn qdq(path: &Path) -> Result<Option<Integer>> {
    let Some(mut model) = load_qdq(path)? else {
        return Ok(None);
    };
    if let Some(stem) = path.file_stem() {
        model.name = stem.to_string_lossy().into_owned();
    }
    let image = write_image(&model).with_context(|| path.display().to_string())?;
    let file = bytes(path)?;
    let signature = None;
    Ok(Some(Integer {
        model,
        image,
        file,
        signature,
    }))
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    let shown = || path.display().to_string();
    let file = File::open(path).with_context(shown)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .with_context(shown)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(UserError::new(
            format!("{}: longer than {MAX_FILE} bytes", shown()),
            "such a file is no model for a microcontroller",
        )
        .into());
    }
    Ok(bytes)
}
