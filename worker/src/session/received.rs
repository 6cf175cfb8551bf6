//! The coordinator's messages, made harmless where they enter: a coordinator may be hostile.
//!
//! Its words reach logs, which are read on terminals, and it decides what is held in memory. What an honest coordinator sends stays
//! as it is. Deliberately absent: judgement of what is asked; a shard is understood by its slot.

use nadgrid_core::spec::MAX_SPEC_BYTES;
use nadgrid_core::text::clean;
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_response::Message;

/// Characters of an id, a name, a digest or a version; of a path; of a sentence.
const NAME: usize = 256;
const PATH: usize = 4_096;
const SENTENCE: usize = 4_096;
/// The most files of a shard.
const FILES: usize = 1_024;

/// The message of a response, if it has one.
pub(super) fn cleaned(response: v1::SessionResponse) -> Option<Message> {
    let mut message = response.message?;
    match &mut message {
        Message::Welcome(welcome) => text(&mut welcome.coordinator_version, NAME),
        Message::Assignment(assigned) => assignment(assigned),
        Message::Revocation(revocation) => {
            shard(&mut revocation.shard);
            text(&mut revocation.reason, SENTENCE);
        }
        Message::Answer(answer) => {
            shard(&mut answer.shard);
            text(&mut answer.message, SENTENCE);
        }
    }
    Some(message)
}

fn assignment(assigned: &mut v1::Assignment) {
    shard(&mut assigned.shard);
    for name in [&mut assigned.architecture, &mut assigned.experiment, &mut assigned.traceparent] {
        text(name, NAME);
    }
    shorten(&mut assigned.spec);
    assigned.inputs.truncate(FILES);
    for input in &mut assigned.inputs {
        text(&mut input.role, NAME);
        text(&mut input.name, PATH);
        text(&mut input.digest, NAME);
    }
}

/// A spec that is too long is refused when it is read: what is kept of it is just too long.
fn shorten(spec: &mut String) {
    if spec.len() > MAX_SPEC_BYTES {
        let end = (MAX_SPEC_BYTES + 1..=spec.len()).find(|&end| spec.is_char_boundary(end));
        spec.truncate(end.unwrap_or(MAX_SPEC_BYTES));
    }
}

fn shard(shard: &mut Option<v1::Shard>) {
    if let Some(shard) = shard {
        text(&mut shard.sweep_id, NAME);
    }
}

fn text(text: &mut String, most: usize) {
    *text = clean(text, most);
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_core::spec::Spec;

    fn assigned(assignment: v1::Assignment) -> v1::Assignment {
        match cleaned(v1::SessionResponse { message: Some(Message::Assignment(assignment)) }) {
            Some(Message::Assignment(assignment)) => assignment,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_word_of_a_coordinator_forges_a_line_of_the_log() {
        let paint = || "\u{1b}[2J\u{7}\r\n2026-01-01 ERROR forged\u{202e}".to_owned();
        let shard = || Some(v1::Shard { sweep_id: paint(), ..Default::default() });
        let input = v1::ShardInput { role: paint(), name: paint(), size: 1, digest: paint() };
        let assignment = v1::Assignment {
            shard: shard(),
            architecture: paint(),
            experiment: paint(),
            inputs: vec![input],
            traceparent: paint(),
            ..Default::default()
        };
        for message in [
            Message::Welcome(v1::Welcome { coordinator_version: paint(), ..Default::default() }),
            Message::Assignment(assignment),
            Message::Revocation(v1::Revocation { shard: shard(), reason: paint() }),
            Message::Answer(v1::Answer { shard: shard(), message: paint(), ..Default::default() }),
        ] {
            let cleaned = format!("{:?}", cleaned(v1::SessionResponse { message: Some(message) }));
            let escapes = ["\\u{1b}", "\\u{7}", "\\r", "\\n", "\\u{202e}"];
            assert!(cleaned.contains("forged") && !escapes.iter().any(|escape| cleaned.contains(escape)), "{cleaned}");
        }
        assert!(cleaned(v1::SessionResponse::default()).is_none());
    }

    #[test]
    fn what_is_held_in_memory_is_bounded() {
        let long = v1::Assignment {
            spec: "é".repeat(MAX_SPEC_BYTES),
            inputs: vec![v1::ShardInput::default(); 10 * FILES],
            ..Default::default()
        };
        let cut = assigned(long);
        assert_eq!((cut.spec.len(), cut.inputs.len()), (MAX_SPEC_BYTES + 2, FILES));
        assert!(
            Spec::from_toml(&cut.spec)
                .unwrap_err()
                .to_string()
                .contains(&format!("at most {MAX_SPEC_BYTES} are accepted"))
        );
        let spec = "name = 'x'\n# ü\n".to_owned();
        assert_eq!(assigned(v1::Assignment { spec: spec.clone(), ..Default::default() }).spec, spec);
    }
}
