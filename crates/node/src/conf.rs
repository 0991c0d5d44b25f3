//! The few directives of `redis.conf` that say where the data is.
//!
//! Only the file itself is read, no `include`: what is judged here stands in the file that the operator writes.

use std::path::PathBuf;

/// Where the server will look for its data, and whether it will load its append-only file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// `dir`, if given.
    pub dir: Option<PathBuf>,
    /// `appendonly yes`.
    pub append_only: bool,
    /// `appenddirname`.
    pub append_dir: String,
    /// `dbfilename`.
    pub snapshot: String,
    /// `cluster-config-file`: the node's table.
    pub nodes_file: String,
}

impl Default for Conf {
    /// The engines' defaults.
    fn default() -> Self {
        Self {
            dir: None,
            append_only: false,
            append_dir: "appendonlydir".into(),
            snapshot: "dump.rdb".into(),
            nodes_file: "nodes.conf".into(),
        }
    }
}

impl Conf {
    /// Reads the text of a file, then the `--directive value` words of the server's command line, which win as they
    /// do in the server. Of two lines with one directive the last counts.
    #[must_use]
    pub fn read(text: &str, args: &[String]) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let line = line.trim();
            if line.starts_with('#') {
                continue;
            }
            let words = words(line);
            if let [key, value, ..] = words.as_slice() {
                conf.set(key, value);
            }
        }
        let mut words = args.iter().peekable();
        while let Some(word) = words.next() {
            let Some(key) = word.strip_prefix("--") else {
                continue;
            };
            // `--dir /data`, and `"--dir /data"` as one argument: the server takes both.
            if let Some((key, value)) = key.split_once(char::is_whitespace) {
                conf.set(key, value.trim());
            } else if let Some(value) = words.next_if(|next| !next.starts_with("--")) {
                conf.set(key, value);
            }
        }
        conf
    }

    fn set(&mut self, key: &str, value: &str) {
        match key.to_ascii_lowercase().as_str() {
            "appendonly" => self.append_only = value.eq_ignore_ascii_case("yes"),
            "dir" => self.dir = Some(value.into()),
            "appenddirname" => value.clone_into(&mut self.append_dir),
            "dbfilename" => value.clone_into(&mut self.snapshot),
            "cluster-config-file" => value.clone_into(&mut self.nodes_file),
            _ => {}
        }
    }
}

/// Splits a line as the server does: words, `"…"` with backslashes, `'…'`.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(first) = chars.next() else {
            return words;
        };
        let mut word = String::new();
        match first {
            '"' | '\'' => {
                while let Some(c) = chars.next() {
                    if c == first {
                        break;
                    }
                    let escaped = c == '\\' && (first == '"' || chars.peek() == Some(&'\''));
                    match chars.next_if(|_| escaped) {
                        Some(next) => word.push(next),
                        None => word.push(c),
                    }
                }
            }
            other => {
                word.push(other);
                while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                    word.push(c);
                }
            }
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_these_directives_has_the_engines_defaults() {
        let text = "port 6379\n# appendonly yes\ncluster-enabled yes\n";
        assert_eq!(Conf::read(text, &[]), Conf::default());
        assert!(!Conf::default().append_only);
    }

    #[test]
    fn directives_are_read_as_the_server_reads_them() {
        let text = "  APPENDONLY \"yes\"\r\ndir '/my data'\nappenddirname log\ndbfilename \"a\\\"b.rdb\"\n\
                    cluster-config-file n.conf\nappendonly no\nappendonly YES\nsave \"\"\n";
        let conf = Conf::read(text, &[]);
        assert!(conf.append_only);
        assert_eq!(conf.dir, Some(PathBuf::from("/my data")));
        assert_eq!(conf.append_dir, "log");
        assert_eq!(conf.snapshot, "a\"b.rdb");
        assert_eq!(conf.nodes_file, "n.conf");
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let args = ["--port", "1", "--appendonly", "no", "--dir /other"].map(str::to_owned);
        let conf = Conf::read("appendonly yes\ndir /data\n", &args);
        assert!(!conf.append_only);
        assert_eq!(conf.dir, Some(PathBuf::from("/other")));
    }

    #[test]
    fn an_unfinished_quote_and_an_include_do_no_harm() {
        let conf = Conf::read("dir \"/da\ninclude /x/appendonly.conf\n", &[]);
        assert_eq!(conf.dir, Some(PathBuf::from("/da")));
        assert!(!conf.append_only);
    }
}
