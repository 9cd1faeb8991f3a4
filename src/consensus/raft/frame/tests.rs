//! Records and snapshots, whole, cut off and damaged.

use super::*;
use proptest::prelude::*;

fn entry(index: u64, data: Vec<u8>) -> Entry {
    Entry { index, term: 3, data, ..Entry::default() }
}

fn write(data: Vec<u8>) -> Write {
    let hard = HardState { term: 3, vote: 1, commit: 4 };
    let conf = ConfState { voters: vec![1, 2], ..ConfState::default() };
    let entries = vec![entry(5, data.clone()), entry(6, data)];
    Write { number: 1, snapshot: None, entries, hard, conf: Some((5, conf)) }
}

fn build(write: &Write, salt: u64, sequence: u64) -> (Vec<u8>, Vec<EntryPlace>) {
    let mut builder = Builder::new(Vec::new());
    builder.write(write);
    builder.finish(salt, sequence)
}

#[test]
fn a_record_holds_what_was_written() {
    let write = write(b"hello".to_vec());
    let (bytes, places) = build(&write, 9, 7);
    assert_eq!(bytes.len() % 8, 0);
    let Found::Record { payload, size } = record(&bytes, 9, 7) else { panic!("it is there") };
    assert_eq!(size, bytes.len());
    let items = items(payload).unwrap();
    assert_eq!(items.len(), 4);
    for (place, entry) in places.iter().zip(&write.entries) {
        let there = &bytes[place.offset..place.offset + place.length];
        assert_eq!(&Entry::decode(there).unwrap(), entry);
    }
    let Item::Entry { index: 5, term: 3, offset, length } = items[0] else { panic!("{items:?}") };
    assert_eq!((offset + HEADER, length), (places[0].offset, places[0].length));
    assert_eq!(items[2], Item::Conf(5, write.conf.unwrap().1));
    assert_eq!(items[3], Item::Hard(write.hard));
}

#[test]
fn another_sequence_number_or_salt_is_the_end() {
    let (bytes, _) = build(&write(vec![1; 100]), 9, 7);
    assert_eq!(record(&bytes, 9, 8), Found::End);
    assert_eq!(record(&bytes, 8, 7), Found::End);
    assert_eq!(record(&[], 9, 7), Found::End);
    assert_eq!(record(&[0; 64], 9, 0), Found::End, "zeros are no record");
}

#[test]
fn a_record_within_a_command_is_not_taken_for_a_later_one() {
    let (inner, _) = build(&write(vec![1; 100]), 1234, 8);
    let mut data = Vec::new();
    // At each place that a number of eight bytes may have.
    for at in 0..8 {
        data.resize(data.len() + at, 0);
        data.extend(&inner);
    }
    let (bytes, _) = build(&write(data), 9, 7);
    let torn = &bytes[..bytes.len() - 16];
    assert_eq!(record(torn, 9, 7), Found::End);
    assert!(!later_record(torn, 9, 7), "its salt is another one");
    assert!(later_record(torn, 1234, 7), "with the right salt it would be");
}

#[test]
fn damage_before_a_whole_record_is_noticed() {
    let (mut bytes, _) = build(&write(vec![1; 100]), 9, 7);
    let (next, _) = build(&write(vec![2; 10]), 9, 8);
    bytes[40] ^= 1;
    assert_eq!(record(&bytes, 9, 7), Found::End);
    assert!(!later_record(&bytes, 9, 7));
    bytes.extend(next);
    bytes.resize(4096, 0);
    assert!(later_record(&bytes, 9, 7));
}

#[test]
fn a_segment_tells_its_salt_and_first_record() {
    let head = segment_head(77, 5);
    assert_eq!(head.len(), SEGMENT_HEADER);
    assert_eq!(parse_segment_head(&head), Some((77, 5)));
    for at in 0..28 {
        let mut bad = head.clone();
        bad[at] ^= 4;
        assert_eq!(parse_segment_head(&bad), None, "byte {at}");
    }
    assert_eq!(parse_segment_head(&head[..20]), None);
}

#[test]
fn a_snapshot_comes_back_or_is_refused() {
    let conf = ConfState { voters: vec![1], ..ConfState::default() };
    let meta = SnapshotMetadata { conf_state: Some(conf), index: 12, term: 3 };
    let hard = HardState { term: 4, vote: 2, commit: 13 };
    for data in [vec![], vec![5; 1000]] {
        let mut file = snapshot_head(&meta, &hard, &data);
        file.extend(&data);
        let (read, with) = snapshot(file.clone()).unwrap();
        assert_eq!((read.get_metadata(), &read.data, &with), (&meta, &data, &hard));
        for at in [0, 9, 17, 25, file.len() - 1] {
            let mut bad = file.clone();
            bad[at] ^= 1;
            assert!(snapshot(bad).is_err(), "byte {at}");
        }
        assert!(snapshot(file[..file.len() - 1].to_vec()).is_err());
    }
    assert!(snapshot(Vec::new()).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        sequence in 0..3u64,
    ) {
        let _ = record(&bytes, 0, sequence);
        let _ = later_record(&bytes, 0, sequence);
        let _ = items(&bytes);
        let _ = snapshot(bytes.clone());
        let _ = parse_segment_head(&bytes);
    }

    #[test]
    fn a_changed_bit_is_never_passed_over(
        size in 0..200usize,
        at in any::<proptest::sample::Index>(),
        bit in 0..8u8,
    ) {
        let (bytes, _) = build(&write(vec![6; size]), 9, 7);
        let Found::Record { payload, .. } = record(&bytes, 9, 7) else { panic!("it is there") };
        let mut bad = bytes.clone();
        let at = at.index(HEADER + payload.len());
        bad[at] ^= 1 << bit;
        prop_assert_eq!(record(&bad, 9, 7), Found::End);
    }
}
