//! What the schema alone cannot say, as rules in the Common Expression Language.
//!
//! Only what never becomes right by itself: whoever makes one of these mistakes is told by `kubectl apply`. The operator
//! finds the same mistakes, as older versions of Kubernetes ask no such rule.

use serde_json::{Value, json};

use super::Cel;

/// A rule about the value at `path`; a name with `[]` is each item of a list. One with `oldSelf` holds for changes only.
pub(super) struct Rule {
    /// The names of the fields from the root.
    pub(super) path: &'static [&'static str],
    /// The field below `path` that is wrong, as `.rules`; empty for the value itself.
    field: &'static str,
    cel: String,
    message: &'static str,
}

impl Rule {
    fn new(path: &'static [&'static str], cel: impl Into<String>, message: &'static str) -> Self {
        Self {
            path,
            field: "",
            cel: cel.into(),
            message,
        }
    }

    /// The message is about this field below `path`.
    fn about(self, field: &'static str) -> Self {
        Self { field, ..self }
    }

    /// An item of `x-kubernetes-validations`. `fieldPath` is not known before Kubernetes 1.28.
    pub(super) fn validation(&self, cel: Cel) -> Value {
        let mut rule = json!({ "rule": self.cel, "message": self.message });
        if cel == Cel::With && !self.field.is_empty() {
            rule["fieldPath"] = json!(self.field);
        }
        rule
    }
}

/// The rules that an API server of this kind can compile.
pub(super) fn rules(cel: Cel) -> Vec<Rule> {
    match cel {
        Cel::Without => Vec::new(),
        Cel::WithoutQuantities | Cel::With => plain(),
    }
}

const SPEC: &[&str] = &["spec"];
const USER: &[&str] = &["spec", "users", "[]"];

fn plain() -> Vec<Rule> {
    let mut rules = vec![
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
            &["spec", "version"],
            "self.matches('^[0-9]{1,5}([.][0-9]{1,5}){0,2}$')",
            "write one to three numbers, such as \"7.0\" or \"9.1.0\"",
        ),
        Rule::new(
            &["spec", "storage"],
            "!has(self.recreateAfterSeconds) || (has(self.onUnreachable) && self.onUnreachable == 'RecreateAfter')",
            "recreateAfterSeconds says nothing without onUnreachable: RecreateAfter",
        )
        .about(".recreateAfterSeconds"),
        Rule::new(
            &["spec", "pod", "labels"],
            "!('app.kubernetes.io/name' in self) && !('app.kubernetes.io/instance' in self) && !('app.kubernetes.io/managed-by' in self) && !('app.kubernetes.io/component' in self)",
            "the labels app.kubernetes.io/name, instance, managed-by and component are set by Shardwright",
        ),
    ];
    rules.extend(of_users());
    rules
}

fn of_users() -> [Rule; 3] {
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
    ]
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
