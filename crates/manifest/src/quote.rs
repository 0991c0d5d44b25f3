//! Quoting of arguments in `redis.conf`.

use std::fmt::Write as _;

/// `value` as one argument of a `redis.conf` line: bare when nothing in it can be misread, else in
/// double quotes. What the server reads back is `value`, byte for byte.
///
/// The rules are those of `sdssplitargs`, which both engines read their files with: inside double
/// quotes a backslash escapes, `\xHH` is a byte, and an unbalanced quote refuses the whole file.
pub fn quote(value: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=*&~|".contains(c);
    if !value.is_empty() && value.chars().all(bare) {
        return value.to_owned();
    }
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_ascii_control() => {
                write!(quoted, "\\x{:02x}", u32::from(c)).expect("writing to a String cannot fail");
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn bare_only_where_nothing_can_be_misread() {
        for (value, written) in [
            ("7000", "7000"),
            ("/data/nodes.conf", "/data/nodes.conf"),
            ("", "\"\""),
            ("3600 1 300 100", "\"3600 1 300 100\""),
            ("`5$!DfwSJ.Y(d:@M", "\"`5$!DfwSJ.Y(d:@M\""),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
            ("it's", "\"it's\""),
            ("# no comment", "\"# no comment\""),
            ("a\nb\r\t\0\x7f", "\"a\\nb\\r\\t\\x00\\x7f\""),
            ("größe", "\"größe\""),
        ] {
            assert_eq!(quote(value), written);
        }
    }
}
