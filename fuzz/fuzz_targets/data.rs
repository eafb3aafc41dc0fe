//! Framing of data: however it is cut, the same verdict and the same text; what comes out can be
//! put onto the wire and taken off again; nothing that leaves holds a bare line end or NUL.
#![no_main]
use libfuzzer_sys::fuzz_target;
use postbote::smtp::data::{BareNewline, Findings, Receiver, Stuffer, canonical};

fn receive(mode: BareNewline, lf_only: bool, pieces: &[&[u8]]) -> (usize, bool, Findings, Vec<u8>) {
    let mut receiver = Receiver::new(mode, lf_only);
    let (mut out, mut used) = (Vec::new(), 0);
    for piece in pieces {
        let taken = receiver.feed(piece, &mut out);
        used += taken;
        if taken < piece.len() {
            break;
        }
    }
    (used, receiver.is_done(), receiver.findings(), out)
}

fuzz_target!(|input: (u8, usize, &[u8])| {
    let (options, cut, wire) = input;
    let mode = match options % 3 {
        0 => BareNewline::Normalize,
        1 => BareNewline::Reject,
        _ => BareNewline::Legacy,
    };
    let lf_only = options & 4 != 0;
    let whole = receive(mode, lf_only, &[wire]);
    let cut = if wire.is_empty() { 0 } else { cut % wire.len() };
    assert_eq!(whole, receive(mode, lf_only, &[&wire[..cut], &wire[cut..]]));
    let octets: Vec<&[u8]> = wire.chunks(1).collect();
    assert_eq!(whole, receive(mode, lf_only, &octets));
    let (_, done, findings, text) = whole;
    for (i, byte) in text.iter().enumerate() {
        assert!(*byte != 0);
        assert!(*byte != b'\n' || (i > 0 && text[i - 1] == b'\r'));
        assert!(*byte != b'\r' || text.get(i + 1) == Some(&b'\n') || i + 1 == text.len());
    }
    if done && !findings.smuggling && !findings.nul {
        let mut again = Vec::new();
        let mut stuffer = Stuffer::default();
        stuffer.push(&text, &mut again);
        stuffer.finish(&mut again);
        let (used, done, findings, out) = receive(BareNewline::Reject, false, &[&again]);
        assert!(done && used == again.len() && out == text);
        assert_eq!(findings, Findings::default());
    }
    let (local, _) = canonical(wire);
    assert!(local.is_empty() || local.ends_with(b"\r\n"));
});
