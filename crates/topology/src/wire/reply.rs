//! A reply of nested arrays, as the client library hands it over.

use super::text::number;

/// A server's reply, without the client library's types, so that the parsers need no library.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A number.
    Int(i64),
    /// A text or bytes.
    Text(Vec<u8>),
    /// A list.
    List(Vec<Reply>),
    /// A map (RESP3), as pairs in their order.
    Map(Vec<(Reply, Reply)>),
}

impl Reply {
    /// The bytes, if this is a text.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text),
            Self::Nil | Self::Int(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The elements, if this is a list.
    pub fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            Self::Nil | Self::Int(_) | Self::Text(_) | Self::Map(_) => None,
        }
    }

    /// The number, if this is one or a text of one.
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            Self::Text(text) => match text.strip_prefix(b"-") {
                Some(digits) => i64::try_from(number(digits)?).ok().map(|n| -n),
                None => i64::try_from(number(text)?).ok(),
            },
            Self::Nil | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The pairs of a map; RESP2 has none and sends keys and values in turn.
    pub(super) fn pairs(&self) -> Option<Vec<(&Self, &Self)>> {
        match self {
            Self::Map(pairs) => Some(pairs.iter().map(|(k, v)| (k, v)).collect()),
            Self::List(items) if items.len() % 2 == 0 => {
                Some(items.chunks_exact(2).map(|p| (&p[0], &p[1])).collect())
            }
            Self::Nil | Self::Int(_) | Self::Text(_) | Self::List(_) => None,
        }
    }

    /// What an error shows of this reply.
    pub(super) fn excerpt(&self) -> Vec<u8> {
        match self {
            Self::Nil => b"nil".to_vec(),
            Self::Int(n) => n.to_string().into_bytes(),
            Self::Text(text) => text.clone(),
            Self::List(items) => format!("a list of {}", items.len()).into_bytes(),
            Self::Map(pairs) => format!("a map of {}", pairs.len()).into_bytes(),
        }
    }
}
