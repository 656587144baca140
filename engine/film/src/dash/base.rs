//! Base addresses, which relative addresses are joined to.

use url::Url;

use super::template::MAX_ADDRESS_BYTES;
use super::xml::{Element, quoted};
use crate::model::ManifestError;

/// The most mirrors of one piece.
const MAX_MIRRORS: usize = 8;

/// Every address of one object.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    /// The preferred one.
    pub(super) url: Url,
    pub(super) mirrors: Vec<Url>,
}

impl Addresses {
    fn add(&mut self, url: Url) {
        if self.mirrors.len() < MAX_MIRRORS && self.url != url && !self.mirrors.contains(&url) {
            self.mirrors.push(url);
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Url> {
        std::iter::once(&self.url).chain(&self.mirrors)
    }

    /// The memory that the addresses take.
    pub(super) fn bytes(&self) -> usize {
        self.iter().map(|url| url.as_str().len()).sum()
    }
}

/// The base addresses at one level of the manifest.
#[derive(Debug, Clone)]
pub(super) struct Bases {
    addresses: Addresses,
    /// Whether an element named them. Otherwise they are the address of the manifest itself.
    is_named: bool,
}

impl Bases {
    pub(super) fn of_manifest(url: &Url) -> Result<Self, ManifestError> {
        let url = checked(url.clone()).map_err(ManifestError::whole)?;
        Ok(Self { addresses: Addresses { url, mirrors: Vec::new() }, is_named: false })
    }

    /// The bases within `element`, which may name further ones.
    pub(super) fn within(&self, element: Element<'_>) -> Result<Self, ManifestError> {
        let mut addresses: Option<Addresses> = None;
        for named in element.children("BaseURL") {
            let joined = self.join(named, named.text())?;
            match &mut addresses {
                Some(addresses) => joined.iter().for_each(|url| addresses.add(url.clone())),
                None => addresses = Some(joined),
            }
        }
        Ok(addresses.map_or_else(|| self.clone(), |addresses| Self { addresses, is_named: true }))
    }

    /// Resolves `reference`, which is from `element`, against every base.
    pub(super) fn join(
        &self,
        element: Element<'_>,
        reference: &str,
    ) -> Result<Addresses, ManifestError> {
        let join = |base: &Url| {
            let url =
                base.join(reference).map_err(|error| format!("{}: {error}", quoted(reference)));
            url.and_then(checked).map_err(|message| element.error(message))
        };
        let mut joined = Addresses { url: join(&self.addresses.url)?, mirrors: Vec::new() };
        for mirror in &self.addresses.mirrors {
            joined.add(join(mirror)?);
        }
        Ok(joined)
    }

    /// The base addresses as those of an object, unless they name a directory or the manifest.
    pub(super) fn object(&self) -> Option<&Addresses> {
        let url = &self.addresses.url;
        let is_directory = url.path().ends_with('/') && url.query().is_none();
        (self.is_named && !is_directory).then_some(&self.addresses)
    }
}

/// Drops the fragment, which is never sent, and refuses an address that cannot be fetched.
fn checked(mut url: Url) -> Result<Url, String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{} is not an http or https address", quoted(url.as_str())));
    }
    if url.as_str().len() > MAX_ADDRESS_BYTES {
        return Err(format!("the address {} is too long", quoted(url.as_str())));
    }
    url.set_fragment(None);
    Ok(url)
}
