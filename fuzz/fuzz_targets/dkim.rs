//! DKIM's relaxed body against the words of RFC 6376 section 3.4.4.
#![no_main]
use libfuzzer_sys::fuzz_target;
use postbote::prepare::dkim;

/// Line by line: blanks at the end go, runs of blanks become one, empty lines at the end go.
fn reference(body: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in body.split_inclusive(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut out: Vec<u8> = Vec::new();
        for byte in line {
            match byte {
                b' ' | b'\t' if out.last() == Some(&b' ') => {}
                b' ' | b'\t' => out.push(b' '),
                _ => out.push(*byte),
            }
        }
        while out.last() == Some(&b' ') {
            out.pop();
        }
        lines.push(out);
    }
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines.into_iter().flat_map(|mut line| { line.extend(b"\r\n"); line }).collect()
}

fuzz_target!(|input: &[u8]| {
    // Only CRLF stands in what we sign.
    let text = String::from_utf8_lossy(input).replace('\r', "").replace('\n', "\r\n");
    let body = text.as_bytes();
    let canonical = reference(body);
    // The reference's result is canonical already: hashing it must change nothing.
    assert_eq!(dkim::relaxed_body_hash(body), dkim::relaxed_body_hash(&canonical));
    assert_eq!(reference(&canonical), canonical);
    let other = [&canonical[..], b"x\r\n"].concat();
    assert_ne!(dkim::relaxed_body_hash(body), dkim::relaxed_body_hash(&other));
});
