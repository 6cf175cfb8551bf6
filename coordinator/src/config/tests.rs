use super::*;
use nadgrid_configuration::{Configuration, is_current};
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

fn load(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<Config, ConfigError> {
    let mut written = tempfile::NamedTempFile::new().unwrap();
    written.write_all(file.as_bytes()).unwrap();
    let path = written.path().to_str().unwrap();
    let args = ["nadgrid-coordinator", "--config", path].into_iter().chain(flags.iter().copied());
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::load(&CoordinatorFlags::parse_from(args), &Config::variables(variables))
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let file = "reducers = 2\nuploads = 2\nlease_ttl = 20.0";
    let variables = [("NADGRID_UPLOADS", "3"), ("NADGRID_LEASE_TTL", "30"), ("NADGRID_DEVICE", "cpu")];
    let config = load(file, &variables, &["--lease-ttl", "40"]).unwrap();
    assert_eq!((config.reducers, config.uploads, config.lease_ttl), (2, 3, 40.0));
    assert_eq!(config.listen, Config::default().listen);
}

#[test]
fn what_is_wrong_is_named() {
    let said =
        |file: &str, variables: &[(&str, &str)], flags: &[&str]| load(file, variables, flags).unwrap_err().to_string();
    assert!(said("reducer = 2", &[], &[]).contains("reducer"));
    assert!(said("reducers = 0", &[], &[]).contains("reducers = 0: from 1 to 64"));
    assert!(said("reducers = 'many'", &[], &[]).contains("reducers"));
    assert!(said("orphan_age = 0.5", &[], &[]).contains("orphan_age = 0.5"));
    assert!(said("", &[], &["--artifacts", "nfs://x"]).contains("artifacts: "));
    for url in ["s3.example:9000", "ftp://s3.example", "https://me:hunter2@s3.example", "https://s3.example/?a=b"] {
        let refused = said("", &[], &["--artifacts-public-endpoint", url]);
        assert!(refused.contains("artifacts_public_endpoint: ") && !refused.contains("hunter2"), "{refused}");
    }
    let journal = said("", &[("NADGRID_JOURNAL", "mysql://me:hunter2@db/x")], &[]);
    assert!(journal.contains("journal: ") && !journal.contains("hunter2"), "{journal}");
    let shown = format!("{:?}", load("journal = 'postgres://me:hunter2@db/x'", &[], &[]).unwrap());
    assert!(shown.contains("postgres://me@db") && !shown.contains("hunter2"), "{shown}");
    assert!(said("", &[], &["--listen", "nowhere"]).contains("listen"));
    assert!(said("", &[], &["--lease-ttl", "inf"]).contains("lease_ttl"));
    assert!(said("[limits]\nsession = 3", &[], &[]).contains("session"));
    assert!(said("", &[], &["--limit", "sessions=0"]).contains("limits.sessions = 0: from 1"));
    assert!(said("", &[], &["--limit", "session=1"]).contains("session=1"));
    assert!(said("", &[("NADGRID_LIMITS", "sessions")], &[]).contains("NAME=VALUE"));
    assert!(said("tls_key = 'k'", &[], &[]).contains("tls_key needs tls_certificate"));
    assert!(said("lease_ttl = 10.0\nheartbeat_interval = 9.0", &[], &[]).contains("half of lease_ttl"));
}

#[test]
fn limits_come_from_the_file_then_the_variable_then_flags() {
    let file = "[limits]\nsessions = 1\nwatchers = 1\nreads = 1";
    let variables = [("NADGRID_LIMITS", "watchers=2, reads=2")];
    let limits = load(file, &variables, &["--limit", "reads=3"]).unwrap().limits;
    assert_eq!((limits.sessions, limits.watchers, limits.reads), (1, 2, 3));
    assert_eq!(limits.connections, Limits::default().connections);
}

#[test]
fn beyond_this_machine_it_wants_tokens_and_tls() {
    let (tokens, tls) = ("tokens = 't'\n", "tls_certificate = 'c'\ntls_key = 'k'\n");
    let beyond = "listen = '0.0.0.0:7400'\n";
    let said = |file: String| load(&file, &[], &[]).unwrap_err().to_string();
    assert!(said(beyond.to_owned()).contains("without tokens (tokens) and without TLS"));
    assert!(said(format!("{beyond}{tokens}")).contains("without TLS"));
    assert!(said(format!("{beyond}{tls}")).contains("without tokens"));
    assert!(load(&format!("{beyond}{tokens}{tls}"), &[], &[]).is_ok());
    let open = load(beyond, &[], &["--insecure"]).unwrap();
    assert!(open.insecure && !open.exposed().is_empty());
    assert_eq!(load("", &[], &[]).unwrap().exposed(), "");
}

/// Kubernetes gives the pods beside a service called nadgrid variables like these.
#[test]
fn variables_of_others_do_not_matter_and_a_misspelt_one_is_a_warning() {
    let foreign =
        [("NADGRID_PORT", "tcp://10.0.0.1:80"), ("NADGRID_SERVICE_HOST", "10.0.0.1"), ("NADGRID_DEVICE", "cpu")];
    assert_eq!(load("", &foreign, &[]).unwrap(), Config::default());
    let variables = foreign.into_iter().chain([("NADGRID_LISTN", "x")]);
    let variables = variables.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let variables = Config::variables(variables);
    assert_eq!(variables.warnings(), ["the variable NADGRID_LISTN is not read; did you mean NADGRID_LISTEN?"]);
}

#[test]
fn the_table_in_the_configuration_page_is_this_one() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let advice = "run NADGRID_REGENERATE=1 cargo test --workspace --lib configuration_page";
    assert!(is_current(&page, "nadgrid-coordinator", &Config::keys()).unwrap(), "{advice}");
}
