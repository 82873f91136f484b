//! The differences between operating systems: access to files, their owners and their directories.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

/// Returns options that create a file for writing that only its owner can access.
///
/// Outside Unix, the directory decides who can access it.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    system::make_private(&mut options);
    options
}

/// Gives a file the owner and mode of another one, where files have them.
pub(crate) fn give_to_owner_of(model: &Metadata, file: &File, path: &Path) -> io::Result<()> {
    system::give_to_owner_of(model, file, path)
}

/// Returns true for a file that has more than one name, where the system tells.
pub(crate) fn has_hard_links(file: &Metadata) -> bool {
    system::has_hard_links(file)
}

/// Makes new names in a directory durable, where there is a call for it.
pub(crate) fn flush_directory(directory: &Path) -> io::Result<()> {
    system::flush_directory(directory)
}

#[cfg(unix)]
mod system {
    use std::fs::{File, Metadata, OpenOptions, Permissions};
    use std::io;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
    use std::path::Path;

    pub(super) fn make_private(options: &mut OpenOptions) {
        options.mode(0o600);
    }

    pub(super) fn give_to_owner_of(model: &Metadata, file: &File, path: &Path) -> io::Result<()> {
        let present = file.metadata()?;
        if (present.uid(), present.gid()) != (model.uid(), model.gid()) {
            let owner = (present.uid() != model.uid()).then(|| model.uid());
            let group = (present.gid() != model.gid()).then(|| model.gid());
            chown(path, owner, group)?;
        }
        let mode = model.permissions().mode() & 0o777;
        if present.permissions().mode() & 0o777 != mode {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    pub(super) fn has_hard_links(file: &Metadata) -> bool {
        file.nlink() > 1
    }

    pub(super) fn flush_directory(directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }
}

/// The fallback: the system's own defaults.
#[cfg(not(unix))]
mod system {
    use std::fs::{File, Metadata, OpenOptions};
    use std::io;
    use std::path::Path;

    pub(super) fn make_private(_: &mut OpenOptions) {}

    pub(super) fn give_to_owner_of(_: &Metadata, _: &File, _: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn has_hard_links(_: &Metadata) -> bool {
        false
    }

    pub(super) fn flush_directory(_: &Path) -> io::Result<()> {
        Ok(())
    }
}
