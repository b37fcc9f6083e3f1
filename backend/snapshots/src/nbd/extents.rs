//! Where the disk of an NBD server has data, by what the server tells of stretches of it.

use std::{collections::VecDeque, io, ops::Range};

use super::reply::Extent;
use crate::manifest::BLOCK;

/// What is asked about at once. With clusters of 64 KiB the answer has at most 16384 extents.
const STRETCH: u64 = 1 << 30;

/// The places of the blocks that don't read as zeros, in order and each once. Each question brings it on by a block at
/// least, whatever the answer is.
pub(super) struct DataBlocks<A> {
    size: u64,
    ask: A,
    /// Where to ask next.
    at: u64,
    /// What was found and is yet to be told, in bytes: whole blocks, in order.
    found: VecDeque<Range<u64>>,
    /// What was told: no block before it.
    told: u64,
    /// After an error there is nothing more.
    is_over: bool,
}

impl<A: FnMut(u64, u32) -> io::Result<Vec<Extent>>> DataBlocks<A> {
    pub(super) fn new(size: u64, ask: A) -> Self {
        DataBlocks {
            size,
            ask,
            at: 0,
            found: VecDeque::new(),
            told: 0,
            is_over: false,
        }
    }

    /// Asks about the next stretch.
    fn look(&mut self) -> io::Result<()> {
        let from = self.at;
        let stretch = from..self.size.min(from + STRETCH);
        let length = u32::try_from(stretch.end - stretch.start).map_err(io::Error::other)?;
        let mut at = from;
        for extent in (self.ask)(from, length)? {
            let end = stretch.end.min(at + u64::from(extent.length));
            if !extent.is_zero && at < end {
                self.found
                    .push_back(at / BLOCK * BLOCK..end.next_multiple_of(BLOCK));
            }
            at = end;
        }
        if at < stretch.end && at < from + BLOCK {
            // Of less than a block: it is read, rather than asked about byte by byte.
            self.found.push_back(from..from + BLOCK);
            at = from + BLOCK;
        }
        self.at = match at < self.size {
            // The block that the answer has ended in is asked about again, from its start on.
            true => at / BLOCK * BLOCK,
            false => self.size,
        };
        Ok(())
    }

    fn advance(&mut self) -> io::Result<Option<u64>> {
        loop {
            while let Some(found) = self.found.front() {
                let next = found.start.max(self.told);
                if next < found.end {
                    self.told = next + BLOCK;
                    return Ok(Some(next));
                }
                self.found.pop_front();
            }
            if self.at >= self.size {
                return Ok(None);
            }
            self.look()?;
        }
    }
}

impl<A: FnMut(u64, u32) -> io::Result<Vec<Extent>>> Iterator for DataBlocks<A> {
    type Item = io::Result<u64>;

    fn next(&mut self) -> Option<io::Result<u64>> {
        if self.is_over {
            return None;
        }
        let next = self.advance().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A server that answers as much as it likes of what it is asked, and beyond it.
        #[test]
        fn every_block_with_data_is_told_once_and_none_that_is_zeros_for_sure(
            extents in prop::collection::vec((1..3 * BLOCK, any::<bool>()), 0..12),
            cuts in prop::collection::vec(1..4 * BLOCK, 1..5),
        ) {
            let size: u64 = extents.iter().map(|(length, _)| length).sum();
            let mut cuts = cuts.into_iter().cycle();
            let mut asked = 0;
            let ask = |from: u64, length: u32| {
                asked += 1;
                assert!(from.is_multiple_of(BLOCK) && from + u64::from(length) <= size);
                let end = from + cuts.next().unwrap();
                let (mut at, mut answer) = (0, Vec::new());
                for (length, is_zero) in &extents {
                    let part = from.max(at)..end.min(at + length);
                    if part.start < part.end {
                        let length = u32::try_from(part.end - part.start).unwrap();
                        answer.push(Extent { length, is_zero: *is_zero });
                    }
                    at += length;
                }
                Ok(answer)
            };
            let told: io::Result<Vec<u64>> = DataBlocks::new(size, ask).collect();
            let told = told.unwrap();
            prop_assert!(told.is_sorted_by(|one, next| one < next));
            let mut at = 0;
            for (length, is_zero) in &extents {
                let first = at / BLOCK * BLOCK;
                let blocks = (first..at + length).step_by(usize::try_from(BLOCK).unwrap());
                for block in blocks.filter(|_| !is_zero) {
                    prop_assert!(told.contains(&block), "{block} of {told:?}");
                }
                at += length;
            }
            prop_assert!(told.iter().all(|block| *block < size));
            prop_assert!(asked <= size.div_ceil(BLOCK));
        }
    }

    #[test]
    fn blocks_of_zeros_are_left_out_and_an_error_is_the_end() {
        let block = u32::try_from(BLOCK).unwrap();
        let extent = |length, is_zero| Extent { length, is_zero };
        let mut answers = VecDeque::from([
            Ok(vec![
                extent(block * 2, true),
                extent(7, false),
                extent(block, true),
            ]),
            Ok(vec![extent(u32::MAX, true)]),
            Err(io::Error::other("no more")),
        ]);
        let ask = |_, _| answers.pop_front().unwrap();
        let told: Vec<_> = DataBlocks::new(STRETCH * 3, ask).collect();
        assert_eq!(told.len(), 2);
        assert_eq!(*told[0].as_ref().unwrap(), BLOCK * 2);
        assert!(told[1].is_err());
    }
}
