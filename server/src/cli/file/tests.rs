use super::*;
use crate::cli::{Cli, layers::with_environment, reference};
use clap::{CommandFactory as _, FromArgMatches as _};

fn over(text: &str) -> Result<Command, FileError> {
    File::parse(Path::new("c.toml"), text)?.over(with_environment(Cli::command()))
}

fn serve(command: Command, flags: &[&str]) -> String {
    let line = ["backstop-server", "serve"].iter().chain(flags);
    let matches = command.try_get_matches_from(line).unwrap();
    format!("{:?}", Cli::from_arg_matches(&matches).unwrap().command)
}

#[test]
fn the_default_file_says_what_holds_without_one() {
    let text = reference::default_file();
    let plain = serve(with_environment(Cli::command()), &[]);
    assert_eq!(serve(over(&text).unwrap(), &[]), plain);
    // It would not be so if nothing in it counted.
    let other = text.replace("roll-up-records = 100000", "roll-up-records = 7");
    assert_ne!(text, other);
    assert_ne!(serve(over(&other).unwrap(), &[]), plain);
}

#[test]
fn every_setting_can_stand_in_a_file() {
    let text = reference::default_file();
    for setting in settings(&with_environment(Cli::command())).filter_map(key) {
        let line = |line: &str| {
            line.trim_start_matches("# ")
                .starts_with(&format!("{setting} = "))
        };
        assert_eq!(text.lines().filter(|text| line(text)).count(), 1, "{setting}");
    }
}

#[test]
fn a_value_is_the_one_that_the_flag_would_take() {
    let flags = [
        "--listen=127.0.0.1:9",
        "--plain-http",
        "--trusted-proxy=10.0.0.0/8",
        "--trusted-proxy=::1",
        "--roll-up-ratio=0.25",
        "--max-connections=7",
        "--data=/d",
    ];
    let file = "listen = '127.0.0.1:9'
plain-http = true
trusted-proxy = ['10.0.0.0/8', '::1']
roll-up-ratio = 0.25
max-connections = 7
data = '/d'";
    assert_eq!(serve(over(file).unwrap(), &[]), serve(Cli::command(), &flags));
}

#[test]
fn a_flag_counts_before_the_file() {
    let command = over("trusted-proxy = ['10.0.0.0/8', '::1']\nidle-timeout = '9s'").unwrap();
    let flags = ["--trusted-proxy=192.0.2.1", "--idle-timeout=8s"];
    assert_eq!(serve(command, &flags), serve(Cli::command(), &flags));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, line, message) in [
        (
            "\nlisten = 'here'",
            2,
            "listen = \"here\": invalid socket address syntax",
        ),
        ("roll-up-bytes = '8XB'", 1, "write it like 8MiB"),
        ("# a\n\nrollup-bytes = 1", 3, "rollup-bytes is no setting"),
        ("config = 'b.toml'", 1, "config is no setting"),
        ("[server]\nlisten = 1", 1, "server must be a text"),
        ("data = ['a', 'b']", 1, "data takes one value"),
        ("data = []", 1, "data takes one value"),
        (
            "trusted-proxy = ['10.0.0.0/8',\n 'x']",
            1,
            "not a range of addresses",
        ),
        ("plain-http = 'maybe'", 1, "plain-http = \"maybe\""),
        ("max-connections = 0", 1, "max-connections = \"0\""),
        ("idle-timeout = '0s'", 1, "from 1s to 1d"),
        ("log = 'a=b=c'", 1, "not a filter"),
        ("data = 1 2", 1, ""),
        ("data = 'a'\ndata = 'b'", 2, "duplicate"),
    ] {
        let error = over(text).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("c.toml, line {line}: ")) && error.contains(message),
            "{text}: {error}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_file_makes_the_parser_panic(text in "[a-z=\\[\\]\"'0-9.\n# -]{0,60}") {
        let _ = over(&text);
    }
}
