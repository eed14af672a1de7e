//! The metadata of instances, compressed against the metadata of the first instance of their series.
//!
//! Instances of one series share most of their metadata, so that each takes about a tenth of what it takes alone.
//! A dictionary is immutable: a cache of them needs no invalidation.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::OnceLock;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};
use zstd::zstd_safe::{CParameter, get_frame_content_size};

use super::database::Database;
use super::sql::{Row, Statement};
use crate::dicom::uid::{InstanceKey, SeriesUid, StudyUid};
use crate::error::{Error, Result};

/// On a CT series with 8.4 KB of metadata per instance: 118 bytes each, in tens of microseconds; higher levels gain little.
const LEVEL: i32 = 3;
/// Most bytes of one instance's metadata; what a damaged row may make us allocate.
const MOST_BYTES: u64 = 256 << 20;
/// Bytes that the cached dictionaries may take together: those of some fifty series that are being stored or read.
const CACHE_BYTES: u64 = 8 << 20;
/// What the tables of the encoder and the decoder take beside a dictionary's content.
const TABLES_BYTES: usize = 128 << 10;
/// Most bytes of a dictionary: what instances share of larger metadata is not worth the memory and the time of all readers.
const MOST_SHARED: usize = 1 << 20;
/// Series of which the id of the dictionary is remembered: no more than dictionaries can be.
const CACHE_SERIES: u64 = CACHE_BYTES / TABLES_BYTES as u64;

/// Metadata to compress against, or what metadata was compressed against.
pub(super) struct Dictionary {
    content: Vec<u8>,
    encoder: OnceLock<EncoderDictionary<'static>>,
    decoder: OnceLock<DecoderDictionary<'static>>,
}

impl Dictionary {
    /// To compress metadata like these.
    pub(super) fn of(metadata: &[u8]) -> Self {
        Self::new(metadata.get(..MOST_SHARED).unwrap_or(metadata).to_vec())
    }

    fn new(content: Vec<u8>) -> Self {
        Self { content, encoder: OnceLock::new(), decoder: OnceLock::new() }
    }

    /// As the row holds it.
    pub(super) fn pack(&self) -> Result<Vec<u8>> {
        zstd::bulk::compress(&self.content, LEVEL).map_err(cannot_compress)
    }

    fn unpack(stored: &[u8]) -> Result<Self> {
        Ok(Self::new(zstd::bulk::decompress(stored, plain_size(stored)?).map_err(damaged)?))
    }

    /// Compresses metadata of the same series, one after the other.
    pub(super) fn compress<'a>(&self, plain: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>> {
        let encoder = self.encoder.get_or_init(|| EncoderDictionary::copy(&self.content, LEVEL));
        let mut compressor = Compressor::with_prepared_dictionary(encoder).map_err(cannot_compress)?;
        // a row that was damaged must not become wrong metadata
        compressor.set_parameter(CParameter::ChecksumFlag(true)).map_err(cannot_compress)?;
        plain.into_iter().map(|plain| compressor.compress(plain).map_err(cannot_compress)).collect()
    }

    fn decompressor(&self) -> Result<Decompressor<'_>> {
        let decoder = self.decoder.get_or_init(|| DecoderDictionary::copy(&self.content));
        Decompressor::with_prepared_dictionary(decoder).map_err(damaged)
    }
}

fn decompress(decompressor: &mut Decompressor<'_>, stored: &[u8]) -> Result<Vec<u8>> {
    decompressor.decompress(stored, plain_size(stored)?).map_err(damaged)
}

/// The plain size, which every frame written here states.
fn plain_size(stored: &[u8]) -> Result<usize> {
    match get_frame_content_size(stored) {
        Ok(Some(size)) if size <= MOST_BYTES => usize::try_from(size).map_err(damaged),
        _ => Err(damaged("the compressed metadata does not state a sensible size")),
    }
}

fn cannot_compress(error: std::io::Error) -> Error {
    Error::internal("metadata cannot be compressed").caused_by(error)
}

fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal("the metadata of an instance in the index is damaged").caused_by(cause)
}

/// The dictionaries used last, and which series has which. Cheap to clone.
#[derive(Clone)]
pub(super) struct Dictionaries {
    by_id: Cache<i64, Arc<Dictionary>>,
    by_series: Cache<(StudyUid, SeriesUid), i64>,
}

