//! Records of the journal: any octets are read without a panic, and what was written before a
//! damaged place is found again.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| postbote::spool::read_any_journal(input));
