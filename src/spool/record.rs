//! Records of the journal: how they are written, and how they are found again.
//!
//! A record is a header of [`HEADER`] octets (magic, CRC-32 of the rest of the header and the
//! description, number, kind, lengths, CRC-32 of the message; little-endian), a description in JSON
//! and the octets of a message, padded to eight. Numbers grow by one, so what is left of an earlier
//! round is told from what is new.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::young::Young;

/// Octets of a record's header.
pub(super) const HEADER: usize = 32;

const MAGIC: [u8; 4] = *b"PBJ1";

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// A message was accepted.
    Accepted,
    /// It is settled: all that the history keeps.
    Done,
    /// Its client has read the 250.
    Read,
}

impl RecordKind {
    pub fn code(self) -> u8 {
        match self {
            Self::Accepted => 1,
            Self::Done => 2,
            Self::Read => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Accepted, Self::Done, Self::Read]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// A record as it was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Its number.
    pub number: u64,
    /// What it is.
    pub kind: RecordKind,
    /// The description.
    pub meta: Vec<u8>,
    /// The octets of a message.
    pub body: Vec<u8>,
    /// They are as they were written.
    pub is_whole: bool,
}

/// Longest record; a message above [`INLINE_LIMIT`](crate::message::content::INLINE_LIMIT) is a
/// file of its own, so only its description is here.
const RECORD_LIMIT: usize = 8 << 20;

pub(super) fn write_record(
    out: &mut Vec<u8>,
    number: u64,
    kind: RecordKind,
    meta: &[u8],
    body: &[u8],
) {
    let start = out.len();
    out.reserve(HEADER + meta.len() + body.len() + 8);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&[kind.code(), 0, 0, 0]);
    out.extend_from_slice(&(meta.len() as u32).to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    out.extend_from_slice(meta);
    let crc = crc32fast::hash(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(8), 0);
}

/// Wipes the records of accepted messages out of a batch.
pub(super) fn forget_accepted(octets: &mut [u8]) {
    let mut at = 0;
    while let Some(length) = octets.get(at..).and_then(record_length) {
        let end = (at + length.next_multiple_of(8)).min(octets.len());
        if octets[at + 16] == RecordKind::Accepted.code() {
            octets[at..end].fill(0);
        }
        at = end;
    }
}

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    pub records: Vec<Record>,
    /// Where the last record ends.
    pub end: u64,
    /// Places between records that could not be read.
    pub damaged: usize,
}

/// A file as it is read from front to back, a piece at a time.
pub(super) struct Window<'a> {
    file: &'a File,
    length: u64,
    start: u64,
    piece: Vec<u8>,
}

/// Octets that are read at once.
const PIECE: usize = 256 * 1024;

impl<'a> Window<'a> {
    pub fn new(file: &'a File, length: u64) -> Self {
        Self {
            file,
            length,
            start: 0,
            piece: Vec::new(),
        }
    }

    /// Octets from a place on: at least as many as wanted, or all that there are.
    fn at(&mut self, place: u64, wanted: usize) -> io::Result<&[u8]> {
        let there = usize::try_from(self.length.saturating_sub(place)).unwrap_or(usize::MAX);
        let wanted = wanted.min(there);
        let end = self.start + self.piece.len() as u64;
        if place < self.start || place + wanted as u64 > end {
            self.piece.resize(wanted.max(PIECE).min(there), 0);
            self.file.read_exact_at(&mut self.piece, place)?;
            self.start = place;
        }
        let from = usize::try_from(place - self.start).unwrap_or(usize::MAX);
        Ok(self.piece.get(from..).unwrap_or_default())
    }
}

/// Reads the records with a number above `folded`. Behind something unreadable the search goes on:
/// one damaged record does not cost the others.
pub(super) fn scan(file: &mut Window<'_>, folded: u64) -> io::Result<Scanned> {
    let mut scanned = Scanned {
        records: Vec::new(),
        end: 0,
        damaged: 0,
    };
    let mut last = folded;
    let mut at = 0;
    let mut gap = false;
    // A record whose message is damaged: real if others follow, else the torn end of a write.
    let mut doubtful: Option<Record> = None;
    loop {
        let length = record_length(file.at(at, HEADER)?);
        let record = match length {
            Some(length) => read_record(file.at(at, length)?),
            None => None,
        };
        if let (Some(record), Some(length)) = (record, length) {
            at += length.next_multiple_of(8) as u64;
            if record.number > last && !record.is_whole {
                last = record.number;
                scanned.damaged += usize::from(doubtful.is_some());
                doubtful = Some(record);
            } else if record.number > last {
                if let Some(damaged) = doubtful.take() {
                    scanned.damaged += 1;
                    scanned.records.push(damaged);
                }
                scanned.damaged += usize::from(std::mem::take(&mut gap));
                last = record.number;
                scanned.end = at;
                scanned.records.push(record);
            } else if scanned.records.is_empty() {
                // The store has it; what is new stands behind it.
                scanned.end = at;
            }
            continue;
        }
        gap = true;
        at += 8;
        let rest = file.at(at, MAGIC.len())?;
        if rest.len() < MAGIC.len() {
            return Ok(scanned);
        }
        at += match memchr::memmem::find(rest, &MAGIC) {
            Some(found) => found,
            // The magic may lie across the end of the piece; records begin at multiples of eight.
            None => (rest.len() - (MAGIC.len() - 1)) / 8 * 8,
        } as u64;
    }
}

