//! What a response says about the object as a whole.

use super::validator::Validator;

/// The object as one response described it. The first accepted response, or
/// the checkpoint, sets what all later ones are compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// The object's size in bytes, if the response told it.
    pub total: Option<u64>,
    /// What identifies this version of the object.
    pub validator: Validator,
    /// Whether the server answered a range request with that range.
    pub ranges: bool,
    /// The content coding in lower case, several joined by `, `; `None` for identity.
    pub encoding: Option<String>,
    /// The `Content-Type` as sent.
    pub content_type: Option<String>,
    /// The `Content-Disposition` as sent.
    pub content_disposition: Option<String>,
}

impl Resource {
    /// The media type without parameters, in lower case (RFC 9110 section 8.3.1).
    #[must_use]
    pub fn media_type(&self) -> Option<String> {
        let media_type = self.content_type.as_deref()?.split(';').next()?.trim();
        (!media_type.is_empty()).then(|| media_type.to_ascii_lowercase())
    }
}
