//! The file `.env` in the current folder.

use std::path::Path;

use crate::status::Failure;

const FILE: &str = ".env";

/// Reads it, where there is one. What the environment has already is left as it is.
pub(crate) fn load() -> Result<(), Failure> {
    if !Path::new(FILE).is_file() {
        return Ok(());
    }
    match dotenvy::from_path(FILE) {
        Ok(()) => Ok(()),
        // The error quotes the line, which may hold a secret.
        Err(dotenvy::Error::LineParse(..)) => Err(Failure::usage(unreadable())
            .next("A line is NAME=value; a value with spaces, # or $ stands in single quotes.")),
        Err(error) => Err(Failure::usage("the file .env could not be read").because(&error)),
    }
}

fn unreadable() -> String {
    let last = dotenvy::from_path_iter(FILE).into_iter().flatten().map_while(Result::ok).last();
    match last {
        Some((name, _)) => {
            format!("the file .env could not be understood after its line of {name}")
        }
        None => "the file .env could not be understood from its first line on".to_owned(),
    }
}
