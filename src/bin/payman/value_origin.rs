//! The origin of an option's value.

use std::fmt;

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::dot_env::DotEnv;

/// The kinds of origins, ordered by precedence: a later one wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OriginKind {
    #[default]
    Default,
    DotEnv,
    Environment,
    CommandLine,
}

/// The origin of a value, with the names of its option and its variable.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ValueOrigin {
    pub(crate) kind: OriginKind,
    option: &'static str,
    variable: &'static str,
}

impl ValueOrigin {
    /// Looks up where clap found the value of `id`.
    pub(crate) fn find(
        matches: &ArgMatches,
        dot_env: &DotEnv,
        id: &str,
        option: &'static str,
        variable: &'static str,
    ) -> Self {
        let kind = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => OriginKind::CommandLine,
            Some(ValueSource::EnvVariable) if dot_env.has(variable) => OriginKind::DotEnv,
            Some(ValueSource::EnvVariable) => OriginKind::Environment,
            _ => OriginKind::Default,
        };
        Self { kind, option, variable }
    }

    /// Returns true if the value was set for this run, by an option or by a variable.
    pub(crate) fn is_given(self) -> bool {
        self.kind != OriginKind::Default
    }

    pub(crate) fn is_command_line(self) -> bool {
        self.kind == OriginKind::CommandLine
    }

    pub(crate) fn option(self) -> &'static str {
        self.option
    }
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            OriginKind::CommandLine => f.write_str(self.option),
            OriginKind::Environment => f.write_str(self.variable),
            OriginKind::DotEnv => write!(f, "{} in the file .env", self.variable),
            OriginKind::Default => f.write_str("the default"),
        }
    }
}
