//! The wire's types: they are converted where a message enters or leaves, and nothing behind that knows them.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;

use super::Measured;
use super::sources::{Line, Source};

/// Messages enter and leave here: the contract itself, sessions and uploads of a worker, services and the page of a coordinator,
/// and the crates that are clients of it.
const EDGE: [&str; 10] = [
    "proto/",
    "presigned/",
    "client/",
    "worker/src/session/",
    "worker/src/session.rs",
    "worker/src/upload/",
    "worker/src/upload.rs",
    "coordinator/src/service/",
    "coordinator/src/page/",
    "xtask/",
];

/// Counts `v1::` outside the edge.
pub(super) fn outside_the_edge(sources: &[Source]) -> Measured {
    let mut places = Vec::new();
    for source in sources.iter().filter(|source| !EDGE.iter().any(|edge| source.path.starts_with(edge))) {
        let mut found = Vec::new();
        collect(source.syntax.to_token_stream(), &mut found);
        let line = |number: usize| Line { path: source.path.clone(), number };
        places.extend(found.into_iter().map(|number| (line(number), "`v1::`".to_owned())));
    }
    Measured::counted("wire_types_outside_the_edge", places)
}

/// Collects the lines of `v1` followed by `::`, also within macros.
fn collect(tokens: TokenStream, found: &mut Vec<usize>) {
    let mut pending = None;
    for token in tokens {
        match token {
            TokenTree::Group(group) => collect(group.stream(), found),
            TokenTree::Ident(name) if name == "v1" => {
                pending = Some(name.span().start().line);
                continue;
            }
            TokenTree::Punct(mark) if mark.as_char() == ':' => found.extend(pending.take()),
            _ => {}
        }
        pending = None;
    }
}
