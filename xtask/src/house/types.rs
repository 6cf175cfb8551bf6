//! Names of types: one that stands in two files means two things.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};
use syn::{Ident, ItemEnum, ItemStruct, ItemTrait, ItemType, ItemUnion};

use super::Measured;
use super::sources::{Line, Source};

/// Measures the share of type definitions, in percent, whose name another file defines too.
pub(super) fn shared_names(sources: &[Source]) -> Measured {
    let mut definitions: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
    for source in sources {
        let mut defined = Defined::default();
        defined.visit_file(&source.syntax);
        for name in defined.names {
            let line = name.span().start().line;
            definitions.entry(name.to_string()).or_default().entry(&source.path).or_insert(line);
        }
    }
    let all: usize = definitions.values().map(BTreeMap::len).sum();
    let shared = definitions.iter().filter(|(_, files)| files.len() > 1);
    let places = shared.flat_map(|(name, files)| {
        files.iter().map(move |(path, &number)| (Line { path: (*path).to_owned(), number }, name.clone()))
    });
    let places: Vec<(Line, String)> = places.collect();
    // In tenths of a percent, so that the bound can be read and written without noise.
    let percent = (1_000.0 * places.len() as f64 / all.max(1) as f64).round() / 10.0;
    Measured { key: "shared_type_names_percent".to_owned(), value: percent, places }
}

#[derive(Default)]
struct Defined {
    names: Vec<Ident>,
}

impl<'ast> Visit<'ast> for Defined {
    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        self.names.push(item.ident.clone());
    }

    fn visit_item_enum(&mut self, item: &'ast ItemEnum) {
        self.names.push(item.ident.clone());
        visit::visit_item_enum(self, item);
    }

    fn visit_item_union(&mut self, item: &'ast ItemUnion) {
        self.names.push(item.ident.clone());
    }

    fn visit_item_type(&mut self, item: &'ast ItemType) {
        self.names.push(item.ident.clone());
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.names.push(item.ident.clone());
        visit::visit_item_trait(self, item);
    }
}
