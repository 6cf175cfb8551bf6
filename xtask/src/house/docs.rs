//! Doc comments that are no sentences: fragments ("Which.", "By whom.", "Bytes read."), and clauses without a main clause ("What the
//! worker sends to it, in bytes.").
//!
//! Deliberately absent: grammar. A fragment is short, begins with no article, and no word of it looks like a verb. A clause begins
//! with a question word.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Lit, Meta};

use super::Measured;
use super::sources::{Line, Source};

/// "Whether" is not among them: it begins the comments of bools in the standard library too.
const QUESTIONS: [&str; 10] = ["which", "who", "whom", "whose", "what", "where", "when", "why", "how", "whoever"];
const PREPOSITIONS: [&str; 17] = [
    "about", "after", "as", "at", "before", "by", "for", "from", "in", "of", "on", "per", "since", "through", "to",
    "until", "with",
];
/// Verbs that do not end as most of the third person do, and imperatives of commands.
const VERBS: [&str; 44] = [
    "is", "are", "was", "were", "has", "have", "had", "can", "may", "must", "will", "does", "do", "did", "needs",
    "add", "ask", "begin", "build", "cancel", "check", "compare", "do", "draw", "end", "fetch", "get", "give", "keep",
    "let", "list", "make", "measure", "pause", "print", "read", "remove", "resume", "run", "send", "show", "start",
    "stop", "write",
];
/// A noun with an article is a label, as the standard library has it: "The worker's name."
const ARTICLES: [&str; 11] = ["a", "all", "an", "each", "every", "its", "no", "one", "the", "their", "this"];
/// A phrase of as many words needs no verb to say something.
const ENOUGH_WORDS: usize = 5;

/// The flaw of a doc comment's first sentence.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    Fragment,
    Clause,
}

/// Counts the fragments and the clauses of each crate.
pub(super) fn incomplete(sources: &[Source]) -> Vec<Measured> {
    let mut counts: BTreeMap<String, Vec<(Line, String)>> = BTreeMap::new();
    for source in sources {
        let mut docs = Docs::default();
        docs.visit_file(&source.syntax);
        for (number, sentence) in docs.finish() {
            let group = match flaw(&sentence) {
                Some(Flaw::Fragment) => "doc_fragments",
                Some(Flaw::Clause) => "doc_clauses",
                None => continue,
            };
            let line = Line { path: source.path.clone(), number };
            counts.entry(format!("{group}.{}", source.package())).or_default().push((line, format!("{sentence:?}")));
        }
    }
    counts.into_iter().map(|(key, places)| Measured::counted(&key, places)).collect()
}

/// Collects the first sentences of doc comments.
#[derive(Default)]
struct Docs {
    /// Lines of comments in their order, each with its number.
    lines: Vec<(usize, String)>,
}

impl Docs {
    /// The first sentence of each comment, with the number of the line where it begins.
    fn finish(self) -> Vec<(usize, String)> {
        let mut comments: Vec<(usize, usize, String)> = Vec::new();
        for (number, text) in self.lines {
            match comments.last_mut() {
                Some((_, last, comment)) if *last + 1 == number => {
                    *last = number;
                    comment.push('\n');
                    comment.push_str(text.trim());
                }
                _ => comments.push((number, number, text.trim().to_owned())),
            }
        }
        comments.into_iter().map(|(first, _, comment)| (first, first_sentence(&comment))).collect()
    }
}

impl<'ast> Visit<'ast> for Docs {
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::NameValue(pair) = &attribute.meta
            && pair.path.is_ident("doc")
            && let Expr::Lit(literal) = &pair.value
            && let Lit::Str(text) = &literal.lit
        {
            self.lines.push((text.span().start().line, text.value()));
        }
        visit::visit_attribute(self, attribute);
    }
}

fn first_sentence(comment: &str) -> String {
    let paragraph = comment.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    match paragraph.find(". ") {
        Some(end) => paragraph[..=end].to_owned(),
        None => paragraph,
    }
}

fn flaw(sentence: &str) -> Option<Flaw> {
    // A shape or a formula.
    if !sentence.starts_with(char::is_alphabetic) {
        return None;
    }
    let words: Vec<String> = sentence
        .split_whitespace()
        .map(|word| word.trim_matches(|mark: char| !mark.is_alphanumeric()).to_lowercase())
        .filter(|word| !word.is_empty())
        .collect();
    let first = words.first().map_or("", String::as_str);
    let second = words.get(1).map_or("", String::as_str);
    let is_short = words.len() < ENOUGH_WORDS;
    let begins_with_question =
        QUESTIONS.contains(&first) || PREPOSITIONS.contains(&first) && QUESTIONS.contains(&second);
    if begins_with_question {
        return Some(if is_short { Flaw::Fragment } else { Flaw::Clause });
    }
    (is_short && !ARTICLES.contains(&first) && !has_verb(&words)).then_some(Flaw::Fragment)
}

fn has_verb(words: &[String]) -> bool {
    let plain = words.iter().any(|word| VERBS.contains(&word.as_str()));
    // "Returns the name", not "Bytes of the name".
    let first_is_verb = words.first().is_some_and(|word| word.ends_with('s'))
        && words.get(1).is_some_and(|word| !PREPOSITIONS.contains(&word.as_str()));
    plain || first_is_verb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_and_clauses_are_told_from_sentences() {
        for fragment in ["Which.", "By whom.", "What it costs.", "Bytes of weights.", "Only these"] {
            assert_eq!(flaw(fragment), Some(Flaw::Fragment), "{fragment}");
        }
        for clause in ["What the worker sends to it, in bytes.", "Of which the whole is a part."] {
            assert_eq!(flaw(clause), Some(Flaw::Clause), "{clause}");
        }
        for sentence in
            ["Returns the name.", "The bytes received.", "It is empty.", "Run the example", "`[row][column]`."]
        {
            assert_eq!(flaw(sentence), None, "{sentence}");
        }
    }

    #[test]
    fn the_first_sentence_ends_with_its_paragraph() {
        assert_eq!(first_sentence("One\nline. Another."), "One line.");
        assert_eq!(first_sentence("A title\n\nAnd a text."), "A title");
    }

    #[test]
    fn comments_are_told_apart_by_their_lines() {
        let file = "/// First.\n/// Second.\nstruct A {\n    /// Third.\n    a: u8,\n}\n";
        let mut docs = Docs::default();
        docs.visit_file(&syn::parse_file(file).unwrap());
        assert_eq!(docs.finish(), [(1, "First.".to_owned()), (4, "Third.".to_owned())]);
    }
}
