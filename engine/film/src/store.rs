//! The file of one track: pieces in their order, each at its place from the start.
//!
//! The place of a piece is the sum of the lengths of those before it. A length is known once a piece
//! is there, and for most before that, because its response announces it. A piece whose place is not
//! known yet waits in memory. So the file needs no second pass when the last piece has come, and a
//! kill costs only what was in memory.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::PathBuf;

use crate::checkpoint::{Checkpoint, Record};
use crate::container::beginning_of;
use crate::error::FilmError;
use crate::model::{Piece, Role};
use crate::private;

/// What names a piece in a checkpoint: what stays the same when the manifest is fetched again, so
/// neither its URL nor its token.
pub(crate) fn key_of(piece: &Piece) -> String {
    let role = match piece.role {
        Role::Init => 'i',
        Role::Media => 'm',
    };
    let range = match &piece.range {
        Some(Range { start, end }) => format!("@{start}-{end}"),
        None => String::new(),
    };
    // A new number for other content is told by this in most films, and by proof in all.
    let lasts = piece.duration.as_millis();
    format!("{role}{}+{lasts}{range}", piece.sequence)
}

/// The file of a track that is being filled.
#[derive(Debug)]
pub(crate) struct TrackStore {
    file: File,
    path: PathBuf,
    track: usize,
    keys: Vec<String>,
    /// Promised or counted.
    lens: Vec<Option<u64>>,
    stored: Vec<bool>,
    /// The place of each piece whose predecessors all have a length, and of the one after them.
    offsets: Vec<u64>,
    /// Pieces that have no place yet.
    held: BTreeMap<usize, Vec<u8>>,
    held_bytes: u64,
    stored_bytes: u64,
    stored_count: usize,
}

