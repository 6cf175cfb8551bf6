use super::*;
use clap::builder::ValueParser;

#[test]
fn the_command_line_is_consistent_and_every_flag_has_its_variable() {
    Cli::command().debug_assert();
    for command in Cli::command().get_subcommands() {
        for flag in command.get_arguments().filter(|a| a.get_long().is_some_and(|l| l != "help")) {
            let name = flag.get_long().unwrap().to_uppercase().replace('-', "_");
            let variable = flag.get_env().unwrap_or_default().to_str().unwrap();
            assert_eq!(variable, format!("NADGRID_{name}"), "{} of {}", name, command.get_name());
        }
    }
}

#[test]
fn overrides_and_devices_are_checked_where_they_are_typed() {
    assert_eq!(key_value("nads.step = 1.0").unwrap(), ("nads.step".into(), "1.0".into()));
    assert_eq!(key_value("name=a=b").unwrap().1, "a=b");
    for wrong in ["nads.networks", "=3", "nads..step=1"] {
        assert!(key_value(wrong).is_err(), "{wrong}");
    }
    assert!(experiment("margins").is_ok() && experiment("margin").unwrap_err().contains("did you mean margins"));
    assert!(architecture("vgg11").is_ok() && architecture("lennet").unwrap_err().contains("did you mean lenet"));
    assert!(device("cuda:1").is_ok() && device("tpu").is_err() && device("cuda:x").is_err());
}

#[test]
fn a_misspelt_variable_is_a_warning_and_those_of_others_are_let_be() {
    let warnings = |name: &str| misspelt_variables([(OsString::from(name), OsString::from("1"))]);
    for other in ["NADGRID_KEEP_STATE", "NADGRID_LEASE_TTL", "NADGRID_PORT", "NADGRID_SERVICE_HOST", "HOME"] {
        assert!(warnings(other).is_empty(), "{other}");
    }
    let warning = warnings("NADGRID_COORDINATR").concat();
    assert!(warning.contains("did you mean NADGRID_COORDINATOR"), "{warning}");
}

#[test]
fn every_switch_takes_the_usual_booleans_of_a_variable() {
    fn check(command: &clap::Command) {
        for switch in command.get_arguments().filter(|a| matches!(a.get_action(), ArgAction::SetTrue)) {
            let parser = switch.get_value_parser();
            assert_eq!(format!("{parser:?}"), format!("{:?}", ValueParser::new(BoolishValueParser::new())));
        }
        command.get_subcommands().for_each(check);
    }
    let command = with_booleans(Cli::command());
    command.clone().debug_assert();
    check(&command);
}
