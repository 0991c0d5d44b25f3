//! What the schema alone cannot say, as rules in the Common Expression Language.
//!
//! Only what never becomes right by itself: whoever makes one of these mistakes is told by `kubectl apply`. The operator
//! finds the same mistakes, as older versions of Kubernetes ask no such rule.

use serde_json::{Value, json};

use super::Cel;
use crate::config::MEMORY_LIMIT_BYTES_MIN;
use crate::limits::{STORAGE_BYTES_DEFAULT, STORAGE_BYTES_MIN};

/// A rule about the value at `path`. One with `oldSelf` holds for changes only.
pub(super) struct Rule {
    /// The path from the root, as [`crate::schema::at`] takes it.
    pub(super) path: &'static str,
    /// The field below `path` that is wrong, as `.rules`; empty for the value itself.
    field: &'static str,
    cel: String,
    message: &'static str,
    /// Whether the value may be a password: an API server repeats the text that it refuses, and writes it to its logs.
    secret: bool,
}

impl Rule {
    fn new(path: &'static str, cel: impl Into<String>, message: &'static str) -> Self {
        Self {
            path,
            field: "",
            cel: cel.into(),
            message,
            secret: false,
        }
    }

    /// The message is about this field below `path`.
    fn about(self, field: &'static str) -> Self {
        Self { field, ..self }
    }

    /// What is refused is not repeated.
    fn about_secrets(self) -> Self {
        Self {
            secret: true,
            ..self
        }
    }

    /// An item of `x-kubernetes-validations`. `fieldPath` and `reason` are not known before Kubernetes 1.28.
    pub(super) fn validation(&self, cel: Cel) -> Value {
        let mut rule = json!({ "rule": self.cel, "message": self.message });
        if cel == Cel::With && !self.field.is_empty() {
            rule["fieldPath"] = json!(self.field);
        }
        // The value goes with every reason but this one and `FieldValueRequired`.
        if cel == Cel::With && self.secret {
            rule["reason"] = json!("FieldValueForbidden");
        }
        rule
    }
}

/// The rules that an API server of this kind can compile.
pub(super) fn rules(cel: Cel) -> Vec<Rule> {
    match cel {
        Cel::Without => Vec::new(),
        Cel::WithoutQuantities => plain(),
        Cel::With => {
            let mut rules = plain();
            rules.extend(of_quantities());
            rules
        }
    }
}

const SPEC: &str = "spec";
const USER: &str = "spec.users[]";
const RULES: &str = "spec.users[].rules";
const SIZE: &str = "spec.storage.size";
const MEMORY_LIMIT: &str = "spec.resources.limits.memory";

/// An amount above zero, as a number or as text. An API server takes such a field for as long as a whole request, so the
/// cost of a rule about it grows with the length of its pattern: there is room for about 120 characters.
const POSITIVE: &str = "type(self) == int ? self > 0 : self.matches('^[+]?([0-9]*[1-9][0-9]*([.][0-9]*)?|[0-9]*[.][0-9]*[1-9][0-9]*)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$')";

fn plain() -> Vec<Rule> {
    let mut rules = vec![
        Rule::new(
            "",
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name: write lower-case letters, digits and dashes, beginning with a letter and with no dash at the end",
        ),
        Rule::new(
            SPEC,
            "(has(self.storage) && has(self.storage.storageClassName) ? self.storage.storageClassName : '') == (has(oldSelf.storage) && has(oldSelf.storage.storageClassName) ? oldSelf.storage.storageClassName : '')",
            "storage.storageClassName cannot be changed: make another cluster and move the data",
        )
        .about(".storage.storageClassName"),
        Rule::new(
            SPEC,
            format!(
                "!({} == 'valkey' && {} == 'redis')",
                engine_of("oldSelf"),
                engine_of("self")
            ),
            "a Valkey cluster cannot become a Redis one: Redis does not read its files (without an engine and an image it is Valkey, but for a version before 7.2)",
        )
        .about(".engine"),
        Rule::new(
            "spec.version",
            "self.matches('^[0-9]{1,5}([.][0-9]{1,5}){0,2}$')",
            "write one to three numbers, such as \"7.0\" or \"9.1.0\"",
        ),
        Rule::new(
            "spec.storage",
            "!has(self.recreateAfterSeconds) || (has(self.onUnreachable) && self.onUnreachable == 'RecreateAfter')",
            "recreateAfterSeconds says nothing without onUnreachable: RecreateAfter",
        )
        .about(".recreateAfterSeconds"),
        Rule::new(
            "spec.pod.labels",
            "!('app.kubernetes.io/name' in self) && !('app.kubernetes.io/instance' in self) && !('app.kubernetes.io/managed-by' in self) && !('app.kubernetes.io/component' in self)",
            "the labels app.kubernetes.io/name, instance, managed-by and component are set by Shardwright",
        ),
    ];
    rules.extend(of_users());
    let amounts = [
        SIZE,
        MEMORY_LIMIT,
        "spec.resources.limits.cpu",
        "spec.resources.requests.memory",
        "spec.resources.requests.cpu",
    ];
    rules.extend(amounts.map(|path| {
        let message = "write a number above 0 and a unit, such as 500m, 50Mi, 2Gi (binary) or 500M, 2G (decimal)";
        Rule::new(path, POSITIVE, message)
    }));
    rules
}