impl Default for Dictionaries {
    fn default() -> Self {
        Self {
            by_id: Cache::builder()
                .max_capacity(CACHE_BYTES)
                // a series is stored and read for a while and then no more: how often it was does not tell what comes
                .eviction_policy(EvictionPolicy::lru())
                .weigher(|_, dictionary: &Arc<Dictionary>| {
                    u32::try_from(dictionary.content.len().saturating_mul(2).saturating_add(TABLES_BYTES))
                        .unwrap_or(u32::MAX)
                })
                .build(),
            by_series: Cache::builder().max_capacity(CACHE_SERIES).eviction_policy(EvictionPolicy::lru()).build(),
        }
    }
}

impl Dictionaries {
    /// The dictionary of a series, if it is remembered. A guess: the transaction that stores checks it.
    pub(super) fn of_series(&self, key: &InstanceKey) -> Option<(i64, Arc<Dictionary>)> {
        let id = self.by_series.get(&(key.study.clone(), key.series.clone()))?;
        Some((id, self.by_id.get(&id)?))
    }

    /// Remembers a dictionary whose row is committed.
    pub(super) fn remember(&self, key: &InstanceKey, id: i64, dictionary: Arc<Dictionary>) {
        self.by_id.insert(id, dictionary);
        self.by_series.insert((key.study.clone(), key.series.clone()), id);
    }

    /// A remembered dictionary.
    pub(super) fn get(&self, id: i64) -> Option<Arc<Dictionary>> {
        self.by_id.get(&id)
    }

    /// The statement that reads a dictionary; see [`Dictionaries::read`].
    pub(super) fn statement(id: i64) -> Statement {
        Statement::new("select content from metadata_dictionaries where id = $1").with(id)
    }

    /// The dictionary of the row that [`Dictionaries::statement`] found.
    pub(super) fn read(rows: &[Row]) -> Result<Arc<Dictionary>> {
        let row = rows.first().ok_or_else(|| damaged("its dictionary is missing"))?;
        Ok(Arc::new(Dictionary::unpack(row.bytes(0)?)?))
    }

    /// A dictionary, from the database if need be.
    pub(super) async fn load(&self, database: &Database, id: i64) -> Result<Arc<Dictionary>> {
        if let Some(dictionary) = self.by_id.get(&id) {
            return Ok(dictionary);
        }
        let dictionary = Self::read(&database.read_all(Self::statement(id)).await?)?;
        self.by_id.insert(id, Arc::clone(&dictionary));
        Ok(dictionary)
    }
}

/// Metadata as a row holds it.
pub(super) struct Stored {
    pub(super) dictionary: Option<i64>,
    pub(super) bytes: Vec<u8>,
}

impl Stored {
    /// Bytes that it will be.
    pub(super) fn plain_size(&self) -> Result<usize> {
        plain_size(&self.bytes)
    }
}

/// Instances that are decompressed together, with the dictionaries that their metadata name.
pub(super) struct Run<T> {
    /// Whose metadata they are.
    pub(super) of: Vec<T>,
    pub(super) stored: Vec<Stored>,
    pub(super) dictionaries: Vec<(i64, Arc<Dictionary>)>,
}

/// Takes instances off the front as long as their plain metadata with the dictionaries fit `most` bytes, but at least
/// one: the metadata of a single instance may be tens of megabytes.
pub(super) async fn take_run<T>(
    database: &Database,
    dictionaries: &Dictionaries,
    waiting: &mut VecDeque<(T, Stored)>,
    most: usize,
) -> Result<Run<T>> {
    let mut run = Run { of: Vec::new(), stored: Vec::new(), dictionaries: Vec::new() };
    let mut bytes = 0_usize;
    while let Some((_, next)) = waiting.front() {
        bytes = bytes.saturating_add(next.plain_size()?);
        if let Some(id) = next.dictionary
            && run.dictionaries.iter().all(|(known, _)| *known != id)
            && (bytes <= most || run.of.is_empty())
        {
            let dictionary = dictionaries.load(database, id).await?;
            bytes = bytes.saturating_add(dictionary.content.len());
            run.dictionaries.push((id, dictionary));
        }
        if bytes > most && !run.of.is_empty() {
            break;
        }
        let Some((of, stored)) = waiting.pop_front() else { break };
        run.of.push(of);
        run.stored.push(stored);
    }
    Ok(run)
}

