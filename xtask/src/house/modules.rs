//! Circles of modules: siblings, with all that is below them, that use each other.
//!
//! A module that uses what is below it, and the other way round, is Rust's way of splitting one thing into files and is no
//! circle. A name counts for the module that defines it, not for one that hands it on. Deliberately absent: what macros and
//! methods reach without naming a path.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::Span;
use syn::visit::{self, Visit};
use syn::{Item, ItemMod, ItemUse, Path, UseTree};

use super::Measured;
use super::sources::{Line, Source};

/// The names from a crate's root down to a module.
type ModulePath = Vec<String>;
/// Names that import each other are followed this far.
const MAX_HOPS: usize = 8;

/// Counts, for each crate, the modules that are part of a circle.
pub(super) fn circles(sources: &[Source]) -> Vec<Measured> {
    let mut packages: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for source in sources.iter().filter(|source| module_path(&source.path).is_some()) {
        packages.entry(source.package()).or_default().push(source);
    }
    packages.into_iter().map(|(package, sources)| measured(package, &sources)).collect()
}

fn measured(package: &str, sources: &[&Source]) -> Measured {
    let crate_modules = Modules::of(sources);
    let mut siblings: BTreeMap<ModulePath, Siblings> = BTreeMap::new();
    for source in sources {
        let own = module_path(&source.path).unwrap_or_default();
        let mut uses = Uses { modules: &crate_modules, here: own.clone(), found: Vec::new() };
        uses.visit_file(&source.syntax);
        for (target, span) in uses.found {
            let common = own.iter().zip(&target).take_while(|(left, right)| left == right).count();
            if let (Some(user), Some(used)) = (own.get(common), target.get(common)) {
                let line = Line { path: source.path.clone(), number: span.start().line };
                let edges = siblings.entry(own[..common].to_vec()).or_default();
                edges.entry(user.clone()).or_default().entry(used.clone()).or_insert(line);
            }
        }
    }
    let mut places = Vec::new();
    for (parent, edges) in &siblings {
        for (user, used) in edges {
            for (name, line) in used.iter().filter(|(name, _)| reaches(edges, name, user)) {
                let inside = if parent.is_empty() { String::new() } else { format!(" in {}", parent.join("::")) };
                places.push((line.clone(), format!("{user} uses {name}{inside}, which leads back to {user}")));
            }
        }
    }
    let in_circles = siblings.values().map(|edges| edges.keys().filter(|name| reaches(edges, name, name)).count());
    Measured { key: format!("modules_in_circles.{package}"), value: in_circles.sum::<usize>() as f64, places }
}

/// The modules that each module uses, with the first place where it does so.
type Siblings = BTreeMap<String, BTreeMap<String, Line>>;

/// Returns whether uses lead from one module to another.
fn reaches(edges: &Siblings, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        for used in edges.get(module).into_iter().flat_map(BTreeMap::keys) {
            if used == to {
                return true;
            }
            if seen.insert(used) {
                open.push(used);
            }
        }
    }
    false
}

/// The module that a file is: none for examples, build scripts and the like.
fn module_path(path: &str) -> Option<ModulePath> {
    let (_, inside) = path.split_once("/src/")?;
    let mut names: ModulePath = inside.strip_suffix(".rs")?.split('/').map(str::to_owned).collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        names.pop();
    }
    Some(names)
}

/// The names that each module of a crate defines and imports.
#[derive(Default)]
struct Modules {
    modules: BTreeMap<ModulePath, Scope>,
}

#[derive(Default)]
struct Scope {
    defined: BTreeSet<String>,
    imported: BTreeMap<String, ModulePath>,
    globs: Vec<ModulePath>,
}

impl Modules {
    fn of(sources: &[&Source]) -> Self {
        let mut modules = Self::default();
        for source in sources {
            let path = module_path(&source.path).unwrap_or_default();
            modules.take(&path, &source.syntax.items);
        }
        modules
    }

