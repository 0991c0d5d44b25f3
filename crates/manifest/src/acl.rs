//! The grammar of ACL rules, checked before a server sees them: a server with one bad rule in its
//! ACL file does not start. After <https://valkey.io/topics/acl/>, and tried on Redis 7.0 and
//! Valkey 9.1.

use crate::wire_words;

/// Every command and subcommand (`name` or `name|sub`) of Redis 7.0 and Valkey 8.0 and 9.1, as
/// `COMMAND LIST` tells them, one a line.
const COMMANDS: &str = include_str!("acl/commands.txt");

/// `ACL CAT` of the same engines.
const CATEGORIES: [&str; 21] = [
    "admin",
    "bitmap",
    "blocking",
    "connection",
    "dangerous",
    "fast",
    "geo",
    "hash",
    "hyperloglog",
    "keyspace",
    "list",
    "pubsub",
    "read",
    "scripting",
    "set",
    "slow",
    "sortedset",
    "stream",
    "string",
    "transaction",
    "write",
];

/// What the modules that come with Redis 8 add to `ACL CAT`.
const REDIS_8_CATEGORIES: [&str; 9] = [
    "bloom",
    "cms",
    "cuckoo",
    "json",
    "search",
    "tdigest",
    "timeseries",
    "topk",
    "vectorset",
];

/// The rules of a user, checked, in the order they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Whether the user may log in at all; `on` and `off` are not among the tokens.
    pub(crate) enabled: bool,
    /// Whether the user logs in with any password; `nopass` is not among the tokens.
    pub(crate) without_password: bool,
    /// The other rules, one each, selectors with their parentheses.
    pub(crate) tokens: Vec<String>,
}

/// What came of a check of rules.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) problems: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// Reads rules, as `~* &* +@all -@dangerous`. The result is of use only without problems.
pub(crate) fn parse(text: &str) -> (Rules, Verdict) {
    let mut rules = Rules {
        enabled: true,
        without_password: false,
        tokens: Vec::new(),
    };
    let mut verdict = Verdict::default();
    if text.chars().any(char::is_control) {
        let message = "must be one line, separated by blanks: line breaks, tabs and other control characters are not allowed";
        verdict.problems.push(message.to_owned());
        return (rules, verdict);
    }
    let mut root = Permissions::default();
    for token in tokens(text, &mut verdict) {
        user_rule(&token, &mut rules, &mut root, &mut verdict);
    }
    if rules.tokens.is_empty() && verdict.problems.is_empty() && text.trim().is_empty() {
        let message = "is empty: a user without rules may do nothing; write for example `~* &* +@all -@dangerous`";
        verdict.problems.push(message.to_owned());
    }
    (rules, verdict)
}

/// Splits at blanks and joins what stands between parentheses.
fn tokens(text: &str, verdict: &mut Verdict) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut open: Option<String> = None;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let joined = match open.take() {
            Some(selector) => format!("{selector} {word}"),
            None => word.to_owned(),
        };
        if joined.starts_with('(') && !joined.ends_with(')') {
            open = Some(joined);
        } else {
            found.push(joined);
        }
    }
    if let Some(selector) = open {
        let message = format!("`{selector}`: the selector has no closing parenthesis");
        verdict.problems.push(message);
    }
    found
}

/// What earlier rules of the same user or selector opened; the engines refuse to add to "all".
#[derive(Debug, Default)]
struct Permissions {
    all_keys: bool,
    all_channels: bool,
}

fn user_rule(token: &str, rules: &mut Rules, root: &mut Permissions, verdict: &mut Verdict) {
    let refuse = match token.to_ascii_lowercase().as_str() {
        "on" => {
            rules.enabled = true;
            return;
        }
        "off" => {
            rules.enabled = false;
            return;
        }
        "nopass" => {
            rules.without_password = true;
            return;
        }
        "sanitize-payload" | "skip-sanitize-payload" | "clearselectors" => {
            rules.tokens.push(token.to_owned());
            return;
        }
        "reset" => {
            Some("`reset`: would take away the password too; a user begins with no rights anyway")
        }
        "resetpass" => {
            Some("`resetpass`: would take away the password; to lock a user out, write `off`")
        }
        _ => match token.chars().next() {
            // The passwords themselves are not repeated in messages.
            Some('>' | '<') => Some(
                "a password (`>…` or `<…`) does not belong into a manifest: use passwordSecret or passwordHashes",
            ),
            Some('#' | '!') => Some(
                "a hash (`#…` or `!…`) does not belong here: list it in passwordHashes, without the `#`",
            ),
            _ => None,
        },
    };
    if let Some(message) = refuse {
        verdict.problems.push(message.to_owned());
        return;
    }
    if let Some(inner) = token.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
        let mut selector = Permissions::default();
        for rule in inner.split(' ').filter(|rule| !rule.is_empty()) {
            permission(rule, &mut selector, verdict);
        }
    } else {
        permission(token, root, verdict);
    }
    rules.tokens.push(token.to_owned());
}

