//! Which packs are worth rewriting. No I/O.

use crate::store::PackLoad;
use backstop_protocol::{api::PACK_TARGET, id::PackId};

/// So many small packs are merged even where they do not fill half a pack together.
const SMALL_MANY: usize = 8;

/// Groups of packs, each to be rewritten into one. Packs that hold mostly dead chunks always are; small ones once together
/// they make a large one, or are many, so that objects stay large without one being copied again and again.
pub(super) fn rewrites(mut packs: Vec<PackLoad>) -> Vec<Vec<PackId>> {
    packs.retain(|pack| is_mostly_dead(pack) || is_small(pack));
    packs.sort_by_key(|pack| pack.live);
    let mut groups: Vec<Group> = Vec::new();
    for pack in packs {
        match groups.last_mut() {
            Some(group) if group.fits(&pack) => group.take(&pack),
            _ => groups.push(Group::of(&pack)),
        }
    }
    groups.retain(Group::is_worth_it);
    groups.into_iter().map(|group| group.packs).collect()
}

fn is_mostly_dead(pack: &PackLoad) -> bool {
    pack.live < pack.bytes / 2
}

fn is_small(pack: &PackLoad) -> bool {
    pack.bytes < target() / 2
}

/// [`PACK_TARGET`].
fn target() -> u64 {
    u64::try_from(PACK_TARGET).unwrap_or(u64::MAX)
}

#[derive(Default)]
struct Group {
    packs: Vec<PackId>,
    live: u64,
    any_dead: bool,
}

impl Group {
    fn of(pack: &PackLoad) -> Self {
        let mut group = Self::default();
        group.take(pack);
        group
    }

    fn fits(&self, pack: &PackLoad) -> bool {
        self.live.saturating_add(pack.live) <= target()
    }

    fn take(&mut self, pack: &PackLoad) {
        self.packs.push(pack.pack);
        self.live = self.live.saturating_add(pack.live);
        self.any_dead |= is_mostly_dead(pack);
    }

    fn is_worth_it(&self) -> bool {
        let merges = self.packs.len() > 1 && self.live >= target() / 2;
        self.any_dead || merges || self.packs.len() >= SMALL_MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_protocol::pack::PACK_PREAMBLE_LEN;

    const MIB: u64 = 1 << 20;

    fn pack(name: u8, bytes: u64, live: u64) -> PackLoad {
        PackLoad {
            pack: PackId([name; 32]),
            bytes,
            live,
        }
    }

    fn names(packs: Vec<PackLoad>) -> Vec<Vec<u8>> {
        let groups = rewrites(packs);
        let name = |group: Vec<PackId>| group.iter().map(|pack| pack.0[0]).collect();
        groups.into_iter().map(name).collect()
    }

    #[test]
    fn a_pack_that_is_mostly_dead_is_rewritten_and_one_that_is_half_alive_is_not() {
        assert_eq!(names(vec![pack(1, 8 * MIB, 4 * MIB)]), [[0; 0]; 0]);
        assert_eq!(names(vec![pack(1, 8 * MIB, 4 * MIB - 1)]), [[1]]);
    }

    #[test]
    fn small_packs_wait_until_they_make_a_large_one_or_are_many() {
        let small = |name| pack(name, MIB, MIB - 6);
        assert_eq!(names((1..=3).map(small).collect()), [[0; 0]; 0]);
        assert_eq!(names((1..=5).map(small).collect()), [[1, 2, 3, 4, 5]]);
        let tiny = |name| pack(name, 1000, 994);
        assert_eq!(names((1..=7).map(tiny).collect()), [[0; 0]; 0]);
        assert_eq!(names((1..=8).map(tiny).collect()).len(), 1);
        assert_eq!(names(vec![pack(1, 3 * MIB, 3 * MIB - 6)]), [[0; 0]; 0]);
    }

    #[test]
    fn no_group_makes_a_pack_above_the_target() {
        let packs: Vec<_> = (1..=20).map(|name| pack(name, 9 * MIB, 3 * MIB)).collect();
        let groups = names(packs);
        assert!(groups.iter().all(|group| group.len() <= 2));
        assert_eq!(groups.concat().len(), 20);
        // The longest pack there can be, just under half alive, is a group by itself.
        assert_eq!(
            names(vec![pack(1, 16 * MIB, 8 * MIB - 1), pack(2, MIB, 10)]),
            [[2], [1]]
        );
    }

    #[test]
    fn what_a_rewrite_made_is_not_rewritten_again() {
        // Nothing of it is dead but the preamble.
        for live in [300, MIB, 5 * MIB] {
            let made = pack(9, live + PACK_PREAMBLE_LEN as u64, live);
            assert_eq!(names(vec![made]), [[0; 0]; 0]);
        }
    }
}
