//! DRM systems that a film is encrypted for.

use super::xml::Element;

const COMMON: &str = "Common Encryption";

/// DRM systems, in the order of the manifest.
#[derive(Debug, Default)]
pub(super) struct Systems(Vec<&'static str>);

impl Systems {
    /// Adds the systems that `element` itself names.
    pub(super) fn add(&mut self, element: Element<'_>) {
        for protection in element.children("ContentProtection") {
            let system = system(protection.filled("schemeIdUri").unwrap_or_default());
            if !self.0.contains(&system) {
                self.0.push(system);
            }
        }
    }

    /// The names for people, or `None` if the film is not encrypted. Common Encryption, which the
    /// systems share, is named only where no system is.
    pub(super) fn names(&self) -> Option<String> {
        let named: Vec<&str> = self.0.iter().copied().filter(|&name| name != COMMON).collect();
        match (named.is_empty(), self.0.is_empty()) {
            (false, _) => Some(named.join(", ")),
            (true, false) => Some(COMMON.to_owned()),
            (true, true) => None,
        }
    }
}

fn system(scheme: &str) -> &'static str {
    let scheme = scheme.to_ascii_lowercase();
    match scheme.strip_prefix("urn:uuid:").unwrap_or_default() {
        "edef8ba9-79d6-4ace-a3c8-27dcd51d21ed" => "Widevine",
        "9a04f079-9840-4286-ab92-e65be0885f95" => "PlayReady",
        "94ce86fb-07ff-4f43-adb8-93d2fa968ca2" => "FairPlay",
        "e2719d58-a985-b3c9-781a-b030af78d30e" | "1077efec-c0b2-4d02-ace3-3c1e52e2fb4b" => {
            "ClearKey"
        }
        _ => COMMON,
    }
}
