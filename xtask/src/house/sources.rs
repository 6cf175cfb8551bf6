//! The files of the working tree that are looked at: tracked ones, read once, Rust parsed once and without its tests.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, Block, File, ImplItem, Item, ItemImpl, ItemMod, Stmt, TraitItem};

/// A build or a test leaves these folders behind; git ignores them, and a walk must.
const UNTRACKED: [&str; 8] =
    ["target", ".git", ".libtorch", "out", "node_modules", "__pycache__", ".pytest_cache", ".venv"];
/// The style of generated code is its generator's.
const GENERATED: [&str; 2] = ["proto/src/gen/", "python/src/nadgrid/v1/"];

/// A tracked file.
pub(super) struct Tracked {
    /// The path from the root of the working tree, with slashes.
    pub(super) path: String,
    /// The content of a text file that people wrote; none for other files.
    pub(super) text: Option<String>,
}

impl Tracked {
    pub(super) fn extension(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(_, extension)| extension)
    }
}

/// A file of Rust that users run, without the tests it contains.
pub(super) struct Source {
    pub(super) path: String,
    pub(super) syntax: File,
}

impl Source {
    /// The crate's folder.
    pub(super) fn package(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }
}

/// A line of a file, as editors and terminals take it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    pub(super) path: String,
    pub(super) number: usize,
}

/// All tracked files under `root`; where there is no git, every file that no build made.
pub(super) fn tracked(root: &Path) -> Result<Vec<Tracked>> {
    let paths = match listed_by_git(root) {
        Some(paths) => paths,
        None => walked(root)?,
    };
    let mut files = Vec::new();
    for path in paths {
        // A tracked file may be deleted and not yet staged.
        if root.join(&path).is_file() {
            let text = is_prose_or_code(&path).then(|| std::fs::read_to_string(root.join(&path))).transpose();
            let text = text.with_context(|| format!("cannot read {path}"))?;
            files.push(Tracked { path, text });
        }
    }
    Ok(files)
}

fn listed_by_git(root: &Path) -> Option<BTreeSet<String>> {
    let listed = Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output().ok()?;
    let names = String::from_utf8(listed.stdout).ok()?;
    let paths: BTreeSet<String> = names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    (listed.status.success() && !paths.is_empty()).then_some(paths)
}

fn walked(root: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !UNTRACKED.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if let Ok(relative) = path.strip_prefix(root) {
                found.insert(relative.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    Ok(found)
}

fn is_prose_or_code(path: &str) -> bool {
    let written = [".rs", ".py", ".md"].iter().any(|extension| path.ends_with(extension));
    written && !GENERATED.iter().any(|folder| path.starts_with(folder)) && !path.starts_with("fuzz/corpus/")
}

/// The Rust that users run, parsed.
pub(super) fn parsed(files: &[Tracked]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for file in files {
        let Some(text) = file.text.as_ref().filter(|_| file.extension() == "rs" && !is_test_path(&file.path)) else {
            continue;
        };
        let mut syntax = syn::parse_file(text).with_context(|| format!("cannot parse {}", file.path))?;
        WithoutTests.visit_file_mut(&mut syntax);
        sources.push(Source { path: file.path.clone(), syntax });
    }
    Ok(sources)
}

/// Whether a file holds tests only, or targets of the fuzzer.
fn is_test_path(path: &str) -> bool {
    let folders = ["tests/", "fuzz/"];
    folders.iter().any(|folder| path.starts_with(folder)) || path.contains("/tests/") || path.ends_with("tests.rs")
}

/// It removes the items that are compiled for tests only.
struct WithoutTests;

impl VisitMut for WithoutTests {
    fn visit_file_mut(&mut self, file: &mut File) {
        file.items.retain(is_kept);
        visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, module: &mut ItemMod) {
        if let Some((_, items)) = &mut module.content {
            items.retain(is_kept);
        }
        visit_mut::visit_item_mod_mut(self, module);
    }

    fn visit_item_impl_mut(&mut self, block: &mut ItemImpl) {
        block.items.retain(|item| match item {
            ImplItem::Const(item) => !is_test_only(&item.attrs),
            ImplItem::Fn(item) => !is_test_only(&item.attrs),
            _ => true,
        });
        visit_mut::visit_item_impl_mut(self, block);
    }

    fn visit_item_trait_mut(&mut self, item: &mut syn::ItemTrait) {
        item.items.retain(|item| !matches!(item, TraitItem::Fn(method) if is_test_only(&method.attrs)));
        visit_mut::visit_item_trait_mut(self, item);
    }

    fn visit_block_mut(&mut self, block: &mut Block) {
        block.stmts.retain(|statement| !matches!(statement, Stmt::Item(item) if !is_kept(item)));
        visit_mut::visit_block_mut(self, block);
    }
}

fn is_kept(item: &Item) -> bool {
    let attributes = match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return true,
    };
    !is_test_only(attributes)
}

/// Whether attributes include `#[test]`, `#[cfg(test)]` or `#[cfg(all(test, ...))]`.
fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Ok(condition) = attribute.meta.require_list() else { return attribute.path().is_ident("test") };
        let condition = condition.tokens.to_string();
        attribute.path().is_ident("cfg") && (condition == "test" || condition.replace(' ', "").starts_with("all(test,"))
    })
}
