//! Tests of the ONNX importer: real networks against onnxruntime's results, damaged files, and
//! small networks built here, one file a subject.

mod real_models;
