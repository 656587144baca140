//! Finds what a player needs first in an MP4.
//!
//! A film is a row of boxes (ISO/IEC 14496-12 section 4.2). The `moov` box says where each sample
//! lies. Nothing plays without it, and it may come after the media data. So the heads of the boxes
//! are read one after the other, which costs one short request for each that lies far away, and
//! then `moov` as a whole. Reading has these bytes fetched before the rest.

use std::io::{self, SeekFrom};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeek, AsyncSeekExt as _};

/// The possible first boxes of a film; anything else is no MP4 or QuickTime file.
const FIRST: [&[u8; 4]; 7] = [b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp"];

/// Films have a few boxes, and fragmented films have their `moov` first.
const MAX_BOXES: usize = 64;

/// No film has a larger `moov`; a head that claims so is not believed.
const MAX_MOOV_BYTES: u64 = 256 << 20;

/// Where the head of a box is and where the box ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    kind: [u8; 4],
    /// `None` if it extends to the end of the file.
    end: Option<u64>,
}

/// Reads `moov`, wherever it lies, and returns whether there was one.
///
/// # Errors
/// Those of the reader. A file that is no MP4 is no error.
pub(crate) async fn read_moov<R>(reader: &mut R) -> io::Result<bool>
where
    R: AsyncRead + AsyncSeek + Unpin,
{
    let mut position = 0;
    for number in 0..MAX_BOXES {
        reader.seek(SeekFrom::Start(position)).await?;
        let Some(header) = read_header(reader, position).await? else { return Ok(false) };
        if number == 0 && !FIRST.contains(&&header.kind) {
            return Ok(false);
        }
        if header.kind == *b"moov" {
            let end = header.end.unwrap_or(u64::MAX).min(position.saturating_add(MAX_MOOV_BYTES));
            let mut moov = reader.take(end - position);
            tokio::io::copy(&mut moov, &mut tokio::io::sink()).await?;
            return Ok(true);
        }
        match header.end {
            Some(end) => position = end,
            None => return Ok(false),
        }
    }
    Ok(false)
}

/// The head of the box at `position`; `None` at the end of the file and for bytes that are no head.
async fn read_header<R>(reader: &mut R, position: u64) -> io::Result<Option<Header>>
where
    R: AsyncRead + Unpin,
{
    let mut head = [0; 16];
    let short = reader.read_exact(&mut head[..8]).await;
    match short {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    };
    let kind = [head[4], head[5], head[6], head[7]];
    let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let size = match size {
        0 => return Ok(Some(Header { kind, end: None })),
        1 => {
            match reader.read_exact(&mut head[8..]).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                read => read?,
            };
            let mut large = [0; 8];
            large.copy_from_slice(&head[8..]);
            Some(u64::from_be_bytes(large)).filter(|size| *size >= 16)
        }
        size => Some(u64::from(size)).filter(|size| *size >= 8),
    };
    let end = size.and_then(|size| position.checked_add(size));
    Ok(end.map(|end| Header { kind, end: Some(end) }))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::ReadBuf;

    use super::*;

    /// Remembers which offsets were read.
    struct Spy {
        film: Cursor<Vec<u8>>,
        read: Vec<(u64, u64)>,
    }

    impl AsyncRead for Spy {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let from = self.film.position();
            let result = Pin::new(&mut self.film).poll_read(cx, buffer);
            let to = self.film.position();
            self.read.push((from, to));
            result
        }
    }

    impl AsyncSeek for Spy {
        fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
            Pin::new(&mut self.film).start_seek(to)
        }

        fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
            Pin::new(&mut self.film).poll_complete(cx)
        }
    }

    fn boxed(kind: &[u8; 4], size: u32, body: usize) -> Vec<u8> {
        [&size.to_be_bytes()[..], kind, &vec![7; body]].concat()
    }

    async fn read(film: Vec<u8>) -> (bool, Vec<(u64, u64)>) {
        let mut spy = Spy { film: Cursor::new(film), read: Vec::new() };
        let found = read_moov(&mut spy).await.unwrap();
        spy.read.retain(|(from, to)| from < to);
        (found, spy.read)
    }

    #[tokio::test]
    async fn moov_at_the_end_is_read_and_the_media_before_it_is_not() {
        let film = [
            boxed(b"ftyp", 24, 16),
            boxed(b"free", 8, 0),
            boxed(b"mdat", 100_008, 100_000),
            boxed(b"moov", 5008, 5000),
        ]
        .concat();
        let total = film.len() as u64;
        let (found, read) = read(film).await;
        assert!(found);
        assert_eq!(read.last().unwrap().1, total, "all of it");
        let media = 40..total - 5008;
        assert!(read.iter().all(|(from, to)| *to <= 40 || !media.contains(from)), "{read:?}");
    }

    #[tokio::test]
    async fn a_box_of_64_bits_is_skipped() {
        let mut film = boxed(b"ftyp", 16, 8);
        film.extend(
            [&1u32.to_be_bytes()[..], b"mdat", &1016u64.to_be_bytes(), &[0; 1000]].concat(),
        );
        film.extend(boxed(b"moov", 0, 50));
        assert!(read(film).await.0);
    }

    #[tokio::test]
    async fn what_is_no_film_is_left_alone() {
        for film in [
            Vec::new(),
            b"ftyp".to_vec(),
            vec![0x1a, 0x45, 0xdf, 0xa3, 0, 0, 0, 0, 0, 0, 0, 0],
            boxed(b"ftyp", 4, 100),
            boxed(b"mdat", 0, 100),
            [&1u32.to_be_bytes()[..], b"mdat", &u64::MAX.to_be_bytes()].concat(),
            [&1u32.to_be_bytes()[..], b"mdat", &3u64.to_be_bytes()].concat(),
            [&1u32.to_be_bytes()[..], b"mdat"].concat(),
            boxed(b"free", 8, 0).repeat(1000),
        ] {
            assert!(!read(film.clone()).await.0, "{film:?}");
        }
    }
}
