//! A reader of `redis.conf` for tests, after `sdssplitargs` and `loadServerConfigFromString` of the
//! engines: an independent judge of what the renderer wrote.

/// The arguments of each directive; comments and blank lines are passed over.
pub(crate) fn directives(text: &str) -> Result<Vec<Vec<String>>, String> {
    text.split('\n')
        .map(|line| line.trim_matches([' ', '\t', '\r', '\n']))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| arguments(line).ok_or_else(|| format!("unbalanced quotes: {line}")))
        .collect()
}

fn arguments(line: &str) -> Option<Vec<String>> {
    let bytes = line.as_bytes();
    let mut found = Vec::new();
    let mut i = 0;
    loop {
        while i < bytes.len() && bytes[i].is_ascii_whitespace() {
            i += 1;
        }
        if i == bytes.len() {
            return Some(found);
        }
        let mut argument = Vec::new();
        if bytes[i] == b'"' {
            i += 1;
            loop {
                match *bytes.get(i)? {
                    b'"' => break,
                    b'\\' if bytes.get(i + 1) == Some(&b'x') => {
                        let hex = std::str::from_utf8(bytes.get(i + 2..i + 4)?).ok()?;
                        argument.push(u8::from_str_radix(hex, 16).ok()?);
                        i += 4;
                    }
                    b'\\' => {
                        argument.push(match *bytes.get(i + 1)? {
                            b'n' => b'\n',
                            b'r' => b'\r',
                            b't' => b'\t',
                            b'b' => 8,
                            b'a' => 7,
                            other => other,
                        });
                        i += 2;
                    }
                    other => {
                        argument.push(other);
                        i += 1;
                    }
                }
            }
            i += 1;
            // After a closing quote the engines want a blank or the end.
            if bytes.get(i).is_some_and(|b| !b.is_ascii_whitespace()) {
                return None;
            }
        } else {
            while i < bytes.len() && !bytes[i].is_ascii_whitespace() {
                if matches!(bytes[i], b'"' | b'\'') {
                    return None;
                }
                argument.push(bytes[i]);
                i += 1;
            }
        }
        found.push(String::from_utf8(argument).ok()?);
    }
}