impl TrackStore {
    /// Opens or creates the file at `path` for these pieces and believes what the records say of it
    /// as far as its bytes have the recorded hashes. Blocks.
    ///
    /// # Errors
    /// [`FilmError::Local`].
    pub(crate) fn open(
        path: PathBuf,
        track: usize,
        keys: Vec<String>,
        records: &[Record],
        checkpoint: &mut Checkpoint,
    ) -> Result<Self, FilmError> {
        let cannot = |error| FilmError::local("open", &path, error);
        if std::fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
            let why = io::Error::new(io::ErrorKind::InvalidInput, "it is no ordinary file");
            return Err(cannot(why));
        }
        let is_ours = records.iter().any(|record| record.is_of(track));
        let mut options = private::options();
        if is_ours {
            options.create(true);
        } else {
            if path.exists() {
                return Err(FilmError::Exists(path));
            }
            // From now on a file of this name is ours, even after a kill before the first piece.
            checkpoint.add(&Record::Begun { track })?;
            options.create_new(true);
        }
        let file = options.open(&path).map_err(cannot)?;
        let mut store = Self {
            file,
            path,
            track,
            lens: vec![None; keys.len()],
            stored: vec![false; keys.len()],
            keys,
            offsets: vec![0],
            held: BTreeMap::new(),
            held_bytes: 0,
            stored_bytes: 0,
            stored_count: 0,
        };
        store.believe(records)?;
        Ok(store)
    }

    fn believe(&mut self, records: &[Record]) -> Result<(), FilmError> {
        let places: HashMap<&str, usize> =
            self.keys.iter().enumerate().map(|(index, key)| (key.as_str(), index)).collect();
        let mut hashes = BTreeMap::new();
        for record in records.iter().filter(|record| record.is_of(self.track)) {
            match record {
                Record::Promised { piece, bytes, .. } => {
                    if let Some(index) = places.get(piece.as_str()) {
                        self.lens[*index] = Some(*bytes);
                    }
                }
                // No piece is empty.
                Record::Stored { bytes: 0, .. } => {}
                Record::Stored { piece, offset, bytes, blake3, .. } => {
                    if let Some(index) = places.get(piece.as_str()) {
                        self.lens[*index] = Some(*bytes);
                        hashes.insert(*index, (*offset, blake3.as_str()));
                    }
                }
                Record::Moved { piece, bytes, .. } => {
                    if let Some(index) = places.get(piece.as_str()) {
                        self.lens[*index] = Some(*bytes);
                        hashes.split_off(index);
                    }
                }
                // The others say nothing about pieces.
                _ => {}
            }
        }
        self.advance();
        for (index, (offset, blake3)) in hashes {
            let Some(bytes) = self.lens[index] else { continue };
            if self.offsets.get(index) == Some(&offset)
                && self.hash(offset, bytes)? == Some(blake3.to_owned())
            {
                self.stored[index] = true;
                self.stored_count += 1;
                self.stored_bytes += bytes;
            }
        }
        Ok(())
    }

    /// The hash of these bytes of the file, if it has them.
    fn hash(&mut self, offset: u64, bytes: u64) -> Result<Option<String>, FilmError> {
        let mut hasher = blake3::Hasher::new();
        let read = self.file.seek(SeekFrom::Start(offset)).and_then(|_| {
            let mut rest = io::Read::take(&mut self.file, bytes);
            let mut buffer = vec![0; 1 << 20];
            let mut all = 0;
            loop {
                match rest.read(&mut buffer)? {
                    0 => return Ok(all),
                    read => {
                        hasher.update(&buffer[..read]);
                        all += read as u64;
                    }
                }
            }
        });
        let read = read.map_err(|error| FilmError::local("read", &self.path, error))?;
        Ok((read == bytes).then(|| hasher.finalize().to_hex().to_string()))
    }

    /// Adds pieces at the end.
    pub(crate) fn extend(&mut self, keys: impl IntoIterator<Item = String>) {
        self.keys.extend(keys);
        self.lens.resize(self.keys.len(), None);
        self.stored.resize(self.keys.len(), false);
    }

    /// How many pieces there are to be.
    pub(crate) fn count(&self) -> usize {
        self.keys.len()
    }

    /// Whether a piece is there, in the file or in memory.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.stored[index] || self.held.contains_key(&index)
    }

    /// The bytes of a piece, from the file or from memory, if it is there. Blocks.
    ///
    /// # Errors
    /// [`FilmError::Local`].
    pub(crate) fn read(&mut self, index: usize) -> Result<Option<Vec<u8>>, FilmError> {
        if let Some(held) = self.held.get(&index) {
            return Ok(Some(held.clone()));
        }
        if !self.stored.get(index).is_some_and(|stored| *stored) {
            return Ok(None);
        }
        self.read_from(index, self.offsets[index]).map(Some)
    }

    /// The bytes of a piece that lies here in the file.
    fn read_from(&mut self, index: usize, offset: u64) -> Result<Vec<u8>, FilmError> {
        let mut bytes = vec![0; usize::try_from(self.lens[index].unwrap_or(0)).unwrap_or(0)];
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|error| FilmError::local("read", &self.path, error))?;
        Ok(bytes)
    }

    /// How long each piece is, as far as that is known.
    pub(crate) fn lens(&self) -> &[Option<u64>] {
        &self.lens
    }

    /// A piece of media that is in the file and can be had, with its hash: the last but one, since
    /// the last may be short.
    pub(crate) fn sample(
        &mut self,
        can_be_had: impl Fn(usize) -> bool,
    ) -> Result<Option<(usize, String)>, FilmError> {
        let stored: Vec<usize> = (0..self.keys.len())
            .filter(|index| self.stored[*index] && self.keys[*index].starts_with('m'))
            .filter(|index| can_be_had(*index))
            .collect();
        let Some(&index) = stored.get(stored.len().saturating_sub(2)) else { return Ok(None) };
        let (offset, bytes) = (self.offsets[index], self.lens[index].unwrap_or(0));
        Ok(self.hash(offset, bytes)?.map(|hash| (index, hash)))
    }

    /// The first bytes, where they are there.
    pub(crate) fn beginning(&mut self) -> Result<Option<Vec<u8>>, FilmError> {
        if !self.stored.first().is_some_and(|stored| *stored) {
            return Ok(None);
        }
        let beginning =
            self.file.seek(SeekFrom::Start(0)).and_then(|_| beginning_of(&mut self.file));
        beginning.map(Some).map_err(|error| FilmError::local("read", &self.path, error))
    }

    /// The bytes in the file.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// The bytes in memory.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// How many pieces are there, in the file or in memory.
    pub(crate) fn done(&self) -> usize {
        self.stored_count + self.held.len()
    }

    /// Notes how long a piece is going to be.
    ///
    /// # Errors
    /// [`FilmError::Local`].
    pub(crate) fn promise(
        &mut self,
        index: usize,
        bytes: u64,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), FilmError> {
        if self.lens[index].is_some() {
            return Ok(());
        }
        let piece = self.keys[index].clone();
        checkpoint.add(&Record::Promised { track: self.track, piece, bytes })?;
        self.lens[index] = Some(bytes);
        self.place_held(checkpoint)
    }

    /// Takes a whole piece. Blocks while it is written.
    ///
    /// # Errors
    /// [`FilmError::Local`].
    pub(crate) fn take(
        &mut self,
        index: usize,
        bytes: Vec<u8>,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), FilmError> {
        let len = bytes.len() as u64;
        match self.lens[index] {
            Some(promised) if promised != len => self.shift(index, len, checkpoint)?,
            _ => self.lens[index] = Some(len),
        }
        self.held_bytes += len;
        if let Some(before) = self.held.insert(index, bytes) {
            self.held_bytes -= before.len() as u64;
        }
        self.place_held(checkpoint)
    }

    /// Makes room for a piece that is not as long as it was promised to be, by moving what is
    /// stored after it. A kill meanwhile makes those pieces missing that were not moved yet, since
    /// their bytes are not where a record says.
    fn shift(
        &mut self,
        index: usize,
        len: u64,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), FilmError> {
        let piece = self.keys[index].clone();
        checkpoint.add(&Record::Moved { track: self.track, piece, bytes: len })?;
        let is_longer = self.lens[index].is_some_and(|promised| len > promised);
        let mut later: Vec<(usize, u64)> = (index + 1..self.keys.len())
            .filter(|later| self.stored[*later])
            .map(|later| (later, self.offsets[later]))
            .collect();
        if is_longer {
            // Nothing is written over before it has been read.
            later.reverse();
        }
        self.lens[index] = Some(len);
        self.offsets.truncate(index + 1);
        self.advance();
        for (later, from) in later {
            let bytes = self.read_from(later, from)?;
            self.write(later, self.offsets[later], &bytes, checkpoint)?;
        }
        Ok(())
    }

    /// Leaves a piece out of the file; it is as missing as before.
    ///
    /// # Errors
    /// [`FilmError::Local`].
    pub(crate) fn leave_out(
        &mut self,
        index: usize,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), FilmError> {
        match self.lens[index] {
            Some(0) => Ok(()),
            Some(_) => self.shift(index, 0, checkpoint),
            None => self.promise(index, 0, checkpoint),
        }
    }

    fn advance(&mut self) {
        while let Some(Some(len)) = self.lens.get(self.offsets.len() - 1) {
            // There is always a last one, the place of the first piece being 0.
            let last = self.offsets.last().copied().unwrap_or(0);
            self.offsets.push(last.saturating_add(*len));
        }
    }

    fn place_held(&mut self, checkpoint: &mut Checkpoint) -> Result<(), FilmError> {
        self.advance();
        while let Some(first) = self.held.first_entry() {
            let index = *first.key();
            let Some(&offset) = self.offsets.get(index) else { break };
            let bytes = first.remove();
            self.held_bytes -= bytes.len() as u64;
            self.write(index, offset, &bytes, checkpoint)?;
            self.stored[index] = true;
            self.stored_count += 1;
            self.stored_bytes += bytes.len() as u64;
        }
        Ok(())
    }

    fn write(
        &mut self,
        index: usize,
        offset: u64,
        bytes: &[u8],
        checkpoint: &mut Checkpoint,
    ) -> Result<(), FilmError> {
        let written =
            self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|error| FilmError::local("write", &self.path, error))?;
        checkpoint.add(&Record::Stored {
            track: self.track,
            piece: self.keys[index].clone(),
            offset,
            bytes: bytes.len() as u64,
            blake3: blake3::hash(bytes).to_hex().to_string(),
        })
    }

    /// Gives the file its length, and syncs it where that is wanted.
    ///
    /// # Errors
    /// [`FilmError::Local`].
    pub(crate) fn finish(&mut self, sync: bool) -> Result<(), FilmError> {
        let len_bytes = self.offsets.last().copied().unwrap_or(0);
        let done = self
            .file
            .set_len(len_bytes)
            .and_then(|()| if sync { self.file.sync_all() } else { Ok(()) });
        done.map_err(|error| FilmError::local("sync", &self.path, error))
    }
}

