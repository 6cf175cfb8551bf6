//! Somebody else's words: whatever they are, what is kept is short, obeyed by no terminal and no line of a log, and kept as it is
//! when it is cleaned again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nadgrid_core::text::{clean, nearest};

fuzz_target!(|input: (&str, u16, Vec<&str>)| {
    let (words, most, candidates) = input;
    let most = usize::from(most);
    let kept = clean(words, most);
    assert!(kept.chars().count() <= most.max(1), "{kept:?}");
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!kept.contains(obeyed), "{kept:?}");
    assert_eq!(clean(&kept, most.max(1)), kept);
    if let Some(found) = nearest(words, candidates.iter().copied()) {
        assert!(candidates.contains(&found));
    }
});