/// How long a record is by its header, without its padding.
fn record_length(octets: &[u8]) -> Option<usize> {
    let header = octets.get(..HEADER)?;
    let four = |at: usize| -> Option<usize> {
        let octets: [u8; 4] = header.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(octets)).ok()
    };
    let length = HEADER.checked_add(four(20)?)?.checked_add(four(24)?)?;
    // A length that no record has is damage, not a reason to read it.
    (header[..4] == MAGIC && length <= RECORD_LIMIT).then_some(length)
}

fn read_record(octets: &[u8]) -> Option<Record> {
    let all = octets.get(..record_length(octets)?)?;
    let number = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(all.get(at..at + 4)?.try_into().ok()?))
    };
    let meta = usize::try_from(number(20)?).ok()?;
    if crc32fast::hash(&all[8..HEADER + meta]) != number(4)? {
        return None;
    }
    Some(Record {
        number: u64::from_le_bytes(all[8..16].try_into().ok()?),
        kind: RecordKind::from_code(all[16])?,
        meta: all[HEADER..HEADER + meta].to_vec(),
        body: all[HEADER + meta..].to_vec(),
        is_whole: crc32fast::hash(&all[HEADER + meta..]) == number(28)?,
    })
}

/// See [`super::read_any_journal`].
pub(super) fn read_any(octets: &[u8]) {
    let read = |octets: &[u8]| -> io::Result<Scanned> {
        let file = File::from(rustix::fs::memfd_create(
            "journal",
            rustix::fs::MemfdFlags::CLOEXEC,
        )?);
        file.write_all_at(octets, 0)?;
        scan(&mut Window::new(&file, octets.len() as u64), 0)
    };
    let Ok(found) = read(octets) else { return };
    let mut young = Young::new(0, u64::MAX);
    young.replay(&found.records, Path::new("/nowhere"));
    let mut whole = Vec::new();
    for number in 1..=3 {
        write_record(&mut whole, number, RecordKind::Read, b"{\"seq\":1}", octets);
    }
    whole.extend_from_slice(octets);
    if let Ok(found) = read(&whole) {
        let first: Vec<u64> = found.records.iter().take(3).map(|r| r.number).collect();
        assert_eq!(first, [1, 2, 3], "what was whole is not found");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(numbers: std::ops::RangeInclusive<u64>) -> (Vec<u8>, Vec<usize>) {
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        for number in numbers {
            let body = vec![b'x'; usize::try_from(number * 7 % 50).expect("small")];
            write_record(&mut out, number, RecordKind::Accepted, b"{}", &body);
            ends.push(out.len());
        }
        (out, ends)
    }

    fn numbers(scanned: &Scanned) -> Vec<u64> {
        scanned.records.iter().map(|r| r.number).collect()
    }

    fn scan(octets: &[u8], folded: u64) -> Scanned {
        use std::io::Write as _;
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(octets).expect("write");
        super::scan(&mut Window::new(&file, octets.len() as u64), folded).expect("scan")
    }

    #[test]
    fn every_cut_gives_the_records_before_it() {
        let (octets, ends) = records(1..=9);
        for cut in 0..=octets.len() {
            let mut torn = octets.clone();
            torn[cut..].fill(0);
            let found = scan(&torn, 0);
            // Padding may be cut without harm.
            let whole = (1..=9)
                .filter(|n| {
                    let end = ends[usize::try_from(n - 1).expect("small")];
                    let pad = octets[..end].iter().rev().take_while(|b| **b == 0).count();
                    end - pad.min(7) <= cut
                })
                .count();
            assert!(
                found.records.len() == whole || found.records.len() == whole + 1,
                "cut at {cut}: {:?}",
                numbers(&found)
            );
            assert_eq!(found.damaged, 0);
        }
    }

    #[test]
    fn one_damaged_record_does_not_cost_the_others() {
        let (octets, ends) = records(1..=9);
        for bit in 0..8 {
            for at in ends[3]..ends[4] {
                let mut damaged = octets.clone();
                damaged[at] ^= 1 << bit;
                let found = scan(&damaged, 0);
                let whole: Vec<u64> = found
                    .records
                    .iter()
                    .filter(|r| r.is_whole)
                    .map(|r| r.number)
                    .collect();
                let without: Vec<u64> = (1..=9).filter(|n| *n != 5).collect();
                // Padding may be damaged without harm.
                assert!(
                    (whole == without && found.damaged == 1) || whole.len() == 9,
                    "{at}: {found:?}"
                );
                if at >= ends[3] + HEADER + 2 && whole.len() < 9 {
                    let record = found.records.iter().find(|r| r.number == 5);
                    assert!(
                        record.is_some_and(|r| !r.is_whole),
                        "its message is damaged, not its name"
                    );
                }
            }
        }
        // The same at the end is a write that was cut off: nobody was promised anything.
        let mut torn = octets;
        let end = torn.len() - 9;
        torn[end] ^= 1;
        assert_eq!(numbers(&scan(&torn, 0)), (1..=8).collect::<Vec<_>>());
    }

    #[test]
    fn what_an_earlier_round_left_is_not_read() {
        let (old, _) = records(1..=9);
        let (new, ends) = records(10..=12);
        let mut octets = old;
        octets[..new.len()].copy_from_slice(&new);
        let found = scan(&octets, 9);
        assert_eq!(numbers(&found), [10, 11, 12]);
        assert_eq!(found.end, ends[2] as u64);
        assert_eq!(found.damaged, 0);
        assert_eq!(numbers(&scan(&octets, 11)), [12]);
    }
}