impl Record {
    fn is_of(&self, wanted: usize) -> bool {
        match self {
            Self::HaulFilm { .. }
            | Self::Live { .. }
            | Self::Joining
            | Self::Output { .. }
            | Self::Publishing { .. } => false,
            Self::Begun { track }
            | Self::Promised { track, .. }
            | Self::Stored { track, .. }
            | Self::Moved { track, .. } => *track == wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Scratch {
        dir: tempfile::TempDir,
    }

    impl Scratch {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap() }
        }

        fn part(&self) -> PathBuf {
            self.dir.path().join("film.part")
        }

        fn open(&self, count: usize) -> (TrackStore, Checkpoint) {
            let path = self.dir.path().join("film.film");
            let (mut checkpoint, records) = Checkpoint::open(path, "film").unwrap();
            let keys = (0..count).map(|it| format!("m{it}")).collect();
            (TrackStore::open(self.part(), 0, keys, &records, &mut checkpoint).unwrap(), checkpoint)
        }
    }

    fn piece(index: usize) -> Vec<u8> {
        vec![u8::try_from(index).unwrap(); 10 + index]
    }

    fn whole(count: usize) -> Vec<u8> {
        (0..count).flat_map(piece).collect()
    }

    #[test]
    fn pieces_in_any_order_become_the_track() {
        let scratch = Scratch::new();
        let (mut store, mut checkpoint) = scratch.open(5);
        for index in [3, 1, 0, 4, 2] {
            store.take(index, piece(index), &mut checkpoint).unwrap();
            assert!(store.has(index));
        }
        assert_eq!((store.held_bytes(), store.stored_bytes()), (0, 60));
        assert_eq!((store.done(), store.count()), (5, 5));
        store.finish(true).unwrap();
        assert_eq!(fs::read(scratch.part()).unwrap(), whole(5));
    }

