//! The device agent.
#![no_std]
