//! Tables of references: bounded, and read again in the same way on top of themselves.

#![no_main]

use bottler_fuzz::tables;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tables(bytes));
