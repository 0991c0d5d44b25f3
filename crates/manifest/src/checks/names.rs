//! Names after the rules of Kubernetes, which are those of DNS.

const LABEL_BYTES_MAX: usize = 63;
/// The name of a `StatefulSet` with a dash and a hash of ten becomes the value of a label, of which there
/// are 63 bytes.
const CLUSTER_NAME_BYTES_MAX: usize = 52;

/// Why `name` cannot be the name of a cluster, or None.
pub(crate) fn bad_cluster_name(name: &str) -> Option<String> {
    if let Some(message) = bad_label(name) {
        return Some(message);
    }
    if name.len() > CLUSTER_NAME_BYTES_MAX {
        return Some(format!(
            "is {} characters long: at most {CLUSTER_NAME_BYTES_MAX}, so that Kubernetes can derive its own names",
            name.len()
        ));
    }
    // The name of a Service is a label of RFC 1035, which begins with a letter.
    (!name.starts_with(|c: char| c.is_ascii_lowercase()))
        .then(|| format!("is {name:?}: it must begin with a letter"))
}

/// Why `text` is no DNS label (RFC 1123), or None.
pub(crate) fn bad_label(text: &str) -> Option<String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.is_empty() {
        return Some("is empty".to_owned());
    }
    if !text.bytes().all(allowed) || text.starts_with('-') || text.ends_with('-') {
        return Some(format!(
            "is {:?}: write lower-case letters, digits and dashes, with no dash at either end",
            shortened(text)
        ));
    }
    (text.len() > LABEL_BYTES_MAX).then(|| {
        format!(
            "is {} characters long: at most {LABEL_BYTES_MAX}",
            text.len()
        )
    })
}

/// Why `text` cannot name a Kubernetes object such as a Secret (RFC 1123 subdomain), or None.
pub(crate) fn bad_object_name(text: &str) -> Option<String> {
    if text.len() > 253 {
        return Some("is longer than 253 characters".to_owned());
    }
    text.split('.').find_map(bad_label)
}

/// Why `text` cannot be a key of a Kubernetes Secret, or None.
pub(crate) fn bad_secret_key(text: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = !text.is_empty() && text.len() <= 253 && text.chars().all(allowed);
    // `.` and everything that begins with `..` cannot be files of a volume.
    (!fits || text == "." || text.starts_with("..")).then(|| {
        "is not the key of a Secret: write letters, digits, dashes, underscores and dots".to_owned()
    })
}

/// Why `text` cannot be the name of a user, or None. Narrower than the engines: it is also the name
/// of a file and of a key of a Secret.
pub(crate) fn bad_user_name(text: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() {
        return Some("is empty".to_owned());
    }
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    (!begins || !text.chars().all(allowed) || text.len() > LABEL_BYTES_MAX).then(|| {
        format!(
            "is {:?}: write at most 63 letters, digits, dashes, underscores and dots, beginning with a letter or digit",
            shortened(text)
        )
    })
}

/// Why `key` cannot be the key of a label or an annotation, or None.
pub(crate) fn bad_label_key(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let bad_prefix = prefix.is_some_and(|p| bad_object_name(p).is_some());
    (bad_prefix || name.is_empty() || !is_label_text(name)).then(|| {
        "is not a key for Kubernetes: write `name` or `example.com/name`, the name with at most 63 letters, digits, dashes, underscores and dots".to_owned()
    })
}

/// Why `value` cannot be the value of a label, or None.
pub(crate) fn bad_label_value(value: &str) -> Option<String> {
    (!is_label_text(value)).then(|| {
        "is not a value for a label: write at most 63 letters, digits, dashes, underscores and dots, with a letter or digit at either end".to_owned()
    })
}

fn is_label_text(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let at_ends = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || text.len() <= LABEL_BYTES_MAX
            && text.bytes().all(allowed)
            && text.starts_with(at_ends)
            && text.ends_with(at_ends)
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}
