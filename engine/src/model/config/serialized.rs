//! How options are written and read by serde where a derive would not do.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Checksum, DigestAlgorithm, HostAddress, Interface, Pieces, hex, unhex};
#[cfg(feature = "proxy")]
use super::{Proxies, Proxy};
use crate::model::selection::Selection;

/// Types that are parsed from what they display.
macro_rules! as_text {
    ($($kind:ty)+) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(D::Error::custom)
            }
        }
    )+};
}

as_text!(Checksum Selection Interface HostAddress);

#[cfg(feature = "proxy")]
impl Serialize for Proxy {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.to_url().serialize(to)
    }
}

#[cfg(feature = "proxy")]
impl<'de> Deserialize<'de> for Proxy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "Pieces", deny_unknown_fields)]
struct HexPieces {
    algorithm: DigestAlgorithm,
    piece_bytes: u64,
    digests: Vec<String>,
}

impl Serialize for Pieces {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let digests = (0..self.count()).map(|index| hex(self.digest(index))).collect();
        let (algorithm, piece_bytes) = (self.algorithm(), self.piece_bytes());
        HexPieces { algorithm, piece_bytes, digests }.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Pieces {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let HexPieces { algorithm, piece_bytes, digests } = HexPieces::deserialize(from)?;
        let digests: Option<Vec<Vec<u8>>> = digests.iter().map(|digits| unhex(digits)).collect();
        let digests = digests.ok_or_else(|| D::Error::custom("a piece's digest is not hex"))?;
        Self::new(algorithm, piece_bytes, digests).map_err(D::Error::custom)
    }
}

/// Hosts that are asked without a proxy, as one text.
#[cfg(feature = "proxy")]
pub mod bypass {
    use super::*;

    pub fn serialize<S: Serializer>(hosts: &[String], to: S) -> Result<S::Ok, S::Error> {
        hosts.join(",").serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
        Ok(Proxies::default().bypassing(&String::deserialize(from)?).bypass)
    }
}

/// A duration as a number of seconds.
pub mod seconds {
    use super::*;

    pub fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(time.as_secs_f64())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// The same where there may be none.
pub mod maybe_seconds {
    use super::*;

    pub fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        time.map(|time| time.as_secs_f64()).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(from)?;
        let time = seconds.map(Duration::try_from_secs_f64);
        time.transpose().map_err(D::Error::custom)
    }
}
