use super::*;
use clap::{Args, Command, FromArgMatches};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;

configuration! {
    /// A configuration with a key of every form.
    struct Sample {
        /// Seconds that something may take.
        patience: f64, default(30.0), "SECONDS", [Range::seconds(1.0, 60.0).or_zero_for("never")];
        /// Shards computed at once.
        slots: Option<u32> as u32, absent("one for each core"), "N", [Range::of(1.0, 64.0)];
        /// Whether anybody may connect.
        open: bool, switch, "", [any];
        /// Whether requests are signed.
        signed: bool, default(true), "BOOL", [any];
        /// The folder of everything.
        data: String, shown("here", ".".to_owned()), "DIR", [any];
        /// The letter that comes first.
        letter: char, default('a'), "LETTER", [any], with "parsed";
    } besides {
        /// Other numbers.
        others: Vec<u32>;
    } variables {
        /// A word that no file holds.
        secret: Option<String>;
    }
}

fn load_sample(file: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Result<Sample, ConfigurationError> {
    let mut written = tempfile::NamedTempFile::new().unwrap();
    written.write_all(file.as_bytes()).unwrap();
    let command = KeyFlags::<Sample>::augment_args(Command::new("sample"));
    let matches = command.get_matches_from(["sample"].iter().chain(arguments));
    let mut flags = KeyFlags::<Sample>::from_arg_matches(&matches).unwrap();
    flags.file = Some(written.path().to_owned());
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    load(&flags, &Sample::variables(variables), &[])
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let file = "patience = 2\nslots = 2\ndata = 'there'\nothers = [1]";
    let variables = [("NADGRID_SLOTS", "3"), ("NADGRID_PATIENCE", "3")];
    let loaded = load_sample(file, &variables, &["--patience", "4", "--open"]).unwrap();
    assert_eq!((loaded.patience, loaded.slots, loaded.open, loaded.signed), (4.0, Some(3), true, true));
    assert_eq!((loaded.data.as_str(), loaded.letter, loaded.others.as_slice()), ("there", 'a', [1].as_slice()));
    assert_eq!(load_sample("", &[], &[]).unwrap(), Sample::default());
}

#[test]
fn what_is_wrong_is_named_with_its_value_and_what_is_accepted() {
    let said = |file: &str, variables: &[(&str, &str)]| load_sample(file, variables, &[]).unwrap_err().to_string();
    assert!(said("slotz = 2", &[]).contains("unknown key `slotz`; did you mean `slots`?; known are patience, slots"));
    assert_eq!(said("patience = 61", &[]), "patience = 61: a number of seconds from 1 to 60, or 0 for never");
    assert_eq!(said("", &[("NADGRID_SLOTS", "0")]), "slots = 0: from 1 to 64");
    assert!(said("", &[("NADGRID_SLOTS", "many")]).starts_with("slots = many: "));
    assert!(said("", &[("NADGRID_LETTER", "ab")]).starts_with("letter = ab: "));
    assert!(said("", &[("NADGRID_PATIENCE", "s3://me:secret@there")]).starts_with("patience: "));
    assert!(said("data =", &[]).contains("/"));
}

#[test]
fn a_flag_shows_its_meaning_and_its_default() {
    let help = KeyFlags::<Sample>::augment_args(Command::new("sample")).render_help().to_string();
    assert!(
        help.contains("--slots <N>") && help.contains("Shards computed at once. [default: one for each core]"),
        "{help}"
    );
    let wrong =
        KeyFlags::<Sample>::augment_args(Command::new("sample")).try_get_matches_from(["sample", "--slots", "x"]);
    assert!(wrong.unwrap_err().to_string().contains("--slots"));
    assert!(reference(&Sample::keys()).contains("| `open` | `--open` |  | Whether anybody may connect. |"));
}

#[test]
fn booleans_of_variables_are_written_in_any_usual_way() {
    for (text, value) in [("1", true), ("yes", true), ("True", true), ("0", false), ("no", false), ("false", false)] {
        assert_eq!(load_sample("", &[("NADGRID_OPEN", text)], &[]).unwrap().open, value, "{text}");
        assert_eq!(boolean(text), Some(value));
    }
    assert_eq!(boolean("perhaps"), None);
}

#[test]
fn variables_of_others_are_let_be_and_a_misspelt_one_is_a_warning() {
    let foreign = ["NADGRID_PORT", "NADGRID_SERVICE_HOST", "NADGRID_PORT_7400_TCP_ADDR", "NADGRID_LEASE_TTL", "HOME"];
    let all = foreign.map(|name| (OsString::from(name), OsString::from("tcp://10.0.0.1:80")));
    let read = Variables::read(all, &["slots", "patience", "out", "log"]);
    assert!(read.warnings().is_empty(), "{:?}", read.warnings());
    let read = Variables::read([("NADGRID_SLOTZ".into(), "1".into())], &["slots"]);
    assert_eq!(read.warnings(), ["the variable NADGRID_SLOTZ is not read; did you mean NADGRID_SLOTS?"]);
    assert_eq!(read.get("slots"), None);
}

#[test]
fn variables_that_are_no_utf8_do_not_matter() {
    let odd = || OsString::from_vec(vec![b'N', 0xff]);
    let read =
        Variables::read([(odd(), "1".into()), ("OTHER".into(), odd()), ("NADGRID_DATA".into(), odd())], &["data"]);
    assert_eq!(read.get("data"), Some("N\u{fffd}"));
}