    #[test]
    fn a_promised_length_gives_the_pieces_after_it_a_place() {
        let scratch = Scratch::new();
        let (mut store, mut checkpoint) = scratch.open(3);
        store.take(1, piece(1), &mut checkpoint).unwrap();
        assert_eq!(store.held_bytes(), 11);
        store.promise(0, 10, &mut checkpoint).unwrap();
        assert_eq!((store.held_bytes(), store.stored_bytes()), (0, 11));
        drop((store, checkpoint));
        // A kill later it is still there.
        let (mut store, mut checkpoint) = scratch.open(3);
        assert_eq!([0, 1, 2].map(|it| store.has(it)), [false, true, false]);
        store.take(0, piece(0), &mut checkpoint).unwrap();
        store.take(2, piece(2), &mut checkpoint).unwrap();
        store.finish(false).unwrap();
        assert_eq!(fs::read(scratch.part()).unwrap(), whole(3));
    }

    #[test]
    fn a_broken_promise_moves_what_came_after_it() {
        for promised in [3, 99] {
            let scratch = Scratch::new();
            let (mut store, mut checkpoint) = scratch.open(4);
            store.promise(0, promised, &mut checkpoint).unwrap();
            store.take(1, piece(1), &mut checkpoint).unwrap();
            store.take(2, piece(2), &mut checkpoint).unwrap();
            store.take(0, piece(0), &mut checkpoint).unwrap();
            drop((store, checkpoint));
            let (mut store, mut checkpoint) = scratch.open(4);
            assert_eq!([0, 1, 2, 3].map(|it| store.has(it)), [true, true, true, false]);
            store.take(3, piece(3), &mut checkpoint).unwrap();
            store.finish(false).unwrap();
            assert_eq!(fs::read(scratch.part()).unwrap(), whole(4), "{promised}");
        }
    }

    #[test]
    fn what_is_left_out_is_still_missing_later() {
        let scratch = Scratch::new();
        let (mut store, mut checkpoint) = scratch.open(3);
        store.promise(1, 7, &mut checkpoint).unwrap();
        store.take(0, piece(0), &mut checkpoint).unwrap();
        store.take(2, piece(2), &mut checkpoint).unwrap();
        store.leave_out(1, &mut checkpoint).unwrap();
        store.finish(false).unwrap();
        assert_eq!(fs::read(scratch.part()).unwrap(), [piece(0), piece(2)].concat());
        drop((store, checkpoint));
        let (mut store, mut checkpoint) = scratch.open(3);
        assert_eq!([0, 1, 2].map(|it| store.has(it)), [true, false, true]);
        store.take(1, piece(1), &mut checkpoint).unwrap();
        store.finish(false).unwrap();
        assert_eq!(fs::read(scratch.part()).unwrap(), whole(3));
    }

    #[test]
    fn bytes_that_are_not_as_recorded_are_fetched_again() {
        let scratch = Scratch::new();
        let (mut store, mut checkpoint) = scratch.open(3);
        for index in 0..3 {
            store.take(index, piece(index), &mut checkpoint).unwrap();
        }
        drop((store, checkpoint));
        let mut damaged = fs::read(scratch.part()).unwrap();
        damaged[12] ^= 1;
        damaged.truncate(30);
        fs::write(scratch.part(), damaged).unwrap();
        let (store, _checkpoint) = scratch.open(3);
        assert_eq!([0, 1, 2].map(|it| store.has(it)), [true, false, false]);
        assert_eq!(store.stored_bytes(), 10);
    }

    #[test]
    fn a_file_that_no_record_knows_is_left_as_it_is() {
        let scratch = Scratch::new();
        fs::write(scratch.part(), "my own").unwrap();
        let path = scratch.dir.path().join("film.film");
        let (mut checkpoint, records) = Checkpoint::open(path, "film").unwrap();
        let keys = vec!["m0".to_owned()];
        let error =
            TrackStore::open(scratch.part(), 0, keys, &records, &mut checkpoint).unwrap_err();
        assert!(matches!(error, FilmError::Exists { .. }), "{error}");
        assert_eq!(fs::read(scratch.part()).unwrap(), b"my own");
    }
}
