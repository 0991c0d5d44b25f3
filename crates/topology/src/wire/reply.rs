//! A reply of nested arrays, as the client library hands it over.

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
