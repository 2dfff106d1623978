//! Tests of the ONNX importer: real networks against onnxruntime's results, damaged files, and
//! small networks built here, one file a subject.

mod build;
mod damage;
mod layout;
mod operators;
mod real_models;
mod refusals;
mod windows;
