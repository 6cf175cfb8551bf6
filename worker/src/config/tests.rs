use super::*;
use std::io::Write;

fn load(file: Option<&str>, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Config, ConfigError> {
    let stored = file.map(|text| {
        let mut stored = tempfile::NamedTempFile::new().expect("a file");
        stored.write_all(text.as_bytes()).expect("room for it");
        stored
    });
    let flags = Flags {
        config: stored.as_ref().map(|stored| stored.path().to_owned()),
        values: flags.iter().map(|(key, value)| (*key, Some((*value).to_owned()))).collect(),
    };
    Config::load(&flags, variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
}

#[test]
fn later_layers_win() {
    let file = "lanes = 2\nname = 'file'\nconnect_timeout = 1.5\ndevice = 'cpu'";
    let config = load(Some(file), &[("NADGRID_NAME", "variable"), ("NADGRID_LANES", "3")], &[("lanes", "4")]).unwrap();
    assert_eq!((config.lanes, config.name.as_str()), (Some(4), "variable"));
    assert_eq!((config.device, config.connect_timeout), (DeviceChoice::Cpu, Duration::from_millis(1500)));
    assert_eq!(config.coordinator, "http://127.0.0.1:7400");
}

#[test]
fn other_programs_know_every_key() {
    let unknown: Vec<_> = KEYS.iter().filter(|key| !nadgrid_core::environment::is_known(key)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn a_device_proves_itself_unless_a_variable_is_set_to_1() {
    let skips = |variables: &[(&str, &str)]| load(None, variables, &[]).map(|config| config.skip_device_proof);
    assert_eq!((skips(&[]), skips(&[("NADGRID_SKIP_DEVICE_PROOF", "1")])), (Ok(false), Ok(true)));
    let error = skips(&[("NADGRID_SKIP_DEVICE_PROOF", "yes")]).unwrap_err().to_string();
    assert_eq!(error, "skip_device_proof = yes: 1, or not set");
    assert!(load(Some("skip_device_proof = 1"), &[], &[]).is_err());
}

#[test]
fn defaults_suffice() {
    let config = load(None, &[("PATH", "/bin"), ("NADGRID_LOG", "debug"), ("NADGRID_DATA", "/d")], &[]).unwrap();
    assert_eq!((config.device, config.lanes, config.evaluation), (DeviceChoice::Auto, None, None));
    assert!(!config.name.is_empty());
    assert_eq!((config.grace, config.checkpoint_interval), (Duration::from_secs(25), Duration::from_secs(60)));
}

#[test]
fn what_is_unknown_is_named() {
    let said = |result: Result<Config, ConfigError>| result.unwrap_err().to_string();
    let unknown = said(load(Some("lanse = 2"), &[], &[]));
    assert!(unknown.contains("unknown key `lanse`; did you mean `lanes`?"), "{unknown}");
    assert!(said(load(Some("[lanes]\nx = 1"), &[], &[])).contains("lanes"));
    assert!(said(load(Some("lanes ="), &[], &[])).contains("/tmp"));
    let variable = said(load(None, &[("NADGRID_DEVISE", "cpu")], &[]));
    assert!(variable.contains("NADGRID_DEVISE") && variable.contains("did you mean NADGRID_DEVICE?"), "{variable}");
    let flags = Flags { config: Some("/no/such/file.toml".into()), values: Vec::new() };
    assert!(said(Config::load(&flags, std::iter::empty())).starts_with("/no/such/file.toml: cannot be read"));
}

#[test]
fn wrong_values_name_the_key_and_what_is_accepted() {
    for (key, value, words) in [
        ("coordinator", "127.0.0.1:7400", "http://HOST:PORT"),
        ("coordinator", "ftp://there", "https://HOST:PORT"),
        ("device", "gpu", "auto, cpu, cuda or cuda:N"),
        ("device", "cuda:x", "auto, cpu, cuda or cuda:N"),
        ("evaluation", "sparse", "auto, patch, dense, fused"),
        ("lanes", "0", "from 1 to 1024"),
        ("lanes", "many", "lanes"),
        ("connect_timeout", "-1", "seconds"),
        ("reconnect_timeout", "inf", "seconds"),
        ("grace", "-5", "seconds"),
        ("checkpoint_interval", "often", "checkpoint_interval"),
        ("name", "", "1 to 100"),
    ] {
        let error = load(None, &[], &[(key, value)]).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(words), "{key} = {value}: {error}");
    }
}