/// A rule that a selector may hold too: keys, channels, commands, databases.
fn permission(rule: &str, state: &mut Permissions, verdict: &mut Verdict) {
    // Within a selector these are out of place; passwords are not repeated in messages.
    if rule.starts_with(['>', '<', '#', '!']) {
        let message =
            "a password or hash cannot stand within parentheses, nor in a manifest at all";
        verdict.problems.push(message.to_owned());
        return;
    }
    match rule.to_ascii_lowercase().as_str() {
        "allkeys" => state.all_keys = true,
        "resetkeys" => state.all_keys = false,
        "allchannels" => state.all_channels = true,
        "resetchannels" => state.all_channels = false,
        "allcommands" | "nocommands" => {}
        "alldbs" | "resetdbs" => verdict.warnings.push(format!(
            "`{rule}`: only Valkey 9.1 and later knows this rule; another server will not start with it"
        )),
        lower => match rule.split_at_checked(1) {
            Some(("~", pattern)) => keys(rule, pattern, state, verdict),
            Some(("%", rest)) => keys_with_access(rule, rest, state, verdict),
            Some(("&", pattern)) => {
                if state.all_channels && pattern != "*" {
                    verdict.problems.push(format!(
                        "`{rule}`: all channels are allowed already; write `resetchannels` before it or leave out `&*`"
                    ));
                }
                state.all_channels |= pattern == "*";
            }
            Some(("+" | "-", _)) => command_or_category(rule, &lower[..1], &lower[1..], verdict),
            _ => match lower.strip_prefix("db=") {
                Some(numbers) => databases(rule, numbers, verdict),
                None => verdict.problems.push(format!(
                    "`{rule}`: not an ACL rule; rules begin with ~ or % (keys), & (channels), + or - (commands), +@ or -@ (categories), or are words such as on, off, allkeys"
                )),
            },
        },
    }
}

fn keys(rule: &str, pattern: &str, state: &mut Permissions, verdict: &mut Verdict) {
    if state.all_keys && pattern != "*" {
        verdict.problems.push(format!(
            "`{rule}`: all keys are allowed already; write `resetkeys` before it or leave out `~*`"
        ));
    }
    state.all_keys |= pattern == "*";
}

/// `%R~pattern`, `%W~pattern`, `%RW~pattern`, in either case and order. `%RW~*` is a pattern like
/// any other for the engines, and not "all keys".
fn keys_with_access(rule: &str, rest: &str, state: &mut Permissions, verdict: &mut Verdict) {
    let access = rest
        .split_once('~')
        .map(|(access, _)| access.to_ascii_uppercase());
    if matches!(access.as_deref(), Some("R" | "W" | "RW" | "WR")) {
        keys(rule, "", state, verdict);
    } else {
        verdict.problems.push(format!(
            "`{rule}`: after % stands R, W or RW, then ~ and the pattern, as in `%R~cache:*`"
        ));
    }
}

fn databases(rule: &str, numbers: &str, verdict: &mut Verdict) {
    if numbers.split(',').all(|n| n.parse::<u32>().is_ok()) {
        verdict.warnings.push(format!(
            "`{rule}`: only Valkey 9.1 and later knows this rule; another server will not start with it"
        ));
    } else {
        let message = format!("`{rule}`: after db= stand numbers of databases, as in `db=0,1`");
        verdict.problems.push(message);
    }
}

