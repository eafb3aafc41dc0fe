//! Replies of upstreams: however they are cut the same, never without bounds, fit to be shown.
#![no_main]
use libfuzzer_sys::fuzz_target;
use postbote::smtp::capabilities::Capabilities;
use postbote::smtp::reply::ReplyParser;

fn read(pieces: &[&[u8]]) -> Result<Vec<String>, String> {
    let mut parser = ReplyParser::default();
    let mut found = Vec::new();
    for piece in pieces {
        let mut at = 0;
        while at < piece.len() {
            let (used, reply) = parser.feed(&piece[at..]).map_err(|e| e.to_string())?;
            assert!(used > 0);
            at += used;
            if let Some(reply) = reply {
                let text = reply.to_string();
                assert!(!text.chars().any(char::is_control), "{text:?}");
                let _ = Capabilities::parse(&reply.lines);
                found.push(text);
            }
        }
    }
    Ok(found)
}

fuzz_target!(|input: (usize, &[u8])| {
    let (cut, wire) = input;
    let whole = read(&[wire]);
    let cut = if wire.is_empty() { 0 } else { cut % wire.len() };
    assert_eq!(whole, read(&[&wire[..cut], &wire[cut..]]));
});
