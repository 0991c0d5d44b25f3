//! What the rules read: sources and manifests, from the disk or from an example.

use std::ops::RangeInclusive;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// The workspace, or one file of it.
pub(crate) struct Tree {
    /// Rust files below `crates/`, `tests/` and `fuzz/`.
    pub(crate) sources: Vec<Source>,
    /// The root's and the crates' manifests.
    pub(crate) manifests: Vec<Manifest>,
    /// Markdown at the root: path and text.
    pub(crate) documents: Vec<(String, String)>,
    /// The verbs of the Makefile.
    pub(crate) verbs: Vec<String>,
}

/// One Rust file.
pub(crate) struct Source {
    /// From the root, with `/`.
    pub(crate) path: String,
    /// As it is on the disk.
    pub(crate) text: String,
    /// Parsed.
    pub(crate) ast: syn::File,
    /// Its tokens in order, without comments.
    pub(crate) tokens: Vec<Token>,
    /// Lines that are compiled for tests only.
    test_lines: Vec<RangeInclusive<usize>>,
    /// The whole file is test code.
    all_test: bool,
}

/// A token and where it is. Delimiters of groups are tokens too.
pub(crate) struct Token {
    /// As written.
    pub(crate) text: String,
    /// From 1.
    pub(crate) line: usize,
}

/// One `Cargo.toml`.
pub(crate) struct Manifest {
    /// From the root, with `/`.
    pub(crate) path: String,
    /// Parsed.
    pub(crate) table: toml::Table,
}

impl Tree {
    /// The workspace on the disk.
    pub(crate) fn workspace() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut files = Vec::new();
        for folder in ["crates", "tests", "fuzz"] {
            if root.join(folder).is_dir() {
                walk(&root.join(folder), folder, &mut files);
            }
        }
        for name in [
            "Cargo.toml",
            "README.md",
            "CONTRIBUTING.md",
            "ARCHITECTURE.md",
        ] {
            let text = std::fs::read_to_string(root.join(name)).expect(name);
            files.push((name.to_owned(), text));
        }
        let makefile = std::fs::read_to_string(root.join("Makefile")).expect("Makefile");
        Self::of(files, &makefile)
    }

    /// A tree of one file.
    pub(crate) fn example(path: &str, text: &str) -> Self {
        Self::of(
            vec![(path.to_owned(), text.to_owned())],
            "test: ## all tests\n",
        )
    }

    fn of(files: Vec<(String, String)>, makefile: &str) -> Self {
        let mut tree = Self {
            sources: vec![],
            manifests: vec![],
            documents: vec![],
            verbs: verbs(makefile),
        };
        for (path, text) in files {
            match path.rsplit_once('.').map(|(_, extension)| extension) {
                Some("rs") => tree.sources.push(Source::parse(path, text)),
                Some("toml") => {
                    let table = text.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
                    tree.manifests.push(Manifest { path, table });
                }
                _ => tree.documents.push((path, text)),
            }
        }
        mark_files_of_test_modules(&mut tree.sources);
        tree
    }
}

fn walk(folder: &Path, name: &str, files: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder was just listed")
        .map(|entry| entry.expect("a readable folder"))
        .collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let file = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{name}/{file}");
        if entry.path().is_dir() {
            if file != "target" && !file.starts_with('.') {
                walk(&entry.path(), &path, files);
            }
        } else if Path::new(&file).extension().is_some_and(|e| e == "rs") || file == "Cargo.toml" {
            files.push((path, std::fs::read_to_string(entry.path()).expect("UTF-8")));
        }
    }
}

/// The names at the start of `name: …` lines.
fn verbs(makefile: &str) -> Vec<String> {
    makefile
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .collect()
}

