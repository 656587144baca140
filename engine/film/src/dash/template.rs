//! Addresses made of a pattern (ISO/IEC 23009-1, 5.3.9.4.4).

use super::xml::quoted;

/// Servers refuse longer addresses. The limit also keeps a pattern from repeating a long id many
/// times.
pub(super) const MAX_ADDRESS_BYTES: usize = 16 * 1024;

/// The most digits that a number is padded to.
const MAX_WIDTH: usize = 32;

/// A pattern for the addresses of one representation.
#[derive(Debug)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Literal(String),
    Number { width: usize },
    Time { width: usize },
}

impl Template {
    /// Reads a pattern and fills in the parts that are the same in all addresses.
    pub(super) fn parse(
        pattern: &str,
        id: Option<&str>,
        bandwidth: Option<u64>,
    ) -> Result<Self, String> {
        let too_long = || format!("the pattern {} makes an address too long", quoted(pattern));
        if pattern.len() > MAX_ADDRESS_BYTES {
            return Err(too_long());
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        // Dollar signs separate literals and identifiers, in turn.
        let mut split = pattern.split('$');
        literal.push_str(split.next().unwrap_or_default());
        while let Some(identifier) = split.next() {
            let Some(after) = split.next() else {
                return Err(format!("a $ is left over in the pattern {}", quoted(pattern)));
            };
            let (name, width) = split_format(identifier).ok_or_else(|| {
                format!(
                    "{} has a format other than %0Nd in the pattern {}",
                    quoted(&format!("${identifier}$")),
                    quoted(pattern)
                )
            })?;
            let variable = match name {
                "" if identifier.is_empty() => {
                    literal.push('$');
                    None
                }
                "RepresentationID" => {
                    literal.push_str(id.ok_or("the representation has no id for the pattern")?);
                    None
                }
                "Bandwidth" => {
                    let bandwidth =
                        bandwidth.ok_or("the representation has no bandwidth for the pattern")?;
                    literal.push_str(&format!("{bandwidth:0width$}"));
                    None
                }
                "Number" => Some(Part::Number { width }),
                "Time" => Some(Part::Time { width }),
                _ => {
                    return Err(format!(
                        "{} is not known in the pattern {}",
                        quoted(&format!("${identifier}$")),
                        quoted(pattern)
                    ));
                }
            };
            if let Some(variable) = variable {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
                parts.push(variable);
            }
            literal.push_str(after);
            if literal.len() > MAX_ADDRESS_BYTES {
                return Err(too_long());
            }
        }
        parts.push(Part::Literal(literal));
        Ok(Self(parts))
    }

    /// Whether different pieces get different addresses.
    pub(super) fn varies(&self) -> bool {
        self.0.iter().any(|part| !matches!(part, Part::Literal(_)))
    }

    pub(super) fn expand(&self, number: u64, time: u64) -> String {
        let mut address = String::new();
        for part in &self.0 {
            match *part {
                Part::Literal(ref literal) => address.push_str(literal),
                Part::Number { width } => address.push_str(&format!("{number:0width$}")),
                Part::Time { width } => address.push_str(&format!("{time:0width$}")),
            }
        }
        address
    }
}

/// Splits `Number%05d` into the name and the width.
fn split_format(identifier: &str) -> Option<(&str, usize)> {
    let Some((name, format)) = identifier.split_once('%') else {
        return Some((identifier, 1));
    };
    let width = format.strip_prefix('0')?.strip_suffix('d')?;
    let width = width.parse().ok().filter(|&width| width <= MAX_WIDTH)?;
    Some((name, width))
}
