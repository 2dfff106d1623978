//! Reads trained networks from files.

pub mod tflite;
