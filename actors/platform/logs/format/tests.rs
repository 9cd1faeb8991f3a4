//! Tests of the format, the splitter and the joiner.

use super::*;

fn parts(chunks: &[&[u8]]) -> Vec<(LinePart, Vec<u8>)> {
    let mut splitter = Splitter::default();
    let mut out = Vec::new();
    for chunk in chunks {
        let mut rest = *chunk;
        while !rest.is_empty() {
            let space = splitter.space();
            let n = space.len().min(rest.len());
            space[..n].copy_from_slice(&rest[..n]);
            splitter.filled(n, |part, bytes| out.push((part, bytes.to_vec())));
            rest = &rest[n..];
        }
    }
    splitter.finish(|part, bytes| out.push((part, bytes.to_vec())));
    out
}

fn round_trip(parts: &[(LinePart, Vec<u8>)]) -> Vec<Joined> {
    let mut joiner = Joiner::default();
    let mut lines = Vec::new();
    for (i, (part, bytes)) in parts.iter().enumerate() {
        let mut text = Vec::new();
        let stream = Stream::Stdout;
        Record { nanos: i as u64, stream, part: *part, bytes }.encode(&mut text);
        assert_eq!(text.iter().filter(|b| **b == b'\n').count(), 1);
        let record = Record::decode(&text[..text.len() - 1]).unwrap();
        joiner.push(&record, |line| lines.push(line));
    }
    joiner.finish(|line| lines.push(line));
    lines
}

#[test]
fn lines_are_cut_at_newlines_wherever_the_chunks_end() {
    let got = parts(&[b"one\ntw", b"o\n\nthr", b"ee"]);
    let lines: Vec<&[u8]> = got.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    assert_eq!(lines, [b"one".as_slice(), b"two", b"", b"three"]);
    let kinds = [LinePart::Full, LinePart::Full, LinePart::Full, LinePart::FullOpen];
    assert!(got.iter().map(|(part, _)| *part).eq(kinds));
    assert!(parts(&[b"one\n"]).len() == 1, "no empty line after the last newline");
    assert!(parts(&[]).is_empty());
}

#[test]
fn long_lines_are_split_and_joined_again() {
    for length in [16_383, 16_384, 16_385, 32_768, 1_000_000, 1 << 20] {
        let mut text: Vec<u8> = (0..length).map(|i: u32| b'a' + (i % 23) as u8).collect();
        let line = text.clone();
        text.extend_from_slice(b"\nnext");
        let cut = parts(&[&text]);
        assert!(cut.iter().all(|(_, bytes)| bytes.len() <= limits::LOG_PART_MAX));
        let lines = round_trip(&cut).into_iter().map(|line| (line.bytes, line.open));
        assert!(lines.eq([(line, false), (b"next".to_vec(), true)]), "length {length}");
    }
}

#[test]
fn a_line_beyond_the_bound_comes_in_several() {
    let text = vec![b'x'; limits::LOG_LINE_MAX * 2 + 5];
    let lines = round_trip(&parts(&[&text]));
    assert_eq!(lines.iter().map(|line| line.bytes.len()).sum::<usize>(), text.len());
    assert!(lines.iter().all(|line| line.open && line.bytes.len() <= limits::LOG_LINE_MAX));
}

#[test]
fn binary_junk_survives() {
    let text: Vec<u8> =
        (0..100_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for text in [&text[..], &text[..99_999], b"\n\n", b"a\n\n\x00b"] {
        let mut whole = Vec::new();
        for line in round_trip(&parts(&[text])) {
            whole.extend(line.bytes);
            whole.extend((!line.open).then_some(b'\n'));
        }
        assert_eq!(whole, text);
    }
}

#[test]
fn streams_do_not_mix_and_lost_ends_are_shown() {
    let mut joiner = Joiner::default();
    let mut lines = Vec::new();
    let records: [(u64, Stream, LinePart, &[u8]); 5] = [
        (1, Stream::Stdout, LinePart::Begin, b"a"),
        (2, Stream::Stderr, LinePart::Full, b"err"),
        (3, Stream::Stdout, LinePart::End, b"b"),
        (4, Stream::Stderr, LinePart::End, b"headless"),
        (5, Stream::Stdout, LinePart::Begin, b"endless"),
    ];
    for (nanos, stream, part, bytes) in records {
        joiner.push(&Record { nanos, stream, part, bytes }, |line| lines.push(line));
    }
    joiner.finish(|line| lines.push(line));
    let line =
        |nanos, stream, bytes: &[u8], open| Joined { nanos, stream, bytes: bytes.to_vec(), open };
    let want: Vec<Joined> = vec![
        line(2, Stream::Stderr, b"err", false),
        line(3, Stream::Stdout, b"ab", false),
        line(4, Stream::Stderr, b"headless", false),
        line(5, Stream::Stdout, b"endless", true),
    ];
    assert_eq!(lines, want);
}

#[test]
fn what_is_no_record_is_refused() {
    for junk in ["", "x", "12", "12 ", "12 o", "12 o F", "12 x F a", "12 o X a", "-1 o F a"] {
        assert_eq!(Record::decode(junk.as_bytes()), None, "{junk:?}");
    }
    assert!(Record::decode(b"18446744073709551615 e F ").is_some());
    assert!(Record::decode(b"18446744073709551616 e F ").is_none());
    assert_eq!(header(b"mill-l"), Header::Incomplete);
    assert_eq!(header(HEADER), Header::Known);
    assert_eq!(header(b"mill-log 2\n1 o"), Header::Unknown);
    assert_eq!(header(b"GET / HTTP/1.1\n"), Header::Unknown);
}
