use super::*;
use nadgrid_configuration::{Configuration, is_current};
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

fn loaded(
    file: Option<&str>,
    variables: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Result<WorkerConfig, ConfigurationError> {
    let stored = file.map(|text| {
        let mut stored = tempfile::NamedTempFile::new().expect("a file");
        stored.write_all(text.as_bytes()).expect("room for it");
        stored
    });
    let mut given = KeyFlags::default();
    given.file = stored.as_ref().map(|stored| stored.path().to_owned());
    let flags = flags.iter().fold(given, |given, (key, value)| given.with(key, *value));
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    WorkerConfig::load(&flags, &WorkerConfig::variables(variables))
}

#[test]
fn later_layers_win() {
    let file = "slots = 2\nname = 'file'\nconnect_timeout = 1.5\ndevice = 'cpu'";
    let config =
        loaded(Some(file), &[("NADGRID_NAME", "variable"), ("NADGRID_SLOTS", "3")], &[("slots", "4")]).unwrap();
    assert_eq!((config.slots, config.name.as_str()), (Some(4), "variable"));
    assert_eq!((config.device, config.connect_timeout), (DeviceChoice::Cpu, Duration::from_millis(1500)));
    assert_eq!(config.coordinator, "http://127.0.0.1:7400");
}

#[test]
fn a_device_proves_itself_unless_a_variable_is_set_to_1() {
    let skips = |variables: &[(&str, &str)]| loaded(None, variables, &[]).map(|config| config.skip_device_proof);
    assert_eq!((skips(&[]), skips(&[("NADGRID_SKIP_DEVICE_PROOF", "1")])), (Ok(false), Ok(true)));
    assert_eq!(skips(&[("NADGRID_SKIP_DEVICE_PROOF", "yes")]), Ok(true));
    let error = skips(&[("NADGRID_SKIP_DEVICE_PROOF", "perhaps")]).unwrap_err().to_string();
    assert_eq!(error, "skip_device_proof = perhaps: 1, 0, true, false, yes or no");
    assert!(loaded(Some("skip_device_proof = 1"), &[], &[]).is_err());
}

#[test]
fn defaults_suffice() {
    let config = loaded(None, &[("PATH", "/bin"), ("NADGRID_LOG", "debug"), ("NADGRID_DATA", "/d")], &[]).unwrap();
    assert_eq!((config.device, config.slots, config.evaluation), (DeviceChoice::Auto, None, None));
    assert!(!config.name.is_empty());
    assert_eq!((config.grace, config.checkpoint_interval), (Duration::from_secs(25), Duration::from_secs(60)));
}

#[test]
fn what_is_unknown_is_named() {
    let said = |result: Result<WorkerConfig, ConfigurationError>| result.unwrap_err().to_string();
    let unknown = said(loaded(Some("slotts = 2"), &[], &[]));
    assert!(unknown.contains("unknown key `slotts`; did you mean `slots`?"), "{unknown}");
    assert!(said(loaded(Some("[slots]\nx = 1"), &[], &[])).contains("slots"));
    assert!(said(loaded(Some("slots ="), &[], &[])).contains("/tmp"));
    let mut flags = KeyFlags::default();
    flags.file = Some("/no/such/file.toml".into());
    let absent = said(WorkerConfig::load(&flags, &Variables::default()));
    assert!(absent.starts_with("/no/such/file.toml: cannot be read"), "{absent}");
}

/// Kubernetes gives the pods beside a service called nadgrid variables like these.
#[test]
fn variables_of_others_do_not_matter_and_a_misspelt_one_is_a_warning() {
    let foreign = [("NADGRID_PORT", "tcp://10.0.0.1:80"), ("NADGRID_SERVICE_HOST", "10.0.0.1"), ("NADGRID_DATA", "/d")];
    assert_eq!(loaded(None, &foreign, &[]), Ok(WorkerConfig::default()));
    let variables = foreign.into_iter().chain([("NADGRID_DEVISE", "cpu")]);
    let variables = variables.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let variables = WorkerConfig::variables(variables);
    assert_eq!(variables.warnings(), ["the variable NADGRID_DEVISE is not read; did you mean NADGRID_DEVICE?"]);
}

#[test]
fn the_table_in_the_configuration_page_is_this_one() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let advice = "run NADGRID_REGENERATE=1 cargo test --workspace --lib configuration_page";
    assert!(is_current(&page, "nadgrid-worker", &WorkerConfig::keys()).unwrap(), "{advice}");
}

#[test]
fn wrong_values_name_the_key_and_what_is_accepted() {
    for (key, value, words) in [
        ("coordinator", "127.0.0.1:7400", "http://HOST:PORT"),
        ("coordinator", "ftp://there", "https://HOST:PORT"),
        ("device", "gpu", "auto, cpu, cuda or cuda:N"),
        ("device", "cuda:x", "auto, cpu, cuda or cuda:N"),
        ("evaluation", "sparse", "auto, patch, dense, fused"),
        ("slots", "0", "from 1 to 1024"),
        ("slots", "many", "slots"),
        ("connect_timeout", "-1", "seconds"),
        ("reconnect_timeout", "inf", "seconds"),
        ("grace", "-5", "seconds"),
        ("checkpoint_interval", "often", "checkpoint_interval"),
        ("name", "", "1 to 100"),
    ] {
        let error = loaded(None, &[], &[(key, value)]).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(words), "{key} = {value}: {error}");
    }
}