/// Decompresses the metadata of many instances, one at a time, and makes something of each; `dictionaries` holds those
/// that they name, in any order.
pub(super) fn decompress_each<T>(
    stored: &[Stored],
    dictionaries: &[(i64, Arc<Dictionary>)],
    mut make: impl FnMut(Vec<u8>) -> T,
) -> Result<Vec<T>> {
    let mut made = Vec::with_capacity(stored.len());
    let mut open: Option<(Option<i64>, Decompressor<'_>)> = None;
    for one in stored {
        // neighbours are of one series
        if open.as_ref().is_none_or(|(id, _)| *id != one.dictionary) {
            let decompressor = match one.dictionary {
                None => Decompressor::new().map_err(damaged)?,
                Some(id) => dictionaries
                    .iter()
                    .find(|(known, _)| *known == id)
                    .ok_or_else(|| damaged("its dictionary is missing"))?
                    .1
                    .decompressor()?,
            };
            open = Some((one.dictionary, decompressor));
        }
        if let Some((_, decompressor)) = &mut open {
            made.push(make(decompress(decompressor, &one.bytes)?));
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Metadata as that of a CT series: some attributes differ between instances, most do not.
    fn metadata(instance: usize) -> Vec<u8> {
        let constant = (0..80_u64).map(|tag| {
            let value = (tag * 2_654_435_761) % 1_000_003;
            format!(r#","0028{tag:04X}":{{"vr":"LO","Value":["value {value}"]}}"#)
        });
        let uid = instance * 7919;
        format!(
            r#"{{"00080018":{{"vr":"UI","Value":["1.2.3.{uid}"]}},"00200013":{{"vr":"IS","Value":[{instance}]}}{}}}"#,
            constant.collect::<String>()
        )
        .into_bytes()
    }

    #[test]
    fn metadata_of_a_series_shrinks_to_a_tenth() {
        let dictionary = Dictionary::new(metadata(0));
        let plain: Vec<Vec<u8>> = (0..50).map(metadata).collect();
        let compressed = dictionary.compress(plain.iter().map(Vec::as_slice)).unwrap();
        let (before, after) = (plain.concat().len(), compressed.concat().len());
        assert!(after * 10 < before, "{after} of {before} bytes");
        let alone: usize = plain.iter().map(|one| zstd::bulk::compress(one, LEVEL).unwrap().len()).sum();
        assert!(after * 5 < alone, "{after} of {alone} bytes without a dictionary");
    }

    #[test]
    fn what_was_compressed_comes_back_through_the_packed_dictionary() {
        let dictionary = Dictionary::new(metadata(0));
        for plain in [metadata(0), metadata(1), Vec::new(), vec![0; 100_000]] {
            let bytes = dictionary.compress([plain.as_slice()]).unwrap().remove(0);
            let unpacked = Arc::new(Dictionary::unpack(&dictionary.pack().unwrap()).unwrap());
            let stored = [Stored { dictionary: Some(3), bytes }];
            assert_eq!(decompress_each(&stored, &[(3, unpacked)], |plain| plain).unwrap(), [plain]);
        }
    }

    #[test]
    fn damaged_metadata_is_an_error_and_allocates_nothing() {
        let dictionary = Arc::new(Dictionary::new(metadata(0)));
        let good = dictionary.compress([metadata(1).as_slice()]).unwrap().remove(0);
        let flipped = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 0x55;
            bytes
        };
        // a frame that states a terabyte: magic, a single segment with a content size of 8 bytes
        let bomb = [&[0x28, 0xb5, 0x2f, 0xfd, 0b1110_0000][..], &(1_u64 << 40).to_le_bytes(), &[0; 8]].concat();
        for bytes in [Vec::new(), good[..good.len() - 1].to_vec(), flipped(0), flipped(good.len() - 6), bomb] {
            let stored = [Stored { dictionary: Some(3), bytes }];
            assert!(decompress_each(&stored, &[(3, Arc::clone(&dictionary))], drop).is_err());
        }
        let stored = [Stored { dictionary: Some(4), bytes: good }];
        assert!(decompress_each(&stored, &[(3, dictionary)], drop).is_err());
    }
}
