//! The folder where the program keeps files for its user.

use std::env;
use std::path::{Path, PathBuf};

use crate::command_failure::CommandFailure;

/// Returns the path of a file in the folder; `None` where the system names no home.
pub(crate) fn file(name: &str) -> Option<PathBuf> {
    Some(configuration()?.join("payman").join(name))
}

/// Returns the path of a file that only the program writes.
#[cfg(feature = "sqlite")]
pub(crate) fn state_file(name: &str) -> Option<PathBuf> {
    if cfg!(any(windows, target_os = "macos")) {
        return file(name);
    }
    let state =
        folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")));
    Some(state?.join("payman").join(name))
}

fn folder(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn configuration() -> Option<PathBuf> {
    if cfg!(windows) {
        return folder("APPDATA");
    }
    if cfg!(target_os = "macos") {
        return folder("HOME").map(|home| home.join("Library/Application Support"));
    }
    folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")))
}

/// Creates the folder of a file, accessible to its owner only.
pub(crate) fn create_for(file: &Path) -> Result<(), CommandFailure> {
    let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| {
        CommandFailure::other(format!("the folder {} could not be created", folder.display()))
            .because(&error)
            .next("Give the path of another file: --token-file, --history-file.")
    })
}