    fn take(&mut self, path: &ModulePath, items: &[Item]) {
        let mut scope = Scope::default();
        for item in items {
            match item {
                Item::Use(item) => {
                    each_import(&item.tree, &mut Vec::new(), &mut |import| match import.name {
                        Some(name) => drop(scope.imported.insert(name, import.path)),
                        None => scope.globs.push(import.path),
                    });
                }
                Item::Mod(ItemMod { ident, content: Some((_, items)), .. }) => {
                    self.take(&below(path, &ident.to_string()), items);
                }
                other => scope.defined.extend(name_of(other)),
            }
        }
        // main.rs and lib.rs are both the root.
        let own = self.modules.entry(path.clone()).or_default();
        own.defined.extend(scope.defined);
        own.imported.extend(scope.imported);
        own.globs.extend(scope.globs);
    }

    /// The module that defines what `path` names when `here` says it; none for another crate's, and for a module itself.
    fn resolve(&self, here: &ModulePath, path: &[String], hops: usize) -> Option<ModulePath> {
        if hops == 0 {
            return None;
        }
        let mut current = here.clone();
        let mut names = path.iter();
        let mut rooted = false;
        while let Some(name) = names.clone().next() {
            match name.as_str() {
                "crate" => current.clear(),
                "self" => {}
                "super" => drop(current.pop()),
                _ => break,
            }
            rooted = true;
            names.next();
        }
        while let Some(name) = names.next() {
            let inner = below(&current, name);
            if self.modules.contains_key(&inner) {
                current = inner;
                rooted = true;
                continue;
            }
            let scope = self.modules.get(&current)?;
            if scope.defined.contains(name) {
                return Some(current);
            }
            if let Some(import) = scope.imported.get(name) {
                let whole: Vec<String> = import.iter().chain(names).cloned().collect();
                return self.resolve(&current, &whole, hops - 1).or_else(|| rooted.then_some(current));
            }
            let through_globs = scope.globs.iter().find_map(|glob| {
                let whole: Vec<String> = glob.iter().chain([name]).cloned().collect();
                let found = self.resolve(&current, &whole, hops - 1)?;
                self.modules.get(&found)?.defined.contains(name).then_some(found)
            });
            return through_globs.or_else(|| rooted.then_some(current));
        }
        None
    }
}

/// Something that a `use` brings in: all names, where it has none of its own.
struct Import {
    name: Option<String>,
    path: ModulePath,
}

fn each_import(tree: &UseTree, before: &mut ModulePath, take: &mut impl FnMut(Import)) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            each_import(&path.tree, before, take);
            before.pop();
        }
        UseTree::Name(name) if name.ident == "self" => {
            take(Import { name: before.last().cloned(), path: before.clone() });
        }
        UseTree::Name(name) => {
            take(Import { name: Some(name.ident.to_string()), path: below(before, &name.ident.to_string()) });
        }
        UseTree::Rename(rename) => {
            take(Import { name: Some(rename.rename.to_string()), path: below(before, &rename.ident.to_string()) });
        }
        UseTree::Glob(_) => take(Import { name: None, path: before.clone() }),
        UseTree::Group(group) => group.items.iter().for_each(|tree| each_import(tree, before, take)),
    }
}

fn below(path: &ModulePath, name: &str) -> ModulePath {
    path.iter().cloned().chain([name.to_owned()]).collect()
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// Collects the modules that a file uses, each with where it does so.
struct Uses<'a> {
    modules: &'a Modules,
    here: ModulePath,
    found: Vec<(ModulePath, Span)>,
}

impl<'ast> Visit<'ast> for Uses<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.here.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.here.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        each_import(&item.tree, &mut Vec::new(), &mut |import| {
            let target = self.modules.resolve(&self.here, &import.path, MAX_HOPS);
            self.found.extend(target.map(|module| (module, item.use_token.span)));
        });
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let [first, _, ..] = path.segments.iter().collect::<Vec<_>>()[..] {
            let target = self.modules.resolve(&self.here, &names, MAX_HOPS);
            self.found.extend(target.map(|module| (module, first.ident.span())));
        }
        visit::visit_path(self, path);
    }
}
