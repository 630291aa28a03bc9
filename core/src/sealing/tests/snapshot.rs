//! Frames of a snapshot, and what an attacker may do to them.

use super::*;

const PLACE: EntryId = EntryId { term: Term(3), index: LogIndex(900) };

/// Three frames, and the header.
fn sealed(encryptor: &mut EntryEncryptor, place: EntryId) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut sealer = encryptor.snapshot_sealer(place).expect("sealed");
    let frames = [(1, false, "members"), (2, false, "state"), (2, true, "rest")];
    let frames = frames.map(|(kind, last, content)| sealer.seal(kind, last, content.as_bytes()).expect("sealed"));
    assert_eq!(sealer.seal(2, true, b"more"), Err(SealingError::AfterLast { id: place }));
    (sealer.header().to_vec(), frames.to_vec())
}

/// Opens frames up to the first error.
fn open(encryptor: &EntryEncryptor, place: EntryId, header: &[u8], frames: &[Vec<u8>]) -> Result<Vec<String>, SealingError> {
    let mut opener = encryptor.snapshot_opener(place, header)?;
    let contents = frames.iter().map(|frame| opener.open(frame).map(|frame| String::from_utf8_lossy(&frame.content).into_owned()));
    let contents = contents.collect::<Result<Vec<_>, _>>()?;
    assert_eq!(opener.finish()?, 3);
    Ok(contents)
}

#[test]
fn any_node_opens_a_snapshot_that_another_sealed() {
    let (header, frames) = sealed(&mut encryptor(1, 1), PLACE);
    assert_eq!(open(&encryptor(2, 2), PLACE, &header, &frames), Ok(vec!["members".into(), "state".into(), "rest".into()]));
}

#[test]
fn h54_frames_that_are_moved_left_out_cut_or_added_are_refused() {
    let (header, frames) = sealed(&mut encryptor(1, 1), PLACE);
    let open = |order: &[usize]| {
        let frames: Vec<_> = order.iter().map(|at| frames[*at].clone()).collect();
        open(&encryptor(2, 2), PLACE, &header, &frames).expect_err("not as sealed")
    };
    assert_eq!(open(&[1, 0, 2]), SealingError::FrameOrder { id: PLACE, expected: 0, got: 1 });
    assert_eq!(open(&[0, 2]), SealingError::FrameOrder { id: PLACE, expected: 1, got: 2 });
    assert_eq!(open(&[0, 0, 1, 2]), SealingError::FrameOrder { id: PLACE, expected: 1, got: 0 });
    assert_eq!(open(&[0, 1]), SealingError::CutOff { id: PLACE, frames: 2 });
    assert_eq!(open(&[]), SealingError::CutOff { id: PLACE, frames: 0 });
    assert_eq!(open(&[0, 1, 2, 2]), SealingError::AfterLast { id: PLACE });
}

#[test]
fn h51_frames_of_another_snapshot_are_refused() {
    let mut leader = encryptor(1, 1);
    let (header, frames) = sealed(&mut leader, PLACE);
    // The same node, the same place, the same content: a second snapshot.
    let (other_header, other_frames) = sealed(&mut leader, PLACE);
    assert_ne!(header, other_header);
    let mixed = [frames[0].clone(), other_frames[1].clone(), frames[2].clone()];
    assert_eq!(open(&leader, PLACE, &header, &mixed), Err(SealingError::FrameTag { id: PLACE, number: 1 }));
    assert_eq!(open(&leader, PLACE, &other_header, &frames), Err(SealingError::FrameTag { id: PLACE, number: 0 }));

    for elsewhere in [id(3, 901), id(4, 900)] {
        assert_eq!(open(&leader, elsewhere, &header, &frames), Err(SealingError::FrameTag { id: elsewhere, number: 0 }));
    }
    for other in [log("orders", 1), log("order", 0)] {
        assert_eq!(open(&encryptor_of(other, 1, 1), PLACE, &header, &frames), Err(SealingError::FrameTag { id: PLACE, number: 0 }));
    }
    // A payload's ciphertext is no frame, though key version, node and boot are the same.
    let payload = leader.seal(PLACE, b"members").expect("sealed").into_bytes();
    assert!(leader.snapshot_opener(PLACE, &payload).is_err());
}

#[test]
fn each_flipped_bit_of_header_and_frames_is_refused() {
    let (header, frames) = sealed(&mut encryptor(1, 1), PLACE);
    let versions: Vec<_> = (0..=255).map(|version| (KeyVersion(version), 0xa1)).collect();
    let opener = EntryEncryptor::new(log("orders", 0), NodeId(2), Boot([2; 16]), ring(&versions)).expect("sound");
    open(&opener, PLACE, &header, &frames).expect("unchanged");
    for bit in 0..header.len() * 8 {
        let mut header = header.clone();
        header[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&opener, PLACE, &header, &frames).is_err(), "bit {bit} of the header");
    }
    for (number, bit) in (0..3).flat_map(|number| (0..frames[number].len() * 8).map(move |bit| (number, bit))) {
        let mut frames = frames.clone();
        frames[number][bit / 8] ^= 1 << (bit % 8);
        assert!(open(&opener, PLACE, &header, &frames).is_err(), "bit {bit} of frame {number}");
    }
    for length in 0..frames[0].len() {
        let cut = [frames[0][..length].to_vec(), frames[1].clone(), frames[2].clone()];
        assert!(open(&opener, PLACE, &header, &cut).is_err(), "the first {length} bytes of frame 0");
    }
}

#[test]
fn a_frame_that_was_damaged_may_come_again() {
    let (header, frames) = sealed(&mut encryptor(1, 1), PLACE);
    let node = encryptor(2, 2);
    let mut opener = node.snapshot_opener(PLACE, &header).expect("its form");
    opener.open(&frames[0]).expect("the first");
    let mut damaged = frames[1].clone();
    damaged[10] ^= 1;
    assert_eq!(opener.open(&damaged), Err(SealingError::FrameTag { id: PLACE, number: 1 }));
    assert_eq!(opener.open(&frames[1]).map(|frame| (frame.kind, frame.last)), Ok((2, false)));
}
