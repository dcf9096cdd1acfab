//! Sizes in bytes: `512MiB`, `4GiB`, `10GB`, or a plain number of bytes.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

/// An amount of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub i64);

/// The units: IEC 80000-13 for those with an i, SI for the others; a single letter is Docker's, which counts in 1024.
const UNITS: [(&str, i64); 11] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("b", 1),
];

impl Size {
    /// Reads an amount.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: i64 = number.parse().ok()?;
        let unit = unit.trim();
        let factor = if unit.is_empty() { 1 } else { UNITS.iter().find(|(name, _)| *name == unit)?.1 };
        number.checked_mul(factor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an amount of bytes, as in 512MiB or 4GiB")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Size, E> {
                i64::try_from(number).map(Size).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        from.deserialize_any(SizeVisitor)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An amount of bytes: a number, or one with a unit, as in 512MiB, 4GiB, 10GB.",
            "type": ["integer", "string"],
            "pattern": "^[0-9]+ *([kKmMgGtT]i?)?[bB]?$",
            "minimum": 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_units() {
        for (text, bytes) in [("4GiB", 4 << 30), ("512m", 512 << 20), ("10 GB", 10_000_000_000), ("7", 7), ("1b", 1)] {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
        for text in ["", "GiB", "-1", "4 apples", "99999999999999999999", "9999999999999GiB"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }
}
