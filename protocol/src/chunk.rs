//! Names of the two kinds of chunks, and where a server keeps one (SPEC 6.1, 6.2).

use crate::{
    bytes::{Malformed, Reader},
    id::{ChunkId, PackId},
};

/// What a chunk holds. Known to the client alone: it is mixed into the chunk's id and its associated data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ChunkKind {
    /// A piece of the database file.
    Data = 1,
    /// A run of ids of data chunks, in file order.
    List = 2,
}

/// Where a sealed chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPlace {
    /// The pack that holds it.
    pub pack: PackId,
    /// Offset of the sealed chunk in the pack, bytes.
    pub offset: u32,
    /// Length of the sealed chunk, bytes.
    pub len: u32,
}

/// The body of `POST /v1/chunks/locate`: ids one after another.
#[must_use]
pub fn encode_ids(ids: &[ChunkId]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.0).collect()
}

/// Reads what [`encode_ids`] writes, at most `max` ids.
pub fn parse_ids(body: &[u8], max: usize) -> Result<Vec<ChunkId>, Malformed> {
    if body.len() / ChunkId::LEN > max {
        return Err(Malformed::Field("number of ids"));
    }
    let mut reader = Reader::new(body);
    let mut ids = Vec::with_capacity(body.len() / ChunkId::LEN);
    while !reader.rest().is_empty() {
        ids.push(ChunkId(reader.array()?));
    }
    Ok(ids)
}

/// The answer of `POST /v1/chunks/locate`: for each id asked for, in order, `0` or `1, pack, offset, length`.
#[must_use]
pub fn encode_places(places: &[Option<ChunkPlace>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(places.len() * 41);
    for place in places {
        match place {
            None => out.push(0),
            Some(place) => {
                out.push(1);
                out.extend_from_slice(&place.pack.0);
                out.extend_from_slice(&place.offset.to_be_bytes());
                out.extend_from_slice(&place.len.to_be_bytes());
            }
        }
    }
    out
}

/// Reads what [`encode_places`] writes; there must be exactly `count` entries.
pub fn parse_places(body: &[u8], count: usize) -> Result<Vec<Option<ChunkPlace>>, Malformed> {
    let mut reader = Reader::new(body);
    let mut places = Vec::with_capacity(count.min(body.len()));
    for _ in 0..count {
        places.push(match reader.u8()? {
            0 => None,
            1 => Some(ChunkPlace {
                pack: PackId(reader.array()?),
                offset: reader.u32()?,
                len: reader.u32()?,
            }),
            _ => return Err(Malformed::Field("place")),
        });
    }
    reader.end()?;
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_and_places_are_read_as_they_were_written(ids in proptest::collection::vec(any::<[u8; 32]>(), 0..40), holes in any::<u64>()) {
            let ids: Vec<_> = ids.into_iter().map(ChunkId).collect();
            prop_assert_eq!(parse_ids(&encode_ids(&ids), 40).unwrap(), ids.clone());
            let places: Vec<_> = ids.iter().enumerate()
                .map(|(i, id)| (holes >> i & 1 == 0).then_some(ChunkPlace { pack: PackId(id.0), offset: 6, len: 300 }))
                .collect();
            prop_assert_eq!(parse_places(&encode_places(&places), ids.len()).unwrap(), places);
        }

        #[test]
        fn no_answer_makes_the_client_panic(body in proptest::collection::vec(any::<u8>(), 0..200), count in 0_usize..9) {
            let _ = parse_places(&body, count);
            let _ = parse_ids(&body, count);
        }
    }

    #[test]
    fn more_ids_than_allowed_are_refused() {
        assert_eq!(parse_ids(&[0; 96], 2), Err(Malformed::Field("number of ids")));
        assert_eq!(parse_ids(&[0; 33], 2), Err(Malformed::Short));
    }
}
