//! Objects as YAML documents for `kubectl`.

use anyhow::Context;
use serde_json::Value;

/// One document for each object, each begun by a line of dashes.
pub(crate) fn documents<'a>(
    objects: impl IntoIterator<Item = &'a Value>,
) -> anyhow::Result<String> {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(object).context("cannot write YAML")?);
    }
    // The line break that printing adds. No more: those at the end of a text may be its own.
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::documents;

    /// kubectl reads YAML 1.1, where `no` and `1:30` are no text.
    #[test]
    fn text_that_looks_like_something_else_is_quoted() {
        let words = [
            "yes",
            "no",
            "on",
            "off",
            "y",
            "N",
            "true",
            "null",
            "~",
            "1.0",
            "010",
            "0x1f",
            "1e3",
            "1:30",
            "2024-01-01",
            "=",
            "<<",
            "",
            " a",
            "a: b",
            "a #b",
            "- a",
            "*",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "|",
            ">",
            "{a",
            "[a",
            "a\tb",
            "#",
            "?",
            ".inf",
            "-",
            "1_000",
        ];
        for word in words {
            let text = documents([&json!({ "a": word })]).expect("it is written");
            let line = text.lines().nth(1).expect("a line after the dashes");
            let quoted = line.starts_with("a: \"") || line.starts_with("a: '");
            assert!(quoted, "{word:?} is written as {text}");
        }
    }

    #[test]
    fn files_and_passwords_come_back_as_they_were() {
        let texts = [
            "# a comment\n\nport 6379\nsave \"3600 1\"\n",
            "user a on #ab ~* &* +@all\nuser b off\n",
            "trailing blank \nand none at the end",
            "\n\nleading lines\n",
            "`5$!DfwSJ.Y(d:@M",
            "  indented\n    more\n",
            "ends in several\n\n\n",
            "very long line very long line very long line very long line very long line very long line very long line very long line",
        ];
        for text in texts {
            let object = json!({ "data": { "file": text }, "list": [{ "a": [text] }] });
            let written = documents([&object, &object]).expect("it is written") + "\n";
            let read: Vec<Value> = serde_saphyr::from_multiple(&written).expect("it is YAML");
            assert_eq!(read, [object.clone(), object], "{written}");
        }
    }
}