impl Source {
    fn parse(path: String, text: String) -> Self {
        let stream: TokenStream = text.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        let ast = syn::parse_file(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut finder = TestLines(Vec::new());
        finder.visit_file(&ast);
        let all_test = ["tests/", "examples/", "benches/", "fuzz/"]
            .iter()
            .any(|folder| path.starts_with(folder) || path.contains(&format!("/{folder}")))
            || path.ends_with("/tests.rs");
        Self {
            path,
            text,
            ast,
            tokens,
            test_lines: finder.0,
            all_test,
        }
    }

    /// Whether the line is compiled for tests only.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.all_test || self.test_lines.iter().any(|lines| lines.contains(&line))
    }

    /// Whether this file is the source of a binary beside a library.
    pub(crate) fn is_bin(&self) -> bool {
        self.path.contains("/src/bin/")
    }

    /// `path:line`.
    pub(crate) fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path)
    }

    /// Lines at which these tokens, in this order, end.
    pub(crate) fn find(&self, wanted: &[&str]) -> Vec<usize> {
        self.tokens
            .windows(wanted.len())
            .filter(|window| {
                window
                    .iter()
                    .zip(wanted)
                    .all(|(token, want)| token.text == *want)
            })
            .filter_map(|window| window.last())
            .map(|token| token.line)
            .collect()
    }
}

/// All tokens in order; `::` is one token, other punctuation one per character.
fn flatten(stream: TokenStream, out: &mut Vec<Token>) {
    for tree in stream {
        let span = tree.span();
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                out.push(Token {
                    text: open.to_owned(),
                    line: group.span_open().start().line,
                });
                flatten(group.stream(), out);
                out.push(Token {
                    text: close.to_owned(),
                    line: group.span_close().start().line,
                });
            }
            TokenTree::Punct(punct) => {
                let line = span.start().line;
                match out.last_mut() {
                    Some(last) if punct.as_char() == ':' && last.text == ":" => {
                        "::".clone_into(&mut last.text);
                    }
                    _ => out.push(Token {
                        text: punct.to_string(),
                        line,
                    }),
                }
            }
            TokenTree::Ident(ident) => {
                out.push(Token {
                    text: ident.to_string(),
                    line: span.start().line,
                });
            }
            TokenTree::Literal(literal) => {
                out.push(Token {
                    text: literal.to_string(),
                    line: span.start().line,
                });
            }
        }
    }
}

/// Whether the attributes keep an item out of every build but tests.
fn only_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_cfg_test = attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|ident| ident == "test");
        let last = attribute.path().segments.last();
        is_cfg_test || last.is_some_and(|segment| segment.ident == "test")
    })
}

struct TestLines(Vec<RangeInclusive<usize>>);

impl TestLines {
    fn note(&mut self, attributes: &[syn::Attribute], item: &impl Spanned) {
        if only_for_tests(attributes) {
            self.0
                .push(item.span().start().line..=item.span().end().line);
        }
    }
}

impl<'ast> Visit<'ast> for TestLines {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.note(&item.attrs, item);
        visit::visit_item_mod(self, item);
    }
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.attrs, item);
        visit::visit_item_fn(self, item);
    }
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note(&item.attrs, item);
    }
    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.note(&item.attrs, item);
        visit::visit_item_impl(self, item);
    }
    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.attrs, item);
        visit::visit_impl_item_fn(self, item);
    }
}

/// `#[cfg(test)] mod name;` makes test code of `name.rs` and of all below `name/`.
fn mark_files_of_test_modules(sources: &mut [Source]) {
    let mut folders = Vec::new();
    for source in sources.iter() {
        for item in &source.ast.items {
            let syn::Item::Mod(module) = item else {
                continue;
            };
            if module.content.is_none() && only_for_tests(&module.attrs) {
                let stem = source.path.trim_end_matches(".rs");
                let stem = stem.trim_end_matches("/lib").trim_end_matches("/main");
                folders.push(format!("{stem}/{}", module.ident));
            }
        }
    }
    for source in sources {
        let stem = source.path.trim_end_matches(".rs");
        source.all_test |= folders
            .iter()
            .any(|f| stem == f || stem.starts_with(&format!("{f}/")));
    }
}