fn of_users() -> [Rule; 5] {
    [
        Rule::new(
            USER,
            "self.name in ['default', 'replication', 'shardwright'] || has(self.rules)",
            "rules is missing: say what the user may do, for example `~* &* +@all -@dangerous`",
        )
        .about(".rules"),
        Rule::new(
            USER,
            "!(self.name in ['replication', 'shardwright']) || !has(self.rules)",
            "the rules of `replication` and `shardwright` are Shardwright's own: leave the field out",
        )
        .about(".rules"),
        Rule::new(
            USER,
            "!(self.name in ['replication', 'shardwright']) || !has(self.passwordHashes) || self.passwordHashes.size() == 0",
            "Shardwright has to know the passwords of `replication` and `shardwright` themselves: use passwordSecret",
        )
        .about(".passwordHashes"),
        // At the door: what is stored is in the history of the object too.
        Rule::new(
            RULES,
            "!self.matches('(^|[[:space:](])[<>#!]')",
            "a password or the hash of one does not belong into the rules: use passwordSecret or passwordHashes",
        )
        .about_secrets(),
        Rule::new(
            RULES,
            "!self.matches('[[:cntrl:]]')",
            "the rules are one line, separated by blanks",
        )
        .about_secrets(),
    ]
}

/// What needs functions about amounts. What is no amount has its own rule, and may be replaced by one that is.
fn of_quantities() -> [Rule; 5] {
    let size = |spec: &str| {
        let unsaid = in_units(STORAGE_BYTES_DEFAULT);
        format!("(has({spec}.storage) ? string({spec}.storage.size) : '{unsaid}')")
    };
    [
        Rule::new(
            SPEC,
            is_at_least(&size("self"), &size("oldSelf")),
            "a volume cannot shrink: leave storage.size at what it was (8Gi where nothing was said), or make another cluster and move the data",
        )
        .about(".storage.size"),
        Rule::new(
            SIZE,
            is_at_least("string(self)", &format!("'{}'", in_units(STORAGE_BYTES_MIN))),
            "is less than 1Mi, as a number without a unit is bytes: write for example 5Gi",
        ),
        Rule::new(
            MEMORY_LIMIT,
            is_at_least(
                "string(self)",
                &format!("'{}'", in_units(MEMORY_LIMIT_BYTES_MIN)),
            ),
            "a node needs 64Mi at least, of which its data may have half",
        ),
        requested_within_limits("memory", "requests.memory is more than limits.memory")
            .about(".requests.memory"),
        requested_within_limits("cpu", "requests.cpu is more than limits.cpu")
            .about(".requests.cpu"),
    ]
}

/// That the text `this` is no smaller an amount than `that`, or one of them is no amount.
fn is_at_least(this: &str, that: &str) -> String {
    format!(
        "!isQuantity({this}) || !isQuantity({that}) || quantity({this}).compareTo(quantity({that})) >= 0"
    )
}

fn requested_within_limits(what: &str, message: &'static str) -> Rule {
    let (limit, request) = (
        format!("self.limits.{what}"),
        format!("self.requests.{what}"),
    );
    let within = is_at_least(&format!("string({limit})"), &format!("string({request})"));
    let unsaid =
        format!("!has(self.limits) || !has({limit}) || !has(self.requests) || !has({request})");
    Rule::new("spec.resources", format!("{unsaid} || {within}"), message)
}

/// Bytes in the largest binary unit that divides them.
fn in_units(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 30) {
        format!("{}Gi", bytes >> 30)
    } else {
        format!("{}Mi", bytes >> 20)
    }
}

/// The engine that a `spec` asks for: as in the pods, the named one, else that of the usual image of its version.
/// Empty where an image is named and no engine: what is in an image is not known here.
fn engine_of(spec: &str) -> String {
    // A version before 7.2; "7" alone is any 7, the newest of them.
    let before_valkey = "^0*([0-6]|7[.]0*[01])([.]|$)";
    format!(
        "(has({spec}.engine) ? {spec}.engine : has({spec}.image) ? '' : has({spec}.version) && {spec}.version.matches('{before_valkey}') ? 'redis' : 'valkey')"
    )
}