fn command_or_category(rule: &str, sign: &str, name: &str, verdict: &mut Verdict) {
    if let Some(category) = name.strip_prefix('@') {
        if REDIS_8_CATEGORIES.contains(&category) {
            verdict.warnings.push(format!(
                "`{rule}`: only Redis 8 with its modules knows this category; another server will not start with it"
            ));
        } else if category != "all" && !CATEGORIES.contains(&category) {
            verdict.problems.push(format!(
                "`{rule}`: no such category; there are: all, {}",
                CATEGORIES.join(", ")
            ));
        }
        return;
    }
    let (command, argument) = match name.split_once('|') {
        Some((command, argument)) => (command, Some(argument)),
        None => (name, None),
    };
    let spelled = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        !text.is_empty() && text.chars().all(allowed)
    };
    if !spelled(command) || argument.is_some_and(|a| a.is_empty() || a.contains('|')) {
        verdict.problems.push(format!(
            "`{rule}`: not the name of a command; write `{sign}get`, `{sign}config|get` or `{sign}@read`"
        ));
        return;
    }
    // Modules name their commands with a dot, as json.get; which exist is theirs to know.
    if command.contains('.') {
        return;
    }
    if !is_command(command) || argument.is_some() && has_subcommands(command) && !is_command(name) {
        verdict.warnings.push(format!(
            "`{rule}`: neither Redis 7.0 nor Valkey 9.1 has this command; a server without it will not start"
        ));
    } else if argument.is_some() && !has_subcommands(command) {
        if sign == "-" {
            verdict.problems.push(format!(
                "`{rule}`: `{command}` has no subcommands, and a single first argument cannot be taken away"
            ));
        } else {
            verdict.warnings.push(format!(
                "`{rule}`: `{command}` has no subcommands; rules for a first argument are deprecated by the engines"
            ));
        }
    }
}

fn is_command(name: &str) -> bool {
    COMMANDS.lines().any(|known| known == name) || wire_words::COMMANDS.contains(&name)
}

fn has_subcommands(command: &str) -> bool {
    COMMANDS.lines().any(|known| {
        known
            .strip_prefix(command)
            .is_some_and(|rest| rest.starts_with('|'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        parse(text).1.problems
    }

    #[test]
    fn what_the_engines_take() {
        for text in [
            "~* &* +@all -@dangerous",
            "on ~cache:* %R~shared:* %rw~own:* &news.* +get +SET -config|set +@Read",
            "allkeys allchannels allcommands",
            "resetkeys ~a resetchannels &b nocommands",
            "%RW~* ~a ~* allkeys ~*",
            "~* resetkeys ~a",
            "+get (~a:* +set) (%W~b:* +@write -del) clearselectors",
            "()",
            "sanitize-payload skip-sanitize-payload off",
            "+json.get +ft.search",
        ] {
            let (_, verdict) = parse(text);
            assert!(
                verdict.problems.is_empty(),
                "{text}: {:?}",
                verdict.problems
            );
            assert!(
                verdict.warnings.is_empty(),
                "{text}: {:?}",
                verdict.warnings
            );
        }
    }

    #[test]
    fn on_off_and_nopass_are_states() {
        let (rules, _) = parse("on +get off nopass");
        let tokens = vec!["+get".to_owned()];
        assert_eq!(
            rules,
            Rules {
                enabled: false,
                without_password: true,
                tokens
            }
        );
    }

    #[test]
    fn what_the_engines_refuse() {
        for text in [
            "~* ~a",
            "allkeys ~a",
            "~* %R~a",
            "~* %RW~*",
            "&* &a",
            "%~a",
            "%RR~a",
            "%Ra",
            "+",
            "-",
            "+@",
            "+@nosuch",
            "+get|",
            "+a|b|c",
            "-get|x",
            "get",
            "(+get",
            "(+get (+set))",
            "(on +get)",
            "(>x +get)",
            "+ge t",
            "db=",
            "db=x",
            "\u{e4}",
        ] {
            assert!(!problems(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn passwords_are_refused_without_being_repeated() {
        for text in [">hunter2", "<hunter2", "(>hunter2)"] {
            let found = problems(text);
            assert_eq!(found.len(), 1, "{text}");
            assert!(!found[0].contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn unknown_commands_are_a_warning() {
        for text in [
            "+gett",
            "+config|nosuch",
            "+get|first",
            "alldbs",
            "+@search",
        ] {
            let (_, verdict) = parse(text);
            assert_eq!(
                (verdict.problems.len(), verdict.warnings.len()),
                (0, 1),
                "{text}"
            );
        }
    }
}
