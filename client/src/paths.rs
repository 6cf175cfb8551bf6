//! Names of files below a result folder: they come over the wire and must not lead out of it.

use std::path::{Component, Path};

/// Whether `name` is a plain relative path, such as `nads/lenet/nads.npy`: no `..`, no root, nothing hidden.
pub(crate) fn is_plain(name: &str) -> bool {
    let plain = |part: Component<'_>| match part {
        Component::Normal(part) => part.to_str().is_some_and(|part| !part.starts_with('.')),
        _ => false,
    };
    !name.is_empty() && !name.contains(['\\', '\0', '\n']) && Path::new(name).components().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_below_the_folder_are_plain() {
        for name in ["sweep.json", "nads/lenet/nads.npy"] {
            assert!(is_plain(name), "{name}");
        }
        for name in ["", "/etc/passwd", "../x", "nads/../../x", "./x", ".nadgrid-1/x", "nads/.x", "a\\b", "a\nb"] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
